package main

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestTheMemoryOfACgroup(t *testing.T) {
	root := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	two := write("two", "0::/slurm/job_7/step_batch\n")
	if got := cgroupMemory(two, root); got != math.MaxInt64 {
		t.Errorf("without a limit %d", got)
	}
	write("slurm/job_7/step_batch/memory.max", "max\n")
	write("slurm/job_7/step_batch/memory.current", "1000\n")
	write("slurm/job_7/memory.max", "10000\n")
	write("slurm/job_7/memory.current", "4000\n")
	write("slurm/job_7/memory.stat", "anon 10\ninactive_file 500\nactive_file 3\n")
	if got := cgroupMemory(two, root); got != 10000-4000+500 {
		t.Errorf("%d bytes are left", got)
	}
	write("memory.max", "300\n")
	write("memory.current", "900\n")
	if got := cgroupMemory(two, root); got != 0 {
		t.Errorf("%d bytes are left of less than nothing", got)
	}
	one := write("one", "4:cpu,cpuacct:/x\n9:memory:/slurm/uid_1\n0::/\n")
	if err := os.Remove(filepath.Join(root, "memory.max")); err != nil {
		t.Fatal(err)
	}
	write("memory/slurm/uid_1/memory.limit_in_bytes", "5000")
	write("memory/slurm/uid_1/memory.usage_in_bytes", "2000")
	write("memory/memory.limit_in_bytes", "9223372036854771712")
	write("memory/memory.usage_in_bytes", "8000")
	if got := cgroupMemory(one, root); got != 3000 {
		t.Errorf("%d bytes are left with version 1", got)
	}
	if got := cgroupMemory(filepath.Join(root, "none"), root); got != math.MaxInt64 {
		t.Errorf("%d bytes are left of an unknown group", got)
	}
}

func TestWhatAJobHas(t *testing.T) {
	for _, name := range []string{"CPUS_PER_TASK", "CPUS_ON_NODE", "MEM_PER_NODE", "MEM_PER_CPU"} {
		t.Setenv("SLURM_"+name, "")
	}
	all := runtime.GOMAXPROCS(0)
	if cores() != all || jobMemory() != math.MaxInt64 {
		t.Errorf("outside of a job %d cores, %d bytes", cores(), jobMemory())
	}
	t.Setenv("SLURM_CPUS_ON_NODE", "1")
	t.Setenv("SLURM_MEM_PER_CPU", "512")
	if cores() != 1 || jobMemory() != 512<<20 {
		t.Errorf("%d cores, %d bytes", cores(), jobMemory())
	}
	t.Setenv("SLURM_CPUS_PER_TASK", "100000")
	t.Setenv("SLURM_MEM_PER_NODE", "2048")
	if cores() != all || jobMemory() != 2<<30 {
		t.Errorf("%d cores, %d bytes", cores(), jobMemory())
	}
	for visible, want := range map[string]int{"": 0, "0": 1, "0,1,3": 3, "GPU-ab, GPU-cd": 2, "-1": 0, "1,-1,2": 1,
		"NoDevFiles": 0} {
		t.Setenv("CUDA_VISIBLE_DEVICES", visible)
		if got := gpus(); got != want {
			t.Errorf("CUDA_VISIBLE_DEVICES=%s: %d GPUs", visible, got)
		}
	}
}
