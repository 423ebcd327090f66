package evaluator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"peftsearch/data/metric"
	"peftsearch/data/quote"
	"peftsearch/peft"
)

// slip is a mistake of a worker against the protocol.
type slip struct {
	what    string
	line    []byte // that is wrong; nil if it is no line
	try     string
	silence bool
}

const toStderr = "a worker prints to stderr; stdout is for messages"

func (s *slip) Error() string {
	text := s.what
	if s.line != nil {
		text += fmt.Sprintf(": %.200q", s.line)
	}
	if s.try != "" {
		text += "; " + s.try
	}
	return text
}

// slipFailure is the failure of the trial in which a worker made a mistake.
func slipFailure(trial int64, err error) *Failure {
	return &Failure{FailureProtocol, quote.Message(fmt.Sprintf("trial %d: %v", trial, err))}
}

func slipIn(text []byte, try, format string, args ...any) error {
	return &slip{what: fmt.Sprintf(format, args...), line: text, try: try}
}

// header is what every message has.
type header struct {
	Type  string `json:"type"`
	Trial *int64 `json:"trial"` // of those about a job
}

// decode reads a line into a message.
func decode(text []byte, into any) error {
	err := json.Unmarshal(text, into)
	var wrongType *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrongType):
		return slipIn(text, "", "%s is a JSON %s, which does not fit", wrongType.Field, wrongType.Value)
	case bytes.Contains(text, []byte("NaN")), bytes.Contains(text, []byte("Infinity")):
		return slipIn(text, `JSON has neither NaN nor Infinity: answer {"type":"failed","kind":"diverged",…}`,
			"the line is not JSON")
	}
	return slipIn(text, toStderr, "the line is not JSON (%v)", err)
}

// decodeProgress reads and checks a progress message. Without steps it says what the worker does, or is only a sign of
// life.
func decodeProgress(text []byte, s scale) (Progress, error) {
	var report ProgressReport
	err := decode(text, &report)
	if err != nil {
		return Progress{}, err
	}
	p := report.Progress
	if p.Doing, err = checkDoing(text, p.Doing); err != nil {
		return Progress{}, err
	}
	if p.Steps == 0 && p.Step == 0 && p.Score == nil {
		return Progress{Doing: p.Doing}, nil
	}
	if p.Steps < 1 || p.Step < 0 || p.Step > p.Steps {
		return Progress{}, slipIn(text, "", "step %d of %d", p.Step, p.Steps)
	}
	return p, checkScore(text, p.Score, s)
}

// longestDoing is how many characters of what a worker does are kept.
const longestDoing = 60

// decodeDoing reads and checks what a worker does while it loads. A message that says nothing of it is a sign of life.
func decodeDoing(text []byte) (Doing, error) {
	var report struct{ Doing }
	if err := decode(text, &report); err != nil {
		return Doing{}, err
	}
	return checkDoing(text, report.Doing)
}

func checkDoing(text []byte, d Doing) (Doing, error) {
	if d.What == "" {
		return Doing{}, nil
	}
	if d.Done < 0 || d.Of < 0 || d.Of > 0 && d.Done > d.Of {
		return Doing{}, slipIn(text, "", "%d of %d is done", d.Done, d.Of)
	}
	what := []rune(quote.Line(d.What))
	return Doing{What: string(what[:min(len(what), longestDoing)]), Done: d.Done, Of: d.Of}, nil
}

// decodeResult reads and checks a result.
func decodeResult(text []byte, s scale) (Result, error) {
	var report struct {
		Result
		Score *float64 `json:"score"` // is nil if there is none
	}
	if err := decode(text, &report); err != nil {
		return Result{}, err
	}
	if report.Score == nil {
		return Result{}, slipIn(text, "", "the result has no score")
	}
	if err := checkScore(text, report.Score, s); err != nil {
		return Result{}, err
	}
	r := report.Result
	r.Score = *report.Score
	r.Stopped = quote.Message(r.Stopped)
	if err := r.Check(s.metric); err != nil {
		return Result{}, slipIn(text, "", "%v", err)
	}
	if n := len(r.Resampled); n != 0 && n != Resamples {
		return Result{}, slipIn(text, "", "%d resampled scores, it takes %d", n, Resamples)
	}
	for i := range r.Resampled {
		if err := checkScore(text, &r.Resampled[i], s); err != nil {
			return Result{}, err
		}
	}
	if score, ok := r.Test[string(s.metric)]; ok {
		if err := checkScore(text, &score, s); err != nil {
			return Result{}, err
		}
		r.Test[string(s.metric)] = score
	}
	return r, nil
}

