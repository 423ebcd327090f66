package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"peftsearch/studies"
	"peftsearch/studies/config"
	"peftsearch/studies/slurm"
	"peftsearch/studies/store"
)

// submission is what submit is told.
type submission struct {
	workers int
	time    slurmTime
	dryRun  bool
	options []string // for sbatch
}

// slurmTime is a flag with a time as Slurm writes it.
type slurmTime time.Duration

func (t *slurmTime) Type() string { return "time" }

func (t *slurmTime) String() string { return slurm.Minutes(time.Duration(*t)) }

func (t *slurmTime) Set(text string) error {
	d, err := slurm.ParseTime(text)
	*t = slurmTime(d)
	return err
}

func newSubmit(g *globals) *cobra.Command {
	s := submission{workers: 8, time: slurmTime(4 * time.Hour)}
	cmd := &cobra.Command{
		Use:   "submit STUDY.yaml [-- SBATCH-OPTION...]",
		Short: "Run a study on a Slurm cluster",
		Long: `Submit an array of jobs that each run the study for their time and then make room for the next: lives. A life
whose time is nearly over lets its trials end; one that is preempted or cancelled returns them to the others at once.
A life that finds the study done ends within a second or so. How many lives it takes follows from the study's own
trials so far; submitting again goes on with what is left.

The study's database is on a PostgreSQL server: --db names it, peftsearch db start makes one. What follows -- goes to
sbatch as it is. The script and the logs are in the directory STUDY.slurm beside the study file.`,
		Example: "  peftsearch submit study.yaml --db postgres://me@server/peft --workers 8 --time 4:00:00 " +
			"-- --partition=gpu --gres=gpu:1",
		Args: func(cmd *cobra.Command, args []string) error {
			return cobra.ExactArgs(1)(cmd, args[:own(cmd, args)])
		},
		ValidArgsFunction: completeFile("yaml", "yml"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.options = args[1:]
			return g.submit(cmd, args[0], s)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&s.workers, "workers", s.workers, "jobs that run at the same time")
	flags.Var(&s.time, "time", "time of each job, as Slurm writes it")
	flags.BoolVar(&s.dryRun, "dry-run", false, "print the script and submit nothing")
	return cmd
}

func (g *globals) submit(cmd *cobra.Command, path string, s submission) error {
	if s.workers < 1 {
		return usage("", "--workers %d: must be at least 1", s.workers)
	}
	if !store.IsServer(g.db) {
		return usage("--db postgres://USER@HOST/NAME, or peftsearch db start DIR and --db DIR",
			"%s is a file, which machines cannot share", g.db)
	}
	file, err := g.read(cmd, path)
	if err != nil {
		return err
	}
	inputs, err := g.openInputs(cmd.Context(), file, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	trials, away, err := g.trialsLeft(cmd, file, inputs)
	if err != nil {
		return err
	}
	array, err := g.array(file, trials, s)
	if err != nil {
		return err
	}
	if away != nil {
		array.After = g.serverAhead(cmd, away)
	}
	if array.Lives > slurm.MaxArray {
		fmt.Fprintf(g.notes(cmd), "Warning: an array of %d jobs, one for each of --workers, is more than a cluster takes "+
			"whose MaxArraySize is the usual %d\n", array.Lives, slurm.MaxArray+1)
	}
	if s.dryRun {
		_, err := fmt.Fprint(cmd.OutOrStdout(), array.Script())
		return err
	}
	script := filepath.Join(array.Dir, "run.sh")
	if err := os.MkdirAll(array.Dir, 0o777); err != nil {
		return err
	}
	if err := os.WriteFile(script, []byte(array.Script()), 0o777); err != nil {
		return err
	}
	job, err := slurm.Submit(cmd.Context(), script, s.options...)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), `study   %s, %d trials to run, in %s
array   %d lives, %d at a time, %s each, drained %s before the end
script  %s
logs    %s
job     %s
watch   %s
end     scancel --state=PENDING %[10]s; scancel --signal=USR1 --batch %[10]s   (running trials are finished)
stop    scancel %[10]s   (running trials are returned)
`, file.Study, trials.Left, g.db, array.Lives, array.Workers, duration(array.Time), duration(array.Grace), script,
		filepath.Join(array.Dir, job+"_*.log"), job, g.command(cmd, "show", file.Study))
	return nil
}

