package web

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/studies"
	"peftsearch/studies/report"
	"peftsearch/studies/store"
)

// hostile is text that a study may bring along: the name of an enqueued plan, a message of a library.
const hostile = `</script><img src=x onerror="document.title='owned'">`

var created = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

var geometry = peft.Geometry{
	Architecture:   "bert",
	Layers:         6,
	Hidden:         384,
	FFN:            1536,
	Heads:          12,
	BackboneParams: 22_565_376,
}

// trials are so many trials of a study.
func trials(n int, seed uint64) (all []store.Trial) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range int64(n) {
		t := store.Trial{
			Number:   i,
			State:    store.Complete,
			Origin:   "gp",
			Seed:     uint64(i),
			Attempts: 1,
			Created:  created,
			Started: created.Add(
				time.Duration(i) * time.Second,
			),
			Finished: created.Add(time.Duration(i)*time.Second + 900*time.Millisecond),
			Host:     "node" + fmt.Sprint(i%3),
			Process:  fmt.Sprintf("%d 77", 100+i%3),
		}
		t.Candidate = evaluator.Candidate{
			Plan:     plan(rng, 6),
			Training: evaluator.Training{LearningRate: []float64{1e-3, 2e-3}[i%2], Schedule: evaluator.ScheduleLinear},
		}
		if i == 0 {
			t.Origin, t.Candidate.Plan = "baseline:head", peft.Plan{Layers: make([]peft.Layer, 6)}
		}
		t.Params = t.Candidate.Plan.Params(geometry).Total()
		score := 0.55 + 0.05*math.Log10(1+float64(t.Params)) + 0.02*rng.NormFloat64()
		switch {
		case i%17 == 5:
			t.State, t.Origin = store.Failed, "enqueued:"+hostile
			t.Failure = &evaluator.Failure{Kind: evaluator.FailureDiverged, Message: hostile}
		case i%11 == 7:
			t.State, t.Forecast = store.Pruned, search.Forecast{Score: score - 0.02, SD: 0.01}
			fallthrough
		default:
			t.Result = evaluator.Result{
				Score:    score,
				BestStep: 300,
				Steps:    300,
				Dev:      map[string]float64{"accuracy": score},
				Head:     129,
				WallS:    0.9,
			}
			for rung := 1; rung <= 4; rung++ {
				t.Curve = append(
					t.Curve,
					store.CurvePoint{Step: 75 * rung, Steps: 300, Score: score * (1 - 0.1*float64(4-rung))},
				)
			}
		}
		all = append(all, t)
	}
	return all
}

// sample is a study with so many trials.
func sample(name string, n int, seed uint64) report.Seen {
	o := &studies.Overview{Budget: n + 2, Record: &store.Record{Name: name, Created: created, Metric: "accuracy",
		Geometry: geometry, Reference: search.Reference{Chance: 0.5, MinParams: 768, MaxParams: 4_000_000}}}
	own, columns := trials(n, seed), report.NewColumns(o.Record)
	for _, t := range own {
		columns.Put(t)
		o.Trials = append(o.Trials, studies.EntryOf(t))
		*o.Tally.Of(t.State)++
	}
	o.Front = studies.FrontOf(own, o.Record.Reference)
	for _, m := range o.Front.Members[max(0, len(o.Front.Members)-3):] {
		c := &studies.Confirmation{Candidate: m.Candidate, Params: m.Params}
		scores := []float64{m.Result.Score - 0.01, m.Result.Score - 0.02, m.Result.Score - 0.015}
		for i, s := range scores {
			c.Trainings = append(
				c.Trainings,
				store.Training{
					Candidate: m.Candidate,
					Seed:      uint64(40 + i),
					Result:    evaluator.Result{Test: map[string]float64{"accuracy": s}},
				},
			)
		}
		c.Test = studies.NewSample(scores)
		o.Confirmed = append(o.Confirmed, c)
	}
	return report.Seen{Overview: o, Columns: columns}
}

func plan(rng *rand.Rand, layers int) peft.Plan {
	p := peft.Plan{Layers: make([]peft.Layer, layers)}
	density := rng.Float64()
	for i := range p.Layers {
		l := &p.Layers[i]
		if rng.Float64() < density {
			*l = l.With(peft.LoRA{Rank: 1 << rng.IntN(6), Alpha: 1, Targets: []peft.Target{peft.TargetQuery}})
		}
		if rng.Float64() < density/2 {
			*l = l.With(peft.Serial{Width: 3 << rng.IntN(5)})
		}
		if rng.Float64() < density/3 {
			*l = l.With(peft.Prefix{Length: 1 + rng.IntN(20)})
		}
	}
	return p
}

var effects = []studies.Effect{{Method: peft.MethodLoRA, Effect: search.Effect{Plans: 20, Mean: 0.05, SD: 0.01}},
	{Layers: []int{3}, Effect: search.Effect{Plans: 20, Mean: 0.01, SD: 0.02}}}

func views(all ...report.Seen) report.Views {
	for i := range all {
		all[i].Insight = report.NewInsight(all[i].Overview)
		all[i].Insight.Effects = effects
	}
	return report.NewViews(all, created)
}
