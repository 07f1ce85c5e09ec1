package probe

import "io"

// Start asks for TLS in a protocol.
func Start(protocol string, rw io.ReadWriter) error {
	if start := starters[protocol]; start != nil {
		return start(rw)
	}
	return nil
}
