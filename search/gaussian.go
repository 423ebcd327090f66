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
// lie evenly in [0, 1]; a nominal one has as many as levels, one-hot and scaled so that two different levels
// are at distance 1.
type features struct {
	space     *space.Space
	dimension []int // of each feature
	first     []int // feature of each dimension, and the number of features
}

func newFeatures(s *space.Space) *features {
	f := &features{space: s, first: []int{0}}
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
		out[0] = float64(level) / float64(max(len(dimension.Levels)-1, 1))
	} else {
		clear(out)
		out[level] = math.Sqrt2 / 2
	}
}

// encode makes one row per point.
func (f *features) encode(points []space.Point) *mat.Dense {
	out := mat.NewDense(len(points), len(f.dimension), nil)
	for i, p := range points {
		row := out.RawRowView(i)
		for d, level := range p {
			f.put(row[f.first[d]:f.first[d+1]], d, level)
		}
	}
	return out
}

// kernel is a Matérn-3/2 covariance with a lengthscale of its own for every dimension.
type kernel struct {
	inverse []float64 // 1/lengthscale of each feature
	signal  float64   // variance of the process
	noise   float64   // variance of an observation around it, beside its own
}

// nugget is a variance of the process itself at every point, in standardised units. It keeps the
// covariance of near points well conditioned.
const nugget = 1e-6

// scaled divides the columns by their lengthscales.
func (k *kernel) scaled(x *mat.Dense) *mat.Dense {
	out := mat.DenseCopyOf(x)
	rows, _ := out.Dims()
	for i := range rows {
		floats.Mul(out.RawRowView(i), k.inverse)
	}
	return out
}

// at is the covariance at a squared scaled distance, without the nugget, and its derivative by it.
func (k *kernel) at(square float64) (covariance, slope float64) {
	u := math.Sqrt(3 * max(square, 0))
	decay := k.signal * math.Exp(-u)
	return decay * (1 + u), -1.5 * decay
}

