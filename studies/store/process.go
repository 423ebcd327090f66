package store

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Process identifies a supervisor among all that ever ran on a host.
type Process struct {
	host string // name and boot
	id   string // pid and start time
}

// ThisProcess identifies the calling process.
func ThisProcess() (Process, error) {
	name, err := os.Hostname()
	if err != nil {
		return Process{}, fmt.Errorf("naming this host: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Process{}, fmt.Errorf("naming this boot: %w", err)
	}
	start, err := startTime(os.Getpid())
	if err != nil {
		return Process{}, fmt.Errorf("naming this process: %w", err)
	}
	return Process{host: name + " " + string(bytes.TrimSpace(boot)), id: fmt.Sprintf("%d %s", os.Getpid(), start)}, nil
}

// processAlive reports whether a process of this host is running.
func processAlive(id string) bool {
	pid, start, _ := strings.Cut(id, " ")
	number, err := strconv.Atoi(pid)
	if err != nil {
		return false
	}
	now, err := startTime(number)
	return err == nil && now == start
}

// startTime is when a process started, in ticks since the boot: with the pid it is unique.
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The second field is the program's name in parentheses and may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	if fields[0] == "Z" {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	return fields[19], nil
}
