package search

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"

	"peftsearch/space"
)

// tpeSampler is a multivariate, multi-objective tree-structured Parzen estimator: Bergstra et al. 2011;
// the split by non-domination of Ozaki et al. 2022 ("Multiobjective Tree-Structured Parzen Estimator",
// JAIR 73); product kernels over all dimensions, as in Optuna's multivariate option (Falkner et al.
// 2018, BOHB); running trials on the bad side (constant liar).
//
// The best tenth of the trials forms the density l, the rest g. Candidates are drawn from l, and the
// free one with the largest l/g is proposed. With n trials, D dimensions of at most K levels and S
// candidates it takes O(n log n + n·D·(K+S)) time and O(n·D·K) memory.
type tpeSampler struct{}

const (
	tpeShare      = 0.1 // of the trials that are good
	tpeCandidates = 64
	tpeRecent     = 25 // trials at full weight in g; older ones weigh less
	// tpeWidth is the standard deviation of an ordinal kernel, in levels. The usual rules (gap to the
	// neighbours, or falling with n) leave a product over tens of dimensions nearly flat: on layered
	// synthetic spaces they find less than the stratified random draw.
	tpeWidth = 0.5
)

func (tpeSampler) propose(v *view) (Suggestion, error) {
	suggestion := Suggestion{Sampler: "tpe", Reason: reasonChosen}
	if len(v.finished) == 0 {
		var err error
		suggestion.Point, err = v.stratified(v.candidates)
		return suggestion, err
	}
	good := v.good()
	bad := make([]*Observation, 0, len(v.all))
	chosen := make(map[*Observation]bool, len(good))
	for _, o := range good {
		chosen[o] = true
	}
	for _, o := range v.all {
		if o.Point != nil && !chosen[o] {
			bad = append(bad, o)
		}
	}
	l := newParzen(v.space, good, uniformWeights(len(good)))
	g := newParzen(v.space, bad, rampWeights(len(bad)))

	best := math.Inf(-1)
	consider := func(p space.Point) {
		if !v.free(p) {
			return
		}
		if ratio := l.logDensity(p) - g.logDensity(p); ratio > best {
			suggestion.Point, best = p, ratio
		}
	}
	for range tpeCandidates {
		consider(l.sample(v))
	}
	for range tpeCandidates {
		if suggestion.Point != nil {
			return suggestion, nil
		}
		consider(v.neighbour(l.sample(v))) // everything near the good trials is taken
	}
	if suggestion.Point != nil {
		return suggestion, nil
	}
	var err error
	suggestion.Point, err = v.anyFree()
	return suggestion, err
}

// neighbour changes one coordinate.
func (v *view) neighbour(p space.Point) space.Point {
	q := slices.Clone(p)
	i := v.rng.IntN(len(q))
	q[i] = v.rng.IntN(len(v.space.Dimensions()[i].Levels))
	return q
}

// good is the good tenth of the finished trials: whole non-domination ranks, and of the rank that does not fit
// the subset with the largest hypervolume, found greedily.
func (v *view) good() []*Observation {
	want := int(math.Ceil(tpeShare * float64(len(v.finished))))
	var good []*Observation
	for _, rank := range v.ranks() {
		if len(good)+len(rank) > want {
			return append(good, v.spread(rank, want-len(good))...)
		}
		good = append(good, rank...)
	}
	return good
}

// ranks sorts the finished trials into non-dominated layers, best first, in O(n log n): going up in
// parameters, a trial belongs to the first layer whose best score so far is lower than its own.
func (v *view) ranks() [][]*Observation {
	var ranks [][]*Observation
	var best []float64 // score of each layer's last member, descending
	for _, o := range v.ranked {
		i, _ := slices.BinarySearchFunc(best, o.Score, func(b, score float64) int {
			if b < score {
				return 1
			}
			return -1
		})
		if i == len(ranks) {
			ranks, best = append(ranks, nil), append(best, 0)
		}
		ranks[i], best[i] = append(ranks[i], o), o.Score
	}
	return ranks
}

