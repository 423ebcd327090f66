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
	for _, t := range o.Trials {
		if t.State.Finished() {
			trials = append(trials, outcome(t, o.resampled[t.Number]))
		}
	}
	return trials
}

// outcome is what samplers are told of a trial with one, without its curve.
func outcome(t store.Trial, resampled []float64) search.Observation {
	return observation(store.Entry{Number: t.Number, State: t.State, Point: t.Point, Params: t.Params,
		Score: t.Result.Score, Forecast: t.Forecast, Trainings: t.Trainings, Spread: t.Spread, Seconds: Seconds(t),
		Resampled: resampled})
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
