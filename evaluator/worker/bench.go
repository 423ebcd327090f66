package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"

	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
	"peftsearch/evaluator/train"
)

// benchRequest says what to measure.
type benchRequest struct {
	Way    string `json:"way"`     // repeated in the answer
	WarmUp int    `json:"warm_up"` // steps of the job before the clock starts
	Steps  int    `json:"steps"`   // steps to time; 0 times the whole job, as a trial in a warm worker
}

type benchAnswer struct {
	Way string `json:"way"`
	*stepFigures
	*trialFigures
	PeakB     int64  `json:"peak_bytes"` // highest resident memory of the process
	Precision string `json:"precision"`
	Threads   int    `json:"threads"`
	Libtorch  string `json:"libtorch"`
}

type stepFigures struct {
	SamplesPerS     float64 `json:"samples_per_s"`
	MsPerStep       float64 `json:"ms_per_step"`
	TokensPerSample float64 `json:"tokens_per_sample"` // without padding
}

type trialFigures struct {
	WallS float64 `json:"wall_s"` // from the request to the score
	Steps int     `json:"steps"`
	Score float64 `json:"score"`
}

// Bench reads a hello, an evaluate request and what to measure of it, as three JSON values, and writes
// the figures as one. It works on the calling goroutine, which it locks to its thread.
func Bench(in io.Reader, out io.Writer) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var hello evaluator.Hello
	var evaluate evaluator.EvaluateRequest
	var request benchRequest
	input := json.NewDecoder(in)
	for _, message := range []any{&hello, &evaluate, &request} {
		if err := input.Decode(message); err != nil {
			return fmt.Errorf("reading hello, evaluate and what to measure: %w", err)
		}
	}
	if request.WarmUp < 0 || request.Steps < 0 {
		return errors.New("warm_up and steps must be at least 0")
	}
	session, err := train.Open(hello)
	if err != nil {
		return err
	}
	defer session.Close()
	answer := benchAnswer{Way: request.Way, Precision: session.Ready().Precision, Threads: hello.Settings.Threads, Libtorch: torch.Version()}
	timing, err := session.Time(evaluate.Job, request.WarmUp, request.Steps)
	if err != nil {
		return err
	}
	if request.Steps > 0 {
		answer.stepFigures = &stepFigures{
			SamplesPerS:     float64(timing.Examples) / timing.Seconds,
			MsPerStep:       1000 * timing.Seconds / float64(timing.Steps),
			TokensPerSample: float64(timing.Tokens) / float64(timing.Examples),
		}
	} else {
		result, err := session.Train(evaluate.Job, train.Control{
			Stop:   func() (string, bool) { return "", false },
			Report: func(evaluator.Progress) {},
		})
		if err != nil {
			return err
		}
		answer.trialFigures = &trialFigures{WallS: result.WallS, Steps: result.Steps, Score: result.Score}
	}
	answer.PeakB = torch.PeakRSS()
	return json.NewEncoder(out).Encode(answer)
}
