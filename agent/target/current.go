package target

import (
	"crypto/tls"
	"os"
	"path/filepath"
)

// Current is what a service hands out of a place.
type Current struct {
	Name           string // the place's folder: <place>, or <place>~<slot>
	Fullchain, Key []byte // PEM
}

func (c Current) same(other Current) bool {
	return string(c.Fullchain) == string(other.Fullchain) && string(c.Key) == string(other.Key)
}

// currentOf reads one generation. What does not fit together is an error.
func currentOf(p place, n int) (out Current, err error) {
	out.Name = p.folder()
	if out.Fullchain, err = os.ReadFile(filepath.Join(p.generation(n), fileFullchain)); err != nil {
		return Current{}, err
	}
	if out.Key, err = os.ReadFile(filepath.Join(p.generation(n), fileKey)); err != nil {
		return Current{}, err
	}
	_, err = tls.X509KeyPair(out.Fullchain, out.Key)
	return out, err
}

// currents reads what is to be handed out of these places: what is current, or, where
// a switch is not proven and that counts, what was before it. What was changed by
// others and does not fit together stays as it was handed out before.
func currents(layout layout, names map[string]bool, proven bool, before map[string]Current) (map[string]Current, error) {
	all := map[string]Current{}
	for name := range names {
		p := place{layout: layout, path: filepath.Join(layout.directory, name)}
		n, err := p.number()
		if err != nil {
			return nil, err
		}
		if previous, unproven := p.unproven(); proven && unproven {
			n = previous
		}
		if n == 0 {
			continue
		}
		current, err := currentOf(p, n)
		if err == nil {
			all[name] = current
		} else if known, ok := before[name]; ok {
			all[name] = known
		}
	}
	return all, nil
}

// differences are what is to be offered anew, and what is no more.
func differences(before, now map[string]Current) (changed []Current, gone []string) {
	for name, c := range now {
		if known, ok := before[name]; !ok || !known.same(c) {
			changed = append(changed, c)
		}
	}
	for name := range before {
		if _, still := now[name]; !still {
			gone = append(gone, name)
		}
	}
	return changed, gone
}
