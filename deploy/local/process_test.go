package local_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

const readyLine = "ready"

// child is what this binary does when a test has started it as a program.
func child(role string) int {
	switch role {
	case "fails":
		fmt.Println("no such luck")
		return 3
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println(readyLine)
		select {}
	case "parent":
		return parent()
	case "ports":
		return printPorts()
	default: // polite
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		fmt.Println(readyLine)
		<-asked
		fmt.Println("bye")
		return 0
	}
}

// parent starts a child of its own, tells its process id, and waits for ever.
func parent() int {
	program, err := os.Executable()
	if err != nil {
		return 1
	}
	process, err := local.Start(local.Command{
		Args: []string{program},
		Env:  []string{childVariable + "=polite"},
		Name: "grandchild",
	})
	if err != nil {
		return 1
	}
	fmt.Println(process.PID())
	select {}
}

// start runs this binary in a role and returns when its log begins.
func start(t *testing.T, command local.Command) *local.Process {
	t.Helper()
	process, err := local.Start(command)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	err = process.Ready(ctx, func(context.Context) error {
		if process.Log() == "" {
			return errors.New("nothing logged")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return process
}

func TestProcessStops(t *testing.T) {
	t.Parallel()
	process := start(t, self(t, "polite"))

	group, err := syscall.Getpgid(process.PID())
	if err != nil || group != process.PID() {
		t.Errorf("the process group is %d (%v), not the child's own", group, err)
	}
	if err := process.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if log := process.Log(); !strings.HasSuffix(log, "bye") {
		t.Errorf("the child was not asked to end; it logged %q", log)
	}
	if err := process.Stop(t.Context()); err != nil {
		t.Errorf("the second stop: %v", err)
	}
}

func TestProcessIsKilledWhenItDoesNotStop(t *testing.T) {
	t.Parallel()
	command := self(t, "stubborn")
	command.Grace = time.Millisecond
	process := start(t, command)

	err := process.Stop(t.Context())
	if err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("the stop says %v", err)
	}
	select {
	case <-process.Done():
	default:
		t.Error("the process still runs")
	}
}

func TestProcessThatFailsIsReportedWithItsLog(t *testing.T) {
	t.Parallel()
	command := self(t, "fails")
	if err := os.WriteFile(command.LogFile, []byte("an earlier run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	process, err := local.Start(command)
	if err != nil {
		t.Fatal(err)
	}
	err = process.Ready(t.Context(), func(context.Context) error { return errors.New("never") })
	if err == nil {
		t.Fatal("a process that ended is called ready")
	}
	for _, want := range []string{"fails ended before it was ready", "exit status 3", "no such luck"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "an earlier run") {
		t.Errorf("the error quotes an earlier run: %v", err)
	}
}

func TestChildEndsWithItsParent(t *testing.T) {
	t.Parallel()
	process := start(t, self(t, "parent"))
	line, err := bufio.NewReader(strings.NewReader(process.Log() + "\n")).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}

	process.Kill()

	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	waitUntilGone(ctx, t, grandchild)
}

// waitUntilGone waits until a process has ended; a zombie that its new parent
// has not collected counts as ended.
func waitUntilGone(ctx context.Context, t *testing.T, pid int) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("process %d still runs: %s", pid, stat)
		case <-ticker.C:
		}
	}
}
