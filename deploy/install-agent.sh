#!/bin/sh
# Installs certctl-agent on Linux or macOS, or certctl-proxy on Linux, as root:
#
#   install-agent.sh --server https://certctl.example.com:8443 --fingerprint SHA256 \
#       --token-file FILE [--version 1.2.3]
#
# The signature of the checksums and the checksum of the archive are checked before
# anything of it is unpacked or run. Doing so again changes nothing, or brings the
# agent to another version; what is installed knows server and token already, and
# neither need be named.
#
#   --server URL         the API
#   --fingerprint SHA256 of its root certificate, as it came with the join token
#   --token-file FILE    holds the join token
#   --version VERSION    which release; default: the one that this script came with
#   --from DIR           takes the release from a folder instead of downloading it
#   --url URL            downloads it from the folder vVERSION below this URL
#   --signer KEY         OpenSSH public key that releases are signed with ("ssh-ed25519
#                        AAAA..."); default: the one that this script came with
#   --user NAME          runs the agent as a user without privileges, who is made if
#                        there is none: for targets of kind files only (Linux)
#   --proxy              installs certctl-proxy instead, beside an agent or without
#                        one; it runs as the user certctl-proxy, who is made if there
#                        is none (Linux)
#   --no-start           installs and starts nothing
set -eu

LC_ALL=C
export LC_ALL

# A release writes both into its copy of this script.
signer=""
version=""

server="" fingerprint="" token_file="" from="" user="" start=yes
program=certctl-agent
settings=/etc/certctl/agent.yaml
token=/etc/certctl/join-token
state=/var/lib/certctl-agent
dropin=/etc/systemd/system/certctl-agent.service.d/user.conf
url="https://github.com/certctl/certctl/releases/download"

fail() {
	echo "install-agent: $*" >&2
	exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

while [ $# -gt 0 ]; do
	case "$1" in
	--no-start) start=no && shift && continue ;;
	--proxy) program=certctl-proxy && shift && continue ;;
	--help | -h) sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0" && exit 0 ;;
	--server | --fingerprint | --token-file | --version | --from | --url | --signer | --user) [ $# -ge 2 ] || fail "$1 needs a value" ;;
	*) fail "unknown argument $1" ;;
	esac
	case "$1" in
	--server) server=$2 ;;
	--fingerprint) fingerprint=$2 ;;
	--token-file) token_file=$2 ;;
	--version) version=$2 ;;
	--from) from=$2 ;;
	--url) url=$2 ;;
	--signer) signer=$2 ;;
	--user) user=$2 ;;
	esac
	shift 2
done

if [ "$program" = certctl-proxy ]; then
	[ -z "$user" ] || fail "--user is for the agent: certctl-proxy has a user of its own"
	settings=/etc/certctl/proxy.yaml
	token=/etc/certctl/proxy-join-token
	state=/var/lib/certctl-proxy
	dropin=""
fi

# What goes into a YAML file or a path is held to what it can be.
matches() { printf '%s\n' "$1" | grep -Eq "$2" && [ "$(printf '%s\n' "$1" | wc -l)" -eq 1 ]; }
if [ -n "$server$fingerprint$token_file" ] || [ ! -e "$settings" ]; then
	matches "$server" '^https://[A-Za-z0-9.:_/-]+$' || matches "$server" '^https://\[[0-9a-fA-F:]+\](:[0-9]+)?$' || fail "--server must be the API's URL, https://host:port"
	fingerprint=$(printf '%s' "$fingerprint" | tr -d ':' | tr 'A-F' 'a-f')
	matches "$fingerprint" '^[0-9a-f]{64}$' || fail "--fingerprint must be the SHA-256 of the server's root certificate: without it anybody could be the server"
	[ -n "$token_file" ] || fail "--token-file must name a file with a join token"
	[ -s "$token_file" ] || fail "$token_file holds no join token"
fi
matches "$version" '^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$' || fail "--version must say which release, like 1.2.3"
matches "$signer" '^(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]+$' || fail "--signer must be the public key that releases are signed with: without it anybody could have made them"
[ -z "$user" ] || matches "$user" '^[a-z_][a-z0-9_-]{0,31}$' || fail "--user $user is no name of a user"
matches "$url" '^https://[^ ]+$' || fail "--url $url is not of the form https://..."
[ -z "$from" ] || [ -d "$from" ] || fail "--from $from is no folder"
[ "$(id -u)" = 0 ] || fail "run it as root"

