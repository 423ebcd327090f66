package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"peftsearch/peft"
	"peftsearch/studies/report"
	"peftsearch/studies/store"
)

func newShow(g *globals) *cobra.Command {
	var number int64
	var all, asJSON, asCSV bool
	cmd := &cobra.Command{
		Use:               "show STUDY",
		Short:             "Show a study with its trials, or one trial in full",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: g.completeStudy,
		RunE: func(cmd *cobra.Command, args []string) error {
			db, record, err := g.viewStudy(cmd, args[0])
			if err != nil {
				return err
			}
			defer db.Close()
			w := cmd.OutOrStdout()
			if cmd.Flags().Changed("trial") {
				trial, err := db.Trial(cmd.Context(), record, number)
				if err != nil {
					return err
				}
				document := report.NewTrial(record, trial)
				if asJSON {
					return report.WriteJSON(w, document)
				}
				printTrial(w, document)
				return nil
			}
			return writeSnapshot(cmd.Context(), db, w, func(w io.Writer, at *store.Store) error {
				switch {
				case asJSON:
					return report.WriteStudy(cmd.Context(), w, at, record)
				case asCSV:
					return writeCSV(cmd.Context(), w, at, []*store.Record{record})
				}
				return showStudy(cmd.Context(), w, at, record, all)
			})
		},
	}
	cmd.Flags().Int64Var(&number, "trial", 0, "show this trial in full")
	cmd.Flags().BoolVar(&all, "all", false, fmt.Sprintf("list all trials, not only the latest %d", latestTrials))
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with all trials")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "print all trials as CSV")
	cmd.MarkFlagsMutuallyExclusive("csv", "json")
	cmd.MarkFlagsMutuallyExclusive("csv", "trial")
	return cmd
}

// latestTrials is how many trials show lists at most, unless it is told to list all, which it does in tables of so
// many.
const latestTrials = 1000

// showStudy prints a study with all or the latest of its trials.
func showStudy(ctx context.Context, w io.Writer, at *store.Store, record *store.Record, all bool) error {
	tally, err := at.Tally(ctx, record)
	if err != nil {
		return err
	}
	total := int64(tally.Total())
	first := int64(0)
	if !all {
		first = max(0, total-latestTrials)
	}
	document, err := report.ReadStudy(ctx, at, record)
	if err != nil {
		return err
	}
	printStudy(w, document)
	if first > 0 {
		field(w, "trials", "%s before these; --all lists them too", thousands(first))
	}
	for ok := true; ok; ok = first < total {
		trials, err := at.Range(ctx, record, first, first+latestTrials, false)
		if err != nil {
			return err
		}
		fmt.Fprintln(w)
		printTrials(w, record, trials)
		first += latestTrials
	}
	return nil
}

// field writes a line of a list of names and values.
func field(w io.Writer, name, format string, args ...any) {
	fmt.Fprintf(w, "%-12s %s\n", name, inLine(fmt.Sprintf(format, args...)))
}

func printStudy(w io.Writer, s report.Study) {
	g, r := s.Geometry, s.Reference
	field(w, "study", "%s, started %s", s.Study, s.Created.Local().Format("2006-01-02 15:04"))
	field(w, "model", "%s, %d layers, %d wide, %s parameters", g.Architecture, g.Layers, g.Hidden,
		thousands(g.BackboneParams))
	field(w, "plans", "from %s to %s parameters", thousands(r.MinParams), thousands(r.MaxParams))
	field(w, "score", "%s on dev; the best constant prediction has %s", s.Metric, score(r.Chance))
	if s.WarmStart != "" {
		field(w, "warm start", "with %d trials of study %s", s.WarmTrials, s.WarmStart)
	}
	if m := s.SharedWeights; m != nil {
		field(w, "warm start", "with %d plans scored by weights that all share, for %.1f trainings", m.Plans, m.Trainings)
	}
	if s.Agreement != nil {
		field(w, "", "%s", agreementLine(*s.Agreement))
	}
	for _, line := range calibrationLines(s) {
		field(w, "rates", "%s", line)
	}
	field(w, "front", "%d plans, hypervolume %s", s.FrontSize, score(s.Hypervolume))
}

