package certctl

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// ID is a UUID (RFC 9562). New ones are version 7, so that they sort by the
// millisecond in which they were made.
type ID [16]byte

// NoID is the absent ID.
var NoID ID

// NewID returns a UUIDv7 for now.
func NewID(now time.Time) ID {
	var id ID
	_, _ = rand.Read(id[6:]) // never fails (crypto/rand)
	binary.BigEndian.PutUint64(id[:8], uint64(now.UnixMilli())<<16|uint64(binary.BigEndian.Uint16(id[6:8])))
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// WithOrder returns id with i in its 12 bits after the millisecond, so that ids
// made together sort in the order of i (RFC 9562 section 6.2, method 1). i wraps
// at 4096.
func (id ID) WithOrder(i int) ID {
	id[6], id[7] = 0x70|byte(i>>8)&0x0f, byte(i)
	return id
}

// FirstIDAt returns the smallest UUIDv7 of the millisecond of t: the lower
// bound of every ID made at or after t.
func FirstIDAt(t time.Time) ID {
	var id ID
	binary.BigEndian.PutUint64(id[:8], uint64(t.UnixMilli())<<16)
	id[6], id[8] = 0x70, 0x80
	return id
}

// ParseID reads the canonical text form, in either case.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return NoID, Errorf(Invalid, "%q is not an id", Clip(s, 40))
	}
	compact := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(id[:], []byte(compact)); err != nil {
		return NoID, Errorf(Invalid, "%q is not an id", Clip(s, 40))
	}
	return id, nil
}

// Time returns the millisecond in which a UUIDv7 was made.
func (id ID) Time() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16)).UTC()
}

// IsZero reports whether the ID is absent.
func (id ID) IsZero() bool { return id == NoID }

// String returns the canonical lower-case text form.
func (id ID) String() string {
	var b [36]byte
	hex.Encode(b[:8], id[:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:], id[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// MarshalText returns the text form; the absent ID is empty.
func (id ID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return nil, nil
	}
	return []byte(id.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = NoID
		return nil
	}
	parsed, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}
