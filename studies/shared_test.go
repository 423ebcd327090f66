package studies

import (
	"context"
	"encoding/json"
	"math"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"peftsearch/evaluator"
	"peftsearch/studies/store"
)

// sharing writes a study that makes a map first.
func sharing(t *testing.T, trials int) string {
	t.Helper()
	path := writeStudy(t, t.TempDir(), trials)
	edit(t, path, "sampler: tpe", "sampler: gp, warm_start: shared")
	return path
}

// estimates are what a study's map tells.
func estimates(t *testing.T, study *Study) *store.WarmStart {
	t.Helper()
	record, err := study.db.Study(t.Context(), study.record.Name)
	if err != nil {
		t.Fatal(err)
	}
	return record.WarmStart
}

// A map is made before the first trial, counts against the budget as what it costs, is told to the samplers and kept;
// it agrees with the trials. The study goes on with it.
func TestAStudySharesWeights(t *testing.T) {
	path := sharing(t, 32)
	study, db := start(t, path)
	var kinds []EventKind
	status, err := run(t, study, RunOptions{Events: func(e Event) {
		if e.Job != nil && e.Kind != EventProgress || e.Kind == EventStarted {
			kinds = append(kinds, e.Kind)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(kinds[:4], []EventKind{EventStarted, EventFinished, EventMapped, EventStarted}) {
		t.Errorf("%v", kinds[:4])
	}
	trials, cost := trialsOf(t, study), study.mapCost()
	if len(trials)+int(math.Ceil(cost)) != 32 || !status.Over() || cost < shortMap || cost > 15 {
		t.Errorf("%d trials and a map of %.2f trainings: %+v", len(trials), cost, status)
	}
	known := estimates(t, study)
	if !known.Estimates() || len(known.Trials) != mapScored {
		t.Fatalf("%+v", known)
	}
	if origin := trials[1].Origin; origin != "transfer" { // trial 0 is the head alone
		t.Errorf("the first plan is from %s", origin)
	}
	k, err := ReadKnown(t.Context(), db, study.record)
	if err != nil || k.Agreement == nil || k.Agreement.Rank < 0.5 || !k.Agreement.Used ||
		math.Abs(k.Trainings-cost) > 1e-9 {
		t.Errorf("%+v, %v", k, err)
	}

	again, _ := start(t, path) // the same is known, and nothing is done
	if mustRun(t, again); slices.ContainsFunc(again.record.WarmStart.Trials, func(w store.WarmTrial) bool {
		return !again.inputs.Space.Feasible(w.Point)
	}) {
		t.Error("a plan outside the space was scored")
	}
	other := sharing(t, 32) // the same seed gives the same map
	one, _ := start(t, other)
	mustRun(t, one)
	if a, b := marshalled(t, estimates(t, one)), marshalled(t, known); a != b {
		t.Errorf("%s, then %s", b, a)
	}
}

func marshalled(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What cannot be shared, or would cost too much, is said, and the study goes on.
func TestWhatMakesNoMap(t *testing.T) {
	for name, c := range map[string]struct {
		edits []string
		want  string
	}{
		"few trials":      {[]string{"trials: 32", "trials: 12"}, "may take a quarter"},
		"another sampler": {[]string{"sampler: gp", "sampler: random"}, "learns from none"},
		"searched rates":  {[]string{"budget:", "space: {learning_rate: [0.001, 0.002]}\nbudget:"}, "in several ways"},
	} {
		path := sharing(t, 32)
		edit(t, path, c.edits...)
		study, _ := start(t, path)
		reason := ""
		if _, err := run(t, study, RunOptions{Events: func(e Event) {
			if e.Kind == EventUnmapped {
				reason = e.Err.Error()
			}
		}}); err != nil || !strings.Contains(reason, c.want) {
			t.Errorf("%s: %q, %v", name, reason, err)
		}
		if known := estimates(t, study); known != nil {
			t.Errorf("%s: %+v", name, known)
		}
	}
}

// unable is an evaluator that makes no maps.
type unable struct{ evaluator.Evaluator }

func TestAnEvaluatorWithoutMaps(t *testing.T) {
	study, _ := start(t, sharing(t, 32))
	var reasons []string
	if _, err := study.Run(t.Context(), func(context.Context, Loading) (evaluator.Evaluator, error) {
		return unable{study.Analytic()}, nil
	}, RunOptions{Events: func(e Event) {
		if e.Kind == EventUnmapped {
			reasons = append(reasons, e.Err.Error())
		}
	}}); err != nil || len(reasons) != 1 || !strings.Contains(reasons[0], "makes no maps") {
		t.Errorf("%q, %v", reasons, err)
	}
	if trials := trialsOf(t, study); len(trials) < 25 || estimates(t, study) != nil {
		t.Errorf("%d trials", len(trials))
	}
}

// misleading is an evaluator whose maps are upside down: the best plans of a size are the worst.
type misleading struct{ *evaluator.Analytic }

func (m misleading) Map(ctx context.Context, job evaluator.MapJob, report func(evaluator.Progress)) (
	evaluator.MapResult, error) {
	result, err := m.Analytic.Map(ctx, job, report)
	for i, score := range result.Scores {
		result.Scores[i] = 1 - score
	}
	return result, err
}

// A map that misleads costs a few trials, and what it cost; the front comes to be that of a study without one.
func TestAMapThatMisleads(t *testing.T) {
	hypervolume := func(path string, wrong bool) (Status, *Study) {
		study, _ := start(t, path)
		status, err := study.Run(t.Context(), func(context.Context, Loading) (evaluator.Evaluator, error) {
			if analytic := study.Analytic().(*evaluator.Analytic); wrong {
				return misleading{analytic}, nil
			}
			return study.Analytic(), nil
		}, RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return status, study
	}
	wrong, study := hypervolume(sharing(t, 40), true)
	plain := sharing(t, 40)
	edit(t, plain, "warm_start: shared", "warm_start: none")
	without, _ := hypervolume(plain, false)
	if wrong.Hypervolume < 0.95*without.Hypervolume {
		t.Errorf("hypervolume %g, %g without a map", wrong.Hypervolume, without.Hypervolume)
	}
	k, err := ReadKnown(t.Context(), study.db, study.record)
	if err != nil || k.Agreement == nil || k.Agreement.Rank > 0 {
		t.Errorf("%+v, %v", k, err)
	}
}

// A map begins again where a process was killed, is made by one of several processes, and stays what it is.
func TestMapsSurviveKillsAndAreShared(t *testing.T) {
	want, _ := start(t, sharing(t, 26))
	mustRun(t, want)
	path := sharing(t, 26)
	for _, at := range []int{1, 1, 6} { // while it is made, and after it
		cmd := child(t, childSpec{Path: path, Kill: at, Delay: time.Millisecond})
		if err := cmd.Run(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("a process that kills itself: %v", err)
		}
	}
	var children []*exec.Cmd
	for range 3 {
		cmd := child(t, childSpec{Path: path, Delay: time.Millisecond})
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, cmd)
	}
	for _, cmd := range children {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	shared, _ := start(t, path)
	jobs, err := shared.db.Jobs(t.Context(), shared.record, 0)
	if err != nil || len(jobs) != 1 || jobs[0].State != store.Complete || jobs[0].Crashes != 0 {
		t.Errorf("%+v, %v", jobs, err)
	}
	if a, b := marshalled(t, estimates(t, shared)), marshalled(t, estimates(t, want)); a != b {
		t.Errorf("%s after kills, %s without", a, b)
	}
	status, err := shared.Status(t.Context())
	if err != nil || status.Done() < 26 || status.Done() > 28 {
		t.Errorf("%+v, %v", status, err)
	}
}
