package search

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// scored are the scores of trials as a process is fitted to them: standardised to mean 0 and standard deviation 1.
type scored struct {
	scale     standard
	values    []float64
	variances []float64 // that each has beside the noise between trainings: of forecasts, and by the dev rows
	trainings []float64 // that each is the mean of
	// What several trainings of one plan say of the noise: the sum of their squared deviations from their mean, and its
	// degrees of freedom.
	spread, freedom float64
}

// standardise scales the scores of trials. The error says that they tell nothing.
func standardise(trials []*Observation) (*scored, error) {
	if len(trials) < 2 {
		return nil, fmt.Errorf("%d finished trials, it needs 2", len(trials))
	}
	s := &scored{}
	for _, o := range trials {
		s.values = append(s.values, o.Score)
	}
	s.scale = standardOf(s.values)
	if !(s.scale.sd > 1e-9*math.Abs(s.scale.mean)) {
		return nil, errors.New("all scores are equal")
	}
	rows, unit := rowVariances(trials), s.scale.sd*s.scale.sd
	for i, o := range trials {
		trainings := float64(max(1, o.Trainings))
		s.values[i] = s.scale.of(o.Score)
		s.variances = append(s.variances, (o.SD*o.SD+rows[i])/unit)
		s.trainings = append(s.trainings, trainings)
		s.spread, s.freedom = s.spread+o.Spread/unit, s.freedom+trainings-1
	}
	return s, nil
}

// add adds a score that is standardised already.
func (s *scored) add(value float64) {
	s.values, s.variances, s.trainings = append(s.values, value), append(s.variances, 0), append(s.trainings, 1)
}

// vector has the scores; they are shared.
func (s *scored) vector() *mat.VecDense { return mat.NewVecDense(len(s.values), s.values) }

// noises are the variances of the scores around the process, whose trainings have a noise.
func (s *scored) noises(noise float64) []float64 {
	out := make([]float64, len(s.values))
	for i, own := range s.variances {
		out[i] = own + noise/s.trainings[i]
	}
	return out
}

// onto is a covariance of the process at the scores with their own added: that of the noise, their variances, and a
// constant.
func (s *scored) onto(a *mat.Dense, noise, constant float64) *mat.SymDense {
	out := symmetric(a)
	for i, own := range s.variances { // in this order, so that suggestions stay what they were
		out.SetSym(i, i, out.At(i, i)+(noise/s.trainings[i]+constant)+own)
	}
	return out
}

// within is the negative logarithm of the density of what trainings of one plan differ by, up to a constant, and its
// derivative by the logarithm of the noise. With that of the means it is that of all trainings.
func (s *scored) within(noise float64) (value, slope float64) {
	return (s.freedom*math.Log(noise) + s.spread/noise) / 2, (s.freedom - s.spread/noise) / 2
}
