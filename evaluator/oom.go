package evaluator

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// oomWatch tells whether the kernel has killed a process for want of memory since it was made: in the memory
// cgroup of a worker or, where that cannot be read, on the machine. Nothing says which process it was.
type oomWatch struct {
	file  string // with a line "oom_kill N"; "" if there is none
	kills int64
}

func watchOOM(pid int) oomWatch {
	memberships, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)) // without: the machine's
	for _, file := range append(oomFiles(string(memberships)), "/proc/vmstat") {
		if kills, ok := oomKills(file); ok {
			return oomWatch{file, kills}
		}
	}
	return oomWatch{}
}

func (w oomWatch) killed() bool {
	kills, ok := oomKills(w.file)
	return ok && kills > w.kills
}

// oomFiles lists where the counter may be for a process with these lines in /proc/PID/cgroup. A container
// may see its own cgroup as the root while the lines name the host's path.
func oomFiles(memberships string) []string {
	var files []string
	for line := range strings.Lines(memberships) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch {
		case parts[0] == "0" && parts[1] == "": // version 2
			files = append(files, filepath.Join("/sys/fs/cgroup", parts[2], "memory.events"), "/sys/fs/cgroup/memory.events")
		case parts[1] == "memory":
			files = append(files, filepath.Join("/sys/fs/cgroup/memory", parts[2], "memory.oom_control"),
				"/sys/fs/cgroup/memory/memory.oom_control")
		}
	}
	return files
}

func oomKills(file string) (kills int64, ok bool) {
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(content) {
		if value, found := bytes.CutPrefix(line, []byte("oom_kill ")); found {
			kills, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
			return kills, err == nil
		}
	}
	return 0, false
}
