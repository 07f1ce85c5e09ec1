package target

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// How long a daemon may take until it handles a signal, and how often that is looked at.
const (
	handlerPatience = 5 * time.Second
	handlerEvery    = 10 * time.Millisecond
)

// awaitHandler returns when a signal would not end a process. One that begins anew
// with exec, as lighttpd does for each reload, has no handlers for a moment, and the
// next reload would kill it. It returns also where that cannot be seen, and when the
// process takes too long: then it is no daemon that reloads.
func awaitHandler(pid int, signal syscall.Signal) {
	ticker := time.NewTicker(handlerEvery)
	defer ticker.Stop()
	for end := time.Now().Add(handlerPatience); wouldEnd(pid, signal) && time.Now().Before(end); {
		<-ticker.C
	}
}

// wouldEnd reports whether a process neither handles, blocks nor ignores a signal, by
// proc_pid_status(5).
func wouldEnd(pid int, signal syscall.Signal) bool {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return false
	}
	seen := false
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "SigBlk" && name != "SigIgn" && name != "SigCgt" {
			continue
		}
		mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil || mask>>(uint(signal)-1)&1 == 1 {
			return false
		}
		seen = true
	}
	return seen
}
