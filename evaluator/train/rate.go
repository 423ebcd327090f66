package train

import (
	"fmt"
	"slices"
	"time"

	"peftsearch/evaluator"
	"peftsearch/evaluator/model"
	"peftsearch/evaluator/torch"
)

// Products says which matrix products MatrixRate measures: those of a transformer layer with frozen matrices.
type Products struct {
	Hidden int `json:"hidden"` // D: four matrices [D, D]
	FFN    int `json:"ffn"`    // F: a matrix [F, D] and one [D, F]
	Tokens int `json:"tokens"` // rows, dealt among the threads; what is left over is left out
}

// MatrixRate measures floating-point operations a second, the median of some repetitions: of a layer's products with
// its inputs, and with the gradients of its outputs. Nothing that trains such layers is faster. Threads share the
// tokens as those of a session do.
func MatrixRate(settings evaluator.Settings, p Products, repetitions int) (float64, error) {
	device, err := torch.ParseDevice(settings.Device)
	if err != nil {
		return 0, err
	}
	dtype := torch.Float32
	switch settings.Precision {
	case model.PrecisionFloat32:
	case model.PrecisionBFloat16:
		dtype = torch.BFloat16
	default:
		return 0, fmt.Errorf("precision %q: must be float32 or bfloat16", settings.Precision)
	}
	if settings.Threads < 1 || repetitions < 1 || min(p.Hidden, p.FFN) < 1 || p.Tokens < settings.Threads {
		return 0, fmt.Errorf("%+v with %d threads and %d repetitions: at least 1 of everything, and a token for each thread",
			p, settings.Threads, repetitions)
	}
	lanes := newLanes(laneCount(settings), settings.Threads)
	defer lanes.close()
	scope := torch.NewScope(device)
	defer scope.Free()
	var weights []*torch.Tensor
	square := [2]int{p.Hidden, p.Hidden}
	for _, shape := range [][2]int{square, square, square, square, {p.FFN, p.Hidden}, {p.Hidden, p.FFN}} {
		values := make([]float32, shape[0]*shape[1])
		for i := range values {
			values[i] = float32(i%7-3) / 16
		}
		weights = append(weights, scope.To(torch.From(scope, values, shape[0], shape[1]), dtype))
	}
	tokens := p.Tokens / lanes.count()
	rows := map[int]*torch.Tensor{p.Hidden: scope.Zeros(dtype, tokens, p.Hidden), p.FFN: scope.Zeros(dtype, tokens, p.FFN)}
	work := 2 * 2 * float64(tokens*lanes.count()) * float64(4*p.Hidden*p.Hidden+2*p.Hidden*p.FFN)
	var rates []float64
	for range repetitions + 1 { // the first makes the kernels
		start := time.Now()
		err := lanes.run(lanes.count(), func(int) error {
			s := torch.NewScope(device)
			defer s.Free()
			var last *torch.Tensor
			torch.NoGrad(func() {
				for _, weight := range weights {
					out, in := weight.Size(0), weight.Size(1)
					s.Linear(rows[in], weight, nil)
					last = s.BatchMatmul(s.Reshape(rows[out], 1, tokens, out), s.Reshape(weight, 1, out, in))
				}
			})
			s.Item(s.Narrow(s.Narrow(last, 1, 0, 1), 2, 0, 1)) // waits for a GPU
			return s.Err()
		})
		if err != nil {
			return 0, err
		}
		rates = append(rates, work/time.Since(start).Seconds())
	}
	slices.Sort(rates[1:])
	return rates[1+repetitions/2], scope.Err()
}
