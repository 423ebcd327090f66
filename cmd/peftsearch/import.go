package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"peftsearch/data/checkpoint"
	"peftsearch/data/hub"
	"peftsearch/peft"
	"peftsearch/studies/config"
	"peftsearch/studies/report"
)

type importFlags struct {
	model, out string
	file       fileFlags
}

func newImport(g *globals) *cobra.Command {
	var flags importFlags
	cmd := &cobra.Command{
		Use:   "import ADAPTER {--model MODEL | --config STUDY.yaml --out DIR}",
		Short: "Make a plan, or a trained directory, of a peft or adapters directory",
		Long: `Read a Hugging Face peft adapter (LoRA, DoRA, VeRA, IA3, prefix or prompt), an adapter of AdapterHub's
adapters, or what export wrote, and print it as a plan, which enqueue and train read. What a plan cannot express is
refused.

With --out, its weights and its head become a directory as train writes it, for the model and the task of a study
file: predict scores rows with it, and train --from trains on.`,
		Example: "  peftsearch import my-lora --model models/all-MiniLM-L6-v2 > plan.json\n" +
			"  peftsearch enqueue my-study --plan plan.json\n" +
			"  peftsearch import my-lora --config study.yaml --out trained",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (flags.out != "") != (flags.file.config != "") || flags.out == "" && flags.model == "" {
				return usage("peftsearch import --help", "name --model for a plan, or --config and --out for a trained directory")
			}
			if flags.out != "" {
				return g.importWeights(cmd, args[0], flags)
			}
			return importPlan(cmd, args[0], flags.model)
		},
	}
	cmd.Flags().StringVar(&flags.model, "model", "", "directory or name of the pretrained model")
	cmd.Flags().StringVar(&flags.out, "out", "", "new directory for the weights")
	flags.file.add(cmd, false)
	return cmd
}

const importAdvice = "docs/reference/exports.md says what a plan can express"

func importPlan(cmd *cobra.Command, adapter, model string) error {
	dir, err := hub.Directory(model, model)
	if err != nil {
		return usage("", "%w", err)
	}
	checkpoint, err := checkpoint.Open(dir)
	if err != nil {
		return usage("--model names the directory of the pretrained model", "%w", err)
	}
	plan, err := peft.Import(adapter, peft.GeometryOf(checkpoint))
	if err := errors.Join(err, checkpoint.Close()); err != nil {
		return usage(importAdvice, "%w", err)
	}
	return report.WriteJSON(cmd.OutOrStdout(), plan)
}

func (g *globals) importWeights(cmd *cobra.Command, adapter string, flags importFlags) error {
	file, err := config.Read(flags.file.config)
	if err != nil {
		return err
	}
	inputs, err := g.openInputs(cmd.Context(), file, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if entries, err := os.ReadDir(flags.out); err == nil && len(entries) > 0 {
		return usage("choose another --out", "%s is not empty", flags.out)
	}
	info := configured(file, inputs, peft.Plan{}).Info
	info.Model = cmp.Or(flags.model, info.Model)
	if info.Model, err = filepath.Abs(info.Model); err != nil {
		return fmt.Errorf("--model: %w", err)
	}
	info.Origin = &peft.Origin{Program: version()}
	trained, err := peft.ImportWeights(adapter, info)
	if err != nil {
		return usage(importAdvice, "%w", err)
	}
	if err := peft.WriteTrained(flags.out, trained); err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), flags.out)
	return nil
}
