// Command search runs the samplers on problems whose every point can be scored at once, and serves the same
// problems to other libraries. docs/explain/benchmarks.md says what is compared and how to read it.
package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"peftsearch/search"
)

const usage = `usage: bench-search run [flags] RESULTS.jsonl      run our samplers, what is missing in the file
       bench-search pruning [flags] RESULTS.jsonl  run them on recorded tasks, with a pruner and without; -evaluations
                                                   are whole trainings
       bench-search workers [flags] RESULTS.jsonl  run them with -workers many on a simulated clock; -evaluations are trials
       bench-search recommend [flags]              compare rules of picking a plan after searches by gp
       bench-search race [flags]                   spend shares of the trainings on plans that were trained before
       bench-search seconds [flags]                look for the improvement a second, and a training, for the same time
       bench-search warm [flags] RECORD            start with a record of another task: its trials, and turned upside down
       bench-search serve PROBLEM SEED             play one run with a program on stdin and stdout
       bench-search optima OPTIMA.json             find the best hypervolumes that are missing in the file
       bench-search problems                       list the problems`

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func command(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("nothing to do\n%s", usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	problems := flags.String("problems", strings.Join(problemNames(), ","), "problems to use")
	samplers := flags.String("samplers", strings.Join(search.Samplers(), ","), "samplers to run")
	first := flags.Int("first", 0, "first seed; from 1000 upwards they are for tuning")
	seeds := flags.Int("seeds", 20, "how many seeds")
	evaluations := flags.Int("evaluations", 200, "evaluations of each run")
	workers := flags.String("workers", "1,8,32,128,1000", "numbers of workers")
	ahead := flags.Int("ahead", 0, "proposals that are made before a worker asks for them")
	seconds := flags.Float64("seconds", trialSeconds, "mean time of a simulated trial")
	flags.Parse(args[1:])
	names, arms := strings.Split(*problems, ","), strings.Split(*samplers, ",")
	switch {
	case args[0] == "run" && flags.NArg() == 1:
		return runMissing(flags.Arg(0), plan(names, arms, *first, *seeds, *evaluations,
			Run{Design: designOwn}, Run{Design: designShared}), runSampler)
	case args[0] == "pruning" && flags.NArg() == 1:
		err := runMissing(flags.Arg(0), plan(names, arms, *first, *seeds, *evaluations,
			Run{Design: designOwn, Pruner: prunerNone}, Run{Design: designOwn, Pruner: prunerFront}), runPruned)
		if err != nil {
			return err
		}
		return writePruned(flags.Arg(0), os.Stdout)
	case args[0] == "workers" && flags.NArg() == 1:
		var counts []int
		for text := range strings.SplitSeq(*workers, ",") {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				return fmt.Errorf("-workers %s: must be numbers of at least 1", *workers)
			}
			counts = append(counts, n)
		}
		return crowds{names, arms, counts, crowdRun{Trials: *evaluations, Ahead: *ahead, Seconds: *seconds}, *first,
			*seeds}.play(flags.Arg(0), os.Stdout)
	case args[0] == "optima" && flags.NArg() == 1:
		return findOptima(flags.Arg(0), names, *first)
	case args[0] == "warm" && flags.NArg() == 1:
		return warm(names, flags.Arg(0), *first, *seeds, *evaluations, os.Stdout)
	case args[0] == "recommend" && flags.NArg() == 0:
		return recommend(names, *first, *seeds, *evaluations, os.Stdout)
	case args[0] == "race" && flags.NArg() == 0:
		return race(names, *first, *seeds, *evaluations, os.Stdout)
	case args[0] == "seconds" && flags.NArg() == 0:
		return timed(names, *first, *seeds, *evaluations, os.Stdout)
	case args[0] == "serve" && flags.NArg() == 2:
		var seed int
		if _, err := fmt.Sscan(flags.Arg(1), &seed); err != nil {
			return fmt.Errorf("seed %q: %w", flags.Arg(1), err)
		}
		return serve(flags.Arg(0), seed, os.Stdin, os.Stdout)
	case args[0] == "problems":
		fmt.Println(strings.Join(problemNames(), "\n"))
		return nil
	}
	return fmt.Errorf("usage\n%s", usage)
}
