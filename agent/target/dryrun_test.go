package target_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
)

// try tests a target and returns its steps by name.
func try(t *testing.T, d *targettest.Daemon, places ...certctl.TestPlace) map[string][]certctl.TestStep {
	t.Helper()
	return tryAt(t.Context(), t, d, time.Now, places...)
}

// tryAt is try by another clock.
func tryAt(ctx context.Context, t *testing.T, d *targettest.Daemon, now func() time.Time, places ...certctl.TestPlace) map[string][]certctl.TestStep {
	t.Helper()
	opened, err := target.Kinds().Open(d.Spec, target.Env{Policy: d.Policy, Now: now, StateDir: filepath.Join(t.TempDir(), "state")})
	must(t, err)
	tester, can := opened.(*target.Target)
	if !can {
		t.Fatal("it cannot be tested")
	}
	steps := map[string][]certctl.TestStep{}
	for _, step := range tester.Test(ctx, certctl.TestCommand{Places: places, NotAfter: time.Now().Add(time.Minute)}) {
		steps[step.Step] = append(steps[step.Step], step)
	}
	return steps
}

func shopPlace(place string) certctl.TestPlace {
	return certctl.TestPlace{Certificate: "shop", Place: place, Slot: certctl.SlotDefault, Names: certctl.Names{DNS: []string{"shop.example.com"}}}
}

// withSettings changes settings of a daemon's target.
func withSettings(t *testing.T, d *targettest.Daemon, change func(map[string]any)) {
	t.Helper()
	var settings map[string]any
	must(t, json.Unmarshal(d.Spec.Settings, &settings))
	change(settings)
	d.Spec = spec(t, d.Spec.Kind, settings)
}

// A test of nginx finds a template that nginx would refuse, before anything of the
// target's folder is there, and neither writes, nor makes a key, nor reloads.
func TestATestChangesNothing(t *testing.T) {
	t.Parallel()
	d := startNginx(t)
	root := filepath.Dir(d.Directory)
	must(t, os.RemoveAll(d.Directory))
	log := func() int {
		content, err := os.ReadFile(filepath.Join(root, "nginx.log"))
		must(t, err)
		return bytes.Count(content, []byte("(SIGHUP) received"))
	}
	before, reloads := targettest.Snapshot(t, root), log()
	place := shopPlace("shop")
	place.Binding = certctl.ID{7}
	good := try(t, d, place)
	for step, about := range map[string]certctl.ID{"directory": certctl.NoID, "place": {7}, "check": certctl.NoID, "reload": certctl.NoID} {
		if s := good[step]; len(s) == 0 || s[0].Binding != about {
			t.Errorf("%s is about %v", step, s)
		}
	}
	if s := good["check"]; len(s) != 1 || s[0].State != certctl.StepOK {
		t.Errorf("check %+v", s)
	}
	if s := good["directory"]; len(s) != 1 || s[0].State != certctl.StepOK || !strings.Contains(s[0].Message, root) {
		t.Errorf("directory %+v", s)
	}
	withSettings(t, d, func(settings map[string]any) {
		settings["server_block"] = strings.Replace(settings["server_block"].(string), "listen", "no_such_directive x;\n listen", 1) //nolint:forcetypeassert // our own
	})
	bad := try(t, d, shopPlace("shop"))
	if s := bad["check"]; len(s) != 1 || s[0].State != certctl.StepFails || !strings.Contains(s[0].Message, "no_such_directive") {
		t.Errorf("check %+v", s)
	}
	if changed := targettest.Changed(before, targettest.Snapshot(t, root)); len(changed) > 0 {
		t.Errorf("changed: %v", changed)
	}
	if n := log(); n != reloads {
		t.Errorf("%d reloads, before %d", n, reloads)
	}
}

