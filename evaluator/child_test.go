package evaluator_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"peftsearch/evaluator"
)

// testSupervisor starts a worker, says its number, and waits to be killed.
func testSupervisor(command []string) {
	p, err := evaluator.NewProcess(context.Background(), evaluator.ProcessOptions{Command: append([]string{os.Args[0]},
		command...), Hello: hello})
	if err != nil {
		panic(err)
	}
	fmt.Println(p.Pid())
	forever()
}

// A worker that does not look at its stdin ends with a supervisor that was killed, and so does what it has started.
func TestWorkersEndWithTheirSupervisor(t *testing.T) {
	dir := t.TempDir()
	supervisor := exec.Command(os.Args[0], "supervisor", "worker", "has a child and reads no more", dir)
	stdout, err := supervisor.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := supervisor.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	supervisor.Process.Kill()
	supervisor.Wait()
	if !dead(pid) {
		t.Errorf("worker %d lives", pid)
	}
	text, err := os.ReadFile(filepath.Join(dir, "child"))
	if err != nil {
		t.Fatal(err)
	}
	if child, _ := strconv.Atoi(string(text)); !dead(child) {
		syscall.Kill(child, syscall.SIGKILL)
		t.Errorf("the worker's child %d lives", child)
	}
}

// memoryCgroup makes a memory cgroup with a limit and returns the file that takes its processes.
func memoryCgroup(t *testing.T, limit string) string {
	t.Helper()
	for root, file := range map[string]string{"/sys/fs/cgroup/memory": "memory.limit_in_bytes",
		"/sys/fs/cgroup": "memory.max"} {
		dir := filepath.Join(root, fmt.Sprintf("peftsearch-test-%d", os.Getpid()))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { os.Remove(dir) })
		bound, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0) // is there if the kernel made it
		if err != nil {
			continue
		}
		_, err = bound.WriteString(limit)
		if errors.Join(err, bound.Close()) == nil {
			return filepath.Join(dir, "cgroup.procs")
		}
	}
	t.Skip("memory cgroups cannot be made here")
	return ""
}

func TestTheKernelKillsAWorkerForItsMemory(t *testing.T) {
	procs := memoryCgroup(t, "200M")
	o := options("takes all memory")
	o.Command = append([]string{"sh", "-c", `echo $$ > "$0" && exec "$@"`, procs}, o.Command...)
	p := open(t, o)
	for trial, want := range map[int64]evaluator.FailureKind{strange: evaluator.FailureOutOfMemory,
		strange + 1: evaluator.FailureCrashed} {
		odd := job
		odd.Trial = trial
		_, err := p.Evaluate(context.Background(), odd, func(evaluator.Progress) evaluator.Verdict {
			syscall.Kill(p.Pid(), syscall.SIGKILL)
			return evaluator.Verdict{}
		})
		var failure *evaluator.Failure
		if !errors.As(err, &failure) || failure.Kind != want {
			t.Errorf("trial %d: %v, want %s", trial, err, want)
		}
	}
	if _, err := p.Evaluate(context.Background(), job, goOn); err != nil {
		t.Error(err)
	}
}