// spread chooses k of a rank greedily by hypervolume.
func (v *view) spread(rank []*Observation, k int) (chosen []*Observation) {
	rest := slices.Clone(rank)
	var outcomes []Outcome
	for len(chosen) < k {
		best, volume := 0, -1.0
		for i, o := range rest {
			if hv := Hypervolume(append(outcomes, outcome(*o)), v.reference); hv > volume {
				best, volume = i, hv
			}
		}
		chosen, outcomes = append(chosen, rest[best]), append(outcomes, outcome(*rest[best]))
		rest = slices.Delete(rest, best, best+1)
	}
	return chosen
}

func outcome(o Observation) Outcome { return Outcome{o.Number, o.Params, o.Score} }

func uniformWeights(n int) []float64 {
	weights := make([]float64, n)
	for i := range weights {
		weights[i] = 1
	}
	return weights
}

// rampWeights weigh the most recent trials fully and older ones linearly less.
func rampWeights(n int) []float64 {
	weights := uniformWeights(n)
	for i := range n - tpeRecent {
		weights[i] = float64(i+1) / float64(n-tpeRecent)
	}
	return weights
}

// parzen is a mixture of one product kernel per trial and a uniform prior of weight 1.
type parzen struct {
	space      *space.Space
	logWeights []float64     // of the kernels; the last is the prior
	levels     [][]uint16    // [dimension][kernel], where the kernel is; none for the prior
	tables     [][][]float64 // [dimension][that level][level], log probability; nil where no kernel is
}

func newParzen(s *space.Space, trials []*Observation, weights []float64) *parzen {
	p := &parzen{space: s}
	total := 1.0
	for _, w := range weights {
		total += w
	}
	for _, w := range append(weights, 1) {
		p.logWeights = append(p.logWeights, math.Log(w/total))
	}
	for d, dimension := range s.Dimensions() {
		levels := make([]uint16, len(trials))
		for i, trial := range trials {
			levels[i] = uint16(trial.Point[d])
		}
		p.levels = append(p.levels, levels)
		p.tables = append(p.tables, kernels(levels, len(dimension.Levels), dimension.Ordinal))
	}
	return p
}

// kernels makes the log probabilities of a kernel at each level that occurs. An ordinal kernel is a
// normal distribution cut to the levels and integrated over each. A nominal kernel favours its own level.
func kernels(levels []uint16, k int, ordinal bool) [][]float64 {
	tables := make([][]float64, k)
	for _, at := range levels {
		level := int(at)
		if tables[level] != nil {
			continue
		}
		table := make([]float64, k)
		if ordinal {
			for v := range table {
				table[v] = normalCDF((float64(v-level)+0.5)/tpeWidth) - normalCDF((float64(v-level)-0.5)/tpeWidth)
			}
		} else {
			for v := range table {
				table[v] = 1 / float64(len(levels)+1)
			}
			table[level]++
		}
		sum := floats.Sum(table)
		for v := range table {
			table[v] = math.Log(max(table[v]/sum, 1e-300))
		}
		tables[level] = table
	}
	return tables
}

func normalCDF(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) }

// logDensity is the log probability of a point under the mixture. It takes O(n·D), dimension by dimension, since the
// sums of a kernel wait for each other and those of different kernels do not.
func (p *parzen) logDensity(point space.Point) float64 {
	terms := slices.Clone(p.logWeights)
	for d, level := range point {
		at := make([]float64, len(p.tables[d])) // log probability of the point's level by a kernel at each
		for l, table := range p.tables[d] {
			if table != nil {
				at[l] = table[level]
			}
		}
		for i, l := range p.levels[d] {
			terms[i] += at[l]
		}
	}
	for _, d := range p.space.Dimensions() {
		terms[len(terms)-1] -= math.Log(float64(len(d.Levels)))
	}
	return floats.LogSumExp(terms)
}

// sample draws a point from the mixture.
func (p *parzen) sample(v *view) space.Point {
	kernel := draw(v, p.logWeights)
	point := make(space.Point, len(p.space.Dimensions()))
	for d, dimension := range p.space.Dimensions() {
		if kernel == len(p.levels[d]) {
			point[d] = v.rng.IntN(len(dimension.Levels))
		} else {
			point[d] = draw(v, p.tables[d][p.levels[d][kernel]])
		}
	}
	return point
}

// draw chooses an index by normalised log probabilities.
func draw(v *view, logs []float64) int {
	u := v.rng.Float64()
	for i, l := range logs {
		if u -= math.Exp(l); u < 0 {
			return i
		}
	}
	return len(logs) - 1
}
