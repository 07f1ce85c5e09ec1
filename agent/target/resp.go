package target

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/certctl/certctl"
)

// Bounds of what Redis may answer.
const (
	maxRESPLine  = 4 << 10
	maxRESPBulk  = 64 << 10
	maxRESPArray = 16
)

// resp speaks version 2 of Redis's protocol.
type resp struct {
	conn io.ReadWriter
	in   *bufio.Reader
}

func newRESP(conn io.ReadWriter) *resp {
	return &resp{conn: conn, in: bufio.NewReaderSize(conn, maxRESPLine)}
}

// do sends a command and returns the strings of its answer. Its words are never in
// an error: one of them may be a password.
func (r *resp) do(words ...string) ([]string, error) {
	var out strings.Builder
	fmt.Fprintf(&out, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&out, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := io.WriteString(r.conn, out.String()); err != nil {
		return nil, err
	}
	answer, err := r.read(true)
	if err != nil {
		return nil, certctl.Wrap(certctl.Conflict, err, "Redis answers %s: %s", words[0], certctl.Clip(err.Error(), maxMessage))
	}
	return answer, nil
}

// read reads an answer; only the outermost may be an array.
func (r *resp) read(outermost bool) ([]string, error) {
	line, err := r.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	text := strings.TrimRight(string(line), "\r\n")
	if text == "" {
		return nil, respErrorf("an empty line")
	}
	kind, rest := text[0], text[1:]
	switch {
	case kind == '+' || kind == ':':
		return []string{rest}, nil
	case kind == '-':
		return nil, respErrorf("%s", rest)
	case kind == '$':
		return r.bulk(rest)
	case kind == '*' && outermost:
		return r.array(rest)
	}
	return nil, respErrorf("something unknown")
}

func (r *resp) bulk(length string) ([]string, error) {
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 || n > maxRESPBulk {
		return nil, respErrorf("a string of the length %s", length)
	}
	content := make([]byte, n+len("\r\n"))
	if _, err := io.ReadFull(r.in, content); err != nil {
		return nil, err
	}
	return []string{string(content[:n])}, nil
}

func (r *resp) array(length string) ([]string, error) {
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 || n > maxRESPArray {
		return nil, respErrorf("a list of the length %s", length)
	}
	var all []string
	for range n {
		element, err := r.read(false)
		if err != nil {
			return nil, err
		}
		all = append(all, element...)
	}
	return all, nil
}

func respErrorf(format string, args ...any) error {
	return certctl.Errorf(certctl.Conflict, format, args...)
}
