package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"peftsearch/peft"
	"peftsearch/studies"
	"peftsearch/studies/store"
)

func newEnqueue(g *globals) *cobra.Command {
	var files, presets []string
	var source fileFlags
	cmd := &cobra.Command{
		Use:   "enqueue STUDY",
		Short: "Let a study try given plans next",
		Long: `Let a study try the plans of files, or plans from the literature, before the sampler proposes others. They
are trained with the study's own settings and count as trials. A plan that the study has already is not
added again. A search that is running takes them up; otherwise peftsearch run does.`,
		Example:           "  peftsearch enqueue my-study --plan plan.json --preset lora-r8,mam",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: g.completeStudy,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			plans, err := readPlans(files)
			if err != nil {
				return err
			}
			db, study, err := g.openStudy(cmd, args[0], source)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, db.Close()) }()
			for _, name := range presets {
				preset, err := namedPreset(name, study.Record().Geometry)
				if err != nil {
					return err
				}
				plans = append(plans, namedPlan{name, "a plan from the literature", preset})
			}
			for _, p := range plans { // all are checked before the first is stored
				if err := p.preset.Plan.Validate(study.Record().Geometry); err != nil {
					return usage(planAdvice, "%s: %w", p.name, err)
				}
			}
			return enqueue(cmd, study, plans)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&files, "plan", nil, "file with a plan; may be given again")
	flags.StringSliceVar(&presets, "preset", nil, "plans from the literature, as under baselines in the study file")
	source.add(cmd, false)
	cmd.MarkFlagsOneRequired("plan", "preset")
	cmd.RegisterFlagCompletionFunc("preset", cobra.FixedCompletions(peft.Presets(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// namedPlan is a plan to enqueue.
type namedPlan struct {
	name, reason string
	preset       peft.Preset
}

func readPlans(files []string) ([]namedPlan, error) {
	var plans []namedPlan
	for _, path := range files {
		plan, err := readPlan(path)
		if err != nil {
			return nil, err
		}
		plans = append(plans, namedPlan{filepath.Base(path), "given as a file", peft.Preset{Plan: plan}})
	}
	return plans, nil
}

func namedPreset(name string, g peft.Geometry) (peft.Preset, error) {
	preset, err := peft.NewPreset(name, g)
	if err != nil {
		return preset, usage("", "%w", err)
	}
	return preset, nil
}

// enqueue adds the plans to the study and says which trials they are.
func enqueue(cmd *cobra.Command, study *studies.Study, plans []namedPlan) error {
	for _, p := range plans {
		trial, added, err := study.Enqueue(cmd.Context(), p.name, p.reason, study.Baseline(p.preset))
		if err != nil {
			return err
		}
		printEnqueued(cmd.OutOrStdout(), trial, added)
	}
	return nil
}

func printEnqueued(w io.Writer, trial store.Trial, added bool) {
	note := ""
	if !added {
		note = " (there already, " + string(trial.State) + ")"
	}
	fmt.Fprintf(w, "trial %d  %s%s\n", trial.Number, trial.Candidate.Plan, note)
}
