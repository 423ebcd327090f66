package search

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"sync"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/optimize"

	"peftsearch/space"
)

// features encodes points for the Gaussian process. An ordinal dimension has one feature, in which its levels
// lie evenly in [0, 1], but for no module, which is twice as far from the smallest as sizes are from each other; a
// nominal one has as many as levels, one-hot and scaled so that two different levels are at distance 1.
type features struct {
	space     *space.Space
	reference Reference
	dimension []int // of each feature
	first     []int // feature of each dimension, and the number of features
}

func newFeatures(s *space.Space, reference Reference) *features {
	f := &features{space: s, reference: reference, first: []int{0}}
	for d, dimension := range s.Dimensions() {
		count := 1
		if !dimension.Ordinal {
			count = len(dimension.Levels)
		}
		for range count {
			f.dimension = append(f.dimension, d)
		}
		f.first = append(f.first, len(f.dimension))
	}
	return f
}

// put writes the features of one dimension.
func (f *features) put(out []float64, d, level int) {
	if dimension := f.space.Dimensions()[d]; dimension.Ordinal {
		highest := len(dimension.Levels) - 1
		if dimension.Optional() && level > 0 { // as if there were a level between no module and the smallest
			level, highest = level+1, highest+1
		}
		out[0] = float64(level) / float64(max(highest, 1))
	} else {
		clear(out)
		out[level] = math.Sqrt2 / 2
	}
}

// inputs are points as the process sees them.
type inputs struct {
	features *mat.Dense // one row per point
	costs    []float64  // log parameters, 0 for the smallest plan and 1 for the largest
}

func (f *features) encode(points []space.Point) inputs {
	in := inputs{mat.NewDense(len(points), len(f.dimension), nil), make([]float64, len(points))}
	for i, p := range points {
		f.putPoint(in.features.RawRowView(i), p)
		in.costs[i] = f.cost(p)
	}
	return in
}

// putPoint writes the features of all dimensions.
func (f *features) putPoint(row []float64, p space.Point) {
	for d, level := range p {
		f.put(row[f.first[d]:f.first[d+1]], d, level)
	}
}

func (f *features) cost(p space.Point) float64 { return f.reference.cost(f.space.Params(p)) }

// first are the inputs of the first n points.
func (in inputs) first(n int) inputs {
	_, columns := in.features.Dims()
	return inputs{in.features.Slice(0, n, 0, columns).(*mat.Dense), in.costs[:n]}
}

// kernel is the covariance of a process that is not alike everywhere: plans of one size differ around a
// typical score, and the larger they are the less, since fine-tuning saturates. With c the cost of a plan,
//
//	f(x) = t(c) + s(c)·g(x),  s(c) = exp(-narrowing·(c - ½)),
//
// where t is a process with a Gaussian covariance over the cost, and g one with a Matérn-3/2 covariance with a
// lengthscale of its own for every dimension. Without s the process is as unsure among large plans as among small
// ones, and a search spends most of its trials where little is left to gain.
type kernel struct {
	inverse   []float64 // 1/lengthscale of each feature
	signal    float64   // variance of g
	narrowing float64
	typical   float64 // variance of t
	noise     float64 // variance of an observation around f, beside its own
}

// typicalScale is the lengthscale of the typical score, which bends once or twice from the smallest plan to the
// largest.
const typicalScale = 0.5

// typicalCorrelation is that of the typical scores at two costs.
func typicalCorrelation(a, b float64) float64 {
	d := (a - b) / typicalScale
	return math.Exp(-d * d / 2)
}

// spread is s at a cost.
func (k *kernel) spread(cost float64) float64 { return math.Exp(-k.narrowing * (cost - 0.5)) }

func (k *kernel) spreads(costs []float64) []float64 {
	out := make([]float64, len(costs))
	for i, c := range costs {
		out[i] = k.spread(c)
	}
	return out
}

// nugget is a variance of the process itself at every point, in standardised units. It keeps the
// covariance of near points well conditioned.
const nugget = 1e-6