case "$(uname -s)" in
Linux) os=linux ;;
Darwin) os=darwin ;;
*) fail "there is no installation for $(uname -s): see docs/packages.md" ;;
esac
case "$(uname -m)" in
x86_64 | amd64) arch=amd64 ;;
aarch64 | arm64) arch=arm64 ;;
*) fail "there is no release for $(uname -m)" ;;
esac
[ -z "$user" ] || [ "$os" = linux ] || fail "--user is for Linux"
[ "$program" = certctl-agent ] || [ "$os" = linux ] || fail "--proxy is for Linux"
# Whom an earlier installation named stays, unless another is named.
[ -n "$user" ] || [ ! -e "$dropin" ] || user=$(sed -n 's/^User=//p' "$dropin")
[ "$program" = certctl-agent ] || user=certctl-proxy
owner=${user:-root}
if [ -d "$state" ]; then
	has_it=$(find "$state" -prune -exec ls -ld {} + | awk '{ print $3 }')
	[ "$has_it" = "$owner" ] || fail "$state belongs to $has_it and $program would run as $owner: give it and what is in it to $owner first"
fi
for tool in tar gzip ssh-keygen; do
	has "$tool" || fail "$tool is missing: install it (ssh-keygen comes with OpenSSH's client)"
done
# Who may write there could replace what root is made to run. What is not there yet is
# made by root. Group and others are characters 6 and 9 of the mode.
for dir in /usr/local /usr/local/bin; do
	[ -d "$dir" ] || continue
	is=$(find "$dir/." -prune -exec ls -ldn {} +)
	[ "$(printf '%s\n' "$is" | awk '{ print $3 }')" = 0 ] || fail "$dir does not belong to root: whoever it belongs to could replace $program, which runs as $owner. Give it to root (chown root $dir), or install it by a package"
	case "$is" in
	?????w* | ????????w*) fail "$dir may be written to by others than root, who could replace $program, which runs as $owner: chmod go-w $dir" ;;
	esac
done
[ ! -e "/usr/bin/$program" ] || fail "/usr/bin/$program is there already, from a package: bring that to another version instead"

umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# fetch NAME takes a file of the release into the folder of temporary files.
fetch() {
	if [ -n "$from" ]; then
		cp "$from/$1" "$work/$1"
	elif has curl; then
		curl -fsSL --proto =https --tlsv1.2 -o "$work/$1" "$url/v$version/$1"
	elif has wget; then
		wget -q -O "$work/$1" "$url/v$version/$1"
	else
		fail "curl or wget is needed to download"
	fi || fail "$1 of release $version is not to be had"
}

sha256() {
	if has sha256sum; then
		sha256sum "$1"
	else
		shasum -a 256 "$1"
	fi | cut -d ' ' -f 1
}

archive="${program}_${version}_${os}_${arch}.tar.gz"
fetch SHA256SUMS
fetch SHA256SUMS.sig
fetch "$archive"

printf 'release@certctl namespaces="certctl-release" %s\n' "$signer" >"$work/signers"
ssh-keygen -Y verify -q -f "$work/signers" -I release@certctl -n certctl-release -s "$work/SHA256SUMS.sig" \
	<"$work/SHA256SUMS" >"$work/said" 2>&1 || {
	cat "$work/said" >&2
	fail "the signature of the checksums is not that of $signer, or ssh-keygen is older than OpenSSH 8.1 and cannot say so: nothing was installed"
}
want=$(awk -v name="$archive" '$2 == name { print $1 }' "$work/SHA256SUMS")
[ -n "$want" ] || fail "the checksums do not name $archive: nothing was installed"
[ "$(sha256 "$work/$archive")" = "$want" ] || fail "$archive has another checksum than the signed one: nothing was installed"

mkdir "$work/new"
tar -xzf "$work/$archive" -C "$work/new" || fail "$archive cannot be unpacked"

# An agent is of one server. Whoever wants another one takes the old
# settings and the state away first.
if [ -e "$settings" ] && [ -n "$server" ]; then
	for line in "server: $server" "ca_fingerprint: $fingerprint"; do
		grep -Fqx "$line" "$settings" || fail "$settings does not say \"$line\": nothing was installed"
	done
