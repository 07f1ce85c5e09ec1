package chaos

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A Go program reads the clock without asking anybody: neither libfaketime nor a
// time namespace moves it. So the variant "clocks" is built with one function of
// the standard library replaced (go build -overlay): time.Now adds what a file
// says, which the process maps into its memory, so that writing the file makes its
// clock jump. All of the process follows: TLS, credentials, logs. Nothing of the
// product knows.

// clockVariable names the file: a number of seconds, 8 bytes, little endian.
const clockVariable = "CHAOS_CLOCK"

const (
	nowBegins = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	nowMoved  = nowBegins + "\tif chaosShift != nil {\n\t\tsec += *chaosShift\n\t}\n"

	clockSource = `package time

import (
	"syscall"
	"unsafe"
)

// chaosShift is what is added to the clock, in seconds; nil: nothing.
var chaosShift = openShift()

func openShift() *int64 {
	file, ok := syscall.Getenv("` + clockVariable + `")
	if !ok {
		return nil
	}
	fd, err := syscall.Open(file, syscall.O_RDONLY, 0)
	if err != nil {
		panic("` + clockVariable + `: " + err.Error())
	}
	page, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("` + clockVariable + `: " + err.Error())
	}
	return (*int64)(unsafe.Pointer(&page[0]))
}
`
)

// writeClock writes the overlay for go build into a folder and returns its path.
func writeClock(ctx context.Context, folder string) (string, error) {
	output, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("ask go for its folder: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(output)), "src", "time", "time.go")
	text, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	if strings.Count(string(text), nowBegins) != 1 {
		return "", fmt.Errorf("time.Now in %s is not what this program replaces: see clock.go", original)
	}
	moved, added := filepath.Join(folder, "time.go.txt"), filepath.Join(folder, "shift.go.txt")
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		original: moved, filepath.Join(filepath.Dir(original), "zz_chaos.go"): added,
	}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, "overlay.json")
	return path, errors.Join(
		os.MkdirAll(folder, 0o755), //nolint:gosec // programs
		os.WriteFile(moved, []byte(strings.Replace(string(text), nowBegins, nowMoved, 1)), 0o600),
		os.WriteFile(added, []byte(clockSource), 0o600),
		os.WriteFile(path, overlay, 0o600),
	)
}

// clock is the clock of one process.
type clock struct {
	name string
	file string
}

func newClock(dir, name string) (clock, error) {
	c := clock{name: name, file: filepath.Join(dir, "clock-"+name)}
	return c, os.WriteFile(c.file, make([]byte, 8), 0o600)
}

// env is what a process with this clock is started with.
func (c clock) env() string { return clockVariable + "=" + c.file }

// set moves the clock to so much before or after the machine's. The file keeps its
// inode: processes have it mapped.
func (c clock) set(shift time.Duration) error {
	file, err := os.OpenFile(c.file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(int64(shift/time.Second))), 0) //nolint:gosec // two's complement
	return errors.Join(err, file.Close())
}
