package probe

import (
	"bytes"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json"
	"io"
	"strings"

	"github.com/certctl/certctl"
)

// Bounds of what a server may say before TLS begins.
const (
	maxLine   = 1024
	maxLines  = 64
	maxPacket = 8 << 10
)

// starters ask a server for TLS in its protocol. They read no byte too many: what
// follows is TLS.
var starters = map[string]func(io.ReadWriter) error{
	"smtp": startSMTP, "imap": startIMAP, "pop3": startPOP3, "ldap": startLDAP, "postgres": startPostgres, "mysql": startMySQL,
	"ftp": startFTP, "nats": startNATS,
}

func unwilling(protocol, answer string) error {
	return certctl.Errorf(certctl.Unavailable, "the %s server does not begin TLS: %q", protocol, certctl.Clip(answer, 100))
}

// readLine reads up to a line's end, one byte at a time.
func readLine(r io.Reader) (string, error) { return readLineOf(r, maxLine) }

func readLineOf(r io.Reader, most int) (string, error) {
	var line []byte
	var one [1]byte
	for {
		if _, err := io.ReadFull(r, one[:]); err != nil {
			return "", err
		}
		if one[0] == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		if line = append(line, one[0]); len(line) > most {
			return "", certctl.Errorf(certctl.Unavailable, "the server's line has no end")
		}
	}
}

func send(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}

// smtpReply reads a reply (RFC 5321 section 4.2) and returns its lines, which begin
// with the code.
func smtpReply(r io.Reader, code string) (string, error) {
	var lines []string
	for range maxLines {
		line, err := readLine(r)
		if err != nil {
			return "", err
		}
		lines = append(lines, line)
		if !strings.HasPrefix(line, code) {
			return "", unwilling("SMTP", line)
		}
		if len(line) == len(code) || line[len(code)] == ' ' {
			return strings.Join(lines, "\n"), nil
		}
	}
	return "", unwilling("SMTP", "a reply without an end")
}

func startSMTP(rw io.ReadWriter) error {
	if _, err := smtpReply(rw, "220"); err != nil {
		return err
	}
	if err := send(rw, "EHLO certctl.invalid\r\n"); err != nil {
		return err
	}
	offer, err := smtpReply(rw, "250")
	if err != nil {
		return err
	}
	if !strings.Contains(strings.ToUpper(offer), "STARTTLS") {
		return unwilling("SMTP", "STARTTLS is not offered")
	}
	if err := send(rw, "STARTTLS\r\n"); err != nil {
		return err
	}
	_, err = smtpReply(rw, "220")
	return err
}

func startIMAP(rw io.ReadWriter) error {
	if line, err := readLine(rw); err != nil || !strings.HasPrefix(line, "* OK") {
		return orUnwilling(err, "IMAP", line)
	}
	if err := send(rw, "a STARTTLS\r\n"); err != nil {
		return err
	}
	for range maxLines {
		line, err := readLine(rw)
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, "* "): // what it wants to say besides
			continue
		case strings.HasPrefix(line, "a OK"):
			return nil
		}
		return unwilling("IMAP", line)
	}
	return unwilling("IMAP", "an answer without an end")
}

func startPOP3(rw io.ReadWriter) error {
	if line, err := readLine(rw); err != nil || !strings.HasPrefix(line, "+OK") {
		return orUnwilling(err, "POP3", line)
	}
	if err := send(rw, "STLS\r\n"); err != nil {
		return err
	}
	if line, err := readLine(rw); err != nil || !strings.HasPrefix(line, "+OK") {
		return orUnwilling(err, "POP3", line)
	}
	return nil
}

// startFTP asks with AUTH TLS (RFC 4217).
func startFTP(rw io.ReadWriter) error {
	if err := ftpReply(rw, "220"); err != nil {
		return err
	}
	if err := send(rw, "AUTH TLS\r\n"); err != nil {
		return err
	}
	return ftpReply(rw, "234")
}

// ftpReply reads a reply (RFC 959 section 4.2): its first line says the code, and the
// lines before its last say what they like.
func ftpReply(r io.Reader, code string) error {
	for n := range maxLines {
		line, err := readLine(r)
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, code+" ") || line == code:
			return nil
		case n == 0 && !strings.HasPrefix(line, code+"-"):
			return unwilling("FTP", line)
		}
	}
	return unwilling("FTP", "a reply without an end")
}

// startNATS reads what the server says of itself: TLS begins after that. One with
// handshake_first begins it at once.
func startNATS(rw io.ReadWriter) error {
	line, err := readLineOf(rw, maxPacket)
	if err != nil {
		return err
	}
	said, ok := strings.CutPrefix(line, "INFO ")
	var info struct {
		Required  bool `json:"tls_required"`
		Available bool `json:"tls_available"`
	}
	if !ok || json.Unmarshal([]byte(said), &info) != nil {
		return unwilling("NATS", line)
	}
	if !info.Required && !info.Available {
		return unwilling("NATS", "TLS is not offered")
	}
	return nil
}