// agreementLine says how far what was known before the first trial agrees with the trials.
func agreementLine(a report.Agreement) string {
	use := "gp goes by it"
	if !a.Used {
		use = "gp leaves it out"
	}
	return fmt.Sprintf("rank correlation with %d trials %.2f, given size %.2f: %s", a.Trials, a.Rank, a.GivenSize, use)
}

// calibrationLines say how the learning rates were found, a line for each method; none if they were not.
func calibrationLines(s report.Study) (lines []string) {
	if len(s.Calibration) == 0 {
		return nil
	}
	lines = append(lines, loggedRate(s.Identity["training.learning_rate"]).String())
	for i := 0; i < len(s.Calibration); {
		method, line := s.Calibration[i].Method, ""
		for ; i < len(s.Calibration) && s.Calibration[i].Method == method; i++ {
			point := "failed"
			if c := s.Calibration[i]; c.Score != nil {
				point = score(*c.Score)
			}
			line += fmt.Sprintf(", %g: %s", s.Calibration[i].Rate, point)
		}
		lines = append(lines, string(method)+" alone"+line)
	}
	return lines
}

// times says of how many trainings a score is the mean.
func times(trainings int) string {
	if trainings < 2 {
		return ""
	}
	return fmt.Sprintf(" (mean of %d)", trainings)
}

func printTrials(w io.Writer, record *store.Record, trials []store.Trial) {
	t := newTable(w, "trial", "state", "from", "params", "% of model", record.Metric, "plan")
	for _, stored := range trials {
		trial := report.NewTrialEntry(record, stored)
		value := ""
		if trial.Result != nil {
			value = score(trial.Result.Score) + times(trial.Trainings)
		}
		plan := trial.Plan.String()
		if trial.Failure != nil {
			plan += ": " + firstLine(trial.Failure.Error())
		}
		t.AppendRow(table.Row{trial.Trial, trial.State, trial.Origin, thousands(trial.Params), percent(trial.ParamsPercent),
			value, plan})
	}
	t.renderIn(terminalWidth(os.Stdout), right(1, 4, 5, 6), 5, 3, 2)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func printTrial(w io.Writer, t report.Trial) {
	training := t.Training
	field(w, "trial", "%d of %s, %s", t.TrialEntry.Trial, t.Study, t.State)
	field(w, "plan", "%s", t.Plan)
	for _, line := range planMap(t.Plan, math.MaxInt) {
		fmt.Fprintf(w, "  %s\n", line)
	}
	field(w, "from", "%s: %s", t.Origin, cmp.Or(t.Reason, "no reason is stored"))
	field(w, "params", "%s, %s %% of the model (%.3f %% in AutoPEFT's count)", thousands(t.Params),
		percent(t.ParamsPercent), t.AutoPEFTPercent)
	for _, m := range peft.Methods {
		if count := t.Methods[m].Total(); count > 0 {
			field(w, "  "+string(m), "%s", thousands(count))
		}
	}
	field(w, "training", "learning rate %g, %s, batch size %d, seed %d", training.LearningRate, training.Schedule,
		training.BatchSize, t.Seed)
	if t.Failure != nil {
		field(w, "failure", "%s", t.Failure)
	}
	r := t.Result
	if r == nil {
		return
	}
	field(w, "head", "%s parameters, not counted above", thousands(r.Head))
	field(w, "dev", "%s", metrics(r.Dev))
	if t.Trainings > 1 {
		field(w, "trainings", "%d: score and dev are means, the rest is of the first", t.Trainings)
	}
	field(w, "best", "%s %s at step %d of %d", t.Metric, score(r.Score), r.BestStep, r.Steps)
	if r.Stopped != "" {
		field(w, "stopped", "%s", r.Stopped)
	}
	field(w, "cost", "%.1f s, %d MiB", r.WallS, r.PeakB>>20)
	if len(t.Curve) == 0 {
		return
	}
	fmt.Fprintln(w)
	curve := newTable(w, "step", "loss", t.Metric)
	curve.SetColumnConfigs(right(1, 2, 3))
	for _, p := range t.Curve {
		curve.AppendRow(table.Row{p.Step, score(p.Loss), score(p.Score)})
	}
	curve.Render()
}

// metrics writes scores by metric in a line.
func metrics(values map[string]float64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		parts = append(parts, name+" "+score(values[name]))
	}
	return strings.Join(parts, " · ")
}
