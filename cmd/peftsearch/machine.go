package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// inJob reports whether somebody else's scheduler runs this process: Slurm or Kubernetes, which send SIGTERM once and
// kill some seconds later.
func inJob() bool {
	return os.Getenv("SLURM_JOB_ID") != "" || os.Getenv("KUBERNETES_SERVICE_HOST") != ""
}

// jobPatience is how long a run in a job waits for a database that is away at its start: nobody is there to start it
// again.
const jobPatience = 10 * time.Minute

// databasePatience is how long this run does.
func databasePatience() time.Duration {
	if inJob() {
		return jobPatience
	}
	return 0
}

// ownPath is the path of this program, under the name that it was called by.
func ownPath() (string, error) {
	program, err := exec.LookPath(os.Args[0])
	if err == nil {
		program, err = filepath.Abs(program)
	}
	return program, err
}

// cores is how many processors are for this process: those of its cgroup and affinity, or fewer by Slurm's word where
// Slurm binds nothing.
func cores() int {
	n := runtime.GOMAXPROCS(0)
	for _, name := range []string{"SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"} {
		if own, err := strconv.Atoi(os.Getenv(name)); err == nil && own > 0 {
			return min(n, own)
		}
	}
	return n
}

// gpus is how many GPUs CUDA shows to this process: those of CUDA_VISIBLE_DEVICES, else all of the machine.
func gpus() int {
	if visible, set := os.LookupEnv("CUDA_VISIBLE_DEVICES"); set {
		n := 0
		for device := range strings.SplitSeq(visible, ",") {
			if device = strings.TrimSpace(device); device == "" || device == "-1" || device == "NoDevFiles" {
				break // CUDA ignores what follows
			}
			n++
		}
		return n
	}
	found, _ := filepath.Glob("/proc/driver/nvidia/gpus/*") // the pattern is well-formed
	return len(found)
}

// availableMemory is how many bytes programs of this process can still get: of the machine, of its cgroup, of its job.
func availableMemory() (int64, error) {
	content, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	available := int64(-1)
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		var kib int64
		if _, err := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kib); err == nil {
			available = kib << 10
		}
	}
	if available < 0 {
		return 0, errors.New("/proc/meminfo has no MemAvailable")
	}
	return min(available, cgroupMemory("/proc/self/cgroup", "/sys/fs/cgroup"), jobMemory()), nil
}

// jobMemory is what Slurm gave the job on this node in bytes, whether or not it holds the job to that.
func jobMemory() int64 {
	if mib, err := strconv.ParseInt(os.Getenv("SLURM_MEM_PER_NODE"), 10, 64); err == nil && mib > 0 {
		return mib << 20
	}
	mib, err := strconv.ParseInt(os.Getenv("SLURM_MEM_PER_CPU"), 10, 64)
	n, cpuErr := strconv.ParseInt(cmp.Or(os.Getenv("SLURM_CPUS_ON_NODE"), "1"), 10, 64)
	if err == nil && cpuErr == nil && mib > 0 {
		return mib * n << 20
	}
	return math.MaxInt64
}

// cgroupMemory is what is left of the smallest memory limit of the process's cgroup and of those that hold it. A limit
// that cannot be read is none. Files of the page cache can be given back, so they do not count as used.
func cgroupMemory(membership, root string) int64 {
	content, err := os.ReadFile(membership)
	if err != nil {
		return math.MaxInt64
	}
	least := int64(math.MaxInt64)
	for line := range strings.Lines(string(content)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		base, limit, usage, cache := root, "memory.max", "memory.current", "inactive_file"
		if fields[1] != "" { // version 1 has a tree for each controller
			base, limit, usage, cache = filepath.Join(root, "memory"), "memory.limit_in_bytes", "memory.usage_in_bytes",
				"total_inactive_file"
			if fields[1] != "memory" {
				continue
			}
		}
		for dir := fields[2]; ; dir = filepath.Dir(dir) {
			at := filepath.Join(base, dir)
			most, mostErr := number(filepath.Join(at, limit))
			used, usedErr := number(filepath.Join(at, usage))
			if mostErr == nil && usedErr == nil {
				least = min(least, max(0, most-used+statistic(filepath.Join(at, "memory.stat"), cache)))
			}
			if dir == "/" || dir == "." {
				break
			}
		}
	}
	return least
}

func number(path string) (int64, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(bytes.TrimSpace(content)), 10, 64)
}

// statistic is a number of a file with a name and a number in each line, 0 if it is not there.
func statistic(path, name string) int64 {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(content)) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
			return n
		}
	}
	return 0
}