// between is the covariance of every row of a with every row of b, both scaled, without the nugget.
func (k *kernel) between(a, b *mat.Dense) *mat.Dense {
	out := squares(a, b)
	rows, _ := out.Dims()
	for i := range rows {
		row := out.RawRowView(i)
		for j, square := range row {
			row[j], _ = k.at(square)
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

// symmetric is a square matrix with a constant and, unless nil, a variance for each row added to its
// diagonal.
func symmetric(a *mat.Dense, constant float64, variances []float64) *mat.SymDense {
	n, _ := a.Dims()
	out := mat.NewSymDense(n, nil)
	for i := range n {
		copy(out.RawSymmetric().Data[i*n+i:(i+1)*n], a.RawRowView(i)[i:])
		out.SetSym(i, i, out.At(i, i)+constant)
		if variances != nil {
			out.SetSym(i, i, out.At(i, i)+variances[i])
		}
	}
	return out
}

// regression is the fitting of a kernel to standardised scores.
//
// The parameters θ are the logarithms of the lengthscales, of the signal and of the noise. Their priors are
// normal. The lengthscales' mean grows with the number of dimensions (Hvarfner et al. 2024, "Vanilla
// Bayesian Optimization Performs Great in High Dimensions"), and is known less well than the lengthscales
// are alike: without the second part tens of lengthscales fit tens of scores, and the process is sure of
// what it cannot know. The noise's prior is that of BoTorch.
type regression struct {
	features  *features
	x         *mat.Dense
	y         *mat.VecDense
	variances []float64 // of each score beside the noise
	trends    []float64 // what another study says; nil for none
}

type normal struct{ mean, sd float64 }

// deviation is the negative logarithm of the density, up to a constant, and its derivative.
func (p normal) deviation(x float64) (value, slope float64) {
	z := (x - p.mean) / p.sd
	return z * z / 2, z / p.sd
}

var (
	signalPrior = normal{0, 1}
	noisePrior  = normal{-4, 1}
)

const lengthscaleSpread = 0.5 // standard deviation of the lengthscales' logarithms around their common mean

// lengthscalePrior is the prior of that mean.
func (r *regression) lengthscalePrior() normal {
	return normal{math.Sqrt2 + math.Log(float64(len(r.features.space.Dimensions())))/2, math.Sqrt(3)}
}

// prior is the negative logarithm of the density of θ, up to a constant; it adds its gradient. The mean of
// the lengthscales is where it is likeliest.
func (r *regression) prior(theta, gradient []float64) float64 {
	lengthscales := theta[:len(theta)-2]
	hyper := r.lengthscalePrior()
	own, theirs := 1/(hyper.sd*hyper.sd), 1/(lengthscaleSpread*lengthscaleSpread)
	common := normal{(own*hyper.mean + theirs*floats.Sum(lengthscales)) / (own + theirs*float64(len(lengthscales))), lengthscaleSpread}
	total, _ := hyper.deviation(common.mean)
	add := func(i int, p normal) {
		value, slope := p.deviation(theta[i])
		total += value
		gradient[i] += slope
	}
	for d := range lengthscales {
		add(d, common)
	}
	add(len(theta)-2, signalPrior)
	add(len(theta)-1, noisePrior)
	return total
}

// kernel reads the parameters.
func (r *regression) kernel(theta []float64) *kernel {
	k := &kernel{inverse: make([]float64, len(r.features.dimension))}
	for i, d := range r.features.dimension {
		k.inverse[i] = math.Exp(-theta[d])
	}
	d := len(theta) - 2
	k.signal, k.noise = math.Exp(theta[d]), math.Exp(theta[d+1])
	return k
}

// loss is the negative logarithm of the posterior density of θ, up to a constant, and its gradient. It
// is +Inf where the covariance is not positive definite. O(n³ + n²·D).
func (r *regression) loss(theta, gradient []float64) float64 {
	n := r.y.Len()
	k := r.kernel(theta)
	scaled := k.scaled(r.x)
	covariance, slope := squares(scaled, scaled), mat.NewDense(n, n, nil)
	for i := range n {
		covariances, slopes := covariance.RawRowView(i), slope.RawRowView(i)
		for j := i; j < n; j++ {
			covariances[j], slopes[j] = k.at(covariances[j])
		}
	}
	var cholesky mat.Cholesky
	full := symmetric(covariance, k.noise+nugget, r.variances)
	if r.trends != nil {
		full.SymRankOne(full, 1, mat.NewVecDense(n, r.trends))
	}
	if !cholesky.Factorize(full) {
		return math.Inf(1)
	}
	var alpha mat.VecDense
	var inverse mat.SymDense
	if cholesky.SolveVecTo(&alpha, r.y) != nil || cholesky.InverseTo(&inverse) != nil {
		return math.Inf(1)
	}
	value := mat.Dot(r.y, &alpha)/2 + cholesky.LogDet()/2

	// With W = K⁻¹ − αα', the derivative by a parameter is ½ Σ W ∘ dK: over the upper triangle and the
	// diagonal here, then G = W ∘ slope is completed.
	clear(gradient)
	signal, noise := len(theta)-2, len(theta)-1
	for i := range n {
		covariances, slopes := covariance.RawRowView(i), slope.RawRowView(i)
		inverses, alphas := inverse.RawSymmetric().Data[i*n:(i+1)*n], alpha.RawVector().Data
		for j := i + 1; j < n; j++ {
			w := inverses[j] - alphas[i]*alphas[j]
			gradient[signal] += w * covariances[j]
			slopes[j] *= w
			slope.Set(j, i, slopes[j])
		}
		w := inverses[i] - alphas[i]*alphas[i]
		gradient[signal] += w * covariances[i] / 2
		gradient[noise] += w * k.noise / 2
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
	return value + r.prior(theta, gradient)
}

// Iterations of L-BFGS: from each start, and then from the better of what they reach.
const (
	fitStart  = 10
	fitFinish = 20
)

// fit maximises the posterior density by L-BFGS from two starts: the prior means (a smooth process), and
// short lengthscales with more noise. One start alone is sometimes caught in a poor optimum.
func (r *regression) fit() (optimum, error) {
	smooth := make([]float64, len(r.features.space.Dimensions()), len(r.features.space.Dimensions())+2)
	floats.AddConst(r.lengthscalePrior().mean, smooth)
	smooth = append(smooth, signalPrior.mean, noisePrior.mean)
	rough := slices.Clone(smooth)
	for i := range len(rough) - 2 {
		rough[i] -= 2
	}
	rough[len(rough)-1] += 2

	var fits [2]optimum
	var starts sync.WaitGroup
	for i, start := range [][]float64{smooth, rough} {
		starts.Go(func() { fits[i] = r.descend(start, fitStart) })
	}
	starts.Wait()
	best := slices.MinFunc(fits[:], func(a, b optimum) int { return cmp.Compare(a.loss, b.loss) })
	if best.theta == nil {
		return best, errors.New("the covariance of the scores is not positive definite")
	}
	return r.descend(best.theta, fitFinish), nil
}

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
