package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"peftsearch/peft"
	"peftsearch/studies"
)

func newTransfer(g *globals) *cobra.Command {
	var to string
	var top int
	cmd := &cobra.Command{
		Use:   "transfer STUDY --to OTHER.yaml",
		Short: "Let a study on another task try the plans that this one found",
		Long: `Enqueue the plans of a study's front in the study of another study file, which is started if the database
does not have it. Both need a model of the same shape. The plans are trained with the other study's own settings.`,
		Example: "  peftsearch transfer my-study --to other.yaml --top 3\n  peftsearch run other.yaml\n" +
			"  peftsearch compare my-study other",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: g.completeStudy,
		RunE: func(cmd *cobra.Command, args []string) error {
			if top < 0 {
				return usage("", "--top %d: must be at least 0", top)
			}
			return g.transfer(cmd, args[0], to, top)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "study file of the other task")
	cmd.Flags().IntVar(&top, "top", 0, "only so many plans, those with the highest scores; 0 is the whole front")
	cmd.MarkFlagRequired("to")
	cmd.MarkFlagFilename("to", "yaml", "yml")
	return cmd
}

func (g *globals) transfer(cmd *cobra.Command, name, path string, top int) (err error) {
	file, err := g.read(cmd, path)
	if err != nil {
		return err
	}
	if file.Study == name {
		return usage("name the file of another study", "%s is the file of study %s itself", path, name)
	}
	if err := g.mustExist(); err != nil {
		return err
	}
	db, err := g.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	record, err := db.Study(cmd.Context(), name)
	if err != nil {
		return err
	}
	front, err := studies.ReadFront(cmd.Context(), db, record)
	if err != nil {
		return err
	}
	members := front.Members
	if len(members) == 0 {
		return usage(g.command(cmd, "show", name), "the study has no complete trial yet, and so no front")
	}
	inputs, err := g.openInputs(cmd.Context(), file, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if !inputs.Geometry.SameShape(record.Geometry) {
		from, to := record.Geometry, inputs.Geometry
		return usage("plans transfer between models of the same shape",
			"study %s has a model with %d layers, %d wide, %s parameters (%s), %s one with %d layers, %d wide, %s parameters "+
				"(%s)",
			name, from.Layers, from.Hidden, thousands(from.BackboneParams), from.Architecture,
			path, to.Layers, to.Hidden, thousands(to.BackboneParams), to.Architecture)
	}
	study, err := studies.Start(cmd.Context(), db, file, inputs)
	if err != nil {
		return err
	}
	slices.Reverse(members) // a front is sorted by parameters, and so by score
	if top > 0 {
		members = members[:min(top, len(members))]
	}
	var plans []namedPlan
	for _, m := range members {
		plans = append(plans, namedPlan{fmt.Sprintf("%s/%d", name, m.Number), "on the front of study " + name,
			peft.Preset{Plan: m.Candidate.Plan, PrefixMLP: m.Candidate.Training.PrefixMLP}})
	}
	if err := enqueue(cmd, study, plans); err != nil {
		return err
	}
	if !g.quiet {
		fmt.Fprintf(cmd.ErrOrStderr(), "\nrun       %s\ncompare   %s\n", g.command(cmd, "run", path),
			g.command(cmd, "compare", name, file.Study))
	}
	return nil
}
