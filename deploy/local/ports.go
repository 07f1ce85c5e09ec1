package local

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Ports are taken below the range that Linux gives to outgoing connections
// (32768 and up): one of those could occupy a port between its choice and the
// daemon's start.
const (
	firstPort = 20000
	lastPort  = 31999

	portAttempts = 100

	// reservations is a loopback address that no daemon listens on.
	reservations = "127.0.77.1"
)

// FreePort returns a loopback TCP port that nobody listens on at the moment and
// that no other call, in this process or another, returns before this process
// ends: a daemon may open its port long after the choice.
func FreePort() (int, error) {
	for range portAttempts {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if !reserve(port) {
			continue
		}
		listener, err := net.Listen("tcp", Loopback(port))
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("release port %d: %w", port, err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("no free port found between %d and %d", firstPort, lastPort)
}

// reserve takes the UDP port of the same number on an address of its own, and
// keeps it: the kernel gives it back at the end of the process, however it comes.
// A system without that address (Linux has all of 127.0.0.0/8) reserves nothing.
func reserve(port int) bool {
	socket, err := net.ListenPacket("udp4", net.JoinHostPort(reservations, strconv.Itoa(port)))
	if err != nil {
		return !errors.Is(err, syscall.EADDRINUSE)
	}
	reserved.Lock()
	defer reserved.Unlock()
	reserved.sockets = append(reserved.sockets, socket)
	return true
}

// reserved keeps the sockets from being collected, and so closed.
var reserved struct {
	sync.Mutex
	sockets []net.PacketConn
}

// KeptPort returns the port that the file holds. Without the file it chooses a
// free one and writes the file, so that later runs use the same port.
func KeptPort(file string) (int, error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return choosePort(file)
	}
	if err != nil {
		return 0, fmt.Errorf("read the port: %w", err)
	}
	port, err := strconv.ParseUint(strings.TrimSpace(string(content)), 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("%s does not hold a port number; delete it to have a new port chosen", file)
	}
	return int(port), nil
}

func choosePort(file string) (int, error) {
	port, err := FreePort()
	if err != nil {
		return 0, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o711); err != nil {
		return 0, fmt.Errorf("keep the port: %w", err)
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(port)+"\n"), 0o600); err != nil {
		return 0, fmt.Errorf("keep the port: %w", err)
	}
	return port, nil
}

// Loopback is the IPv4 loopback address with a port.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
