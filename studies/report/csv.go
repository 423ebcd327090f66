package report

import (
	"cmp"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"time"

	"peftsearch/peft"
	"peftsearch/studies"
	"peftsearch/studies/store"
)

// Table is a study as WriteCSV reads it.
type Table struct {
	Record    *store.Record
	Front     studies.Front
	Confirmed studies.Confirmations
	Trials    iter.Seq2[store.Trial, error] // by number; can be gone through twice
}

// ReadTable reads a study, but for its trials, which it reads when they are gone through. at is a snapshot.
func ReadTable(ctx context.Context, at *store.Store, record *store.Record) (t Table, err error) {
	t = Table{Record: record, Trials: at.Walk(ctx, record, false)}
	if t.Front, err = studies.ReadFront(ctx, at, record); err != nil {
		return t, err
	}
	t.Confirmed, err = studies.Confirmed(ctx, at, record)
	return t, err
}

// WriteCSV prints the trials of studies as a table with a header: the numbers of a trial, a column for the size of
// every module that a trial of the studies has ("layers.3.lora", 0 for none), and the plan in words. What has no value
// is empty.
func WriteCSV(w io.Writer, tables []Table) error {
	type place struct {
		layer  int
		method peft.Method
	}
	var places []place
	known := map[place]bool{}
	for _, table := range tables {
		for t, err := range table.Trials {
			if err != nil {
				return err
			}
			for layer, module := range modules(t.Candidate.Plan) {
				if p := (place{layer, module.Method()}); !known[p] {
					known[p], places = true, append(places, p)
				}
			}
		}
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(
			cmp.Compare(a.layer, b.layer),
			cmp.Compare(slices.Index(peft.Methods, a.method), slices.Index(peft.Methods, b.method)),
		)
	})
	out := csv.NewWriter(w)
	header := []string{
		"study",
		"trial",
		"state",
		"origin",
		"params",
		"params_percent",
		"metric",
		"score",
		"forecast",
		"front",
		"test_mean",
		"test_sd",
		"test_seeds",
		"seconds",
		"started",
		"finished",
		"host",
		"learning_rate",
		"schedule",
		"seed",
	}
	for _, p := range places {
		if p.layer < 0 {
			header = append(header, "input."+string(p.method))
		} else {
			header = append(header, fmt.Sprintf("layers.%d.%s", p.layer, p.method))
		}
	}
	if err := out.Write(append(header, "plan", "failure")); err != nil {
		return err
	}
	for _, table := range tables {
		front, confirmed := map[int64]bool{}, map[string]*studies.Confirmation{}
		for _, c := range table.Confirmed {
			confirmed[c.Candidate.Key()] = c
		}
		for _, m := range table.Front.Members {
			front[m.Number] = true
		}
		for t, err := range table.Trials {
			if err != nil {
				return err
			}
			row := trialRow(table.Record, t, front[t.Number], confirmed)
			sizes := map[place]int{}
			for layer, module := range modules(t.Candidate.Plan) {
				sizes[place{layer, module.Method()}] = module.Size()
			}
			for _, p := range places {
				row = append(row, strconv.Itoa(sizes[p]))
			}
			failure := ""
			if t.Failure != nil {
				failure = t.Failure.Error()
			}
			if err := out.Write(append(row, t.Candidate.Plan.String(), failure)); err != nil {
				return err
			}
		}
	}
	out.Flush()
	return out.Error()
}

func trialRow(r *store.Record, t store.Trial, front bool, confirmed map[string]*studies.Confirmation) []string {
	number := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	moment := func(at time.Time) string {
		if at.IsZero() {
			return ""
		}
		return at.UTC().Format(time.RFC3339Nano)
	}
	var score, forecast, seconds, mean, sd, seeds string
	if t.State == store.Complete || t.State == store.Pruned {
		score = number(t.Result.Score)
	}
	if t.State == store.Pruned {
		forecast = number(t.Forecast.Score)
	}
	if t.State.Finished() {
		seconds = number(studies.Seconds(t))
	}
	if len(confirmed) > 0 {
		if c := confirmed[t.Candidate.Key()]; c != nil {
			mean, seeds = number(c.Test.Mean), strconv.Itoa(c.Test.N)
			if c.Test.N > 1 {
				sd = number(c.Test.SD)
			}
		}
	}
	training := t.Candidate.Training
	return []string{
		r.Name,
		strconv.FormatInt(t.Number, 10),
		string(t.State),
		t.Origin,
		strconv.FormatInt(t.Params, 10),
		number(percentOf(t.Params, r.Geometry)),
		r.Metric,
		score,
		forecast,
		strconv.FormatBool(front),
		mean,
		sd,
		seeds,
		seconds,
		moment(t.Started),
		moment(t.Finished),
		t.Host,
		number(training.LearningRate),
		string(training.Schedule),
		strconv.FormatUint(t.Seed, 10),
	}
}