// serverAhead is the job that is queued to serve a database that is away, "" if there is none: then each of the
// study's jobs waits when it starts.
func (g *globals) serverAhead(cmd *cobra.Command, away error) (job string) {
	jobs, _ := serverJobs(cmd.Context(), g.db) // sbatch says what is wrong with Slurm
	for _, job := range jobs {
		if job.Waits() {
			fmt.Fprintf(g.notes(cmd), "Note: %s, to serve %s; the study's jobs start after it\n", job, g.db)
			return job.ID
		}
	}
	fmt.Fprintf(g.notes(cmd), "Warning: %s; the jobs wait for it for %s\n", firstLine(away.Error()),
		duration(jobPatience))
	return ""
}

// trialsLeft is what is to be done of a study, which the database may not have yet; at least one trial. A database that
// is away may be there when the jobs start. Hours are a worker's, and jobs that choose their number themselves know them.
func (g *globals) trialsLeft(cmd *cobra.Command, file *config.Config, inputs *config.Inputs) (trials slurm.Trials,
	away, err error) {
	trials = slurm.Trials{Left: file.Budget.Trials, Guess: file.TrialSeconds(inputs)}
	workers := int(file.Evaluator.Workers)
	timed := file.Budget.Hours > 0 && file.Evaluator.Workers != config.AutoWorkers
	if timed {
		trials = trials.Within(3600 * file.Budget.Hours * float64(workers))
	}
	db, err := store.View(g.db)
	if store.IsBusy(err) {
		return trials, err, nil
	}
	if errors.Is(err, store.ErrEmpty) {
		return trials, nil, nil
	}
	if err != nil {
		return trials, nil, err
	}
	defer db.Close()
	record, err := db.Study(cmd.Context(), file.Study)
	if errors.Is(err, store.ErrNoStudy) {
		return trials, nil, nil
	}
	if err != nil {
		return trials, nil, err
	}
	if err := studies.Check(record, file, inputs); err != nil { // now rather than in every job
		return trials, nil, err
	}
	outcomes, err := db.Outcomes(cmd.Context(), record)
	if err != nil {
		return trials, nil, err
	}
	for _, o := range outcomes {
		trials.Seconds = append(trials.Seconds, o.Seconds)
	}
	history := studies.NewHistory(db, record)
	if err := history.Sync(cmd.Context()); err != nil {
		return trials, nil, err
	}
	status := history.Status(file.Budget, workers)
	if trials.Left = status.Trials - status.Done(); trials.Left <= 0 {
		return trials, nil, usage("raise budget.trials in the study file", "study %s has all its %d trials", file.Study,
			status.Trials)
	}
	if timed {
		if history.Progress(file.Budget, workers) >= 1 {
			return trials, nil, usage("raise budget.hours in the study file", "study %s has had its %g hours", file.Study,
				file.Budget.Hours)
		}
		trials = trials.Within((status.Hours - status.Used).Seconds() * float64(workers))
	}
	return trials, nil, nil
}

// array is the array of jobs that run a study.
func (g *globals) array(file *config.Config, trials slurm.Trials, s submission) (slurm.Array, error) {
	program, err := ownPath()
	if err != nil {
		return slurm.Array{}, err
	}
	db := g.db
	if !strings.Contains(db, "://") {
		if db, err = filepath.Abs(db); err != nil {
			return slurm.Array{}, err
		}
	}
	e, limit := file.Evaluator, time.Duration(s.time)
	a := slurm.Array{Name: "peftsearch-" + file.Study, Workers: s.workers, Time: limit, Grace: trials.Grace(limit),
		Lives: trials.Lives(s.workers, max(1, int(e.Workers)), limit), Dir: filepath.Join(file.Dir(), file.Study+".slurm"),
		Command: commandLine(program, "run", file.File(), "--db", db)}
	if e.Workers != config.AutoWorkers && e.Threads > 0 {
		a.CPUs = int(e.Workers) * e.Threads
	}
	return a, nil
}
