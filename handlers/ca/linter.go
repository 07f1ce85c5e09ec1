package ca

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/certctl/certctl"
	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
)

// Linter lints leaves before they are signed. All rules look at the first leaf of a
// shape; at further ones look those that may read what varies between them, and what
// the others said of the first one is taken.
//
// All rules look nevertheless at one leaf in a hundred and at each that would be
// refused: nothing is refused for what another leaf has done. Should they say
// something else than was expected, theirs is the verdict, doubt is told, and all
// rules look at each leaf until the process ends, since what was wrong once is wrong
// for all shapes.
//
// A nil Linter lets all rules look at each leaf.
type Linter struct {
	doubt   func(error)
	sampled func() bool // says of a leaf whose shape is known whether all rules look at it
	most    int         // shapes that are remembered
	off     atomic.Bool

	mutex  sync.RWMutex
	shapes map[string]*shape // by the key that cut and era make
}

// shape is what is known of leaves that differ only in what varies.
type shape struct {
	like   x509.Certificate // the first one, without what fill exchanges or leaves out
	fixed  verdict          // of the rules that read nothing that varies
	varied []*lint.CertificateLint
}

// maxShapes bounds what is remembered, some 10 KB each. There are a few for each
// profile and authority; when there are more, all are forgotten and learnt anew.
const maxShapes = 4096

// wholeOneIn is how many leaves share one that all rules look at.
const wholeOneIn = 100

// NewLinter returns a linter that tells doubt when all rules say something else of a
// leaf than was expected of its shape.
func NewLinter(doubt func(error)) *Linter {
	return &Linter{
		doubt: doubt, sampled: func() bool { return rand.N(wholeOneIn) == 0 }, most: maxShapes, shapes: map[string]*shape{},
	}
}

// lint lints to-be-signed bytes.
func (l *Linter) lint(tbs []byte) (verdict, error) {
	set, err := rules()
	if err != nil {
		return verdict{}, err
	}
	return l.lintBy(set, tbs)
}

func (l *Linter) lintBy(set *ruleset, tbs []byte) (verdict, error) {
	if l == nil || set.unclassified || l.off.Load() {
		return set.lint(tbs)
	}
	var buffer [1024]byte
	key, varies, ok := cut(buffer[:0], tbs)
	if !ok {
		return set.lint(tbs)
	}
	key = appendEra(key, set.era(varies.notBefore))
	l.mutex.RLock()
	known := l.shapes[string(key)]
	l.mutex.RUnlock()
	if known == nil {
		return l.learn(set, string(key), &varies)
	}
	expected, err := known.judge(set, &varies)
	if err != nil {
		return set.lint(tbs) // which says what is wrong with it
	}
	if len(expected.broken) == 0 && !l.sampled() {
		return expected, nil
	}
	return l.compare(set, &varies, expected)
}

func appendEra(key []byte, era uint16) []byte { return binary.BigEndian.AppendUint16(key, era) }

// judge adds to what is known of the shape what the other rules say of one leaf.
func (s *shape) judge(set *ruleset, v *varying) (verdict, error) {
	leaf, err := v.fill(s.like)
	if err != nil {
		return verdict{}, err
	}
	expected := verdict{warnings: s.fixed.warnings, broken: slices.Clip(s.fixed.broken)}
	for _, rule := range s.varied {
		expected.add(rule, leaf, set.configuration)
	}
	return expected, nil
}

// learn lets all rules look at the first leaf of a shape.
func (l *Linter) learn(set *ruleset, key string, v *varying) (verdict, error) {
	leaf, err := parse(v.tbs)
	if err != nil {
		return verdict{}, err
	}
	s := &shape{like: *leaf}
	blank(&s.like)
	whole := verdict{}
	for _, rule := range set.rules {
		whole.add(rule, leaf, set.configuration)
		if reads[rule.Name]&v.facts == 0 {
			s.fixed.add(rule, leaf, set.configuration)
		} else {
			s.varied = append(s.varied, rule)
		}
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if len(l.shapes) >= l.most {
		clear(l.shapes)
	}
	l.shapes[key] = s
	return whole, nil
}

// blank takes from a certificate what fill does not give a leaf: a rule that reads it
// nevertheless finds nothing, instead of the first leaf's again and again.
func blank(leaf *x509.Certificate) {
	leaf.Raw, leaf.Signature = nil, nil
	leaf.FingerprintMD5, leaf.FingerprintSHA1, leaf.FingerprintSHA256, leaf.FingerprintNoCT = nil, nil, nil, nil
	leaf.SPKIFingerprint, leaf.SPKISubjectFingerprint, leaf.TBSCertificateFingerprint = nil, nil, nil
}

// compare lets all rules look at a leaf whose shape is known. Theirs is the verdict,
// whether or not it was expected.
func (l *Linter) compare(set *ruleset, v *varying, expected verdict) (verdict, error) {
	whole, err := set.lint(v.tbs)
	if err == nil && whole.equal(expected) {
		return whole, nil
	}
	if l.off.CompareAndSwap(false, true) {
		l.forget()
		l.doubt(doubtful(v, whole, err, expected))
	}
	return whole, err
}

func (l *Linter) forget() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	clear(l.shapes)
}

// doubtful says what all rules said of a leaf, and what was expected.
func doubtful(v *varying, whole verdict, err error, expected verdict) error {
	said := strings.Join(whole.broken, ", ")
	if err != nil {
		said = err.Error()
	}
	return certctl.Errorf(certctl.Internal,
		"all lint rules say of the leaf with serial number %s: %d warnings, broken [%s]; of its shape was expected: %d warnings, broken [%s]",
		certctl.SerialOf(v.serial), whole.warnings, said, expected.warnings, strings.Join(expected.broken, ", "))
}