// scaled divides the features by their lengthscales.
func (k *kernel) scaled(in inputs) inputs {
	out := inputs{mat.DenseCopyOf(in.features), in.costs}
	for i := range in.costs {
		floats.Mul(out.features.RawRowView(i), k.inverse)
	}
	return out
}

// at is the covariance of g at a squared scaled distance and its derivative by it.
func (k *kernel) at(square float64) (covariance, slope float64) {
	u := math.Sqrt(3 * max(square, 0))
	decay := k.signal * math.Exp(-u)
	return decay * (1 + u), -1.5 * decay
}

// variance is that of f at a cost, without the nugget.
func (k *kernel) variance(cost float64) float64 {
	spread := k.spread(cost)
	return k.typical + spread*spread*k.signal
}

// between is the covariance of f at every row of a with every row of b, both scaled, without the nugget.
func (k *kernel) between(a, b inputs) *mat.Dense {
	out := squares(a.features, b.features)
	spreads := k.spreads(b.costs)
	for i, cost := range a.costs {
		row, spread := out.RawRowView(i), k.spread(cost)
		for j, square := range row {
			covariance, _ := k.at(square)
			row[j] = spread*spreads[j]*covariance + k.typical*typicalCorrelation(cost, b.costs[j])
		}
	}
	return out
}

// squares are the squared distances of every row of a from every row of b.
func squares(a, b *mat.Dense) *mat.Dense {
	var out mat.Dense
	out.Mul(a, b.T())
	squaresB := rowSquares(b)
	for i, squareA := range rowSquares(a) {
		row := out.RawRowView(i)
		for j, product := range row {
			row[j] = max(squareA+squaresB[j]-2*product, 0)
		}
	}
	return &out
}

func rowSquares(a *mat.Dense) []float64 {
	rows, _ := a.Dims()
	out := make([]float64, rows)
	for i := range out {
		row := a.RawRowView(i)
		out[i] = floats.Dot(row, row)
	}
	return out
}

// symmetric is a square matrix that is.
func symmetric(a *mat.Dense) *mat.SymDense {
	n, _ := a.Dims()
	out := mat.NewSymDense(n, nil)
	for i := range n {
		copy(out.RawSymmetric().Data[i*n+i:(i+1)*n], a.RawRowView(i)[i:])
	}
	return out
}

// regression is the fitting of a kernel to standardised scores.
//
// The parameters θ are the logarithms of the lengthscales, the signal, the noise and the typical variance, and
// the narrowing. Their priors are normal. The lengthscales' mean grows with the number of dimensions (Hvarfner
// et al. 2024, "Vanilla Bayesian Optimization Performs Great in High Dimensions"), and is known less well than
// the lengthscales are alike: without the second part tens of lengthscales fit tens of scores, and the process is
// sure of what it cannot know. The noise's prior is that of BoTorch. Those of the typical variance and of the
// narrowing are wide enough for scores that do not depend on the size at all.
type regression struct {
	features           *features
	x                  inputs
	y                  *scored
	trends             []float64 // what another study says; nil for none
	typicalCorrelation *mat.Dense
}

func newRegression(f *features, x inputs, y *scored, trends []float64) *regression {
	n := len(y.values)
	r := &regression{f, x, y, trends, mat.NewDense(n, n, nil)}
	r.typicalCorrelation.Apply(func(i, j int, _ float64) float64 { return typicalCorrelation(x.costs[i], x.costs[j]) },
		r.typicalCorrelation)
	return r
}

type normal struct{ mean, sd float64 }

// deviation is the negative logarithm of the density, up to a constant, and its derivative.
func (p normal) deviation(x float64) (value, slope float64) {
	z := (x - p.mean) / p.sd
	return z * z / 2, z / p.sd
}

var (
	signalPrior    = normal{0, 1}
	noisePrior     = normal{-4, 1}
	typicalPrior   = normal{-1.5, 2}
	narrowingPrior = normal{0.75, 0.75}
)

// Places in θ behind the lengthscales.
const (
	atSignal = iota
	atNoise
	atTypical
	atNarrowing
	beside // parameters beside the lengthscales
)

