package report

import (
	"cmp"
	"math"
	"slices"
	"time"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/studies"
	"peftsearch/studies/store"
)

// Views is what report --json prints, and what the page draws: all that there is to see of some studies. Trials stand
// in columns, of which each has an element for every trial.
type Views struct {
	viewsHead
	Studies []View `json:"studies"`
}

type viewsHead struct {
	SchemaVersion int       `json:"schema_version"`
	Made          time.Time `json:"made"`
	Scale         *Scale    `json:"scale"` // null for one study, and for studies that cannot be compared
}

// Scale sets studies side by side: their growth on one reference.
type Scale struct {
	Reference search.Reference `json:"reference"`
	Growth    []Growth         `json:"growth"` // by study
}

// View is a study.
type View struct {
	viewHead
	Trials Trials `json:"trials"`
}

type viewHead struct {
	Study       string           `json:"study"`
	Created     time.Time        `json:"created"`
	Metric      string           `json:"metric"`
	Geometry    peft.Geometry    `json:"geometry"`
	Reference   search.Reference `json:"reference"`
	Budget      int              `json:"budget"` // trials that are asked for, 0 if unknown
	Tally       Tally            `json:"tally"`
	Hypervolume float64          `json:"hypervolume"`
	// Recommended is the smallest plan that is not distinguishably worse than the best; null without one.
	Recommended *int64        `json:"recommended"`
	Front       []int64       `json:"front"` // trials by ascending parameters
	Growth      Growth        `json:"growth"`
	Confirmed   []Confirmed   `json:"confirmed"` // by ascending parameters
	Effects     []Effect      `json:"effects"`   // null while nothing can be said
	Running     []Running     `json:"running"`
	Methods     []peft.Method `json:"methods"` // in the order in which everything shows them
	Modules     []Module      `json:"modules"` // the kinds of module that trials have; only further ones are added
}

// Tally counts trials by state.
type Tally struct {
	Waiting  int `json:"waiting"`
	Running  int `json:"running"`
	Complete int `json:"complete"`
	Pruned   int `json:"pruned"`
	Failed   int `json:"failed"`
}

// Growth is the hypervolume where it changed.
type Growth struct {
	Trials      []int     `json:"trials"`  // with an outcome
	Seconds     []float64 `json:"seconds"` // of training, summed over them
	Hypervolume []float64 `json:"hypervolume"`
}

// Confirmed is a plan with full trainings.
type Confirmed struct {
	Trial  *int64     `json:"trial"` // null for a plan that is none of the study's
	Plan   string     `json:"plan"`
	Params int64      `json:"params"`
	Test   TestScores `json:"test"`
	Scores []float64  `json:"scores"` // by seed
}

// Effect is what modules do to the score; see studies.Overview.Effects.
type Effect struct {
	Method peft.Method `json:"method"` // "" for all
	Layers []int       `json:"layers"` // null for all
	Plans  int         `json:"plans"`
	Mean   float64     `json:"mean"` // what the score loses without them
	SD     float64     `json:"sd"`
}

// Running is a trial that runs.
type Running struct {
	Trial    int64     `json:"trial"`
	Lane     string    `json:"lane"`
	Step     int       `json:"step"`
	Steps    int       `json:"steps"` // 0 before the first report
	Loss     float64   `json:"loss"`
	Started  time.Time `json:"started"`
	Reported time.Time `json:"reported"`
	evaluator.Doing
}

// Insight is what takes a while to work out of a study.
type Insight struct {
	Effects     []studies.Effect // nil where they cannot be told
	Recommended *int64           // the trial; nil before the first complete one
}

// NewInsight works it out.
func NewInsight(o *studies.Overview) (in Insight) {
	in.Effects, _ = o.Effects() // where they cannot be told, the page has no such figure
	if trial, ok := o.Recommend(); ok {
		in.Recommended = &trial
	}
	return in
}

// Seen is a study that is shown.
type Seen struct {
	*studies.Overview
	*Columns // of its trials
	Insight
}

