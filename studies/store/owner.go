package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Owner is a process, as other processes know it.
type Owner struct {
	Host      string // for people: it may change, and containers share it
	Boot      string // of the kernel; "" where it cannot be told
	Namespace string // in which the process id counts; "" where it cannot be told
	Process   string // process id and start time
}

// ThisProcess is the calling process.
func ThisProcess() Owner {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // what is not known is no process's
	namespace, _ := os.Readlink("/proc/self/ns/pid")
	start, err := startTime("self")
	if self, linkErr := os.Readlink("/proc/self"); err != nil || linkErr != nil || self != strconv.Itoa(os.Getpid()) {
		namespace = "" // /proc is another namespace's: processes cannot be looked up in it
	}
	return Owner{Host: host, Boot: string(bytes.TrimSpace(boot)), Namespace: namespace, Process: fmt.Sprintf("%d %s", os.Getpid(), start)}
}

// life is what can be seen of another process.
type life int

const (
	unseen life = iota // of another kernel or another namespace of process ids, or hidden
	alive
	ended
)

// seen looks for another process.
func (o Owner) seen(me Owner) life {
	if o.Boot == "" || o.Boot != me.Boot || o.Namespace == "" || o.Namespace != me.Namespace {
		return unseen
	}
	pid, start, _ := strings.Cut(o.Process, " ")
	number, err := strconv.Atoi(pid)
	if err != nil || number <= 0 {
		return unseen
	}
	if err := syscall.Kill(number, 0); errors.Is(err, syscall.ESRCH) {
		return ended
	}
	switch now, err := startTime(pid); {
	case errors.Is(err, errEnded) || err == nil && now != start:
		return ended
	case err == nil:
		return alive
	}
	return unseen // hidepid: it is there and not ours, or another one has its id
}

// errEnded is the error of a process that has ended and was not yet waited for.
var errEnded = errors.New("the process has ended")

// startTime is when a process started, in ticks since the boot: with the process id it is unique.
func startTime(pid string) (string, error) {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return "", err
	}
	// The second field is the program's name in parentheses and may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("/proc/%s/stat has %d fields", pid, len(fields))
	}
	if fields[0] == "Z" {
		return "", errEnded
	}
	return fields[19], nil
}
