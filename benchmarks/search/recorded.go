package main

import (
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"math"
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

// surrogate is a Gaussian process fitted by surrogate.py to recorded trials of a task.
type surrogate struct {
	Geometry   peft.Geometry    `json:"geometry"`
	Reference  search.Reference `json:"reference"`
	Dimensions []struct {
		Name   string   `json:"name"`
		Levels []string `json:"levels"`
	} `json:"dimensions"`
	Points  []space.Point `json:"points"`  // that it was fitted to
	Weights []float64     `json:"weights"` // of the points
	Mean    float64       `json:"mean"`
	Scales  []float64     `json:"scales"` // of the Matérn-5/2 kernel: of the levels as shares, by dimension; of their being above 0; of the cost
	Noise   float64       `json:"noise"`  // standard deviation between two seeds of a plan
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
	known := make([][]float64, len(g.Points))
	for i, point := range g.Points {
		known[i] = g.features(p, point)
	}
	p.score = func(point space.Point) float64 { return g.score(known, g.features(p, point)) }
	return p, nil
}

// features are the levels of a point as shares, whether they are above 0, and its cost, in lengthscales.
func (g *surrogate) features(p *problem, point space.Point) []float64 {
	var levels, present []float64
	for d, level := range point {
		levels = append(levels, float64(level)/float64(len(g.Dimensions[d].Levels)-1))
		present = append(present, float64(min(level, 1)))
	}
	return floats.DivTo(make([]float64, len(g.Scales)), append(slices.Concat(levels, present), p.cost(point)), g.Scales)
}

// score is the posterior mean: Σ weight·k(r) with k = (1 + √5·r + 5r²/3)·exp(-√5·r).
func (g *surrogate) score(known [][]float64, features []float64) float64 {
	score := g.Mean
	for i, weight := range g.Weights {
		r := math.Sqrt(5) * floats.Distance(known[i], features, 2)
		score += weight * (1 + r + r*r/3) * math.Exp(-r)
	}
	return score
}
