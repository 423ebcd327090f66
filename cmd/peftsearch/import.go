package main

import (
	"errors"

	"github.com/spf13/cobra"

	"peftsearch/data/checkpoint"
	"peftsearch/data/hub"
	"peftsearch/peft"
	"peftsearch/studies/report"
)

func newImport() *cobra.Command {
	var model string
	cmd := &cobra.Command{
		Use:   "import ADAPTER --model MODEL",
		Short: "Make a plan of a peft or adapters configuration",
		Long: `Read the configuration of a Hugging Face peft LoRA or prefix, or of an adapter of AdapterHub's adapters (a
directory or its adapter_config.json), and print it as a plan, which enqueue and train read. Weights are not
read. What a plan cannot express is refused.`,
		Example: "  peftsearch import my-lora --model models/all-MiniLM-L6-v2 > plan.json\n" +
			"  peftsearch enqueue my-study --plan plan.json",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := hub.Directory(model, model)
			if err != nil {
				return usage("", "%w", err)
			}
			checkpoint, err := checkpoint.Open(dir)
			if err != nil {
				return usage("--model names the directory of the pretrained model", "%w", err)
			}
			plan, err := peft.Import(args[0], peft.GeometryOf(checkpoint))
			if err := errors.Join(err, checkpoint.Close()); err != nil {
				return usage("docs/reference/exports.md says what a plan can express", "%w", err)
			}
			return report.WriteJSON(cmd.OutOrStdout(), plan)
		},
	}
	cmd.Flags().StringVar(&model, "model", "", "directory or name of the pretrained model")
	cmd.MarkFlagRequired("model")
	return cmd
}
