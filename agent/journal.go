package agent

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/certctl/certctl"
)

// Journal is the agent's memory: a durable map from keys to JSON values, in one
// append-only file.
//
// Each line is a checksum and one commit, a list of keys with their new values
// (null removes a key). A commit is all there or not there at all, and it is
// there once Commit has returned. A torn last line, which nobody was told of, is
// cut off when the file is opened. A damaged line in the middle (a failing
// disk) is skipped and counted, since values are whole and not differences: the
// keys it named keep their older values. When most of the file is history it is
// rewritten beside itself and renamed.
//
// It is safe for concurrent use.
type Journal struct {
	path string

	mu      sync.Mutex // guards all below
	file    *os.File
	size    int64 // of the file
	values  map[string]json.RawMessage
	damaged int
	broken  error // an append failed: nothing may follow a torn line
}

// Change sets a key of the journal, or removes it when Value is nil.
type Change struct {
	Key   string `json:"k"`
	Value any    `json:"v"`
}

// Sizes of the journal, in bytes.
const (
	compactAbove   = 4 << 20 // below this, history costs nothing worth having
	maxJournalLine = 64 << 20
)

// OpenJournal reads the journal at path, which is made if it does not exist.
func OpenJournal(path string) (*Journal, error) {
	j := &Journal{path: path, values: map[string]json.RawMessage{}}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the journal cannot be opened")
	}
	j.file = file
	if err := errors.Join(j.replay(), syncDirectory(filepath.Dir(path))); err != nil {
		return nil, certctl.Wrap(certctl.Internal, errors.Join(err, file.Close()), "the journal cannot be read")
	}
	return j, nil
}

// replay reads every intact line and cuts a torn end off.
func (j *Journal) replay() error {
	reader := bufio.NewReader(j.file)
	var offset int64
	suspect := 0 // damaged lines since the last intact one: the torn end, unless one follows
	for {
		line, err := reader.ReadBytes('\n')
		offset += int64(len(line))
		switch {
		case err == nil && j.apply(line):
			j.size = offset
			j.damaged += suspect
			suspect = 0
		case err == nil:
			suspect++
		case errors.Is(err, io.EOF):
			return j.cut()
		default:
			return err
		}
	}
}

// cut removes what follows the last intact line.
func (j *Journal) cut() error {
	if err := j.file.Truncate(j.size); err != nil {
		return err
	}
	if _, err := j.file.Seek(j.size, io.SeekStart); err != nil {
		return err
	}
	return j.file.Sync()
}

// apply takes one line over and reports whether it was intact.
func (j *Journal) apply(line []byte) bool {
	sum, body, found := bytes.Cut(bytes.TrimSuffix(line, []byte{'\n'}), []byte{' '})
	if !found || string(sum) != checksum(body) {
		return false
	}
	var changes []struct {
		Key   string          `json:"k"`
		Value json.RawMessage `json:"v"`
	}
	if err := json.Unmarshal(body, &changes); err != nil {
		return false
	}
	for _, change := range changes {
		j.set(change.Key, change.Value)
	}
	return true
}

func (j *Journal) set(key string, value json.RawMessage) {
	if len(value) == 0 || string(value) == "null" {
		delete(j.values, key)
		return
	}
	j.values[key] = value
}

// Commit makes all changes at once. When it returns nil they survive a power cut.
func (j *Journal) Commit(changes ...Change) error {
	if len(changes) == 0 {
		return nil
	}
	line, err := encodeLine(changes)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return j.broken
	}
	if _, err = j.file.Write(line); err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.broken = certctl.Wrap(certctl.Internal, err, "the journal cannot be written").
			WithRemedy("free space on the disk of %s and restart the agent", j.path)
		return j.broken
	}
	j.size += int64(len(line))
	j.apply(line)
	if j.size > compactAbove && j.size > 4*j.liveSize() {
		return j.compact()
	}
	return nil
}

func encodeLine(changes any) ([]byte, error) {
	body, err := json.Marshal(changes)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "a journal entry cannot be encoded")
	}
	if len(body) > maxJournalLine {
		return nil, certctl.Errorf(certctl.Internal, "a journal entry has more than %d bytes", maxJournalLine)
	}
	return slices.Concat([]byte(checksum(body)), []byte{' '}, body, []byte{'\n'}), nil
}

// checksum covers a line's body: CRC-32C, hex.
func checksum(body []byte) string {
	sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
	return hex.EncodeToString([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

func (j *Journal) liveSize() int64 {
	var size int64
	for key, value := range j.values {
		size += int64(len(key) + len(value) + 32)
	}
	return size
}

// compact rewrites the file without its history. The caller holds mu.
func (j *Journal) compact() error {
	type entry struct {
		Key   string          `json:"k"`
		Value json.RawMessage `json:"v"`
	}
	var content []byte
	for _, key := range slices.Sorted(maps.Keys(j.values)) {
		line, err := encodeLine([]entry{{key, j.values[key]}})
		if err != nil {
			return err
		}
		content = append(content, line...)
	}
	if err := writeDurable(j.path, content); err != nil {
		return certctl.Wrap(certctl.Internal, err, "the journal cannot be rewritten")
	}
	file, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		j.broken = certctl.Wrap(certctl.Internal, err, "the journal cannot be opened again")
		return j.broken
	}
	_ = j.file.Close() // the old file has no name any more
	j.file, j.size = file, int64(len(content))
	return nil
}

// Get reads a key's value into v and reports whether there is one.
func (j *Journal) Get(key string, v any) bool {
	j.mu.Lock()
	value, ok := j.values[key]
	j.mu.Unlock()
	return ok && json.Unmarshal(value, v) == nil
}

// Keys returns the keys with the prefix, sorted.
func (j *Journal) Keys(prefix string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var keys []string
	for key := range j.values {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// Damaged returns how many lines could not be read when the journal was opened.
func (j *Journal) Damaged() int { return j.damaged }

// Close ends the use of the journal.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.file.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return certctl.Wrap(certctl.Internal, err, "the journal cannot be closed")
	}
	return nil
}
