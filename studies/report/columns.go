package report

import (
	"iter"
	"slices"
	"strings"
	"time"

	"peftsearch/peft"
	"peftsearch/studies"
	"peftsearch/studies/store"
)

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

// Columns gathers the trials of a study for its views, of which it keeps what these show.
type Columns struct {
	created time.Time
	rows    []row // by number
	kinds   *kinds
}

// row is what views show of a trial.
type row struct {
	state             store.State
	origin            string
	params            int64
	score, forecast   *float64
	seconds           *float64
	started, finished *int64
	lane              string
	rate              float64
	schedule          string
	modules           []int
	curve             []float64
	failure           string
}

// NewColumns makes columns for the trials of a study.
func NewColumns(r *store.Record) *Columns {
	return &Columns{created: r.Created, kinds: &kinds{list: []Module{}, index: map[Module]int{}}}
}

// Put adds a trial with its curve, in place of what it was before.
func (c *Columns) Put(t store.Trial) {
	if missing := t.Number + 1 - int64(len(c.rows)); missing > 0 {
		c.rows = append(c.rows, make([]row, missing)...)
	}
	after := func(at time.Time) *int64 {
		if at.IsZero() {
			return nil
		}
		return new(at.Sub(c.created).Milliseconds())
	}
	r := row{state: t.State, origin: t.Origin, params: t.Params, lane: lane(t.Host, t.Process),
		started: after(t.Started), finished: after(t.Finished), rate: t.Candidate.Training.LearningRate,
		schedule: string(t.Candidate.Training.Schedule)}
	if t.State.Finished() {
		r.seconds = new(round(studies.Seconds(t)))
	}
	if t.State == store.Complete || t.State == store.Pruned {
		r.score = new(round(t.Result.Score))
	}
	if t.State == store.Pruned {
		r.forecast = new(round(t.Forecast.Score))
	}
	if t.Failure != nil {
		r.failure = t.Failure.Error()
	}
	r.modules, r.curve = []int{}, make([]float64, 0, 2*len(t.Curve))
	for layer, module := range modules(t.Candidate.Plan) {
		r.modules = append(r.modules, c.kinds.of(module), layer)
	}
	r.modules = slices.Clip(r.modules)
	for _, p := range t.Curve {
		r.curve = append(r.curve, round(float64(p.Step)/float64(p.Steps)), round(p.Score))
	}
	c.rows[t.Number] = r
}

// of is the columns of some trials.
func (c *Columns) of(numbers []int64) Trials {
	n := len(numbers)
	t := Trials{Number: numbers, State: make([]store.State, n), Origin: make([]string, n), Params: make([]int64, n),
		Score: make([]*float64, n), RowSD: make([]*float64, n), Forecast: make([]*float64, n),
		Seconds: make([]*float64, n), Started: make([]*int64, n), Finished: make([]*int64, n), Lane: make([]string, n),
		Rate: make([]float64, n), Schedule: make([]string, n), Modules: make([][]int, n), Curve: make([][]float64, n),
		Failure: map[int64]string{}}
	for i, number := range numbers {
		r := c.rows[number]
		t.State[i], t.Origin[i], t.Params[i], t.Lane[i] = r.state, r.origin, r.params, r.lane
		t.Score[i], t.Forecast[i], t.Seconds[i] = r.score, r.forecast, r.seconds
		t.Started[i], t.Finished[i], t.Rate[i], t.Schedule[i] = r.started, r.finished, r.rate, r.schedule
		t.Modules[i], t.Curve[i] = r.modules, r.curve
		if r.failure != "" {
			t.Failure[number] = r.failure
		}
	}
	return t
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

// kinds numbers the kinds of module in the order in which trials first had them.
type kinds struct {
	list  []Module
	index map[Module]int
}

func (k *kinds) of(m peft.Module) int {
	kind := Module{m.Method(), m.Size(), m.String()}
	at, known := k.index[kind]
	if !known {
		at = len(k.list)
		k.list, k.index[kind] = append(k.list, kind), at
	}
	return at
}
