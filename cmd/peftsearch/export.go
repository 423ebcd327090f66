package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"peftsearch/data/quote"
	"peftsearch/peft"
	"peftsearch/studies/config"
	"peftsearch/studies/report"
	"peftsearch/studies/store"
)

type exportFlags struct {
	trial         int64
	plan, to, out string
	model         string
	file          fileFlags
	options       peft.Options
	drop          int
}

func newExport(g *globals) *cobra.Command {
	var flags exportFlags
	cmd := &cobra.Command{
		Use:   "export {STUDY --trial N | DIR | --plan FILE --config STUDY.yaml | STUDY --to optuna}",
		Short: "Write a plan, with its trained weights, for use elsewhere",
		Long: `Write a plan for peftsearch (plan), AdapterHub's adapters, Hugging Face peft, as a Hugging Face model with
everything merged into the weights (merged) or with its own code (transformers), or as a graph for ONNX runtimes
(onnx). From a directory that train wrote, the trained weights go with it; from a trial or a plan file there is
only the configuration. What a format cannot express is refused, unless --lossy leaves it out: transformers and onnx
express every plan but those of T5 and for written texts. Without --out, --to plan prints the plan.

--to optuna writes a whole study as a journal file of Optuna, which optuna-dashboard shows.`,
		Example: "  peftsearch export my-study --trial 17 > plan.json\n" +
			"  peftsearch export trained --to adapters --out adapter",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: g.completeStudy,
		RunE: func(cmd *cobra.Command, args []string) error {
			if flags.to == formatOptuna {
				return g.exportOptuna(cmd, args, flags)
			}
			format := peft.Format(flags.to)
			if !slices.Contains(peft.Formats, format) {
				return usage("peftsearch export --help", "--to %q: must be one of %v, %s", flags.to, peft.Formats, formatOptuna)
			}
			if ids := flags.options.IDs; ids != peft.IDs64 && ids != peft.IDs32 {
				return usage("give int64 or int32", "--ids %s: there is no such type", quote.Text(string(ids)))
			}
			if flags.out == "" && format != peft.FormatPlan {
				return usage("peftsearch export --help", "--to %s needs a directory: --out DIR", format)
			}
			source, err := g.exportSource(cmd, args, flags)
			if err != nil {
				return err
			}
			if flags.drop < 0 || flags.drop >= len(source.Plan.Layers) && flags.drop > 0 {
				return usage("", "--drop-first %d: must be between 0 and %d", flags.drop, len(source.Plan.Layers)-1)
			}
			source = source.Without(flags.drop)
			if flags.out == "" {
				return report.WriteJSON(cmd.OutOrStdout(), source.Plan)
			}
			lost, err := peft.Export(format, source, flags.out, flags.options)
			if err != nil {
				if len(lost) > 0 && !flags.options.Lossy {
					return usage("docs/reference/exports.md says what each format holds; --lossy leaves out what is named", "%w", err)
				}
				return usage("docs/reference/exports.md says what each format holds", "%w", err)
			}
			for _, l := range lost {
				fmt.Fprintf(cmd.ErrOrStderr(), "left out: %s\n", l)
			}
			if len(lost) > 0 && source.Head != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "what is left was trained together with that, and is worse without it")
			}
			fmt.Fprintln(cmd.OutOrStdout(), flags.out)
			return nil
		},
	}
	set := cmd.Flags()
	set.Int64Var(&flags.trial, "trial", 0, "number of the trial")
	set.StringVar(&flags.plan, "plan", "", "export the plan in this file")
	flags.file.add(cmd, false)
	set.StringVar(&flags.to, "to", string(peft.FormatPlan),
		"format: plan, adapters, peft, merged, transformers or onnx; or optuna, of a whole study")
	set.StringVar(&flags.out, "out", "", "new directory to write to; of optuna a file")
	set.BoolVar(&flags.options.Lossy, "lossy", false, "leave out what the format cannot express")
	set.BoolVar(&flags.options.Merge, "merge", false,
		"of transformers: fold LoRA, and what else only changes weights, into them")
	set.StringVar((*string)(&flags.options.IDs), "ids", string(peft.IDs64),
		"of onnx: the type of token ids, int64 or int32")
	card := &flags.options.Card
	set.StringVar(&card.Base, "base-model", "", "name of the pretrained model on the Hub, for the card and for loading")
	set.StringVar(&card.License, "license", "", "of the model, in its card, as the Hub calls it: apache-2.0")
	set.StringVar(&card.Language, "language", "", "of the texts, in the card: en, sl")
	set.StringVar(&flags.model, "model", "", "directory of the pretrained model, if it has moved since training")
	set.StringVar(&card.Name, "name", "", "of the model in its card, and of the adapter in adapters")
	set.IntVar(&flags.drop, "drop-first", 0,
		"leave the modules of so many of the lowest layers out, as training.adapter_drop prepares a plan for")
	formats := []string{formatOptuna}
	for _, f := range peft.Formats {
		formats = append(formats, string(f))
	}
	cmd.RegisterFlagCompletionFunc("to", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// formatOptuna is the format of whole studies.
const formatOptuna = "optuna"

// exportOptuna writes a study for Optuna.
func (g *globals) exportOptuna(cmd *cobra.Command, args []string, flags exportFlags) error {
	if len(args) != 1 || cmd.Flags().Changed("trial") || flags.plan != "" || flags.out == "" {
		return usage("peftsearch export STUDY --to optuna --out STUDY.log",
			"--to optuna takes a whole study, and needs a file: --out")
	}
	db, record, err := g.viewStudy(cmd, args[0])
	if err != nil {
		return err
	}
	defer db.Close()
	file, err := createNew(flags.out)
	if err != nil {
		return err
	}
	err = writeSnapshot(cmd.Context(), db, file, func(w io.Writer, at *store.Store) error {
		return report.WriteOptuna(w, record, at.Walk(cmd.Context(), record, true))
	})
	if err := errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(flags.out))
	}
	fmt.Fprintln(cmd.OutOrStdout(), flags.out)
	if !g.quiet {
		fmt.Fprintf(cmd.ErrOrStderr(), "look at it with: optuna-dashboard %s\n", commandLine(flags.out))
	}
	return nil
}