func orUnwilling(err error, protocol, answer string) error {
	if err != nil {
		return err
	}
	return unwilling(protocol, answer)
}

// ldapStartTLS is the extended request 1.3.6.1.4.1.1466.20037, as message 1.
var ldapStartTLS = append([]byte{0x30, 0x1d, 0x02, 0x01, 0x01, 0x77, 0x18, 0x80, 0x16}, "1.3.6.1.4.1.1466.20037"...)

func startLDAP(rw io.ReadWriter) error {
	if _, err := rw.Write(ldapStartTLS); err != nil {
		return err
	}
	message, err := ReadLDAP(rw)
	if err != nil {
		return err
	}
	return ldapResult(message)
}

// ReadLDAP reads one message, an element of BER with its head, of bounded length.
func ReadLDAP(r io.Reader) ([]byte, error) {
	head := make([]byte, 2, 8)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	length := int(head[1])
	if head[1]&0x80 != 0 {
		n := int(head[1] & 0x7f)
		if n == 0 || n > 4 {
			return nil, unwilling("LDAP", "a length of its own kind")
		}
		head = append(head, make([]byte, n)...)
		if _, err := io.ReadFull(r, head[2:]); err != nil {
			return nil, err
		}
		length = 0
		for _, b := range head[2:] {
			length = length<<8 | int(b)
		}
	}
	if length > maxPacket {
		return nil, unwilling("LDAP", "an answer without an end")
	}
	body := make([]byte, length)
	_, err := io.ReadFull(r, body)
	return append(head, body...), err
}

// ldapResult reads the result of an extended response: SEQUENCE { messageID,
// [APPLICATION 24] { resultCode, … } }.
func ldapResult(message []byte) error {
	var outer, response asn1.RawValue
	var id int
	var code asn1.Enumerated
	rest, err := asn1.Unmarshal(message, &outer)
	if err != nil || len(rest) > 0 {
		return unwilling("LDAP", "no message")
	}
	body, err := asn1.Unmarshal(outer.Bytes, &id)
	if err == nil {
		_, err = asn1.Unmarshal(body, &response)
	}
	if err != nil || response.Class != asn1.ClassApplication || response.Tag != 24 {
		return unwilling("LDAP", "another answer than to what was asked")
	}
	if _, err := asn1.Unmarshal(response.Bytes, &code); err != nil || code != 0 {
		return unwilling("LDAP", "the result is not success")
	}
	return nil
}

// postgresSSLRequest is a message of eight bytes with the code 80877103.
var postgresSSLRequest = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}

func startPostgres(rw io.ReadWriter) error {
	if _, err := rw.Write(postgresSSLRequest); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(rw, answer[:]); err != nil {
		return err
	}
	if answer[0] != 'S' {
		return unwilling("PostgreSQL", string(answer[:]))
	}
	return nil
}

// Capabilities of MySQL's protocol, version 10.
const (
	mysqlLongPassword = 1 << 0
	mysqlProtocol41   = 1 << 9
	mysqlSSL          = 1 << 11
	mysqlSecure       = 1 << 15
)

func startMySQL(rw io.ReadWriter) error {
	var head [4]byte
	if _, err := io.ReadFull(rw, head[:]); err != nil {
		return err
	}
	length := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	if length > maxPacket {
		return unwilling("MySQL", "a greeting without an end")
	}
	greeting := make([]byte, length)
	if _, err := io.ReadFull(rw, greeting); err != nil {
		return err
	}
	if err := mysqlOffers(greeting); err != nil {
		return err
	}
	request := make([]byte, 36)
	request[0], request[3] = 32, head[3]+1
	binary.LittleEndian.PutUint32(request[4:], mysqlLongPassword|mysqlProtocol41|mysqlSSL|mysqlSecure)
	binary.LittleEndian.PutUint32(request[8:], 1<<24)
	request[12] = 45 // utf8mb4
	_, err := rw.Write(request)
	return err
}

// mysqlOffers reads from a greeting whether the server speaks TLS: version, the
// server's own version ended by 0, thread (4), salt (8), 0, capabilities (2).
func mysqlOffers(greeting []byte) error {
	if len(greeting) > 3 && greeting[0] == 0xff { // an error: its code (2) and its words
		return unwilling("MySQL", strings.ToValidUTF8(string(greeting[3:]), "?"))
	}
	if len(greeting) == 0 || greeting[0] != 10 {
		return unwilling("MySQL", "another protocol than version 10")
	}
	_, rest, ok := bytes.Cut(greeting[1:], []byte{0})
	if !ok || len(rest) < 15 {
		return unwilling("MySQL", "a short greeting")
	}
	if binary.LittleEndian.Uint16(rest[13:])&mysqlSSL == 0 {
		return unwilling("MySQL", "TLS is not offered")
	}
	return nil
}
