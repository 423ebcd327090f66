package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cluster is a Slurm cluster on this machine: a controller and nodes n1, n2, … of two processors each, without
// cgroups, accounting or authentication, with all that it writes in one directory.
type cluster struct {
	t     *testing.T
	dir   string
	nodes map[string]*exec.Cmd
}

const clusterConfig = `ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=%[3]d
AuthType=auth/none
CredType=cred/none
SlurmUser=%[2]s
SlurmdUser=%[2]s
StateSaveLocation=%[1]s/state
SlurmdSpoolDir=%[1]s/spool/%%n
SlurmctldPidFile=%[1]s/run/slurmctld.pid
SlurmdPidFile=%[1]s/run/slurmd-%%n.pid
SlurmctldLogFile=%[1]s/log/slurmctld.log
SlurmdLogFile=%[1]s/log/slurmd-%%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=2,sched_min_interval=0
SlurmdTimeout=10
MinJobAge=600
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=n[1-%[4]d] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[%[5]s] CPUs=2 RealMemory=4000 State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=cpu Nodes=ALL Default=YES DefaultTime=5 State=UP
PartitionName=urgent Nodes=ALL PriorityTier=2 DefaultTime=5 State=UP
`

// startCluster starts a cluster, which ends with the test. It skips the test where Slurm is not installed.
func startCluster(t *testing.T, nodes int) *cluster {
	t.Helper()
	for _, program := range []string{"slurmctld", "slurmd", "sbatch"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("Slurm is not installed: %v", err)
		}
	}
	c := &cluster{t: t, dir: t.TempDir(), nodes: map[string]*exec.Cmd{}}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"run", "log", "state"} {
		c.must(os.Mkdir(filepath.Join(c.dir, dir), 0o755))
	}
	ports := freePorts(t, nodes+1)
	conf := filepath.Join(c.dir, "slurm.conf")
	text := make([]string, nodes)
	for i := range text {
		text[i] = strconv.Itoa(ports[i+1])
		c.must(os.MkdirAll(filepath.Join(c.dir, "spool", fmt.Sprint("n", i+1)), 0o755))
	}
	content := fmt.Appendf(nil, clusterConfig, c.dir, me.Username, ports[0], nodes, strings.Join(text, ","))
	c.must(os.WriteFile(conf, content, 0o644))
	t.Setenv("SLURM_CONF", conf)
	c.daemon("slurmctld", "-D", "-f", conf)
	for i := range nodes {
		c.startNode(fmt.Sprint("n", i+1))
	}
	t.Cleanup(func() { c.killSteps("") })
	c.wait("all nodes are idle", func() bool {
		states, _ := exec.Command("sinfo", "-h", "-N", "-p", "cpu", "-o", "%N %T").Output()
		return strings.Count(string(states), " idle\n") == nodes
	})
	return c
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// daemon starts a program that ends with the test.
func (c *cluster) daemon(name string, args ...string) *exec.Cmd {
	c.t.Helper()
	cmd := exec.Command(name, args...)
	log, err := os.Create(filepath.Join(c.dir, "log", fmt.Sprintf("%s-%d.out", name, len(c.nodes))))
	c.must(err)
	cmd.Stdout, cmd.Stderr = log, log
	c.must(cmd.Start())
	c.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if c.t.Failed() {
			content, _ := os.ReadFile(log.Name())
			c.t.Logf("%s: %s", name, content[max(0, len(content)-2000):])
		}
	})
	return cmd
}

func (c *cluster) startNode(name string) {
	c.t.Helper()
	c.nodes[name] = c.daemon("slurmd", "-D", "-N", name, "-f", os.Getenv("SLURM_CONF"))
}

// killNode is a power cut of a node: everything that it runs ends, and nobody tells.
func (c *cluster) killNode(name string) {
	c.t.Helper()
	c.must(c.nodes[name].Process.Kill())
	c.killSteps(name)
}

// killSteps ends the jobs' processes on a node, "" for all nodes of this cluster: first those that hold jobs together
// and would tell, which are no children of the node's daemon.
func (c *cluster) killSteps(node string) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	c.must(err)
	var holders, held []int
	for _, path := range stats {
		environ, err := os.ReadFile(filepath.Join(filepath.Dir(path), "environ"))
		stat, statErr := os.ReadFile(path)
		if err != nil || statErr != nil || !bytes.Contains(environ, []byte("SLURM_CONF="+os.Getenv("SLURM_CONF"))) {
			continue
		}
		var pid, parent int
		fmt.Sscan(filepath.Base(filepath.Dir(path)), &pid)
		if node == "" && bytes.Contains(stat, []byte("(slurmstepd)")) { // it may hold nothing, and report for ever
			holders = append(holders, pid)
		}
		fmt.Sscan(strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[1], &parent)
		if bytes.Contains(environ, []byte("SLURMD_NODENAME="+node)) {
			held = append(held, pid)
			if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", parent)); string(name) == "slurmstepd\n" {
				holders = append(holders, parent)
			}
		}
	}
	for _, pid := range append(holders, held...) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// wait waits until a condition holds.
func (c *cluster) wait(what string, holds func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			queue, _ := exec.Command("squeue", "-a").CombinedOutput()
			c.t.Fatalf("never: %s\n%s", what, queue)
		}
	}
}

// command runs a program and returns what it printed on stdout.
func (c *cluster) command(name string, args ...string) string {
	c.t.Helper()
	return outputOf(c.t, name, args...)
}

// freePorts finds ports that nobody listens on.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

// outputOf runs a program and returns what it printed on stdout.
func outputOf(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, stderr.String())
	}
	return string(output)
}
