package targettest

import (
	"github.com/certctl/certctl"
)

// erases proves that a compromised key goes with its generation, that the other
// generations stay, and that what is served is not touched.
func (s *suite) erases() {
	first, second := s.next(), s.next()
	s.installed(first, s.apply(first)[0])
	s.installed(second, s.apply(second)[0])
	opened := s.open(nil)
	erase := func(spki certctl.Digest) error { return opened.Erase(place, certctl.SlotDefault, spki) }
	if err := erase(certctl.DigestOf([]byte("another"))); err != nil || len(s.generations()) != 2 {
		s.Errorf("another key: %v, generations %v", err, s.generations())
	}
	if err := erase(second.Command.SPKI); certctl.ErrorCode(err) != certctl.Conflict || len(s.generations()) != 2 {
		s.Errorf("the key that is served: %v, generations %v", err, s.generations())
	}
	for range 2 { // the second time there is nothing left to do
		if err := erase(first.Command.SPKI); err != nil || len(s.generations()) != 1 {
			s.Errorf("%v, generations %v", err, s.generations())
		}
	}
	s.serves(second)
	third := s.next()
	s.installed(third, s.apply(third)[0])
	if err := opened.Erase("nowhere", certctl.SlotDefault, first.Command.SPKI); err != nil {
		s.Errorf("a place that is not there: %v", err)
	}
}