// NewViews describes studies.
func NewViews(all []Seen, made time.Time) Views {
	v := Views{viewsHead{SchemaVersion: SchemaVersion, Made: made.UTC()}, []View{}}
	var overviews []*studies.Overview
	for _, s := range all {
		overviews = append(overviews, s.Overview)
		v.Studies = append(v.Studies, NewView(s, nil))
	}
	v.Scale = NewScale(overviews)
	return v
}

// NewScale sets studies side by side; nil for one, and for those that cannot be compared.
func NewScale(overviews []*studies.Overview) *Scale {
	var records []*store.Record
	for _, o := range overviews {
		records = append(records, o.Record)
	}
	reference, ok := studies.OneScale(records)
	if !ok || len(overviews) < 2 {
		return nil
	}
	scale := &Scale{Reference: reference}
	for _, o := range overviews {
		scale.Growth = append(scale.Growth, newGrowth(o.Growth(reference)))
	}
	return scale
}

// NewView describes a study, with the trials of the numbers; nil is all.
func NewView(s Seen, numbers []int64) View {
	o, r := s.Overview, s.Record
	if numbers == nil {
		numbers = make([]int64, len(o.Trials))
		for i := range numbers {
			numbers[i] = int64(i)
		}
	}
	v := View{viewHead{Study: r.Name, Created: r.Created.UTC(), Metric: r.Metric, Geometry: r.Geometry,
		Reference: r.Reference, Budget: o.Budget, Tally: Tally(o.Tally), Hypervolume: o.Front.Hypervolume,
		Front: []int64{}, Recommended: s.Recommended, Growth: newGrowth(o.Growth(r.Reference)),
		Confirmed: []Confirmed{}, Running: []Running{}, Methods: peft.Methods, Modules: s.Columns.kinds.list},
		s.Columns.of(numbers)}
	for i, number := range numbers {
		if v.Trials.State[i] == store.Complete {
			v.Trials.RowSD[i] = estimate(o.RowSD(number))
		}
	}
	for _, m := range o.Front.Members {
		v.Front = append(v.Front, m.Number)
	}
	v.Confirmed = append(v.Confirmed, newConfirmed(o)...)
	for _, e := range s.Insight.Effects {
		v.Effects = append(v.Effects, Effect{e.Method, e.Layers, e.Plans, round(e.Mean), round(e.SD)})
	}
	for _, a := range o.Attempts {
		v.Running = append(v.Running, Running{Trial: a.Trial, Lane: lane(a.Owner.Host, a.Owner.Process),
			Step: a.Progress.Step, Steps: a.Progress.Steps, Loss: a.Progress.Loss, Started: a.Started.UTC(),
			Reported: a.Reported.UTC(), Doing: a.Progress.Doing})
	}
	return v
}

func newGrowth(all []studies.Growth) Growth {
	g := Growth{Trials: []int{}, Seconds: []float64{}, Hypervolume: []float64{}}
	before := 0.0
	for i, p := range all {
		if p.Hypervolume != before || i == len(all)-1 {
			before = p.Hypervolume
			g.Trials, g.Seconds = append(g.Trials, i+1), append(g.Seconds, round(p.Seconds))
			g.Hypervolume = append(g.Hypervolume, round(p.Hypervolume))
		}
	}
	return g
}

func newConfirmed(o *studies.Overview) (all []Confirmed) {
	if len(o.Confirmed) == 0 {
		return nil
	}
	numbers := map[string]int64{}
	for _, t := range o.Trials {
		numbers[t.Key] = t.Number
	}
	for _, c := range o.Confirmed {
		confirmed := Confirmed{Plan: c.Candidate.Plan.String(), Params: c.Params, Test: newTestScores(c.Test, o.Record)}
		if c.Candidate.Training.Backbone {
			confirmed.Plan = "full fine-tuning"
		}
		if number, ok := numbers[store.KeyOf(c.Candidate)]; ok {
			confirmed.Trial = &number
		}
		for _, t := range c.Trainings {
			confirmed.Scores = append(confirmed.Scores, round(t.Result.Test[o.Record.Metric]))
		}
		all = append(all, confirmed)
	}
	slices.SortStableFunc(all, func(a, b Confirmed) int { return cmp.Compare(a.Params, b.Params) })
	return all
}

// round keeps six decimals, which is more than scores mean.
func round(x float64) float64 { return math.Round(x*1e6) / 1e6 }
