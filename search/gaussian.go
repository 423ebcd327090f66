package search

import (
	"errors"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/optimize"

	"peftsearch/space"
)

// features encodes points for the Gaussian process.
type features struct {
	space     *space.Space
	dimension []int // of each feature
}

// newFeatures gives an ordinal dimension one feature and a nominal one as many as it has levels.
func newFeatures(s *space.Space) *features {
	f := &features{space: s}
	for d, dimension := range s.Dimensions() {
		count := 1
		if !dimension.Ordinal {
			count = len(dimension.Levels)
		}
		for range count {
			f.dimension = append(f.dimension, d)
		}
	}
	return f
}

// encode makes one row per point. An ordinal level is placed evenly in [0, 1]; a nominal one is one-hot,
// scaled so that two different levels are at distance 1.
func (f *features) encode(points []space.Point) *mat.Dense {
	out := mat.NewDense(len(points), len(f.dimension), nil)
	for i, p := range points {
		row, column := out.RawRowView(i), 0
		for d, dimension := range f.space.Dimensions() {
			if dimension.Ordinal {
				row[column] = float64(p[d]) / float64(max(len(dimension.Levels)-1, 1))
				column++
				continue
			}
			row[column+p[d]] = math.Sqrt2 / 2
			column += len(dimension.Levels)
		}
	}
	return out
}

// kernel is a Matérn-5/2 covariance with a lengthscale of its own for every dimension.
type kernel struct {
	inverse []float64 // 1/lengthscale of each feature
	signal  float64   // variance of the process
	noise   float64   // variance of an observation around it
}

// nugget is a variance of the process itself at every point, in standardised units. It keeps the
// covariance of near points well conditioned.
const nugget = 1e-6

// scaled divides the columns by their lengthscales.
func (k *kernel) scaled(x *mat.Dense) *mat.Dense {
	var out mat.Dense
	out.Apply(func(_, j int, v float64) float64 { return v * k.inverse[j] }, x)
	return &out
}

// between is the covariance of every row of a with every row of b, both scaled, without the nugget; and
// its derivative by the squared distance if slope is not nil.
func (k *kernel) between(a, b, slope *mat.Dense) *mat.Dense {
	var out mat.Dense
	out.Mul(a, b.T())
	squaresB := rowSquares(b)
	for i, squareA := range rowSquares(a) {
		row := out.RawRowView(i)
		for j, product := range row {
			u := math.Sqrt(5 * max(squareA+squaresB[j]-2*product, 0))
			decay := k.signal * math.Exp(-u)
			row[j] = decay * (1 + u + u*u/3)
			if slope != nil {
				slope.Set(i, j, -5.0/6*(1+u)*decay)
			}
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

// symmetric is a square matrix with `diagonal` added to its diagonal.
func symmetric(a *mat.Dense, diagonal float64) *mat.SymDense {
	n, _ := a.Dims()
	out := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			out.SetSym(i, j, a.At(i, j))
		}
		out.SetSym(i, i, a.At(i, i)+diagonal)
	}
	return out
}

// regression is the fitting of a kernel to standardised scores.
//
// The parameters θ are the logarithms of the lengthscales, of the signal and of the noise. All have
// normal priors; the lengthscales' grows with the number of dimensions (Hvarfner et al. 2024, "Vanilla
// Bayesian Optimization Performs Great in High Dimensions"), the noise's is that of BoTorch.
type regression struct {
	features *features
	x        *mat.Dense
	y        *mat.VecDense
}

type normalPrior struct{ mean, sd float64 }

func (r *regression) priors() []normalPrior {
	dimensions := len(r.features.space.Dimensions())
	out := make([]normalPrior, dimensions, dimensions+2)
	for d := range out {
		out[d] = normalPrior{math.Sqrt2 + math.Log(float64(dimensions))/2, math.Sqrt(3)}
	}
	return append(out, normalPrior{0, 1}, normalPrior{-4, 1})
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
	slope := mat.NewDense(n, n, nil)
	covariance := k.between(scaled, scaled, slope)
	var cholesky mat.Cholesky
	if !cholesky.Factorize(symmetric(covariance, k.noise+nugget)) {
		return math.Inf(1)
	}
	var alpha mat.VecDense
	var inverse mat.SymDense
	if cholesky.SolveVecTo(&alpha, r.y) != nil || cholesky.InverseTo(&inverse) != nil {
		return math.Inf(1)
	}
	value := mat.Dot(r.y, &alpha)/2 + cholesky.LogDet()/2

	// With W = K⁻¹ − αα', the derivative by a parameter is ½ Σ W ∘ dK.
	clear(gradient)
	signal, noise := len(theta)-2, len(theta)-1
	rowSums := make([]float64, n)
	for i := range n {
		covariances, slopes := covariance.RawRowView(i), slope.RawRowView(i)
		for j := range n {
			w := inverse.At(i, j) - alpha.AtVec(i)*alpha.AtVec(j)
			gradient[signal] += w * covariances[j] / 2
			slopes[j] *= w
			rowSums[i] += slopes[j]
			if i == j {
				gradient[noise] += w * k.noise / 2
			}
		}
	}
	var product mat.Dense // Σⱼ Gᵢⱼ(zᵢ−zⱼ)² = 2(Σⱼ Gᵢⱼ)zᵢ² − 2zᵢ(Gz)ᵢ when summed over i
	product.Mul(slope, scaled)
	for i := range n {
		z, gz := scaled.RawRowView(i), product.RawRowView(i)
		for c, d := range r.features.dimension {
			gradient[d] -= 2 * z[c] * (rowSums[i]*z[c] - gz[c])
		}
	}
	for i, prior := range r.priors() {
		deviation := (theta[i] - prior.mean) / prior.sd
		value += deviation * deviation / 2
		gradient[i] += deviation / prior.sd
	}
	return value
}

const fitIterations = 30 // of L-BFGS from each start

// fit maximises the posterior density by L-BFGS from two starts: the prior means (a smooth process), and
// short lengthscales with more noise. One start alone is sometimes caught in a poor optimum.
func (r *regression) fit() (*kernel, error) {
	smooth := make([]float64, 0, len(r.features.space.Dimensions())+2)
	for _, prior := range r.priors() {
		smooth = append(smooth, prior.mean)
	}
	rough := make([]float64, len(smooth))
	copy(rough, smooth)
	for i := range len(rough) - 2 {
		rough[i] -= 2
	}
	rough[len(rough)-1] += 2

	var best []float64
	lowest := math.Inf(1)
	for _, start := range [][]float64{smooth, rough} {
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
				if value < lowest {
					lowest, best = value, append(best[:0], theta...)
				}
			}
			return value
		}
		// An error is a line search that finds no better point: the best point seen still stands.
		_, _ = optimize.Minimize(optimize.Problem{Func: evaluate, Grad: func(out, theta []float64) {
			evaluate(theta)
			copy(out, gradient)
		}}, start, &optimize.Settings{MajorIterations: fitIterations, FuncEvaluations: 2 * fitIterations}, &optimize.LBFGS{})
	}
	if best == nil {
		return nil, errors.New("the covariance of the scores is not positive definite")
	}
	return r.kernel(best), nil
}
