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

// benchRequest says what to measure.
type benchRequest struct {
	Way     string  `json:"way"`     // repeated in the answer
	WarmUp  int     `json:"warm_up"` // batches before the clock starts
	Batches [][]int `json:"batches"` // training rows of each step; null times the whole job, as a trial in a warm worker
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
	TokensPerS float64 `json:"tokens_per_s"`
	MsPerStep  float64 `json:"ms_per_step"`
	Tokens     int     `json:"tokens"` // of the batches that were timed
}

type trialFigures struct {
	FillS float64 `json:"fill_s"` // of the hidden states that the first trial of its kind computes
	WallS float64 `json:"wall_s"` // from the request to the score
	Steps int     `json:"steps"`
	Score float64 `json:"score"`
	// Of scoring the dev split once.
	EvalTokensPerS float64 `json:"eval_tokens_per_s"`
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
	session, err := train.Open(hello, nil)
	if err != nil {
		return err
	}
	defer session.Close()
	answer := benchAnswer{Way: request.Way, Precision: session.Ready().Precision, Threads: hello.Settings.Threads,
		Libtorch: torch.Version()}
	if request.Batches != nil {
		timing, err := session.Time(evaluate.Job, request.WarmUp, request.Batches)
		if err != nil {
			return err
		}
		answer.stepFigures = &stepFigures{
			TokensPerS: float64(timing.Tokens) / timing.Seconds,
			MsPerStep:  1000 * timing.Seconds / float64(len(request.Batches)-request.WarmUp),
			Tokens:     timing.Tokens,
		}
	} else {
		fill, err := session.Fill(evaluate.Job)
		if err != nil {
			return err
		}
		result, err := session.Train(evaluate.Job, train.Control{
			Stop:   func() (string, bool) { return "", false },
			Report: func(evaluator.Progress) {},
		})
		if err != nil {
			return err
		}
		evaluation, err := session.TimeEvaluation(evaluate.Job)
		if err != nil {
			return err
		}
		answer.trialFigures = &trialFigures{FillS: fill, WallS: result.WallS, Steps: result.Steps, Score: result.Score,
			EvalTokensPerS: float64(evaluation.Tokens) / evaluation.Seconds}
	}
	answer.PeakB = torch.PeakRSS()
	return json.NewEncoder(out).Encode(answer)
}
