package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// usage is what a program has used so far, and what it holds now.
type usage struct {
	cpu    time.Duration // of all its processes, also of those that have ended
	memory int64         // bytes; what processes share is counted once
}

// clockTick is the unit of the times in /proc: every Linux that Go runs on says
// 100 a second.
const clockTick = 10 * time.Millisecond

// usageOf reads what a process uses, with its children unless it is this one,
// whose children are the others. PostgreSQL is many: each connection is a process.
func usageOf(pid int) (usage, error) {
	var pids []int
	var err error
	if pid != os.Getpid() {
		if pids, err = children(pid); err != nil {
			return usage{}, err
		}
	}
	var u usage
	for i, id := range append([]int{pid}, pids...) {
		fields, err := statOf(id)
		if err != nil {
			if i == 0 {
				return u, err
			}
			continue // it has ended, and its parent has its time
		}
		used := fields[11] + fields[12]
		if i == 0 && pid != os.Getpid() {
			used += fields[13] + fields[14] // children that were waited for
		}
		u.cpu += time.Duration(used) * clockTick
		u.memory += proportional(id)
	}
	return u, nil
}

// statOf reads the numbers of /proc/PID/stat from the third field on; letters
// are 0.
func statOf(pid int) ([]int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	after := string(text[strings.LastIndexByte(string(text), ')')+1:])
	var numbers []int64
	for _, field := range strings.Fields(after) {
		n, _ := strconv.ParseInt(field, 10, 64) // a letter, or a number that nobody here asks for
		numbers = append(numbers, n)
	}
	if len(numbers) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat is short", pid)
	}
	return numbers, nil
}

func children(pid int) ([]int, error) {
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, entry := range entries {
		id, err := strconv.Atoi(filepath.Base(entry))
		if err != nil {
			continue
		}
		if fields, err := statOf(id); err == nil && fields[1] == int64(pid) {
			found = append(found, id)
		}
	}
	slices.Sort(found)
	return found, nil
}

// proportional is a process's memory with its share of what others map as well.
func proportional(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kilobytes, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64) // the kernel writes a number
			return kilobytes << 10
		}
	}
	return 0
}

// busyMachine is the CPU time that everything on this machine has used.
func busyMachine() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	var busy int64
	for i, field := range strings.Fields(first)[1:] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		if i != 3 && i != 4 && i < 8 { // idle, waiting for disks; guests are counted twice
			busy += n
		}
	}
	return time.Duration(busy) * clockTick, nil
}