const lengthscaleSpread = 0.5 // standard deviation of the lengthscales' logarithms around their common mean

// lengthscalePrior is the prior of that mean.
func (r *regression) lengthscalePrior() normal {
	return normal{math.Sqrt2 + math.Log(float64(len(r.features.space.Dimensions())))/2, math.Sqrt(3)}
}

// prior is the negative logarithm of the density of θ, up to a constant; it adds its gradient. The mean of
// the lengthscales is where it is likeliest.
func (r *regression) prior(theta, gradient []float64) float64 {
	lengthscales, rest := theta[:len(theta)-beside], len(theta)-beside
	hyper := r.lengthscalePrior()
	own, theirs := 1/(hyper.sd*hyper.sd), 1/(lengthscaleSpread*lengthscaleSpread)
	common := normal{(own*hyper.mean + theirs*floats.Sum(lengthscales)) / (own + theirs*float64(len(lengthscales))),
		lengthscaleSpread}
	total, _ := hyper.deviation(common.mean)
	add := func(i int, p normal) {
		value, slope := p.deviation(theta[i])
		total += value
		gradient[i] += slope
	}
	for d := range lengthscales {
		add(d, common)
	}
	add(rest+atSignal, signalPrior)
	add(rest+atNoise, noisePrior)
	add(rest+atTypical, typicalPrior)
	add(rest+atNarrowing, narrowingPrior)
	return total
}

// kernel reads the parameters.
func (r *regression) kernel(theta []float64) *kernel {
	k := &kernel{inverse: make([]float64, len(r.features.dimension))}
	for i, d := range r.features.dimension {
		k.inverse[i] = math.Exp(-theta[d])
	}
	rest := theta[len(theta)-beside:]
	k.signal, k.noise = math.Exp(rest[atSignal]), math.Exp(rest[atNoise])
	k.typical, k.narrowing = math.Exp(rest[atTypical]), rest[atNarrowing]
	return k
}

// loss is the negative logarithm of the posterior density of θ, up to a constant, and its gradient. It
// is +Inf where the covariance is not positive definite. O(n³ + n²·D).
func (r *regression) loss(theta, gradient []float64) float64 {
	n := len(r.y.values)
	k := r.kernel(theta)
	scaled := k.scaled(r.x).features
	spreads := k.spreads(r.x.costs)
	// The covariance of the deviations s·g, and its derivative by the squared distance.
	deviation, slope := squares(scaled, scaled), mat.NewDense(n, n, nil)
	covariance := mat.NewDense(n, n, nil)
	for i := range n {
		deviations, slopes, covariances := deviation.RawRowView(i), slope.RawRowView(i), covariance.RawRowView(i)
		for j := i; j < n; j++ {
			spread := spreads[i] * spreads[j]
			g, decline := k.at(deviations[j])
			deviations[j], slopes[j] = spread*g, spread*decline
			covariances[j] = deviations[j] + k.typical*r.typicalCorrelation.At(i, j)
		}
	}
	var cholesky mat.Cholesky
	full := r.y.onto(covariance, k.noise, nugget)
	if r.trends != nil {
		full.SymRankOne(full, 1, mat.NewVecDense(n, r.trends))
	}
	if !cholesky.Factorize(full) {
		return math.Inf(1)
	}
	var alpha mat.VecDense
	var inverse mat.SymDense
	if cholesky.SolveVecTo(&alpha, r.y.vector()) != nil || cholesky.InverseTo(&inverse) != nil {
		return math.Inf(1)
	}
	value := mat.Dot(r.y.vector(), &alpha)/2 + cholesky.LogDet()/2

	// With W = K⁻¹ − αα', the derivative by a parameter is ½ Σ W ∘ dK: over the upper triangle and the
	// diagonal here, then G = W ∘ slope is completed.
	clear(gradient)
	rest := gradient[len(theta)-beside:]
	for i := range n {
		deviations, slopes, correlations := deviation.RawRowView(i), slope.RawRowView(i), r.typicalCorrelation.RawRowView(i)
		inverses, alphas := inverse.RawSymmetric().Data[i*n:(i+1)*n], alpha.RawVector().Data
		add := func(j int, w float64) {
			rest[atSignal] += w * deviations[j]
			rest[atNarrowing] -= w * deviations[j] * (r.x.costs[i] + r.x.costs[j] - 1)
			rest[atTypical] += w * k.typical * correlations[j]
		}
		for j := i + 1; j < n; j++ {
			w := inverses[j] - alphas[i]*alphas[j]
			add(j, w)
			slopes[j] *= w
			slope.Set(j, i, slopes[j])
		}
		w := (inverses[i] - alphas[i]*alphas[i]) / 2
		add(i, w)
		rest[atNoise] += w * k.noise / r.y.trainings[i]
		slopes[i] = 0 // the distance of a point from itself does not change
	}
	var product mat.Dense // Σⱼ Gᵢⱼ(zᵢ−zⱼ)² = 2(Σⱼ Gᵢⱼ)zᵢ² − 2zᵢ(Gz)ᵢ when summed over i
	product.Mul(slope, scaled)
	for i := range n {
		z, gz, rowSum := scaled.RawRowView(i), product.RawRowView(i), floats.Sum(slope.RawRowView(i))
		for c, d := range r.features.dimension {
			gradient[d] -= 2 * z[c] * (rowSum*z[c] - gz[c])
		}
	}
	within, slopeOfWithin := r.y.within(k.noise)
	rest[atNoise] += slopeOfWithin
	return value + within + r.prior(theta, gradient)
}