fi

# install_file FROM TO MODE puts a file in place at once, and only if it is another
# one.
changed=no
install_file() {
	if [ -e "$2" ] && cmp -s "$1" "$2"; then
		chmod "$3" "$2"
		return
	fi
	cp "$1" "$2.new"
	chmod "$3" "$2.new"
	mv -f "$2.new" "$2"
	changed=yes
}

# Tried where it will stay, since temporary folders may not allow programs to run.
[ -d /usr/local/bin ] || { mkdir -p /usr/local/bin && chmod 0755 /usr/local/bin; }
cp "$work/new/$program" "/usr/local/bin/$program.new"
chmod 0755 "/usr/local/bin/$program.new"
said=$("/usr/local/bin/$program.new" version) || said="nothing"
rm -f "/usr/local/bin/$program.new"
case "$said" in
"$program $version "*) ;;
*) fail "the program in $archive says \"$said\" instead of its version: it was not installed" ;;
esac

if [ -n "$user" ]; then
	if ! id "$user" >/dev/null 2>&1; then
		if has useradd; then
			useradd --system --user-group --home-dir "$state" --no-create-home --shell /sbin/nologin "$user"
		else
			adduser -S -D -H -h "$state" -s /sbin/nologin "$user"
		fi
	fi
fi

for dir in /etc/certctl /etc/certctl/live; do
	# What a proxy installs is on other machines.
	[ "$program" = certctl-agent ] || [ "$dir" = /etc/certctl ] || continue
	[ -d "$dir" ] || { mkdir -p "$dir" && chmod 0755 "$dir"; }
done
[ -d "$state" ] || mkdir -p "$state"
chmod 0700 "$state"
install_file "$work/new/$program" "/usr/local/bin/$program" 0755
[ -z "$token_file" ] || install_file "$token_file" "$token" 0600
if [ ! -e "$settings" ]; then
	printf 'server: %s\nca_fingerprint: %s\ntoken_file: %s\n' "$server" "$fingerprint" "$token" >"$work/settings.yaml"
	install_file "$work/settings.yaml" "$settings" 0600
fi
if [ "$owner" != root ]; then
	for path in "$settings" "$token" "$state"; do
		[ ! -e "$path" ] || chown "$owner" "$path"
	done
	[ "$program" != certctl-agent ] || chown "$owner" /etc/certctl/live
fi

# The unit of the package names a program in /usr/bin.
install_unit() {
	sed 's,^ExecStart=/usr/bin/,ExecStart=/usr/local/bin/,' "$work/new/$program.service" >"$work/unit"
	install_file "$work/unit" "/etc/systemd/system/$program.service" 0644
	if [ "$program" = certctl-agent ] && [ "$owner" != root ]; then
		mkdir -p "$(dirname "$dropin")"
		chmod 0755 "$(dirname "$dropin")"
		printf '[Service]\nUser=%s\nCapabilityBoundingSet=\n' "$owner" >"$work/user.conf"
		install_file "$work/user.conf" "$dropin" 0644
	fi
	if [ "$start" = no ]; then
		return
	fi
	systemctl enable "$program.service"
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
		if [ "$changed" = yes ]; then
			systemctl restart "$program.service"
		else
			systemctl start "$program.service"
		fi
	fi
}

loaded() { launchctl print system/certctl-agent >/dev/null 2>&1; }

install_plist() {
	plist=/Library/LaunchDaemons/certctl-agent.plist
	install_file "$work/new/certctl-agent.plist" "$plist" 0644
	if [ "$start" = no ]; then
		return
	fi
	if [ "$changed" = yes ] && loaded; then
		launchctl bootout system/certctl-agent || true
		# It returns before the agent has gone, which may take its ExitTimeOut.
		left=90
		while loaded; do
			[ "$left" -gt 0 ] || fail "the agent before this one does not end: see launchctl print system/certctl-agent"
			left=$((left - 1))
			sleep 1
		done
	fi
	loaded || launchctl bootstrap system "$plist"
}

if [ "$os" = darwin ]; then
	install_plist
elif has systemctl; then
	install_unit
else
	echo "install-agent: there is no systemd here: have your init system run /usr/local/bin/$program run as $owner" >&2
fi
echo "$program $version is installed"
