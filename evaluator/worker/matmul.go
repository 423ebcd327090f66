package worker

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"

	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
	"peftsearch/evaluator/train"
)

// matmulRequest says what to measure: the products of a layer, and on what.
type matmulRequest struct {
	train.Products
	Device      string `json:"device"`
	Precision   string `json:"precision"`
	Threads     int    `json:"threads"`
	Repetitions int    `json:"repetitions"`
}

type matmulAnswer struct {
	GFLOPS     float64 `json:"gflops"` // 10⁹ floating-point operations a second
	Capability string  `json:"capability"`
	Libtorch   string  `json:"libtorch"`
}

// Matmul reads what to measure as JSON and writes the rate of the matrix products. It works on the calling goroutine,
// which it locks to its thread.
func Matmul(in io.Reader, out io.Writer) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var request matmulRequest
	if err := json.NewDecoder(in).Decode(&request); err != nil {
		return fmt.Errorf("reading which products to measure: %w", err)
	}
	settings := evaluator.Settings{Device: request.Device, Precision: request.Precision, Threads: request.Threads}
	rate, err := train.MatrixRate(settings, request.Products, request.Repetitions)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(matmulAnswer{GFLOPS: rate / 1e9, Capability: torch.CPUCapability(),
		Libtorch: torch.Version()})
}