// Iterations of L-BFGS: from each start, and then from the better of what they reach.
const (
	fitStart  = 10
	fitFinish = 20
)

// fit maximises the posterior density by L-BFGS from two starts: the prior means (a smooth process), and
// short lengthscales with more noise. One start alone is sometimes caught in a poor optimum.
func (r *regression) fit() (optimum, error) {
	dimensions := len(r.features.space.Dimensions())
	smooth := make([]float64, dimensions, dimensions+beside)
	floats.AddConst(r.lengthscalePrior().mean, smooth)
	smooth = append(smooth, signalPrior.mean, noisePrior.mean, typicalPrior.mean, narrowingPrior.mean)
	rough := slices.Clone(smooth)
	floats.AddConst(-2, rough[:dimensions])
	rough[dimensions+atNoise] += 2

	var fits [2]optimum
	var starts sync.WaitGroup
	for i, start := range [][]float64{smooth, rough} {
		starts.Go(func() { fits[i] = r.descend(start, fitStart) })
	}
	starts.Wait()
	best := slices.MinFunc(fits[:], func(a, b optimum) int { return cmp.Compare(a.loss, b.loss) })
	if best.theta == nil {
		return best, errNotPositive
	}
	return r.descend(best.theta, fitFinish), nil
}

var errNotPositive = errors.New("the covariance of the scores is not positive definite")

// optimum is the best that a descent has seen; theta is nil if the loss was finite nowhere.
type optimum struct {
	theta []float64
	loss  float64
}

// descend lowers the loss by L-BFGS.
func (r *regression) descend(start []float64, iterations int) optimum {
	best := optimum{loss: math.Inf(1)}
	gradient := make([]float64, len(start))
	at := make([]float64, len(start)) // where the gradient was computed
	value := math.NaN()
	evaluate := func(theta []float64) float64 {
		if math.IsNaN(value) || !floats.Equal(at, theta) {
			value = r.loss(theta, gradient)
			if math.IsNaN(value) {
				value = math.Inf(1)
			}
			copy(at, theta)
			if value < best.loss {
				best.loss, best.theta = value, append(best.theta[:0], theta...)
			}
		}
		return value
	}
	// An error is a line search that finds no better point: the best point seen still stands.
	_, _ = optimize.Minimize(optimize.Problem{Func: evaluate, Grad: func(out, theta []float64) {
		evaluate(theta)
		copy(out, gradient)
	}}, start, &optimize.Settings{MajorIterations: iterations, FuncEvaluations: 2 * iterations}, &optimize.LBFGS{})
	return best
}
