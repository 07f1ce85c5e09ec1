package egress_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/egress"
)

func TestAddressesThatAreNeverAsked(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
		"100.100.100.200", "168.63.129.16", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255",
	} {
		for _, policy := range []egress.Policy{{}, {Private: true}} {
			if err := policy.Check(netip.MustParseAddr(text)); certctl.ErrorCode(err) != certctl.Denied {
				t.Errorf("%s with %+v: %v", text, policy, err)
			}
		}
	}
}

func TestPrivateNetworksAreAskedWhenTheSettingsSaySo(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"127.0.0.1", "::1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "100.64.0.1", "fd12::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"} {
		addr := netip.MustParseAddr(text)
		if err := (egress.Policy{}).Check(addr); certctl.ErrorCode(err) != certctl.Denied {
			t.Errorf("%s: %v", text, err)
		}
		if err := (egress.Policy{Private: true}).Check(addr); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"1.1.1.1", "2606:4700::1111"} {
		if err := (egress.Policy{}).Check(netip.MustParseAddr(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// The policy holds for what a name resolves to, and for redirects by not
// following them.
func TestTheClientDialsOnlyWhatItMay(t *testing.T) {
	t.Parallel()
	asked := 0
	inside := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	defer inside.Close()
	port := netip.MustParseAddrPort(inside.Listener.Addr().String()).Port()
	for _, host := range []string{"127.0.0.1", "localhost"} {
		url := "https://" + netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String()
		if host == "localhost" {
			url = "https://localhost" + url[len("https://127.0.0.1"):]
		}
		if response, err := (egress.Policy{}).Client(nil).Get(url); err == nil {
			_ = response.Body.Close()
			t.Errorf("%s was asked", host)
		}
	}
	if asked != 0 {
		t.Fatalf("asked %d times", asked)
	}
	roots := inside.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs //nolint:forcetypeassert // httptest's own
	response, err := (egress.Policy{Private: true}).Client(roots).Get(inside.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusFound || asked != 1 {
		t.Errorf("status %d after %d requests: a redirect was followed", response.StatusCode, asked)
	}
}
