package target_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
)

// A program sees what there is without keys, gets one with its key, hears at once of
// the next, and says that it has loaded it.
func TestSocketIsAsked(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	settings := socketSettings(dir)
	opened := openSocket(t, settings)
	client, next := asker(filepath.Join(dir, "socket")), targettest.Installs(t, "shop", "shop.example.com")
	get := func(path, tag string) (int, handed) {
		t.Helper()
		status, got, err := call(t.Context(), client, http.MethodGet, path, tag, nil)
		must(t, err)
		return status, got
	}
	first, second := next(), next()
	opened.Apply(t.Context(), []target.Install{first})
	status, got := get("/v1/certificates/shop", "")
	fullchain, key, err := target.PEM(first)
	must(t, err)
	if status != http.StatusOK || got.Fullchain != string(fullchain) || got.Key != string(key) || got.Fingerprint != first.Command.Fingerprint.String() ||
		len(got.DNSNames) != 1 || !got.NotAfter.Equal(first.Command.NotAfter.UTC().Truncate(time.Second)) {
		t.Errorf("got %d %+v", status, got)
	}
	if status, _ := get("/v1/certificates/shop", got.Tag); status != http.StatusNotModified {
		t.Errorf("the same once more: %d", status)
	}
	heard := make(chan handed, 1)
	go func() {
		_, next, err := call(t.Context(), client, http.MethodGet, "/v1/certificates/shop?wait=60", got.Tag, nil)
		next.Detail += fmt.Sprint(err)
		heard <- next
	}()
	opened.Apply(t.Context(), []target.Install{second})
	renewed := <-heard
	if renewed.Fingerprint != second.Command.Fingerprint.String() {
		t.Errorf("heard %+v", renewed)
	}
	// Applied again before anybody has loaded it, and then after.
	if r := opened.Apply(t.Context(), []target.Install{second})[0]; r.Outcome != certctl.OutcomeInstalled || r.VerifiedBy != "installed" {
		t.Errorf("receipt %+v", r)
	}
	for tag, want := range map[string]int{renewed.Tag: http.StatusNoContent, got.Tag: http.StatusConflict, "": http.StatusBadRequest} {
		if status, problem, err := call(t.Context(), client, http.MethodPost, "/v1/certificates/shop/report", "", map[string]string{"tag": tag}); err != nil || status != want {
			t.Errorf("the report of %q: %d %+v %v", tag, status, problem, err)
		}
	}
	before := targettest.Snapshot(t, dir)
	if r := opened.Apply(t.Context(), []target.Install{second})[0]; r.Outcome != certctl.OutcomeInstalled || r.VerifiedBy != "loaded" {
		t.Errorf("receipt %+v", r)
	}
	if changed := targettest.Changed(before, targettest.Snapshot(t, dir)); len(changed) > 0 {
		t.Errorf("the same again has touched %v", changed)
	}
	if status, _ := get("/v1/certificates/shop", renewed.Tag); status != http.StatusNotModified {
		t.Errorf("the same again is handed out anew: %d", status)
	}
	for path, want := range map[string]int{
		"/v1/certificates/shop?wait=x": 400, "/v1/certificates/shop?wait=301": 400, "/v1/certificates/shop?format=der": 400, "/v1/certificates/other": 404, "/": 404,
	} {
		if status, _ := get(path, ""); status != want {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// text returns an answer as it is.
func text(t *testing.T, socket, path string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://agent"+path, http.NoBody)
	must(t, err)
	response, err := asker(socket).Do(request)
	must(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	must(t, err)
	return string(content)
}

// The list has no keys, and a bundle is key and chain.
func TestSocketListsWithoutKeys(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	opened := openSocket(t, socketSettings(dir))
	shop := targettest.Installs(t, "shop", "shop.example.com")()
	opened.Apply(t.Context(), []target.Install{shop, targettest.Installs(t, "blog", "blog.example.com")()})
	list := text(t, filepath.Join(dir, "socket"), "/v1/certificates")
	if strings.Contains(list, "PRIVATE KEY") || !strings.Contains(list, `"blog"`) || strings.Index(list, `"blog"`) > strings.Index(list, `"shop"`) {
		t.Errorf("got %s", list)
	}
	if bundle := text(t, filepath.Join(dir, "socket"), "/v1/certificates/shop?format=pem"); bundle != targettest.PEM(t, shop) {
		t.Errorf("got %s", bundle)
	}
}

// What lies in the directory and is not bound to this target is nobody's to have.
func TestSocketHandsOutWhatIsBound(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	shop, blog, next := targettest.Installs(t, "shop", "shop.example.com")(), targettest.Installs(t, "blog", "blog.example.com")(), targettest.Installs(t, "next", "next.example.com")
	files, err := target.Kinds().Open(spec(t, "files", map[string]any{"directory": filepath.Join(dir, "tls")}), target.Env{Policy: anything{}, Now: time.Now})
	must(t, err)
	files.Apply(t.Context(), []target.Install{shop, blog})
	opened := openSocket(t, socketSettings(dir), target.Place{Name: "shop", Slot: certctl.SlotDefault})
	must(t, opened.Recover(t.Context()))
	client := asker(filepath.Join(dir, "socket"))
	names := func(want string) {
		t.Helper()
		var list struct{ Items []handed }
		must(t, json.Unmarshal([]byte(text(t, filepath.Join(dir, "socket"), "/v1/certificates")), &list))
		var got []string
		for _, item := range list.Items {
			got = append(got, item.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("handed out: %v, want %s", got, want)
		}
	}
	names("shop")
	if status, got, err := call(t.Context(), client, http.MethodGet, "/v1/certificates/blog", "", nil); err != nil || status != http.StatusNotFound || got.Key != "" {
		t.Errorf("what is not bound: %d %v", status, err)
	}
	anew := next()
	opened.Apply(t.Context(), []target.Install{anew})
	names("next shop")
	// One that fails is not bound by that.
	bad := next()
	bad.Command.Place, bad.Command.Names = "blog", certctl.Names{DNS: []string{"other.example.com"}}
	if r := opened.Apply(t.Context(), []target.Install{bad})[0]; r.Code != "pair_mismatch" {
		t.Fatalf("receipt %+v", r)
	}
	names("next shop")
	must(t, opened.Forget(t.Context(), certctl.ForgetCommand{Place: "shop", Slot: certctl.SlotDefault}))
	names("next")
	must(t, opened.Forget(t.Context(), certctl.ForgetCommand{Binding: anew.Command.Binding, Place: "next", Slot: certctl.SlotDefault, Remove: true}))
	if left := sockets(t, dir); len(left) > 0 {
		t.Errorf("with nothing bound there is %v", left)
	}
}

// A place that was bound anew is handed out, however often the end of the binding
// before is told; and so is what another description of the target has installed.
func TestSocketHandsOutWhatIsBoundAnew(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	var journal []target.Place
	opened := openSocket(t, socketSettings(dir))
	opened.Bind(func() []target.Place { return journal })
	apply := func(install target.Install) certctl.ForgetCommand {
		t.Helper()
		if r := opened.Apply(t.Context(), []target.Install{install})[0]; r.Outcome != certctl.OutcomeInstalled {
			t.Fatalf("receipt %+v", r)
		}
		return certctl.ForgetCommand{Binding: install.Command.Binding, Place: "shop", Slot: certctl.SlotDefault}
	}
	isHandedOut := func(want bool) {
		t.Helper()
		if _, err := os.Lstat(filepath.Join(dir, "socket")); (err == nil) != want {
			t.Errorf("the socket: %v, want %v", err, want)
		}
	}
	forget := apply(targettest.Installs(t, "shop", "shop.example.com")())
	must(t, opened.Forget(t.Context(), forget))
	isHandedOut(false)
	install := targettest.Installs(t, "shop", "shop.example.com")()
	install.Command.Binding = certctl.NewID(time.Now())
	inspect := func() error {
		return opened.Inspect("shop", certctl.SlotDefault, install.Command.Fingerprint, install.Command.SPKI)
	}
	anew := apply(install)
	must(t, opened.Forget(t.Context(), forget))
	isHandedOut(true)
	must(t, opened.Forget(t.Context(), anew))
	isHandedOut(false)
	if err := inspect(); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("a place that is not handed out: %v", err)
	}
	apply(install)
	must(t, opened.Close())

	// It was installed while this one was opened, and is journalled after that.
	opened = openSocket(t, socketSettings(dir))
	opened.Bind(func() []target.Place { return journal })
	must(t, opened.Recover(t.Context()))
	isHandedOut(false)
	journal = []target.Place{{Name: "shop", Slot: certctl.SlotDefault, Binding: install.Command.Binding}}
	must(t, inspect())
	isHandedOut(true)
}

// To open a target, and to test it, listens nowhere and changes nothing, also while
// another has its socket or its directory.
func TestSocketIsOpenedWithoutATrace(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	settings := socketSettings(dir)
	place := target.Place{Name: "shop", Slot: certctl.SlotDefault}
	first := openSocket(t, settings)
	if left := sockets(t, dir); len(left) > 0 {
		t.Errorf("an opened target has made %v", left)
	}
	socketStep(t, first, certctl.StepOK, "would be made")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("a tested target has made %v, %v", entries, err)
	}
	install := targettest.Installs(t, "shop", "shop.example.com")()
	first.Apply(t.Context(), []target.Install{install})
	socketStep(t, first, certctl.StepOK, "is ours")

	unlock, err := target.Lock(filepath.Join(dir, "tls", ".certctl.lock"))
	must(t, err)
	second := openSocket(t, settings, place) // with the directory locked
	unlock()
	socketStep(t, second, certctl.StepFails, "another target or process")
	if err := second.Recover(t.Context()); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("a socket of another: %v", err)
	}
	r := second.Apply(t.Context(), []target.Install{install})[0]
	if r.Outcome != certctl.OutcomeFailed || r.Code != "reload_failed" || !strings.Contains(r.Message, "another target or process") || r.Remedy == "" {
		t.Errorf("receipt %+v", r)
	}
	if err := second.Inspect("shop", certctl.SlotDefault, install.Command.Fingerprint, install.Command.SPKI); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("a socket of another, inspected: %v", err)
	}
	if status, _, err := call(t.Context(), asker(filepath.Join(dir, "socket")), http.MethodGet, "/v1/certificates/shop", "", nil); err != nil || status != http.StatusOK {
		t.Errorf("the first: %d, %v", status, err)
	}
	// Once it has ended the second one can, without a further word of the server's.
	must(t, first.Close())
	must(t, second.Inspect("shop", certctl.SlotDefault, install.Command.Fingerprint, install.Command.SPKI))
	must(t, os.Remove(filepath.Join(dir, "socket")))
	must(t, second.Inspect("shop", certctl.SlotDefault, install.Command.Fingerprint, install.Command.SPKI))
	if status, got, err := call(t.Context(), asker(filepath.Join(dir, "socket")), http.MethodGet, "/v1/certificates/shop", "", nil); err != nil || status != http.StatusOK || got.Key == "" {
		t.Errorf("the second: %d, %v", status, err)
	}
	must(t, second.Close())
	if r := second.Apply(t.Context(), []target.Install{install})[0]; r.Outcome != certctl.OutcomeFailed || len(sockets(t, dir)) > 0 {
		t.Errorf("after its end: %+v, %v", r, sockets(t, dir))
	}
}

// socketStep asserts what a test of the target says of its socket.
func socketStep(t *testing.T, opened servedTarget, state certctl.StepState, words string) {
	t.Helper()
	for _, step := range opened.Test(t.Context(), certctl.TestCommand{}) {
		if step.Step == "socket" {
			if step.State != state || !strings.Contains(step.Message, words) {
				t.Errorf("step %+v, want %s: %s", step, state, words)
			}
			return
		}
	}
	t.Error("the test says nothing of the socket")
}

// The end of a target ends what is under way.
func TestSocketEndsWithItsConnections(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	opened := openSocket(t, socketSettings(dir))
	opened.Apply(t.Context(), []target.Install{targettest.Installs(t, "shop", "shop.example.com")()})
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", filepath.Join(dir, "socket"))
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = conn.Write([]byte("GET /v1/certificates/shop HTTP/1.1\r\nHost: agent\r\n\r\n"))
	must(t, err)
	_, err = conn.Read(make([]byte, 1))
	must(t, err)
	must(t, opened.Close())
	if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the connection: %v", err)
	}
	if left := sockets(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// All certificates of a batch, and the way back of those that are refused, wait once.
func TestSocketWaitsOnceForABatch(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	settings := socketSettings(dir)
	settings["wait_seconds"] = 4
	opened := openSocket(t, settings)
	client := asker(filepath.Join(dir, "socket"))
	var next []func() target.Install
	batch := func() (all []target.Install) {
		for _, install := range next {
			all = append(all, install())
		}
		return all
	}
	for i := range 8 {
		name := "p" + strconv.Itoa(i)
		next = append(next, targettest.Installs(t, name, name+".example.com"))
	}
	opened.Apply(t.Context(), batch())
	// Somebody asks for each of them and says nothing, and somebody refuses one.
	tags := map[string]string{}
	for i := range next {
		name := "p" + strconv.Itoa(i)
		_, got, err := call(t.Context(), client, http.MethodGet, "/v1/certificates/"+name, "", nil)
		must(t, err)
		tags[name] = got.Tag
	}
	refused := make(chan error, 1)
	go func() {
		_, got, err := call(t.Context(), client, http.MethodGet, "/v1/certificates/p3?wait=60", tags["p3"], nil)
		if err == nil {
			_, _, err = call(t.Context(), client, http.MethodPost, "/v1/certificates/p3/report", "", map[string]string{"tag": got.Tag, "error": programSays})
		}
		refused <- err
	}()
	began := time.Now()
	receipts := opened.Apply(t.Context(), batch())
	if took := time.Since(began); took < 4*time.Second || took > 24*time.Second {
		t.Errorf("a batch of %d took %s", len(receipts), took)
	}
	must(t, <-refused)
	for i, r := range receipts {
		if i == 3 {
			if r.Outcome != certctl.OutcomeRolledBack || r.Code != "refused" || !strings.Contains(r.Message, programSays) {
				t.Errorf("the refused one: %+v", r)
			}
			continue
		}
		if r.Outcome != certctl.OutcomeInstalled || r.VerifiedBy != "installed" {
			t.Errorf("one of which nobody says anything: %+v", r)
		}
	}
}

func TestSocketSettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"a relative socket":         `{"directory": "/srv/tls", "socket": "shop"}`,
		"no socket":                 `{"directory": "/srv/tls"}`,
		"a long socket":             `{"directory": "/srv/tls", "socket": "/run/` + strings.Repeat("x", 100) + `"}`,
		"a socket among the keys":   `{"directory": "/srv/tls", "socket": "/srv/tls/shop"}`,
		"users that cannot connect": `{"directory": "/srv/tls", "socket": "/run/certctl/shop", "users": ["shop"]}`,
		"a user of no name":         `{"directory": "/srv/tls", "socket": "/run/certctl/shop", "users": [""], "group": "shop"}`,
		"endless patience":          `{"directory": "/srv/tls", "socket": "/run/certctl/shop", "wait_seconds": 301}`,
		"no patience at all":        `{"directory": "/srv/tls", "socket": "/run/certctl/shop", "wait_seconds": -1}`,
		"no address":                `{"directory": "/srv/tls", "socket": "/run/certctl/shop", "listen": ["443"]}`,
		"an unknown setting":        `{"directory": "/srv/tls", "socket": "/run/certctl/shop", "mode": "0666"}`,
	} {
		if err := target.Validate("socket", []byte(settings)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := `{"directory": "/srv/tls", "socket": "/run/certctl/shop", "users": ["no-such-user-here"], "group": "33", "listen": ["127.0.0.1:443"], "wait_seconds": 30}`
	must(t, target.Validate("socket", []byte(good)))
	open := func(p target.Policy) error {
		_, err := target.Kinds().Open(certctl.TargetCommand{Name: "shop", Kind: "socket", Settings: []byte(good)}, target.Env{Policy: p, Now: time.Now})
		return err
	}
	if err := open(struct{ target.Policy }{anything{}}); certctl.ErrorCode(err) != certctl.Denied {
		t.Errorf("a policy that knows no sockets: %v", err)
	}
	if err := open(anything{}); certctl.ErrorCode(err) != certctl.Invalid || !strings.Contains(err.Error(), "no-such-user-here") {
		t.Errorf("a user that is not there: %v", err)
	}
	denied := target.Kinds().Denied(certctl.TargetCommand{Kind: "socket", Settings: []byte(good)}, noSockets{})
	var words bytes.Buffer
	for _, err := range denied {
		fmt.Fprintln(&words, err)
	}
	if got := words.String(); strings.Count(got, "not here") != 1 || strings.Count(got, "no such socket") != 1 || strings.Count(got, "not him") != 1 {
		t.Errorf("denied: %s", got)
	}
}

// noSockets is a policy that allows nothing of such a target.
type noSockets struct{ anything }

func (noSockets) AllowDirectory(string) error  { return certctl.Errorf(certctl.Denied, "not here") }
func (noSockets) AllowSocket(string) error     { return certctl.Errorf(certctl.Denied, "no such socket") }
func (noSockets) AllowSocketUser(string) error { return certctl.Errorf(certctl.Denied, "not him") }
