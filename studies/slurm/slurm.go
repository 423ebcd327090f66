// Package slurm writes and submits jobs of peftsearch to Slurm.
package slurm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrNoSlurm is the error of a machine without Slurm's commands.
var ErrNoSlurm = errors.New("Slurm's commands are not in PATH: this is no machine of a Slurm cluster")

// Trials is what is left of a study.
type Trials struct {
	Left    int
	Seconds []float64 // of the trials so far, in any order
	Guess   float64   // seconds of a trial, where there are too few so far; 0 if unknown
}

// enough is how many trials tell how long the others take.
const enough = 5

// typical is the mean and the nine tenths' quantile of the trials' seconds; 0 if unknown.
func (t Trials) typical() (mean, long float64) {
	if len(t.Seconds) < enough {
		return t.Guess, 2 * t.Guess
	}
	sorted := slices.Sorted(slices.Values(t.Seconds))
	for _, s := range sorted {
		mean += s / float64(len(sorted))
	}
	return mean, sorted[len(sorted)*9/10]
}

// Grace is how long before the end of a job no trial begins any more: Slurm may send the signal a minute early, and
// nearly every trial then ends in time. It is at most half of the job's time.
func (t Trials) Grace(limit time.Duration) time.Duration {
	_, long := t.typical()
	grace := time.Minute + max(time.Minute, time.Duration(1.5*long*float64(time.Second)))
	return min(grace, limit/2).Truncate(time.Second)
}

// Within leaves as many trials as so many seconds of training allow, as far as is known what a trial takes.
func (t Trials) Within(seconds float64) Trials {
	if mean, _ := t.typical(); mean > 0 {
		t.Left = min(t.Left, int(math.Ceil(max(0, seconds)/mean)))
	}
	return t
}

// MaxArray is what Slurm allows as the last index of an array unless its MaxArraySize, 1001, says otherwise.
const MaxArray = 1000

// unknownLives is how many jobs one after another a worker gets where nobody knows how long trials take.
const unknownLives = 4

// Lives is how many jobs it takes until the study is done, with so many at a time that each run some trials side by
// side: as many as the trials' times need, and one more for each, since jobs are also lost. A job that finds the study
// done ends within a second or so.
func (t Trials) Lives(workers, sideBySide int, limit time.Duration) int {
	mean, _ := t.typical()
	lives := unknownLives * workers
	if mean > 0 {
		useful := (limit - t.Grace(limit)).Seconds() * float64(sideBySide)
		lives = int(math.Ceil(float64(t.Left)*mean/useful)) + workers
	}
	return min(max(lives, workers), max(MaxArray, workers))
}

// Array is an array of jobs that each run the same command until the work is done or their time is over: a life each.
type Array struct {
	Name    string
	Lives   int
	Workers int // at a time
	Time    time.Duration
	Grace   time.Duration // before the end of the time the command gets SIGUSR1
	CPUs    int           // of each job; 0 leaves it to the cluster
	After   string        // a job that has begun when the first of these does; "" for none
	Dir     string        // of the logs
	Command string        // of a shell, quoted
}

// Script is the batch script. The signal goes to the batch shell alone, which is the command by then: a shell with the
// command as a child would die of it. What a node computes for itself stays on its own disk.
func (a Array) Script() string {
	var b strings.Builder
	option := func(format string, args ...any) { fmt.Fprintf(&b, "#SBATCH --"+format+"\n", args...) }
	b.WriteString("#!/bin/bash\n")
	option("job-name=%q", a.Name)
	option("array=1-%d%%%d", a.Lives, a.Workers)
	option("time=%s", Minutes(a.Time))
	option("signal=B:USR1@%d", int(a.Grace.Seconds()))
	if a.CPUs > 0 {
		option("cpus-per-task=%d", a.CPUs)
	}
	if a.After != "" {
		option("dependency=after:%s", a.After)
	}
	option("requeue")
	option("open-mode=append")
	option("output=%q", literal(a.Dir)+"/%A_%a.log")
	b.WriteString(localDisk + "exec " + a.Command + "\n")
	return b.String()
}

// Service is a job that one command serves with. Of those of a user and a name, Slurm runs one at a time.
type Service struct {
	Name    string
	Log     string
	Command string // of a shell, quoted
}

