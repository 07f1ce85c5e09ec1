package ca

import (
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/certctl/certctl"
	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
)

// linter is one that samples as said, with what it was told of.
func linter(sampled bool) (*Linter, *[]error) {
	var told []error
	l := NewLinter(func(err error) { told = append(told, err) })
	l.sampled = func() bool { return sampled }
	return l, &told
}

// leaves are good ones of one shape.
func leaves(t *testing.T, n int) (all [][]byte) {
	t.Helper()
	r := mathrand.New(mathrand.NewPCG(1, 3))
	for range n {
		d := plain(r)
		all = append(all, d.tbs(t))
	}
	return all
}

// only is the one shape that a linter knows.
func only(t *testing.T, l *Linter) *shape {
	t.Helper()
	if len(l.shapes) != 1 {
		t.Fatalf("%d shapes are known", len(l.shapes))
	}
	for _, s := range l.shapes {
		return s
	}
	return nil
}

// What was expected of a shape and is not what all rules say counts for no leaf, is
// told once, and ends all trust in shapes.
func TestDoubtEndsTrust(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		sampled bool
		spoil   func(*shape)
	}{
		"a rule that is not broken": {false, func(s *shape) { s.fixed.broken = []string{"e_of_another_leaf"} }},
		"a warning that is none":    {true, func(s *shape) { s.fixed.warnings++ }},
	} {
		l, told := linter(c.sampled)
		all := leaves(t, 4)
		if v, err := l.lint(all[0]); err != nil || len(v.broken) > 0 || v.warnings > 0 {
			t.Fatal(v, err)
		}
		c.spoil(only(t, l))
		for _, tbs := range all[1:] {
			if v, err := l.lint(tbs); err != nil || len(v.broken) > 0 || v.warnings > 0 {
				t.Errorf("%s: a good leaf is judged by its shape: %v, %v", what, v, err)
			}
		}
		if len(*told) != 1 || len(l.shapes) != 0 {
			t.Errorf("%s: told %v, %d shapes are known", what, *told, len(l.shapes))
		}
	}
}

// A rule that was wrongly taken to read nothing of what varies is noticed by the leaves
// that are sampled, and what it then says counts.
func TestWrongClassIsNoticed(t *testing.T) {
	t.Parallel()
	l, told := linter(true)
	good := leaves(t, 1)[0]
	if _, err := l.lint(good); err != nil {
		t.Fatal(err)
	}
	s := only(t, l)
	for i, rule := range s.varied {
		if rule.Name == "e_serial_number_not_positive" {
			s.varied = append(s.varied[:i:i], s.varied[i+1:]...)
			break
		}
	}
	d := plain(mathrand.New(mathrand.NewPCG(1, 4)))
	d.serial[0] = 0x80
	v, err := l.lint(d.tbs(t))
	if err != nil || !slices.Equal(v.broken, []string{"e_serial_number_not_positive"}) {
		t.Errorf("a leaf with a negative serial number: %v, %v", v, err)
	}
	if len(*told) != 1 || !strings.Contains((*told)[0].Error(), "e_serial_number_not_positive") {
		t.Errorf("told: %v", *told)
	}
}

// What is wrong with one leaf is held against no other one of its shape, whichever
// comes first, and what is wrong with the shape against all.
func TestVerdictsAreOfOneLeaf(t *testing.T) {
	t.Parallel()
	good, r := leaves(t, 2), mathrand.New(mathrand.NewPCG(1, 5))
	bad := plain(r)
	bad.names[0].value = "a..example.com"
	for _, order := range [][][]byte{{good[0], bad.tbs(t), good[1]}, {bad.tbs(t), good[0], good[1]}} {
		l, told := linter(false)
		for _, tbs := range order {
			v, err := l.lint(tbs)
			if want := slices.Equal(tbs, bad.tbs(t)); err != nil || want != (len(v.broken) > 0) {
				t.Errorf("%v, %v; bad is %v", v, err, want)
			}
		}
		only(t, l)
		if len(*told) > 0 {
			t.Error(*told)
		}
	}
	l, told := linter(false)
	for range 3 {
		bad := plain(r)
		bad.flaw = certSign
		if v, err := l.lint(bad.tbs(t)); err != nil || !slices.Contains(v.broken, "e_ext_key_usage_cert_sign_without_ca") {
			t.Errorf("%v, %v", v, err)
		}
	}
	if len(*told) > 0 {
		t.Error(*told)
	}
}

