package studies

import (
	"cmp"
	"context"
	"reflect"
	"slices"

	"peftsearch/search"
	"peftsearch/studies/store"
)

// Overview is what views show of a study, at one moment of the database. It never changes.
type Overview struct {
	Record    *store.Record
	Budget    int           // trials that the study file asks for, beside other trainings; 0 if it cannot be read
	Trials    []store.Entry // by number, without curves
	Changed   []int64       // numbers of those that differ from the overview before; all of them in the first
	Tally     store.Tally
	Front     Front
	Confirmed Confirmations
	Attempts  []store.Attempt // by number
	Running   []store.Trial   // that these are of, with their curves so far

	jobs      []store.Job         // by number
	resampled map[int64][]float64 // scores on resamples of the dev rows, of the first rowTrials trials
}

// Watcher reads a study again and again, and every trial with an outcome once. It is used by one goroutine at a time.
type Watcher struct {
	db      *store.Store
	see     func(store.Trial)
	version int64
	latest  *Overview
}

// Watch begins to watch a study. An overview keeps a fraction of each trial; see, unless it is nil, is handed the whole
// of each with its curve, by number, before Look has an overview with it, and again when it has changed. Where the
// database had to be read again, it is handed trials again.
func Watch(db *store.Store, record *store.Record, see func(store.Trial)) *Watcher {
	return &Watcher{db: db, see: see, latest: &Overview{Record: record}}
}

// Look is the study as it is now: the same Overview as before if nothing has changed.
func (w *Watcher) Look(ctx context.Context) (*Overview, error) {
	var next Overview
	var version int64
	err := w.db.Snapshot(ctx, func(at *store.Store) (err error) {
		record, err := at.Study(ctx, w.latest.Record.Name)
		if err != nil {
			return err
		}
		next = Overview{Record: record, Trials: w.latest.Trials, Tally: w.latest.Tally, Front: w.latest.Front,
			resampled: w.latest.resampled}
		if version, err = next.read(ctx, at, w.version); err != nil {
			return err
		}
		if err := w.show(ctx, at, record, next.Changed); err != nil {
			return err
		}
		jobs, err := at.Jobs(ctx, record, w.version)
		if err != nil {
			return err
		}
		next.jobs = merged(slices.Clone(w.latest.jobs), jobs)
		if file, err := StudyFile(record); err == nil {
			others, _ := beside(next.jobs)
			next.Budget = max(0, file.Budget.Trials-others)
		}
		if next.Attempts, err = at.Attempts(ctx, record); err != nil {
			return err
		}
		if err := next.readRunning(ctx, at, w.latest.Running); err != nil {
			return err
		}
		next.Confirmed, err = Confirmed(ctx, at, record)
		return err
	})
	if err != nil {
		return nil, err
	}
	before := w.latest
	if w.version > 0 && len(next.Changed) == 0 && next.Budget == before.Budget &&
		slices.Equal(next.Attempts, before.Attempts) && reflect.DeepEqual(next.Confirmed, before.Confirmed) {
		return before, nil
	}
	w.version, w.latest = version, &next
	return w.latest, nil
}

// show hands trials that have changed to who sees them.
func (w *Watcher) show(ctx context.Context, at *store.Store, record *store.Record, changed []int64) error {
	if w.see == nil {
		return nil
	}
	if w.version == 0 { // all of them
		for t, err := range at.Walk(ctx, record, true) {
			if err != nil {
				return err
			}
			w.see(t)
		}
		return nil
	}
	for _, number := range changed {
		t, err := at.Trial(ctx, record, number)
		if err != nil {
			return err
		}
		w.see(t)
	}
	return nil
}

// read brings the trials up to date.
func (o *Overview) read(ctx context.Context, at *store.Store, since int64) (version int64, err error) {
	changed, version, err := at.Changes(ctx, o.Record, since, false)
	if err != nil || len(changed) == 0 {
		return version, err
	}
	if o.resampled, err = at.Resampled(ctx, o.Record, 0, rowTrials); err != nil {
		return 0, err
	}
	if o.Trials, o.Tally = slices.Clone(o.Trials), (store.Tally{}); since == 0 {
		o.Trials = make([]store.Entry, 0, len(changed))
	}
	for _, e := range changed {
		if e.Number < int64(len(o.Trials)) {
			o.Trials[e.Number] = e
		} else {
			o.Trials = append(o.Trials, e)
		}
		o.Changed = append(o.Changed, e.Number)
	}
	for _, e := range o.Trials {
		*o.Tally.Of(e.State)++
	}
	o.Front, err = ReadFront(ctx, at, o.Record)
	return version, err
}

// readRunning reads the trials that run, but for those that are known as they are.
func (o *Overview) readRunning(ctx context.Context, at *store.Store, known []store.Trial) error {
	o.Running = make([]store.Trial, len(o.Attempts))
	for i, a := range o.Attempts {
		k := slices.IndexFunc(known, func(t store.Trial) bool { return t.Number == a.Trial })
		if k >= 0 && !slices.Contains(o.Changed, a.Trial) {
			o.Running[i] = known[k]
			continue
		}
		var err error
		if o.Running[i], err = at.Trial(ctx, o.Record, a.Trial); err != nil {
			return err
		}
	}
	return nil
}

// RowSD is the standard deviation of a trial's score by the choice of the dev rows; NaN where it is not known.
func (o *Overview) RowSD(number int64) float64 { return search.RowSD(o.resampled[number]) }

// Growth is the hypervolume after each trial with an outcome, in the order in which they ended.
type Growth struct {
	Trial       int64
	Seconds     float64 // of training until then, summed over the trials
	Hypervolume float64
}

// Growth is how the front grew, on the study's own scale or another one.
func (o *Overview) Growth(scale search.Reference) []Growth {
	var ended []*store.Entry
	for i := range o.Trials {
		if o.Trials[i].State.Finished() {
			ended = append(ended, &o.Trials[i])
		}
	}
	slices.SortStableFunc(
		ended,
		func(a, b *store.Entry) int { return cmp.Compare(a.Finished.UnixMilli(), b.Finished.UnixMilli()) },
	)
	outcomes := make([]store.Outcome, len(ended))
	for i, t := range ended {
		outcomes[i] = store.Outcome{Complete: t.State == store.Complete,
			Outcome: search.Outcome{Number: t.Number, Params: t.Params, Score: t.Score}}
	}
	volumes := growth(outcomes, scale)
	points := make([]Growth, len(ended))
	seconds := 0.0
	for i, t := range ended {
		seconds += t.Seconds
		points[i] = Growth{t.Number, seconds, volumes[i+1]}
	}
	return points
}

// Seconds is what a trial with an outcome took: of a failed one only start and end are known.
func Seconds(t store.Trial) float64 {
	if t.State == store.Failed {
		return t.Finished.Sub(t.Started).Seconds()
	}
	return t.Result.WallS
}