// Script is the batch script. Slurm may take a node for dead that lives: the job then must not start on another one.
func (s Service) Script() string {
	return fmt.Sprintf(`#!/bin/bash
#SBATCH --job-name=%q
#SBATCH --dependency=singleton
#SBATCH --signal=B:USR1@120
#SBATCH --no-requeue
#SBATCH --open-mode=append
#SBATCH --output=%q
exec %s
`, s.Name, literal(s.Log), s.Command)
}

// literal writes a path for sbatch, which fills in what follows a percent sign.
func literal(path string) string { return strings.ReplaceAll(path, "%", "%%") }

// localDisk moves what is computed to the node's own disk; models stay where peftsearch pull has brought them.
const localDisk = `export HF_HOME="${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/huggingface}"
export XDG_CACHE_HOME="${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/peftsearch-$(id -u)"
`

// Minutes writes a time as Slurm reads it: days-hours:minutes:seconds.
func Minutes(d time.Duration) string {
	s := int(d.Seconds())
	text := fmt.Sprintf("%02d:%02d:%02d", s/3600%24, s/60%60, s%60)
	if days := s / 86400; days > 0 {
		text = fmt.Sprintf("%d-%s", days, text)
	}
	return text
}

// ParseTime reads a time as sbatch does: minutes, minutes:seconds, hours:minutes:seconds, days-hours,
// days-hours:minutes or days-hours:minutes:seconds.
func ParseTime(text string) (time.Duration, error) {
	wrong := fmt.Errorf("%q: must be a time as Slurm writes it, such as 4:00:00 or 2-00:00:00", text)
	days, rest, hasDays := strings.Cut(text, "-")
	if !hasDays {
		days, rest = "0", text
	}
	parts := strings.Split(rest, ":")
	if len(parts) > 3 {
		return 0, wrong
	}
	units := []time.Duration{time.Hour, time.Minute, time.Second}
	if !hasDays && len(parts) < 3 {
		units = units[1:]
	}
	var total time.Duration
	for i, part := range append([]string{days}, parts...) {
		unit := 24 * time.Hour
		if i > 0 {
			unit = units[i-1]
		}
		n, err := strconv.ParseUint(part, 10, 17)
		if err != nil {
			return 0, wrong
		}
		total += time.Duration(n) * unit
	}
	if total < time.Minute {
		return 0, wrong
	}
	return total, nil
}

// Submit submits a batch script with options of sbatch, and returns the number of the job.
func Submit(ctx context.Context, script string, options ...string) (job string, err error) {
	output, err := run(ctx, "sbatch", append(append([]string{"--parsable"}, options...), script)...)
	job, _, _ = strings.Cut(strings.TrimSpace(output), ";") // the cluster's name may follow
	return job, err
}

// run runs one of Slurm's commands.
func run(ctx context.Context, name string, args ...string) (output string, err error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = &stderr
	said, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", ErrNoSlurm
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return string(said), nil
}

// Job is a job that waits or runs.
type Job struct {
	ID     string
	State  string // PENDING, CONFIGURING or RUNNING
	Reason string // for which it waits, such as Resources or Dependency
	Start  string // when it started, or is expected to by the local clock of the cluster; "" if Slurm does not know
}

// String says where the job is, as part of a sentence.
func (j Job) String() string {
	text := fmt.Sprintf("job %s is %s", j.ID, strings.ToLower(j.State))
	if j.Waits() {
		if j.Reason != "None" { // Slurm has not looked at it yet
			text += fmt.Sprintf(" (%s)", j.Reason)
		}
		if j.Start != "" {
			text += ", expected to start at " + j.Start
		}
	}
	return text
}

// Waits reports whether the job has not begun.
func (j Job) Waits() bool { return j.State == "PENDING" }

// Jobs lists the caller's jobs of a name that wait or run, the oldest first.
func Jobs(ctx context.Context, name string) ([]Job, error) {
	output, err := run(ctx, "squeue", "--noheader", "--sort=i", "--user="+strconv.Itoa(os.Getuid()),
		"--states=PENDING,CONFIGURING,RUNNING", "--format=%i|%T|%r|%S|%j")
	if err != nil {
		return nil, err
	}
	return jobsOf(output, name), nil
}

// jobsOf reads what squeue lists. A name comes last, since it may have any characters.
func jobsOf(listed, name string) (jobs []Job) {
	for line := range strings.Lines(listed) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), "|", 5)
		if len(f) == 5 && f[4] == name {
			jobs = append(jobs, Job{ID: f[0], State: f[1], Reason: f[2], Start: strings.TrimPrefix(f[3], "N/A")})
		}
	}
	return jobs
}
