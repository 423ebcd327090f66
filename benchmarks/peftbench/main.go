// Command peftbench records real trainings of plans, with their learning curves, and replays the records
// to measure the pruner. docs/explain/benchmarks.md says how.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: peftbench record [--plans N] [--worker PROGRAM] STUDY.yaml …
       peftbench retrain [--worker PROGRAM] STUDY.yaml …
       peftbench map --name MODEL --out FILE.json RECORD.jsonl.gz …
       peftbench pruning [--out FILE.json] RECORD.jsonl.gz …
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("nothing to do\n%s", usage)
	}
	flags := flag.NewFlagSet("peftbench "+args[0], flag.ExitOnError)
	switch args[0] {
	case "record", "retrain":
		worker := flags.String("worker", "bin/peftsearch-worker", "the program that trains")
		train := func(study string) error { return retrain(ctx, study, *worker) }
		if args[0] == "record" {
			plans := flags.Int("plans", 250, "plans of each study, those recorded before included")
			train = func(study string) error { return record(ctx, study, *plans, *worker) }
		}
		flags.Parse(args[1:])
		for _, study := range flags.Args() {
			if err := train(study); err != nil {
				return fmt.Errorf("%s: %w", study, err)
			}
		}
		return nil
	case "map":
		name := flags.String("name", "", "what people call the model")
		out := flags.String("out", "", "file for the map")
		flags.Parse(args[1:])
		return makeMap(*name, *out, flags.Args())
	case "pruning":
		out := flags.String("out", "benchmarks/results/pruning.json", "file for every figure")
		flags.Parse(args[1:])
		return pruning(flags.Args(), *out, os.Stdout)
	}
	return fmt.Errorf("no command %q\n%s", args[0], usage)
}