// Each thing that would fail is said with what to do.
func TestATestNamesWhatWouldFail(t *testing.T) {
	t.Parallel()
	d := startNginx(t)
	withSettings(t, d, func(settings map[string]any) {
		settings["pid_file"] = filepath.Join(t.TempDir(), "none.pid")
		settings["binary"] = filepath.Join(t.TempDir(), "none")
		settings["listen"] = []string{"127.0.0.1:1"}
		settings["directory"] = filepath.Join(d.Directory, "nginx.conf")
	})
	must(t, os.MkdirAll(d.Directory, 0o700))
	must(t, os.WriteFile(filepath.Join(d.Directory, "nginx.conf"), nil, 0o600))
	steps := try(t, d)
	for _, name := range []string{"directory", "program", "check", "reload", "listener"} {
		if s := steps[name]; len(s) == 0 || s[0].State != certctl.StepFails || s[0].Remedy == "" && name != "check" {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if s := try(t, startNginx(t), shopPlace("../etc"))["place"]; len(s) != 1 || s[0].State != certctl.StepFails {
		t.Errorf("a place elsewhere: %+v", s)
	}
}

// A listener that serves something else than what is installed is found out.
func TestATestSeesWhatIsServed(t *testing.T) {
	t.Parallel()
	d := startNginx(t)
	if r := targettest.Install(t, d); r.Outcome != certctl.OutcomeVerified {
		t.Fatalf("receipt %+v", r)
	}
	place := shopPlace("shop")
	place.Binding = certctl.ID{7}
	if s := try(t, d, place)["listener"]; len(s) != 1 || s[0].State != certctl.StepOK || s[0].Binding != place.Binding {
		t.Errorf("listener %+v", s)
	}
	// Something else becomes current, and nobody has told nginx.
	targettest.WritePair(t, filepath.Join(d.Directory, "shop", "current", "cert.pem"), filepath.Join(t.TempDir(), "key"), "shop.example.com")
	if s := try(t, d, shopPlace("shop"))["listener"]; len(s) != 1 || s[0].State != certctl.StepFails || s[0].Remedy == "" {
		t.Errorf("listener %+v", s)
	}
}

// An installation would follow a certificate that has ended: the test goes on with
// another pair.
func TestATestOfAPlaceWhoseCertificateHasEnded(t *testing.T) {
	t.Parallel()
	d := startNginx(t)
	if r := targettest.Install(t, d); r.Outcome != certctl.OutcomeVerified {
		t.Fatalf("receipt %+v", r)
	}
	before := targettest.Snapshot(t, d.Directory)
	steps := tryAt(t.Context(), t, d, func() time.Time { return time.Now().Add(24 * time.Hour) }, shopPlace("shop"))
	if s := steps["place"]; len(s) != 1 || s[0].State != certctl.StepOK || !strings.Contains(s[0].Message, "whose certificate there ended on") {
		t.Errorf("place %+v", s)
	}
	if s := steps["check"]; len(s) != 1 || s[0].State != certctl.StepOK || !strings.HasSuffix(s[0].Message, "with 1 place staged") {
		t.Errorf("check %+v", s)
	}
	if changed := targettest.Changed(before, targettest.Snapshot(t, d.Directory)); len(changed) > 0 {
		t.Errorf("changed: %v", changed)
	}
}

// What cannot be staged could not be installed either: that is a failure, and not
// something that this kernel does not let us try.
func TestATestThatCannotBeStaged(t *testing.T) {
	t.Parallel()
	d := startNginx(t)
	must(t, os.MkdirAll(filepath.Join(d.Directory, "shop"), 0o700))
	must(t, os.WriteFile(filepath.Join(d.Directory, "shop", "generations"), nil, 0o600))
	if s := try(t, d, shopPlace("shop"))["check"]; len(s) != 1 || s[0].State != certctl.StepFails || !strings.Contains(s[0].Message, "not a directory") {
		t.Errorf("check %+v", s)
	}
	if r := targettest.Install(t, d); r.Outcome != certctl.OutcomeFailed {
		t.Errorf("and installed it is: %+v", r)
	}
	withSettings(t, d, func(settings map[string]any) { settings["binary"] = filepath.Join(t.TempDir(), "none") })
	if s := try(t, d, shopPlace("other"))["check"]; len(s) != 1 || s[0].State != certctl.StepFails || !strings.Contains(s[0].Message, "no such file") {
		t.Errorf("check by a program that is not there: %+v", s)
	}
}

// The folder's name may hold what the options of a mount are separated by.
func TestATestInAFolderOfAnOddName(t *testing.T) {
	t.Parallel()
	d := startNginx(t)
	odd := filepath.Join(filepath.Dir(d.Directory), `a,b:c\d`)
	must(t, os.Mkdir(odd, 0o700))
	withSettings(t, d, func(settings map[string]any) { settings["directory"] = odd })
	if s := try(t, d, shopPlace("shop"))["check"]; len(s) != 1 || s[0].State != certctl.StepOK {
		t.Errorf("check %+v", s)
	}
}

// Listeners that the test's time does not suffice for are not said to be silent.
func TestATestThatRunsOutOfTime(t *testing.T) {
	t.Parallel()
	d := startNginx(t)
	withSettings(t, d, func(settings map[string]any) { settings["listen"] = []string{d.Address, "127.0.0.1:1"} })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := tryAt(ctx, t, d, time.Now)["listener"]
	if len(s) != 2 || s[0].State != certctl.StepSkipped || s[1].State != certctl.StepSkipped {
		t.Errorf("listeners %+v", s)
	}
}

// A kind of another package has no needs here, and is no crash either.
func TestNeedsOfAKindOfAnotherPackage(t *testing.T) {
	t.Parallel()
	table := target.Table{{Kind: "elsewhere", Parse: func(json.RawMessage) (target.Opener, error) { return nil, nil }}} //nolint:nilnil // never asked
	if _, err := table.Needs("elsewhere", nil); certctl.ErrorCode(err) != certctl.Invalid || !strings.Contains(err.Error(), "elsewhere") {
		t.Errorf("error %v", err)
	}
}

// All that a policy does not allow is named, where Open stops at the first.
func TestDeniedNamesAll(t *testing.T) {
	t.Parallel()
	d := startNginx(t)
	denied := target.Kinds().Denied(d.Spec, nobody{})
	var texts []string
	for _, err := range denied {
		texts = append(texts, err.Error())
	}
	for _, want := range []string{"directory", "config", "command"} {
		if !slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(text, want) }) {
			t.Errorf("%s is not named: %v", want, texts)
		}
	}
	if denied := target.Kinds().Denied(d.Spec, anything{}); len(denied) > 0 {
		t.Errorf("a policy that allows all: %v", denied)
	}
}

// nobody is a policy that allows nothing.
type nobody struct{}

func (nobody) AllowDirectory(string) error { return certctl.Errorf(certctl.Denied, "no directory") }
func (nobody) AllowConfig(string) error    { return certctl.Errorf(certctl.Denied, "no config") }
func (nobody) AllowCommand([]string) error { return certctl.Errorf(certctl.Denied, "no command") }