// exportSource finds what is to be exported.
func (g *globals) exportSource(cmd *cobra.Command, args []string, flags exportFlags) (peft.Trained, error) {
	trial := cmd.Flags().Changed("trial")
	switch {
	case len(args) == 1 && trial && flags.plan == "":
		return g.trialSource(cmd, args[0], flags)
	case len(args) == 1 && !trial && flags.plan == "" && isDirectory(args[0]):
		source, err := peft.ReadTrained(args[0])
		if err != nil {
			return source, usage("peftsearch train writes such a directory", "%w", err)
		}
		source.Info.Model = cmp.Or(flags.model, source.Info.Model)
		return source, nil
	case len(args) == 0 && !trial && flags.plan != "" && flags.file.config != "":
		file, err := config.Read(flags.file.config)
		if err != nil {
			return peft.Trained{}, err
		}
		plan, err := readPlan(flags.plan)
		if err != nil {
			return peft.Trained{}, err
		}
		inputs, err := file.Open()
		if err != nil {
			return peft.Trained{}, err
		}
		return configured(file, inputs, plan), nil
	}
	return peft.Trained{}, usage("peftsearch export --help",
		"name STUDY with --trial, a directory that train wrote, or --plan with --config")
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// trialSource is the plan of a trial. Only formats of other programs need the model and the data.
func (g *globals) trialSource(cmd *cobra.Command, name string, flags exportFlags) (peft.Trained, error) {
	db, record, err := g.viewStudy(cmd, name)
	if err != nil {
		return peft.Trained{}, err
	}
	trial, err := db.Trial(cmd.Context(), record, flags.trial)
	if err := errors.Join(err, db.Close()); err != nil {
		return peft.Trained{}, err
	}
	if flags.to == string(peft.FormatPlan) {
		return peft.Trained{Plan: trial.Candidate.Plan, Info: peft.Info{Geometry: record.Geometry}}, nil
	}
	file, inputs, err := flags.file.open(record, g.notes(cmd))
	if err != nil {
		return peft.Trained{}, err
	}
	return configured(file, inputs, trial.Candidate.Plan), nil
}

// configured is a plan on the model and task of a study file, without weights.
func configured(file *config.Config, inputs *config.Inputs, plan peft.Plan) peft.Trained {
	return peft.Trained{Plan: plan, Info: peft.Info{Version: peft.TrainedVersion, Model: inputs.Model,
		ModelFingerprint: inputs.Fingerprint.Model, Geometry: inputs.Geometry, Head: string(file.Model.Head),
		Task: inputs.Dataset.Task, Labels: inputs.Dataset.Labels, Training: json.RawMessage("{}")}}
}

// writeNew writes a file that must not be there yet, with the directories above it.
func writeNew(path string, content []byte) error {
	file, err := createNew(path)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// createNew makes a file that must not be there yet, with the directories above it.
func createNew(path string) (*os.File, error) {
	const try = "choose a directory that can be written to"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, environment(try, err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil, usage("name another place, or remove it first", "%s is there already", path)
	}
	if err != nil {
		return nil, environment(try, err)
	}
	return file, nil
}
