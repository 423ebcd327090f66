package search

import (
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"peftsearch/space"
)

func drawPoint(t *rapid.T, s *space.Space) space.Point {
	p := make(space.Point, len(s.Dimensions()))
	for i, d := range s.Dimensions() {
		p[i] = rapid.IntRange(0, len(d.Levels)-1).Draw(t, d.Name)
	}
	return p
}

// A history that trials were added to one by one, in whatever order and while asks looked on, is the one that is
// made of them at once, and an ask's lists stay what they were.
func TestHistoriesGrowToWhatTheyAre(t *testing.T) {
	s := mixedSpace(t)
	rapid.Check(t, func(t *rapid.T) {
		trials := map[int64]Observation{}
		h, _ := NewHistory(s, nil)
		type look struct {
			lists      *lists
			candidates int
			want       lists
			keys       map[string]bool
		}
		var looks []look
		copied := func(l *lists) lists { // of what the pointers point at, too
			deep := func(list []*Observation) []*Observation {
				out := make([]*Observation, len(list))
				for i, o := range list {
					copy := *o
					out[i] = &copy
				}
				return out
			}
			return lists{all: deep(l.all), finished: deep(l.finished), failed: deep(l.failed), running: deep(l.running),
				ranked: deep(l.ranked)}
		}
		for range rapid.IntRange(0, 30).Draw(t, "changes") {
			number := rapid.Int64Range(0, 8).Draw(t, "number")
			o, known := trials[number]
			if !known {
				o = Observation{Number: number, Params: int64(rapid.IntRange(0, 3).Draw(t, "params"))}
				if rapid.Bool().Draw(t, "inside") {
					o.Point = drawPoint(t, s)
				}
			}
			o.State = State(rapid.IntRange(int(Running), int(Failed)).Draw(t, "state"))
			o.Score = float64(rapid.IntRange(0, 3).Draw(t, "score"))
			trials[number] = o
			if err := h.Set(o); err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "ask") {
				l, candidates := h.look()
				keys := map[string]bool{}
				for _, o := range trials {
					if o.Point != nil {
						keys[s.Key(o.Point)] = true
					}
				}
				looks = append(looks, look{l, candidates, copied(l), keys})
				if rapid.Bool().Draw(t, "end") {
					h.done(l)
					looks = looks[:len(looks)-1]
				}
			}
		}
		var list []Observation
		for _, o := range trials {
			list = append(list, o)
		}
		want, err := NewHistory(s, list)
		if err != nil {
			t.Fatal(err)
		}
		unexported := cmp.AllowUnexported(lists{})
		if diff := cmp.Diff(copied(want.lists), copied(h.lists), unexported); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(want.Observations(), h.Observations()); diff != "" {
			t.Fatal(diff)
		}
		if len(h.taken) != len(want.taken) {
			t.Fatalf("%d candidates are taken of %d", len(h.taken), len(want.taken))
		}
		for _, look := range looks {
			if diff := cmp.Diff(look.want, copied(look.lists), unexported); diff != "" {
				t.Fatalf("an ask's lists changed: %s", diff)
			}
			for key := range h.taken {
				if h.has(key, look.candidates) != look.keys[key] {
					t.Fatalf("candidate %s: taken %v", key, !look.keys[key])
				}
			}
		}
	})
}

// Trials come and end while asks look on (run with -race): an ask is answered as if nothing had changed.
func TestHistoriesGrowWhileAsksLookOn(t *testing.T) {
	s := mixedSpace(t)
	trials := mixedTrials(t, 60)
	smallest, largest := s.ParamRange()
	var all sync.WaitGroup
	for _, name := range []string{"random", "nsga2", "tpe", "gp"} {
		all.Go(func() {
			o, err := NewOptimizer(s, Options{Sampler: name, Initial: 1,
				Reference: Reference{Chance: 0.5, MinParams: smallest, MaxParams: largest}})
			if err != nil {
				t.Error(err)
				return
			}
			h, err := NewHistory(s, trials[:30])
			if err != nil {
				t.Error(err)
				return
			}
			l, candidates := h.look() // an ask that lasts
			defer h.done(l)
			v := &view{lists: l, space: s, reference: o.options.Reference, rng: newRand(0, 99), history: h,
				candidates: candidates}
			var growing sync.WaitGroup
			growing.Go(func() {
				for _, trial := range trials[30:] {
					running := trial
					running.State = Running
					for _, o := range []Observation{running, trial} {
						if err := h.Set(o); err != nil {
							t.Error(err)
						}
					}
				}
			})
			got, err := samplers[name].propose(v)
			if err != nil {
				t.Error(err)
			}
			growing.Wait()
			before, err := NewHistory(s, trials[:30])
			if err != nil {
				t.Error(err)
				return
			}
			if want, err := o.Ask(before, 99); err != nil || !slices.Equal(got.Point, want.Point) {
				t.Errorf("%s: %v while the history grows, %v before", name, got.Point, want.Point)
			}
		})
	}
	all.Wait()
}

