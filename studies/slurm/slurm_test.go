package slurm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTimesAreSlurms(t *testing.T) {
	for text, want := range map[string]time.Duration{"90": 90 * time.Minute, "2:30": 150 * time.Second,
		"4:00:00": 4 * time.Hour, "2-0": 48 * time.Hour, "1-12:30": 36*time.Hour + 30*time.Minute,
		"0-01:00:30": time.Hour + 30*time.Second} {
		got, err := ParseTime(text)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		if again, err := ParseTime(Minutes(got)); err != nil || again != got {
			t.Errorf("%s is written %s", got, Minutes(got))
		}
	}
	for _, text := range []string{"", "4h", "-5", "1:2:3:4", "0:30", "1 2", "1-2-3", "+4", "1:-2"} {
		if got, err := ParseTime(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestLivesFollowTheTrials(t *testing.T) {
	seconds := slices.Repeat([]float64{300, 420}, 10) // 6 minutes each, 7 for the slow ones
	trials := Trials{Left: 200, Seconds: seconds}
	if got := trials.Grace(4 * time.Hour); got != time.Minute+630*time.Second {
		t.Errorf("grace %v", got)
	}
	// 20 hours of training in lives of 3 h 48 min 30 s: 5.25, and one more for each of eight.
	if got := trials.Lives(8, 1, 4*time.Hour); got != 6+8 {
		t.Errorf("%d lives", got)
	}
	if got := trials.Lives(8, 3, 4*time.Hour); got != 2+8 {
		t.Errorf("%d lives with three trials side by side", got)
	}
	if got := (Trials{Left: 200}).Lives(8, 1, 4*time.Hour); got != 32 {
		t.Errorf("%d lives where nothing is known", got)
	}
	if got := (Trials{Left: 1e6, Guess: 60}).Within(3600 * 2).Left; got != 120 {
		t.Errorf("%d trials in two hours", got)
	}
	if got := (Trials{Left: 30}).Within(3600).Left; got != 30 {
		t.Errorf("%d trials of unknown length", got)
	}
	if got := (Trials{Left: 1e6, Guess: 3600}).Lives(8, 1, time.Hour); got != MaxArray {
		t.Errorf("%d lives of a study without end", got)
	}
	if got := (Trials{Left: 5, Seconds: seconds}).Grace(10 * time.Minute); got != 5*time.Minute {
		t.Errorf("grace %v of ten minutes", got)
	}
}

// What squeue lists is read whatever the job's name is.
func TestJobsOfAName(t *testing.T) {
	const listed = "12|RUNNING|None|2026-11-28T01:02:03|peftsearch-db /home/ada/a|b\n" +
		"13_[1-4]|PENDING|Priority|N/A|peftsearch-mrpc\n" +
		"14|PENDING|Dependency|N/A|peftsearch-db /home/ada/a|b\n" +
		"16|PENDING|None|N/A|peftsearch-x\n" +
		"15|PENDING|Resources|2026-11-29T01:02:03|peftsearch-db /home/ada/a\n"
	for name, want := range map[string]string{
		"peftsearch-db /home/ada/a|b": "[job 12 is running job 14 is pending (Dependency)]",
		"peftsearch-db /home/ada/a":   "[job 15 is pending (Resources), expected to start at 2026-11-29T01:02:03]",
		"peftsearch-x":                "[job 16 is pending]",
		"peftsearch-db /home/ada":     "[]",
	} {
		if got := fmt.Sprint(jobsOf(listed, name)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// sbatch fills in what follows a percent sign in the name of a log: a directory's own is doubled.
func TestDirectoriesMayHavePercentSigns(t *testing.T) {
	array := Array{Dir: "/50%j", Command: "peftsearch run /50%j/x.yaml"}.Script()
	service := Service{Log: "/50%j/server.log", Command: "peftsearch db start /50%j"}.Script()
	for _, c := range []struct{ script, output, command string }{
		{array, `"/50%%j/%A_%a.log"`, "peftsearch run /50%j/x.yaml"},
		{service, `"/50%%j/server.log"`, "peftsearch db start /50%j"},
	} {
		if !strings.Contains(c.script, "#SBATCH --output="+c.output+"\n") ||
			!strings.HasSuffix(c.script, "exec "+c.command+"\n") {
			t.Error(c.script)
		}
	}
}

func TestTheScriptEndsInTheCommandItself(t *testing.T) {
	script := Array{Name: "peftsearch-x", Lives: 24, Workers: 8, Time: 4 * time.Hour, Grace: 900 * time.Second,
		After: "12", Dir: "/a b", Command: "peftsearch run x.yaml"}.Script()
	for _, line := range []string{"#SBATCH --dependency=after:12",
		"#SBATCH --array=1-24%8", "#SBATCH --time=04:00:00", "#SBATCH --signal=B:USR1@900",
		`#SBATCH --output="/a b/%A_%a.log"`} {
		if !strings.Contains(script, line+"\n") {
			t.Errorf("no line %s in\n%s", line, script)
		}
	}
	if !strings.HasSuffix(script, "\nexec peftsearch run x.yaml\n") || strings.Contains(script, "cpus") {
		t.Error(script)
	}
}
