package store

import (
	"fmt"
	"os/exec"
	"testing"
)

func TestOtherProcessesAreSeen(t *testing.T) {
	me := ThisProcess()
	if me.Boot == "" || me.Namespace == "" {
		t.Skipf("this system does not tell who a process is: %+v", me)
	}
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := startTime(fmt.Sprint(child.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	other := me
	other.Process = fmt.Sprintf("%d %s", child.Process.Pid, start)
	check := func(what string, o Owner, want life) {
		t.Helper()
		if got := o.seen(me); got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	check("itself", me, alive)
	check("a child", other, alive)
	renamed := other
	renamed.Host = "another name"
	check("on a host that has another name now", renamed, alive)
	later := other
	later.Process = fmt.Sprintf("%d %s1", child.Process.Pid, start)
	check("one whose id another process has now", later, ended)
	contained := other
	contained.Namespace = "pid:[1]"
	check("of another namespace", contained, unseen)
	rebooted := other
	rebooted.Boot = "another"
	check("of another boot", rebooted, unseen)
	check("of an unknown place", Owner{Process: other.Process}, unseen)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for { // it is a zombie soon
		if _, err := startTime(fmt.Sprint(child.Process.Pid)); err != nil {
			break
		}
	}
	check("killed and not waited for", other, ended)
	child.Wait()
	check("killed", other, ended)
}