// Warnings of a shape are counted for each leaf of it.
func TestWarningsAreCounted(t *testing.T) {
	t.Parallel()
	l, told := linter(false)
	r := mathrand.New(mathrand.NewPCG(1, 6))
	for range 3 {
		d := plain(r)
		d.flaw = usageUncritical
		if v, err := l.lint(d.tbs(t)); err != nil || v.warnings != 1 || len(v.broken) > 0 {
			t.Errorf("%v, %v", v, err)
		}
	}
	if len(*told) > 0 {
		t.Error(*told)
	}
}

// Not more is remembered than was allowed.
func TestShapesAreBounded(t *testing.T) {
	t.Parallel()
	l, _ := linter(false)
	l.most = 3
	r := mathrand.New(mathrand.NewPCG(1, 7))
	for n := range 10 {
		d := plain(r)
		d.keyID = octets(r, n+1)
		if v, err := l.lint(d.tbs(t)); err != nil || len(v.broken) > 0 {
			t.Fatal(v, err)
		}
		if len(l.shapes) > 3 || len(l.shapes) == 0 {
			t.Errorf("%d shapes are known", len(l.shapes))
		}
	}
}

// A rule of which nobody has said what it reads is taken to read everything, and may
// read what a leaf that was not parsed does not have.
func TestUnclassifiedRuleSeesAllLeaves(t *testing.T) {
	t.Parallel()
	set, err := rules()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	unknown := &lint.CertificateLint{
		LintMetadata: lint.LintMetadata{Name: "e_new", Source: lint.RFC5280},
		Lint:         func() lint.CertificateLintInterface { return newRule{seen} },
	}
	set = newRuleset(append(slices.Clone(set.rules), unknown), set.configuration)
	l, _ := linter(false)
	all := leaves(t, 3)
	for _, tbs := range all {
		if v, err := l.lintBy(set, tbs); err != nil || len(v.broken) > 0 {
			t.Error(v, err)
		}
	}
	if len(seen) != len(all) {
		t.Errorf("it saw %d of %d leaves", len(seen), len(all))
	}
}

// newRule notes what it is shown.
type newRule struct{ seen map[string]bool }

func (newRule) CheckApplies(*x509.Certificate) bool { return true }

func (r newRule) Execute(leaf *x509.Certificate) *lint.LintResult {
	r.seen[string(leaf.Raw)] = true
	return &lint.LintResult{Status: lint.Pass}
}

// One linter serves all cores, and its hundredth leaf is seen by all rules.
func TestLinterIsShared(t *testing.T) {
	t.Parallel()
	l := NewLinter(func(err error) { t.Error(err) })
	var sampled, mutex = 0, sync.Mutex{}
	by := l.sampled
	l.sampled = func() bool {
		whole := by()
		mutex.Lock()
		defer mutex.Unlock()
		if whole {
			sampled++
		}
		return whole
	}
	all := leaves(t, 1500)
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for n := worker; n < len(all); n += 4 {
				if v, err := l.lint(all[n]); err != nil || len(v.broken) > 0 {
					t.Error(v, err)
				}
			}
		})
	}
	group.Wait()
	if sampled == 0 || sampled > len(all)/10 { // never by chance: once in 10^6 runs; too often: never
		t.Errorf("%d of %d leaves were seen by all rules", sampled, len(all))
	}
}

// Bytes that are no leaf are refused as before, also in the shape of a good one.
func TestWhatCannotBeParsedIsRefused(t *testing.T) {
	t.Parallel()
	l, _ := linter(false)
	good := leaves(t, 1)[0]
	if _, err := l.lint(good); err != nil {
		t.Fatal(err)
	}
	r := mathrand.New(mathrand.NewPCG(1, 8))
	off := plain(r)
	off.key = append([]byte{4}, make([]byte, 64)...) // not on the curve
	month := plain(r)
	month.notAfter.value = "271330120000Z"
	for what, tbs := range map[string][]byte{
		"a point that is not on the curve": off.tbs(t), "a 13th month": month.tbs(t), "cut short": good[:len(good)-1], "nothing": nil,
	} {
		if _, err := l.lint(tbs); certctl.ErrorCode(err) != certctl.Invalid && certctl.ErrorCode(err) != certctl.Internal {
			t.Errorf("%s: %v", what, err)
		}
	}
	only(t, l)
}
