package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"peftsearch/data/quote"
	"peftsearch/search"
	"peftsearch/studies"
	"peftsearch/studies/config"
	"peftsearch/studies/report"
	"peftsearch/studies/store"
)

type runFlags struct {
	warmStart string
	mirror    string
	plain     bool
	format    string

	plans int // to record for a map, in place of a search; 0 for a search
}

func newRun(g *globals) *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "run STUDY.yaml",
		Short: "Start a study, or continue it",
		Long: `Start the study of a study file, or continue it where it stopped.

Ctrl-C lets running trials end and stores them; a second Ctrl-C interrupts them, and they run again with the
same seeds when the study continues. A finished trial is never lost. On a terminal the search is shown as by peftsearch
watch. To go on after the last trial, raise
budget.trials in the study file.

With --mirror DIR the database is on a disk that may vanish, as on Colab, and DIR on one that stays: after each outcome
the database is copied there, whole, and a run begins with the newer of the two, unless each has outcomes that the
other one lacks. One session at a time keeps a mirror.

Several machines share a study in PostgreSQL: run the same command with the same --db on each. In a job, SIGUSR1
lets running trials end, with exit code 0, and SIGTERM returns them to the others at once.

A new study learns from the other studies of the database, and from maps, that have the same model and training
(search.warm_start: none in the study file turns that off); with --warm-start from one study alone, of any model of the
same shape. It first tries what these promise most, and leaves them out of account where they prove wrong. What is
learned is kept with the study.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFile("yaml", "yml"),
		RunE:              func(cmd *cobra.Command, args []string) error { return g.run(cmd, args[0], flags) },
	}
	cmd.Flags().
		StringVar(&flags.warmStart, "warm-start", "", "start a new study with what this study of the database found")
	cmd.RegisterFlagCompletionFunc("warm-start", g.completeStudies)
	cmd.Flags().
		StringVar(&flags.mirror, "mirror", "",
			"directory that outlives this machine: gets a copy of the database after each outcome, and gives it back")
	cmd.MarkFlagDirname("mirror")
	cmd.Flags().BoolVar(&flags.plain, "plain", false, "on a terminal, one line in place of the view")
	cmd.Flags().
		StringVar(&flags.format, "log-format", string(logText),
			"format of the log where there is no terminal: text, or json (then on a terminal too)")
	cmd.RegisterFlagCompletionFunc(
		"log-format",
		cobra.FixedCompletions([]string{string(logText), string(logJSON)}, cobra.ShellCompDirectiveNoFileComp),
	)
	return cmd
}

// run runs a study, and keeps the mirror of its database if there is one.
func (g *globals) run(cmd *cobra.Command, path string, flags runFlags) error {
	if flags.mirror == "" {
		return g.search(cmd, path, flags, func() {})
	}
	if store.IsServer(g.db) {
		return usage("--mirror is for a database in a file", "%s is on a server", g.db)
	}
	m, err := store.OpenMirror(cmd.Context(), g.db, flags.mirror, func(err error) {
		fmt.Fprintln(cmd.ErrOrStderr(), "Warning: the mirror is behind:", err)
	})
	if err != nil {
		return err
	}
	err = g.search(cmd, path, flags, m.Changed)
	if closeErr := m.Close(); closeErr != nil {
		return errors.Join(err, closeErr)
	}
	return err
}

// search runs a study, and calls stored after each outcome.
func (g *globals) search(cmd *cobra.Command, path string, flags runFlags, stored func()) (err error) {
	signals := heedSchedulers()
	defer signal.Stop(signals)
	format := logFormat(flags.format)
	if format != logText && format != logJSON {
		return usage("peftsearch run --help", "--log-format %s: must be text or json", quote.Text(flags.format))
	}
	file, err := g.read(cmd, path)
	if err != nil {
		return err
	}
	if flags.plans > 0 {
		file.Record(flags.plans)
	}
	if !file.Evaluator.Analytic { // before the inputs are read
		if _, err := workerCommand(file.Evaluator.Command); err != nil {
			return err
		}
	}
	inputs, err := g.openInputs(cmd.Context(), file, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	stderr := cmd.ErrOrStderr()
	db, study, err := g.start(cmd.Context(), file, inputs, flags.warmStart, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	status, err := study.Status(cmd.Context())
	if err != nil {
		return err
	}
	if status.Done() < status.Trials { // hours are shared among the workers, whose number has to be known
		g.warnMixed(cmd, study)
		if err := g.chooseWorkers(cmd.Context(), study, stderr); err != nil {
			return err
		}
		if status, err = study.Status(cmd.Context()); err != nil {
			return err
		}
	}
	display := &display{}
	if !flags.plain && !g.quiet && format == logText && isTerminal(os.Stderr) && isTerminal(os.Stdin) {
		if display.view, err = g.newRunView(cmd.Context(), db, study.Record()); err != nil {
			return err
		}
	} else {
		display = g.newDisplay(stderr, format)
	}
	log := display // for programs, to which everything is told there; or nil
	if format != logJSON {
		log = nil
	}
	progress := &searchProgress{display: display, status: status, waits: map[string]*waits{}}
	if warm := study.Record().WarmStart; warm != nil && !warm.Estimates() && !study.Continued() {
		progress.note(slog.LevelInfo, "it starts with what other studies on this model tell", "trials", len(warm.Trials),
			"from", warm.Study)
	}
	if study.Continued() {
		progress.note(slog.LevelInfo, "the study continues", "done", status.Done(), "of", budgetOf(status))
	}
	if other := study.CalibratedBy(); other != "" {
		progress.note(slog.LevelInfo, "its learning rates are those that another study found", "study", other, "rates",
			loggedRate(file.Training.LearningRate))
	}
	if inputs.AutoEpochs != "" && !status.Over() {
		progress.note(slog.LevelInfo, inputs.AutoEpochs)
	}
	if !status.Over() {
		rows := inputs.Dataset.Report()
		for _, line := range rows.Lines() {
			progress.note(slog.LevelInfo, line)
		}
		for _, note := range rows.Notes {
			progress.note(slog.LevelWarn, note)
		}
	}
	progress.show("")
	ctx, interrupts := watchInterrupts(cmd.Context(), signals, func() {
		progress.note(slog.LevelInfo, "running trials end and are stored; interrupt again to stop at once")
	}, progress.leave)
	defer interrupts.stop()
	status, err = study.Run(ctx, g.evaluators(study, progress.writer(stderr)), studies.RunOptions{Drain: interrupts.drain,
		Events: func(e studies.Event) {
			progress.event(e)
			if e.Kind == studies.EventFinished || e.Kind == studies.EventFailed {
				stored()
			}
		}})
	progress.close()

	words := []string{"run", path}
	if flags.mirror != "" {
		words = append(words, "--mirror", flags.mirror)
	}
	again := g.command(cmd, words...)
	switch {
	case interrupts.interrupted() && interrupts.planned.Load() && err == nil && !status.Over():
		fmt.Fprintf(
			stderr,
			"drained; %d of %s trials are stored\nResume: %s\n",
			status.Done(),
			budgetOf(status),
			again,
		)
		return nil
	case interrupts.interrupted() && (err == nil || errors.Is(err, context.Canceled)) && !status.Over():
		return &failure{
			exitInterrupted,
			fmt.Errorf("interrupted; %d of %s trials are stored", status.Done(), budgetOf(status)),
			again,
		}
	case errors.Is(err, search.ErrExhausted) && !errors.Is(err, studies.ErrNoUsableTrial):
		if exhausted := "every plan of the search space has been tried"; log != nil {
			log.note(slog.LevelInfo, exhausted)
		} else {
			fmt.Fprintln(stderr, exhausted)
		}
	case err != nil:
		return err
	}
	return g.conclude(cmd, db, study.Record(), again, log)
}

// start opens the database and the study in it. In a job it waits for a database that is away.
func (g *globals) start(ctx context.Context, file *config.Config, inputs *config.Inputs, warmStart string,
	stderr io.Writer) (*store.Store, *studies.Study, error) {
	told := false
	for began := time.Now(); ; {
		db, err := g.open()
		if err == nil {
			var study *studies.Study
			if study, err = studies.StartFrom(ctx, db, file, inputs, warmStart); err == nil {
				return db, study, nil
			}
			err = errors.Join(err, db.Close())
		}
		if !store.IsBusy(err) || time.Since(began) >= databasePatience() {
			return nil, nil, err
		}
		if !told {
			told = true
			fmt.Fprintf(stderr, "waiting for the database: %v\n", firstLine(err.Error()))
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(startPause):
		}
	}
}

// startPause is how often a run looks for a database that is away at its start.
const startPause = 2 * time.Second

// conclude prints the front, and on stderr, or in a log, what can be done with it.
func (g *globals) conclude(cmd *cobra.Command, db *store.Store, record *store.Record, again string,
	log *display) error {
	front, err := studies.ReadAssessed(cmd.Context(), db, record)
	if err != nil {
		return err
	}
	confirmed, err := studies.Confirmed(cmd.Context(), db, record)
	if err != nil {
		return err
	}
	if err := g.warnRising(cmd, db, record, log); err != nil {
		return err
	}
	if err := g.noteKnown(cmd, db, record, log); err != nil {
		return err
	}
	document := report.NewFront(record, front, confirmed)
	printFront(cmd.OutOrStdout(), terminalWidth(os.Stdout), document.Metric, document.Front)
	switch r := document.Recommendation; {
	case r == nil || g.quiet:
	case log != nil:
		log.note(slog.LevelInfo, "recommended", "trial", r.Trial, "best", r.Best)
	default:
		printRecommendation(cmd.ErrOrStderr(), document)
		g.printNext(cmd, record.Name, r.Trial, again)
	}
	return nil
}

// noteKnown says how far what was known before the first trial agrees with the trials.
func (g *globals) noteKnown(cmd *cobra.Command, db *store.Store, record *store.Record, log *display) error {
	known, err := studies.ReadKnown(cmd.Context(), db, record)
	if a := report.NewAgreement(known); a != nil && log != nil {
		log.note(slog.LevelInfo, "what was known before the first trial", "trials", a.Trials, "rank_correlation", a.Rank,
			"given_size", a.GivenSize, "used", a.Used)
	} else if a != nil && !g.quiet {
		fmt.Fprintln(cmd.ErrOrStderr(), "what was known before the first trial:", agreementLine(*a))
	}
	return err
}

// Trials are said to be too short where more than a share of them, of not too few, have the last score as their best
// one.
const (
	mostRise   = 0.5
	leastRisen = 10
)

// warnRising says that trials are too short.
func (g *globals) warnRising(cmd *cobra.Command, db *store.Store, record *store.Record, log *display) error {
	last, all, err := db.LastRungs(cmd.Context(), record)
	if file, fileErr := studies.StudyFile(record); err != nil || fileErr != nil || len(file.Budget.Rungs) < 2 {
		return err
	}
	if all >= leastRisen && float64(last) > mostRise*float64(all) && !g.quiet {
		warning := fmt.Sprintf("of %d trials %d have their best score at the end of the budget: they would go on to "+
			"learn; a new study with more budget.epochs ranks plans better", all, last)
		if log != nil {
			log.note(slog.LevelWarn, warning)
		} else {
			fmt.Fprintln(cmd.ErrOrStderr(), wrapped("Warning: "+warning))
		}
	}
	return nil
}

// budgetOf is the budget of a study in trainings or hours.
func budgetOf(s studies.Status) string {
	if s.Hours == 0 {
		return strconv.Itoa(s.Trials)
	}
	return duration(s.Hours)
}

func (g *globals) printNext(cmd *cobra.Command, study string, trial int64, again string) {
	number := strconv.FormatInt(trial, 10)
	fmt.Fprintf(cmd.ErrOrStderr(), `
continue  raise budget.trials, then %s
inspect   %s
confirm   %s
train     %s
export    %s
`, again, g.command(cmd, "show", study, "--trial", number), g.command(cmd, "confirm", study, "--front"),
		g.command(cmd, "train", study, "--trial", number, "--out", "trained"),
		g.command(cmd, "export", study, "--trial", number, "--to", "plan"))
}
