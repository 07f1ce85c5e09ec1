package agent

import (
	"runtime"
	"sync"
	"time"

	"github.com/certctl/certctl"
)

// nextRecord is the key that was made for a holder's next leaf, and the request
// that was handed over for it. It is journalled together with the receipt that
// hands it over: a crash before leaves a key file that nothing needs, a crash
// afterwards a key that can be used. It stays until a leaf for it is in place,
// or until another one is handed over in its stead.
type nextRecord struct {
	Certificate certctl.ID     `json:"certificate"` // its bindings keep the key
	SPKI        certctl.Digest `json:"spki"`
	CSR         []byte         `json:"csr"`
	After       certctl.Digest `json:"after"` // the key in service that it follows
	At          time.Time      `json:"at"`
}

func nextKey(holder certctl.ID) string { return "next/" + holder.String() }

// makeNextKeys makes the keys that install commands ask for, one per holder,
// while the target is at work. The function that it returns waits for them.
func (a *Agent) makeNextKeys(installs []Install) (wait func() map[certctl.ID]nextRecord) {
	var mu sync.Mutex // guards made
	var group sync.WaitGroup
	made, asked := map[certctl.ID]nextRecord{}, map[certctl.ID]bool{}
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range installs {
		c := &installs[i].Command
		if c.Next == nil || c.Next.Holder.IsZero() || asked[c.Next.Holder] {
			continue
		}
		asked[c.Next.Holder] = true
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			record, err := a.makeNextKey(c)
			if err != nil { // the next renewal asks for a key as usual
				a.log.Warn().Stringer("certificate", c.Certificate).Err(err).Msg("no key for the next renewal")
				return
			}
			mu.Lock()
			defer mu.Unlock()
			made[c.Next.Holder] = record
		})
	}
	return func() map[certctl.ID]nextRecord {
		group.Wait()
		if len(made) > 0 {
			a.at(FaultNextKeyStored)
		}
		return made
	}
}

// makeNextKey makes the key that follows the one of the command's leaf, or finds
// the one that it made when it was asked before.
func (a *Agent) makeNextKey(c *certctl.InstallCommand) (nextRecord, error) {
	var known nextRecord
	if a.journal.Get(nextKey(c.Next.Holder), &known) && known.After == c.SPKI && a.stillFits(known, c.Next) {
		return known, nil
	}
	key, err := c.Next.Algorithm.Generate()
	if err != nil {
		return nextRecord{}, err
	}
	csr, err := makeCSR(key, c.Next.Names)
	if err != nil {
		return nextRecord{}, err
	}
	spki, err := a.store.Put(key)
	return nextRecord{Certificate: c.Certificate, SPKI: spki, CSR: csr, After: c.SPKI, At: a.now().UTC()}, err
}

// stillFits reports whether a key that was handed over is there, and what is
// asked for now.
func (a *Agent) stillFits(known nextRecord, asked *certctl.NextKey) bool {
	csr, err := certctl.ParseCSR(known.CSR)
	if err != nil || csr.Algorithm != asked.Algorithm || !csr.Names.Equal(asked.Names) {
		return false
	}
	_, err = a.store.Get(known.SPKI)
	return err == nil
}

// handOver puts the request for the holder's next key into the receipt of what
// was installed, and returns the journal's changes that go with it. Where another
// target has been faster, its key is handed over here, too. The caller holds
// records.
func (a *Agent) handOver(c *certctl.InstallCommand, receipt *certctl.Receipt, made map[certctl.ID]nextRecord) []Change {
	if c.Next != nil {
		if record, ok := made[c.Next.Holder]; ok {
			var known nextRecord
			if a.journal.Get(nextKey(c.Next.Holder), &known) && known.After == c.SPKI && a.stillFits(known, c.Next) {
				record = known
			}
			receipt.NextCSR = record.CSR
			return []Change{{nextKey(c.Next.Holder), record}}
		}
	}
	// A next key that is in service now is its binding's.
	for _, key := range a.journal.Keys("next/") {
		var record nextRecord
		if a.journal.Get(key, &record) && record.SPKI == c.SPKI {
			return []Change{{key, nil}}
		}
	}
	return nil
}

// tidyNextKeys keeps the next keys of certificates that are bound here.
func (a *Agent) tidyNextKeys(needed map[certctl.Digest]bool) []Change {
	bound := map[certctl.ID]bool{}
	for _, key := range a.journal.Keys("binding/") {
		var record bindingRecord
		if a.journal.Get(key, &record) && !record.Forgotten {
			bound[record.Certificate] = true
		}
	}
	var changes []Change
	for _, key := range a.journal.Keys("next/") {
		var record nextRecord
		switch {
		case !a.journal.Get(key, &record):
		case bound[record.Certificate]:
			needed[record.SPKI] = true
		default:
			changes = append(changes, Change{key, nil})
		}
	}
	return changes
}
