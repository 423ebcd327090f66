package main

import (
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"gonum.org/v1/gonum/floats"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/space"
)

//go:embed surrogates
var surrogates embed.FS

// surrogate is what surrogate.py fitted to recorded trials of a task: a Gaussian process of the best score up to each
// rung, that is at the last the final score.
type surrogate struct {
	Geometry   peft.Geometry    `json:"geometry"`
	Reference  search.Reference `json:"reference"`
	Dimensions []struct {
		Name   string   `json:"name"`
		Levels []string `json:"levels"`
	} `json:"dimensions"`
	Points    []space.Point `json:"points"` // that it was fitted to
	Noise     float64       `json:"noise"`  // standard deviation between two seeds of a plan
	Shares    []float64     `json:"shares"` // of the budget, of the rungs
	Rungs     []process     `json:"rungs"`
	Residuals [][]float64   `json:"residuals"` // of the points, at each rung, when they are predicted from others
	costs     []float64     // of the points
}

// process is the posterior mean of one rung.
type process struct {
	Mean    float64   `json:"mean"`
	Weights []float64 `json:"weights"` // of the points
	// Scales are those of the Matérn-5/2 kernel: of the levels as shares, by dimension; of their being above 0; of the
	// cost.
	Scales []float64 `json:"scales"`
	known  [][]float64
}

// problemNames lists the problems.
func problemNames() []string {
	names := slices.Sorted(maps.Keys(families))
	entries, err := surrogates.ReadDir("surrogates")
	if err != nil {
		panic(err) // embedded
	}
	for _, entry := range entries {
		if name, ok := strings.CutSuffix(entry.Name(), ".json"); ok {
			names = append(names, name)
		}
	}
	return names
}

// newRecorded makes the problem of a recorded task.
func newRecorded(name string) (*problem, error) {
	content, err := surrogates.ReadFile("surrogates/" + name + ".json")
	if err != nil {
		return nil, fmt.Errorf("no problem %q: %w", name, err)
	}
	var g surrogate
	if err := json.Unmarshal(content, &g); err != nil {
		return nil, fmt.Errorf("surrogate %s: %w", name, err)
	}
	s, err := space.New(space.Config{}, evaluator.Training{LearningRate: 1e-3}, g.Geometry)
	if err != nil {
		return nil, err
	}
	for i, d := range s.Dimensions() {
		if i >= len(g.Dimensions) || d.Name != g.Dimensions[i].Name || !slices.Equal(d.Levels, g.Dimensions[i].Levels) {
			return nil, fmt.Errorf("surrogate %s: the space has changed since the trials were recorded (%s)", name, d.Name)
		}
	}
	p := &problem{name: name, space: s, reference: g.Reference, noise: g.Noise}
	for _, point := range g.Points {
		g.costs = append(g.costs, p.cost(point))
	}
	for r := range g.Rungs {
		for _, point := range g.Points {
			g.Rungs[r].known = append(g.Rungs[r].known, g.Rungs[r].scaled(g.features(p, point)))
		}
	}
	final := &g.Rungs[len(g.Rungs)-1]
	p.score = func(point space.Point) float64 { return final.predict(g.features(p, point)) }
	p.curve = func(point space.Point, rng *rand.Rand) []search.Rung { return g.curve(p, point, rng) }
	return p, nil
}

// features are the levels of a point as shares, whether they are above 0, and its cost.
func (g *surrogate) features(p *problem, point space.Point) []float64 {
	var levels, present []float64
	for d, level := range point {
		levels = append(levels, float64(level)/float64(len(g.Dimensions[d].Levels)-1))
		present = append(present, float64(min(level, 1)))
	}
	return append(slices.Concat(levels, present), p.cost(point))
}

func (p *process) scaled(features []float64) []float64 {
	return floats.DivTo(make([]float64, len(features)), features, p.Scales)
}

// predict is Σ weight·k(r) with k = (1 + √5·r + 5r²/3)·exp(-√5·r).
func (p *process) predict(features []float64) float64 {
	features = p.scaled(features)
	score := p.Mean
	for i, weight := range p.Weights {
		r := math.Sqrt(5) * floats.Distance(p.known[i], features, 2)
		score += weight * (1 + r + r*r/3) * math.Exp(-r)
	}
	return score
}

// likeness is how many recorded trials are taken to err like a plan: those nearest in cost.
const likeness = 32

// curve draws the best scores up to the rungs of a training: what is predicted, and what a recorded training of a plan
// of about the same size was off by, at all rungs.
func (g *surrogate) curve(p *problem, point space.Point, rng *rand.Rand) []search.Rung {
	cost, alike := p.cost(point), make([]int, len(g.Points))
	for i := range alike {
		alike[i] = i
	}
	slices.SortStableFunc(alike, func(a, b int) int {
		return cmp.Compare(math.Abs(g.costs[a]-cost), math.Abs(g.costs[b]-cost))
	})
	residuals := g.Residuals[alike[rng.IntN(likeness)]]
	features, best := g.features(p, point), math.Inf(-1)
	var curve []search.Rung
	for r, share := range g.Shares {
		best = max(best, g.Rungs[r].predict(features)+residuals[r])
		curve = append(curve, search.Rung{Share: share, Score: best})
	}
	return curve
}
