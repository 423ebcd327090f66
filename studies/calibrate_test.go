package studies

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// calibrating writes a study whose rates are left open. Its worker computes the analytic surface, which is highest at a
// rate of 1e-3.
func calibrating(t *testing.T, trials int) string {
	t.Helper()
	path := writeStudy(t, t.TempDir(), trials)
	edit(t, path, "evaluator: {analytic: true}", "evaluator: {}")
	rows := strings.Builder{} // 3,200 of them are trained on: the analytic surface has 100 steps an epoch
	rows.WriteString("text\tlabel\n")
	for i := range 4572 {
		fmt.Fprintf(&rows, "sentence number %d\t%s\n", i, []string{"no", "yes"}[i%2])
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "train.tsv"), []byte(rows.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRatesAreFitted(t *testing.T) {
	for name, c := range map[string]struct {
		score func(log float64) float64 // of a rate, by the logarithm to the base 10
		tried int
		want  float64
	}{
		"a parabola":        {func(x float64) float64 { return 0.8 - (x+2.9)*(x+2.9)/10 }, 3, math.Pow(10, -2.9)},
		"it falls":          {func(x float64) float64 { return -x }, 3, firstRate / rateStep},
		"it rises":          {func(x float64) float64 { return x }, 3, firstRate * rateStep * rateStep},
		"all alike":         {func(float64) float64 { return 0.5 }, 3, firstRate / rateStep},
		"high ones diverge": {func(x float64) float64 { return 0.7 * float64(min(1, math.Floor(-1.7-x+1))) }, 3, 0},
	} {
		var done []RateScore
		for rate := nextRate(done); rate > 0; rate = nextRate(done) {
			score := c.score(math.Log10(rate))
			done = append(done, RateScore{Rate: rate, Score: score, Failed: score < 0 && name == "high ones diverge"})
			slices.SortFunc(done, func(a, b RateScore) int { return cmp.Compare(a.Rate, b.Rate) })
		}
		got := bestRate(done, 0)
		if len(done) != c.tried || c.want > 0 && math.Abs(math.Log(got/c.want)) > 0.05 {
			t.Errorf("%s: %g after %+v, want %g", name, got, done, c.want)
		}
		if i := slices.IndexFunc(done, func(d RateScore) bool { return d.Failed }); i >= 0 && got >= done[i].Rate {
			t.Errorf("%s: %g, though %g fails", name, got, done[i].Rate)
		}
	}
}

// A new study finds a rate for each method, with no more than a tenth of its trainings, and trains all plans with them.
// It goes on with the same rates, and another one of its model and budget takes them over.
func TestAStudyFindsItsRates(t *testing.T) {
	path := calibrating(t, 60)
	study, db := start(t, path)
	var calibrated config.Rate
	began := 0
	status, err := run(t, study, RunOptions{Events: func(e Event) {
		switch e.Kind {
		case EventCalibrated:
			calibrated = e.Rate
		case EventStarted:
			if began++; e.Job == nil && calibrated == "" {
				t.Error("a trial began before the rates were known")
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	seen, err := Watch(db, study.record, nil).Look(t.Context())
	if err != nil || seen.Budget != seen.Tally.Finished() || status.Beside == 0 {
		t.Errorf("viewers are told of %d trials of %d, %d trainings beside them, %v", seen.Tally.Finished(), seen.Budget,
			status.Beside, err)
	}
	trials := trialsOf(t, study)
	if len(trials) != 54 || status.Beside != 6 || status.Done() != 60 || !status.Over() || began != 54+12 {
		t.Errorf("%d trials, %d trainings began, %+v", len(trials), began, status)
	}
	if study.config.Training.LearningRate != calibrated {
		t.Errorf("%s was calibrated, and is %s", calibrated, study.config.Training.LearningRate)
	}
	for _, m := range []peft.Method{peft.MethodSerial, peft.MethodLoRA} {
		if rate := calibrated.Methods().Map()[string(m)]; math.Abs(math.Log(rate/1e-3)) > 0.2 {
			t.Errorf("the rate of %s is %g", m, rate)
		}
	}
	for _, trial := range trials {
		if trial.Candidate.Training != study.inputs.Training ||
			trial.Candidate.Training.Methods.Rates != calibrated.Methods() || !strings.HasPrefix(trial.Origin, "baseline") &&
			trial.Point == nil {
			t.Fatalf("trial %d is trained with %+v", trial.Number, trial.Candidate.Training)
		}
	}
	scores, err := Calibration(t.Context(), db, study.record)
	if err != nil || len(scores) != 12 {
		t.Errorf("%+v, %v", scores, err)
	}

	edit(t, path, "trials: 60", "trials: 70")
	again, _ := start(t, path)
	if len(mustRun(t, again)) != 64 || again.config.Training.LearningRate != calibrated {
		t.Errorf("it goes on with %s", again.config.Training.LearningRate)
	}
	edit(t, path, "study: trial-run", "study: another", "sampler: tpe", "sampler: gp")
	other, _ := start(t, path)
	if other.CalibratedBy() != "trial-run" || other.config.Training.LearningRate != calibrated {
		t.Errorf("another study has %s, of %q", other.config.Training.LearningRate, other.CalibratedBy())
	}
	if other.record.WarmStart == nil {
		t.Error("a study with the same rates does not learn from the first one")
	}
	edit(t, path, "study: another", "study: longer", "trials: 70", "trials: 70\n  epochs: 9")
	longer, _ := start(t, path)
	if longer.CalibratedBy() != "" {
		t.Error("rates were taken over for trainings that are three times as long")
	}
}

// A budget of which a tenth is too little for a calibration leaves the standard rate.
func TestFewTrialsAreNotCalibrated(t *testing.T) {
	study, _ := start(t, calibrating(t, 12))
	told := 0
	if _, err := run(t, study, RunOptions{Events: func(e Event) {
		if e.Kind == EventUncalibrated {
			told++
		}
	}}); err != nil || told != 1 {
		t.Errorf("%v, told %d times", err, told)
	}
	if trials := trialsOf(t, study); len(trials) != 12 || trials[1].Candidate.Training.LearningRate != 1e-3 {
		t.Errorf("%d trials at a rate of %g", len(trials), trials[1].Candidate.Training.LearningRate)
	}
}

// Calibrations and replicates go on where a killed process stopped, and several processes share them.
func TestJobsSurviveKillsAndAreShared(t *testing.T) {
	path := calibrating(t, 40)
	edit(t, path, "seed: 11", "replicates: 0.3, seed: 11")
	want, _ := start(t, path)
	mustRun(t, want)
	counts := func(study *Study) (calibrations, replicates int) {
		jobs, err := study.db.Jobs(t.Context(), study.record, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range jobs {
			if j.State != store.Complete {
				t.Errorf("job %d is %s", j.Number, j.State)
			}
			if j.Kind == store.JobCalibration {
				calibrations++
			} else {
				replicates++
			}
		}
		return calibrations, replicates
	}
	if calibrations, replicates := counts(want); calibrations != 12 || replicates == 0 || replicates > 12 {
		t.Fatalf("%d calibrations and %d replicates", calibrations, replicates)
	}

	path = calibrating(t, 40)
	edit(t, path, "seed: 11", "replicates: 0.3, seed: 11")
	for _, at := range []int{3, 9, 20, 60} { // events
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
	calibrations, replicates := counts(shared)
	status, err := shared.Status(t.Context())
	if err != nil || calibrations != 12 || status.Done() < 40 || status.Done() > 43 || replicates == 0 {
		t.Errorf("%d calibrations, %d replicates, %+v, %v", calibrations, replicates, status, err)
	}
	if a, b := shared.config.Training.LearningRate, want.config.Training.LearningRate; a != b {
		t.Errorf("rates %s after kills, %s without", a, b)
	}
	for _, trial := range trialsOf(t, shared) {
		if trial.Trainings > search.MaxTrainings || trial.Trainings > 1 == (trial.Spread == 0) {
			t.Errorf("trial %d: %d trainings, spread %g", trial.Number, trial.Trainings, trial.Spread)
		}
	}
}

// One worker makes the same replicates when it is interrupted.
func TestReplicatesAreRepeatable(t *testing.T) {
	search := func(trials ...int) []store.Trial {
		path := writeStudy(t, t.TempDir(), trials[0])
		var all []store.Trial
		for _, n := range trials {
			setTrials(t, path, n)
			edit(t, path, "seed: 11", "replicates: 0.4, seed: 11")
			study, _ := start(t, path)
			all = mustRun(t, study)
		}
		return all
	}
	one, two := search(25), search(25)
	if len(one) >= 25 || len(one) < 15 {
		t.Errorf("%d trials of 25 trainings", len(one))
	}
	again := 0
	for i := range one {
		if again += one[i].Trainings - 1; one[i].Result.Score != two[i].Result.Score || one[i].Trainings != two[i].Trainings {
			t.Errorf("trial %d: %+v, then %+v", i, one[i], two[i])
		}
	}
	if len(one)+again != 25 {
		t.Errorf("%d trials and %d replicates of 25 trainings", len(one), again)
	}
	if more := search(25, 40); len(more) <= len(one) {
		t.Errorf("%d trials of 40 trainings, %d of 25", len(more), len(one))
	}
}
