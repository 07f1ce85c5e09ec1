package target_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// askArgument has this program ask a test to do something, as a command of a target
// would ask the system.
const askArgument = "certctl-ask"

// ask returns how the program ends: with 0 when the test says nothing against it.
func ask(socket string) int {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer conn.Close()
	said, err := io.ReadAll(conn)
	if err != nil || len(said) > 0 {
		fmt.Fprintln(os.Stderr, string(said), err)
		return 1
	}
	return 0
}

// asked returns a command that calls do in this process and waits for it.
func asked(t *testing.T, dir string, do func() error) []string {
	t.Helper()
	program, err := os.Executable()
	must(t, err)
	socket := filepath.Join(dir, "ask")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if err := do(); err != nil {
				_, _ = io.WriteString(conn, err.Error()) // who asks hears of it
			}
			_ = conn.Close()
		}
	}()
	return []string{program, askArgument, socket}
}
