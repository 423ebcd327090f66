package studies

import (
	"slices"

	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/space"
	"peftsearch/studies/store"
)

// Effect is what the modules of a method, of some layers, or of both, do to the score.
type Effect struct {
	Method peft.Method // "" for all
	Layers []int       // nil for all
	search.Effect
}

// Effects tells what mattered in a search: for each method, for each layer or band of layers, and for each method
// in each of these, as search.Effects does. What no finished plan has is left out. The error wraps
// search.ErrFewTrials; other errors are those of a study file that this version cannot read.
func (o *Overview) Effects() ([]Effect, error) {
	file, err := StudyFile(o.Record)
	if err != nil {
		return nil, err
	}
	s, err := file.SpaceOn(o.Record.Geometry)
	if err != nil {
		return nil, err
	}
	effects, groups := choices(s, o.Record.Geometry.Layers)
	found, err := search.Effects(s, o.Record.Reference, o.observations(), groups)
	if err != nil {
		return nil, err
	}
	for i := range effects {
		effects[i].Effect = found[i]
	}
	return slices.DeleteFunc(effects, func(e Effect) bool { return e.Plans == 0 }), nil
}

// observations are the trials with an outcome.
func (o *Overview) observations() (trials []search.Observation) {
	for _, e := range o.Trials {
		if e.State.Finished() {
			e.Resampled = o.resampled[e.Number]
			trials = append(trials, observation(e))
		}
	}
	return trials
}

// EntryOf is what a history keeps of a trial, without its curve.
func EntryOf(t store.Trial) store.Entry {
	return store.Entry{Number: t.Number, State: t.State, Key: store.KeyOf(t.Candidate), Point: t.Point, Params: t.Params,
		Score: t.Result.Score, Forecast: t.Forecast, Seconds: Seconds(t), Finished: t.Finished, Trainings: t.Trainings,
		Spread: t.Spread, First: t.First}
}

// choices names what can be left out of plans, with the dimensions that decide it.
func choices(s *space.Space, layers int) (effects []Effect, groups [][]int) {
	add := func(method peft.Method, layers []int, dimension int) {
		at := slices.IndexFunc(effects, func(e Effect) bool { return e.Method == method && slices.Equal(e.Layers, layers) })
		if at < 0 {
			at = len(effects)
			effects, groups = append(effects, Effect{Method: method, Layers: layers}), append(groups, nil)
		}
		groups[at] = append(groups[at], dimension)
	}
	for pass := range 3 { // methods, then layers, then both
		for i, d := range s.Dimensions() {
			method, some := d.Method(), d.Layers() != nil && len(d.Layers()) < layers
			switch {
			case method == "" && !some || method != "" && !d.Optional():
			case pass == 0 && method != "":
				add(method, nil, i)
			case pass == 1 && some:
				add("", d.Layers(), i)
			case pass == 2 && some && method != "":
				add(method, d.Layers(), i)
			}
		}
	}
	return effects, groups
}
