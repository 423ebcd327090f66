package report

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"strings"
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
	SchemaVersion int       `json:"schema_version"`
	Made          time.Time `json:"made"`
	Studies       []View    `json:"studies"`
	Scale         *Scale    `json:"scale"` // null for one study, and for studies that cannot be compared
}

// Scale sets studies side by side: their growth on one reference.
type Scale struct {
	Reference search.Reference `json:"reference"`
	Growth    []Growth         `json:"growth"` // by study
}

// View is a study.
type View struct {
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
	Trials      Trials        `json:"trials"`
}

// Tally counts trials by state.
type Tally struct {
	Waiting  int `json:"waiting"`
	Running  int `json:"running"`
	Complete int `json:"complete"`
	Pruned   int `json:"pruned"`
	Failed   int `json:"failed"`
}

// Trials are the columns. Null stands where a trial has no such value.
type Trials struct {
	Number []int64       `json:"number"`
	State  []store.State `json:"state"`
	Origin []string      `json:"origin"`
	Params []int64       `json:"params"`
	Score  []*float64    `json:"score"` // of a pruned trial its own, of a shorter training
	// RowSD is that of the score by the choice of the dev rows; of complete trials, where known.
	RowSD    []*float64       `json:"row_sd"`
	Forecast []*float64       `json:"forecast"` // of pruned trials
	Seconds  []*float64       `json:"seconds"`  // of training
	Started  []*int64         `json:"started"`  // ms after the study was created, as the next
	Finished []*int64         `json:"finished"`
	Lane     []string         `json:"lane"` // host and process; "" where it is not known
	Rate     []float64        `json:"learning_rate"`
	Schedule []string         `json:"schedule"`
	Modules  [][]int          `json:"modules"` // kind, layer; kind, layer; …; layer −1 is the input
	Curve    [][]float64      `json:"curve"`   // share, score; share, score; …
	Failure  map[int64]string `json:"failure"` // by number, of failed trials
}

// Module is a kind of module: all that are alike but for their place.
type Module struct {
	Method peft.Method `json:"method"`
	Size   int         `json:"size"`
	Name   string      `json:"name"` // such as "serial 24"
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

// NewViews describes studies, with an insight for each.
func NewViews(overviews []*studies.Overview, insights []Insight, made time.Time) Views {
	v := Views{SchemaVersion: SchemaVersion, Made: made.UTC(), Studies: []View{}}
	for i, o := range overviews {
		v.Studies = append(v.Studies, NewView(o, insights[i], nil))
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
func NewView(o *studies.Overview, insight Insight, numbers []int64) View {
	if numbers == nil {
		numbers = make([]int64, len(o.Trials))
		for i := range numbers {
			numbers[i] = int64(i)
		}
	}
	r := o.Record
	v := View{Study: r.Name, Created: r.Created.UTC(), Metric: r.Metric, Geometry: r.Geometry, Reference: r.Reference,
		Budget: o.Budget, Tally: Tally(o.Tally), Hypervolume: o.Front.Hypervolume, Front: []int64{},
		Recommended: insight.Recommended,
		Growth:      newGrowth(o.Growth(r.Reference)), Confirmed: []Confirmed{}, Running: []Running{}, Methods: peft.Methods}
	kinds := newKinds(o.Trials)
	v.Modules, v.Trials = kinds.list, newTrials(o, numbers, kinds)
	for _, m := range o.Front.Members {
		v.Front = append(v.Front, m.Number)
	}
	v.Confirmed = append(v.Confirmed, newConfirmed(o)...)
	for _, e := range insight.Effects {
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
		numbers[t.Candidate.Key()] = t.Number
	}
	for _, c := range o.Confirmed {
		confirmed := Confirmed{Plan: c.Candidate.Plan.String(), Params: c.Params, Test: newTestScores(c.Test, o.Record)}
		if c.Candidate.Training.Backbone {
			confirmed.Plan = "full fine-tuning"
		}
		if number, ok := numbers[c.Candidate.Key()]; ok {
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

func newTrials(o *studies.Overview, numbers []int64, kinds *kinds) Trials {
	n := len(numbers)
	c := Trials{Number: numbers, State: make([]store.State, n), Origin: make([]string, n), Params: make([]int64, n),
		Score: make([]*float64, n), RowSD: make([]*float64, n), Forecast: make([]*float64, n), Seconds: make([]*float64, n),
		Started:  make([]*int64, n),
		Finished: make([]*int64, n), Lane: make([]string, n), Rate: make([]float64, n), Schedule: make([]string, n),
		Modules: make([][]int, n), Curve: make([][]float64, n), Failure: map[int64]string{}}
	after := func(t time.Time) *int64 {
		if t.IsZero() {
			return nil
		}
		return new(t.Sub(o.Record.Created).Milliseconds())
	}
	for i, number := range numbers {
		t := o.Trials[number]
		c.State[i], c.Origin[i], c.Params[i], c.Lane[i] = t.State, t.Origin, t.Params, lane(t.Host, t.Process)
		c.Started[i], c.Finished[i] = after(t.Started), after(t.Finished)
		c.Rate[i], c.Schedule[i] = t.Candidate.Training.LearningRate, string(t.Candidate.Training.Schedule)
		if t.State.Finished() {
			c.Seconds[i] = new(round(studies.Seconds(t)))
		}
		if t.State == store.Complete || t.State == store.Pruned {
			c.Score[i] = new(round(t.Result.Score))
		}
		if t.State == store.Complete {
			c.RowSD[i] = estimate(o.RowSD(number))
		}
		if t.State == store.Pruned {
			c.Forecast[i] = new(round(t.Forecast.Score))
		}
		if t.Failure != nil {
			c.Failure[number] = t.Failure.Error()
		}
		c.Modules[i] = []int{}
		for layer, module := range modules(t.Candidate.Plan) {
			c.Modules[i] = append(c.Modules[i], kinds.index[kindOf(module)], layer)
		}
		c.Curve[i] = make([]float64, 0, 2*len(t.Curve))
		for _, p := range t.Curve {
			c.Curve[i] = append(c.Curve[i], round(float64(p.Step)/float64(p.Steps)), round(p.Score))
		}
	}
	return c
}

// lane names a process.
func lane(host, process string) string {
	pid, _, _ := strings.Cut(process, " ")
	return strings.TrimSpace(host + " " + pid)
}

// modules goes through the modules of a plan, by method and then by layer; −1 is the input.
func modules(p peft.Plan) iter.Seq2[int, peft.Module] {
	return func(yield func(int, peft.Module) bool) {
		for _, m := range peft.Methods {
			if module := p.Input.Module(m); module != nil && !yield(-1, module) {
				return
			}
			for layer, l := range p.Layers {
				if module := l.Module(m); module != nil && !yield(layer, module) {
					return
				}
			}
		}
	}
}

func kindOf(m peft.Module) Module { return Module{m.Method(), m.Size(), m.String()} }

// kinds numbers the kinds of module in the order in which trials first had them.
type kinds struct {
	list  []Module
	index map[Module]int
}

func newKinds(trials []store.Trial) *kinds {
	k := &kinds{list: []Module{}, index: map[Module]int{}}
	for _, t := range trials {
		for _, module := range modules(t.Candidate.Plan) {
			kind := kindOf(module)
			if _, known := k.index[kind]; !known {
				k.index[kind] = len(k.list)
				k.list = append(k.list, kind)
			}
		}
	}
	return k
}

// round keeps six decimals, which is more than scores mean.
func round(x float64) float64 { return math.Round(x*1e6) / 1e6 }