// Whatever a database holds, an ask is answered or refused with the trial and the reason.
func TestDamagedHistoriesAreRefused(t *testing.T) {
	s := mixedSpace(t)
	good := make(space.Point, len(s.Dimensions()))
	change := func(d, level int) space.Point {
		p := slices.Clone(good)
		p[d] = level
		return p
	}
	for name, c := range map[string]struct {
		observation Observation
		words       string
	}{
		"too short":    {Observation{Point: good[1:]}, "trial 7: the point has 9 coordinates, the space 10 dimensions"},
		"too long":     {Observation{Point: append(slices.Clone(good), 0)}, "11 coordinates"},
		"empty":        {Observation{Point: space.Point{}}, "0 coordinates"},
		"out of range": {Observation{Point: change(1, 7)}, "trial 7: level 7 of layers.0.parallel: must be between 0 and 6"},
		"negative":     {Observation{Point: change(9, -1)}, "trial 7: level -1 of schedule"},
		"score NaN":    {Observation{Point: good, State: Complete, Score: math.NaN()}, "score"},
		"score -Inf":   {Observation{Point: good, State: Pruned, Score: math.Inf(-1)}, "score"},
		"SD NaN":       {Observation{Point: good, State: Pruned, SD: math.NaN()}, "standard deviation"},
		"state":        {Observation{Point: good, State: 9}, "state"},
	} {
		c.observation.Number = 7
		h, _ := NewHistory(s, nil)
		before := h.Observations()
		for _, err := range []error{h.Set(c.observation), func() error {
			_, err := NewHistory(s, []Observation{c.observation})
			return err
		}()} {
			if !errors.Is(err, ErrDamagedHistory) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(before) != len(h.Observations()) {
			t.Errorf("%s: the trial is in the history", name)
		}
	}

	h, _ := NewHistory(s, []Observation{{Number: 1, Point: good}})
	if err := h.Set(Observation{Number: 1, Point: change(0, 1)}); !errors.Is(err, ErrDamagedHistory) {
		t.Errorf("another point of a trial: %v", err)
	}
	if _, err := NewHistory(s, []Observation{{Number: 1}, {Number: 1}}); !errors.Is(err, ErrDamagedHistory) {
		t.Errorf("a trial twice: %v", err)
	}
	smallest, largest := s.ParamRange()
	o, err := NewOptimizer(mixedSpace(t), Options{Sampler: "random",
		Reference: Reference{MinParams: smallest, MaxParams: largest}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Ask(h, 2); !errors.Is(err, ErrDamagedHistory) {
		t.Errorf("a history of another space: %v", err)
	}
}

// FuzzHistory adds points as a database may hold them.
func FuzzHistory(f *testing.F) {
	s := mixedSpace(f)
	smallest, largest := s.ParamRange()
	f.Add([]byte{1, 2, 3}, byte(1), 0.5, 0.0)
	f.Add(make([]byte, 10), byte(2), 0.5, 0.1)
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 200}, byte(0), 0.5, 0.1)
	f.Fuzz(func(t *testing.T, levels []byte, state byte, score, sd float64) {
		p := make(space.Point, len(levels))
		for i, b := range levels {
			p[i] = int(int8(b))
		}
		h, err := NewHistory(s, []Observation{{Number: 1, Point: p, State: State(state), Score: score, SD: sd},
			{Number: 2, Point: make(space.Point, 10), State: Complete}})
		if err != nil {
			return
		}
		for _, name := range Samplers() {
			o, err := NewOptimizer(s, Options{Sampler: name, Initial: 1,
				Reference: Reference{MinParams: smallest, MaxParams: largest}})
			if err != nil {
				t.Fatal(err)
			}
			if suggestion, err := o.Ask(h, 3); err != nil || s.Check(suggestion.Point) != nil || !s.Feasible(suggestion.Point) {
				t.Errorf("%s: %v, %v", name, suggestion, err)
			}
		}
	})
}
