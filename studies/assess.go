package studies

import (
	"cmp"
	"context"
	"math"
	"slices"

	"peftsearch/search"
	"peftsearch/studies/store"
)

// Assessed is a front with what all scores of the study say about its members. The recommended trial and the best one
// are among these, also where the score of another one, which may be luck, keeps them off the front.
type Assessed struct {
	Front
	// Recommended is which member to use; nil while the study has no complete trial.
	Recommended *search.Recommendation

	posterior *search.Posterior // nil where the scores tell nothing
	resampled map[int64][]float64
	off       map[int64]bool // members that are not on the front
}

// assessedTrials is how many trials, the latest, tell beside the front how good its plans are.
const assessedTrials = 4000

// ReadAssessed reads the front of a study and assesses it, by its scores and those of the latest trials. It fits a
// process to them, which takes up to half a second.
func ReadAssessed(ctx context.Context, db *store.Store, record *store.Record) (a Assessed, err error) {
	err = db.Snapshot(ctx, func(at *store.Store) (err error) {
		if a.Front, err = ReadFront(ctx, at, record); err != nil {
			return err
		}
		latest, err := at.Latest(ctx, record, assessedTrials)
		if err != nil {
			return err
		}
		if a.resampled, err = at.Resampled(ctx, record, 0, rowTrials); err != nil {
			return err
		}
		return a.assess(ctx, at, record, latest)
	})
	return a, err
}

// assess fits the process. A study that this version cannot read, or whose scores are too few, has the highest score
// recommended.
func (a *Assessed) assess(ctx context.Context, at *store.Store, record *store.Record, latest []store.Entry) error {
	if len(a.Members) == 0 {
		return nil
	}
	highest := a.Members[len(a.Members)-1].Number
	a.Recommended = &search.Recommendation{Trial: highest, Best: highest, AsGood: 1}
	var observations []search.Observation
	for _, m := range a.Members {
		if len(latest) > 0 && m.Number < latest[0].Number {
			e := EntryOf(m)
			e.Resampled = a.resampled[e.Number]
			observations = append(observations, observation(e))
		}
	}
	for _, e := range latest {
		if e.State == store.Complete || e.State == store.Pruned {
			e.Resampled = a.resampled[e.Number]
			observations = append(observations, observation(e))
		}
	}
	if a.posterior = posterior(record, observations); a.posterior == nil {
		return nil
	}
	*a.Recommended = a.posterior.Recommend()
	a.off = map[int64]bool{}
	for _, number := range []int64{a.Recommended.Trial, a.Recommended.Best} {
		if slices.ContainsFunc(a.Members, func(m store.Trial) bool { return m.Number == number }) {
			continue
		}
		trials, err := at.Select(ctx, record, []int64{number})
		if err != nil {
			return err
		}
		a.Members, a.off[number] = append(a.Members, trials...), true
	}
	slices.SortStableFunc(a.Members, func(x, y store.Trial) int {
		return cmp.Or(cmp.Compare(x.Params, y.Params), cmp.Compare(x.Result.Score, y.Result.Score))
	})
	return nil
}

// posterior is what the scores of a study say together; nil where they say nothing, or where this version cannot read
// the study's space.
func posterior(record *store.Record, trials []search.Observation) *search.Posterior {
	file, err := StudyFile(record)
	if err != nil {
		return nil
	}
	space, err := file.SpaceOn(record.Geometry)
	if err != nil {
		return nil
	}
	p, err := search.NewPosterior(space, record.Reference, trials)
	if err != nil {
		return nil
	}
	return p
}

// Recommend is the trial that ReadAssessed recommends; false before the first complete one.
func (o *Overview) Recommend() (trial int64, ok bool) {
	first := int64(len(o.Trials)) - assessedTrials
	assessed := slices.DeleteFunc(o.observations(), func(t search.Observation) bool {
		return t.Number < first &&
			!slices.ContainsFunc(o.Front.Members, func(m store.Trial) bool { return m.Number == t.Number })
	})
	if p := posterior(o.Record, assessed); p != nil {
		return p.Recommend().Trial, true
	}
	if n := len(o.Front.Members); n > 0 {
		return o.Front.Members[n-1].Number, true
	}
	return 0, false
}

// OnFront reports whether no other score beats that of a member.
func (a Assessed) OnFront(number int64) bool { return !a.off[number] }

// RowSD is the standard deviation of a trial's score by the choice of the dev rows; NaN where it is not known.
func (a Assessed) RowSD(number int64) float64 { return search.RowSD(a.resampled[number]) }

// Noise is that of [search.Posterior]; NaN where it is not known.
func (a Assessed) Noise() float64 {
	if a.posterior == nil {
		return math.NaN()
	}
	return a.posterior.Noise()
}

// Expected is the expected score of a training of a trial's plan, by all scores of the study, and the standard
// deviation with which it is known; ok is false where nothing is known beside the score.
func (a Assessed) Expected(number int64) (mean, sd float64, ok bool) {
	if a.posterior == nil {
		return 0, 0, false
	}
	return a.posterior.Expected(number)
}

// AsGood is the probability that the plan of a trial is at least as good as that of another; ok is false where it is
// not known.
func (a Assessed) AsGood(number, other int64) (probability float64, ok bool) {
	if a.posterior == nil {
		return 0, false
	}
	return a.posterior.AsGood(number, other)
}

// WithinNoise reports whether the step of the front to a member may be noise: the plan of the member before is not
// distinguishably worse.
func (a Assessed) WithinNoise(number int64) bool {
	before := int64(-1)
	for _, m := range a.Members {
		if m.Number == number {
			break
		}
		if a.OnFront(m.Number) {
			before = m.Number
		}
	}
	asGood, ok := a.AsGood(before, number)
	return ok && a.OnFront(number) && asGood >= search.Alike
}

// Paired is a difference between the scores of two trials on the same dev rows.
type Paired struct {
	Difference float64
	RowSD      float64 // of the difference by the choice of the rows; NaN where it is not known
	SD         float64 // by the rows and by the luck of both trainings
	PValue     float64 // that plans that are alike differ as much; NaN where nothing is known
}

// Behind is how far the score of the recommended trial is behind that of the best one; ok is false where they are one.
func (a Assessed) Behind() (p Paired, ok bool) {
	if a.Recommended == nil || a.Recommended.Trial == a.Recommended.Best {
		return p, false
	}
	var trial, best store.Trial
	for _, m := range a.Members {
		if m.Number == a.Recommended.Trial {
			trial = m
		} else if m.Number == a.Recommended.Best {
			best = m
		}
	}
	return a.Compare(best, trial), true
}

// Compare compares the scores of two complete trials.
func (a Assessed) Compare(one, other store.Trial) Paired {
	p := Paired{Difference: one.Result.Score - other.Result.Score,
		RowSD: search.PairedRowSD(a.resampled[one.Number], a.resampled[other.Number])}
	switch noise := math.Sqrt2 * a.Noise(); {
	case math.IsNaN(noise):
		p.SD = p.RowSD
	case math.IsNaN(p.RowSD):
		p.SD = noise
	default:
		p.SD = math.Hypot(noise, p.RowSD)
	}
	p.PValue = math.Erfc(math.Abs(p.Difference) / p.SD / math.Sqrt2)
	return p
}
