package target

import (
	"bufio"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
)

// A daemon that has no handler yet is not signalled until it has one.
func TestAReloadAwaitsTheHandler(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("there is no /proc: a signal is sent at once")
	}
	// It tells its process id, and handles the signal when it is told to go on.
	daemon := exec.CommandContext(t.Context(), "/bin/sh", "-c", `echo up; read go; trap 'echo reloaded; exit 0' USR1; echo ready; while :; do read x || sleep 0.1; done`)
	in, err := daemon.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	said := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("said %q, want %q", lines.Text(), want)
		}
	}
	said("up")
	if !wouldEnd(daemon.Process.Pid, syscall.SIGUSR1) {
		t.Fatal("a shell without a trap survives the signal, by what is read")
	}
	sent := make(chan error, 1)
	go func() {
		awaitHandler(daemon.Process.Pid, syscall.SIGUSR1)
		sent <- syscall.Kill(daemon.Process.Pid, syscall.SIGUSR1)
	}()
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	said("ready")
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	said("reloaded")
	if err := daemon.Wait(); err != nil {
		t.Errorf("it was ended: %v (process %s)", err, strconv.Itoa(daemon.Process.Pid))
	}
}