// scale is what scores can be: the metric, if it is known, and its range.
type scale struct {
	metric    metric.Name
	low, high float64
}

// newScale is the task's metric in the range that is known of it, and that a worker may know to be smaller.
func newScale(task metric.Name, worker *Metric) scale {
	s := scale{task, math.Inf(-1), math.Inf(1)}
	if task != "" {
		s.low, s.high = task.Range()
	}
	if worker != nil {
		s.low, s.high = max(s.low, worker.Low), min(s.high, worker.High)
	}
	return s
}

// checkScore refuses a score outside of the scale. What rounding puts beside it is moved to its end.
func checkScore(text []byte, score *float64, s scale) error {
	if score == nil {
		return nil
	}
	if !(*score >= s.low-rounding && *score <= s.high+rounding) {
		return slipIn(text, "", "the score %g is no %s: that is between %g and %g", *score, s.metric, s.low, s.high)
	}
	*score = min(max(*score, s.low), s.high)
	return nil
}

// decodeFailed reads the failure that a worker reports.
func decodeFailed(text []byte) (*Failure, error) {
	var report FailedReport
	if err := decode(text, &report); err != nil {
		return nil, err
	}
	f := &report.Failure
	switch f.Kind {
	case FailureDiverged, FailureOutOfMemory, FailureInvalidPlan, FailureInternal:
	default: // the other kinds are the supervisor's to find
		f.Kind, f.Message = FailureInternal, strings.TrimPrefix(string(f.Kind)+": "+f.Message, ": ")
	}
	f.Message = quote.Message(f.Message)
	return f, nil
}

// decodeReady reads and checks what a worker has loaded, for a task that is scored in a metric.
func decodeReady(text []byte, scored metric.Name) (Ready, error) {
	var r Ready
	if err := decode(text, &r); err != nil {
		return Ready{}, err
	}
	if r.Protocol != ProtocolVersion {
		return Ready{}, fmt.Errorf("it speaks protocol %d, this program %d: docs/reference/worker-protocol.md says what "+
			"has changed", r.Protocol, ProtocolVersion)
	}
	r.Precision, r.Geometry.Architecture = quote.Message(r.Precision), quote.Message(r.Geometry.Architecture)
	r.Fingerprint.Model, r.Fingerprint.Data = quote.Message(r.Fingerprint.Model), quote.Message(r.Fingerprint.Data)
	g, counts := r.Geometry, 0
	for _, split := range []Split{r.Splits.Train, r.Splits.Dev, r.Splits.Test} {
		counts = min(counts, split.Rows, split.Truncated, split.Rows-split.Truncated)
	}
	switch m := r.Metric; {
	case r.Rungs != "" && r.Rungs != RungsWait && r.Rungs != RungsFree:
		return Ready{}, slipIn(text, "", "rungs %q: must be %s or %s", r.Rungs, RungsWait, RungsFree)
	case min(g.Layers, g.Hidden, g.FFN, g.Heads) < 0 || g.BackboneParams < 0 || counts < 0:
		return Ready{}, slipIn(text, "", "a number below 0, or more rows truncated than there are")
	case g != (peft.Geometry{}) && g.Validate() != nil:
		return Ready{}, fmt.Errorf("its geometry: %w", g.Validate())
	case m != nil && scored != "" && m.Name != scored:
		return Ready{}, fmt.Errorf("it scores with the metric %q, the task's is %q", m.Name, scored)
	case m != nil && !(m.Low < m.High):
		return Ready{}, slipIn(text, "", "the metric's range is from %g to %g", m.Low, m.High)
	}
	return r, nil
}
