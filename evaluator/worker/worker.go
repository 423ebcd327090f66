// Package worker serves the worker protocol: it reads requests, lets a session of package train do the
// work, and writes the answers. docs/reference/worker-protocol.md describes the messages.
package worker

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
	"peftsearch/evaluator/train"
)

const (
	// alive is how often a message at least is written while a job runs.
	alive = 10 * time.Second
	// answerBytes bounds a message with predictions, roughly.
	answerBytes = 1 << 20
)

// Serve answers requests until the input ends; a job that is running then stops at its next step. The
// error is that of reading or writing: everything else is an answer. All work is done on the calling
// goroutine, which Serve locks to its thread.
func Serve(in io.Reader, out io.Writer) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := &server{out: json.NewEncoder(out), requests: make(chan request)}
	s.news.L = &s.mu
	go s.read(in)
	for r := range s.requests {
		if err := s.answer(r); err != nil {
			return err
		}
	}
	s.unload()
	if s.session != nil {
		s.session.Close()
	}
	return s.readErr
}

type server struct {
	out      *json.Encoder
	requests chan request
	readErr  error // set before requests is closed
	session  *train.Session

	predictor *train.Predictor // of the directory dir; nil before the first prediction
	dir       string

	mu   sync.Mutex
	news sync.Cond             // of stop, goOn and gone
	stop evaluator.StopRequest // the last one; guarded by mu
	goOn bool                  // a go has come since the last rung; guarded by mu
	gone bool                  // the input has ended; guarded by mu
}

type request struct {
	kind string
	line []byte
}

// read runs on its own goroutine: it must see a stop while a job is running.
func (s *server) read(in io.Reader) {
	defer close(s.requests)
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, evaluator.MaxLine)
	for scanner.Scan() {
		line := append([]byte(nil), scanner.Bytes()...)
		var message struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(line, &message); err != nil {
			s.readErr = fmt.Errorf("request %.80q: %w", line, err)
			break
		}
		switch message.Type {
		case evaluator.TypeGo:
			s.tell(func() { s.goOn = true })
			continue
		case evaluator.TypeStop:
			s.tell(func() { json.Unmarshal(line, &s.stop) }) // it is JSON; wrong types leave the trial unmatched
			continue
		case evaluator.TypeEvaluate, evaluator.TypeMap: // a stop read before it was for an earlier job
			s.tell(func() { s.stop, s.goOn = evaluator.StopRequest{}, false })
		}
		s.requests <- request{message.Type, line}
	}
	s.tell(func() { s.gone = true })
	s.readErr = errors.Join(s.readErr, scanner.Err())
}

// tell changes what the job's goroutine looks at.
func (s *server) tell(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	s.news.Broadcast()
}

// await waits for the answer to a rung, which stopped then knows.
func (s *server) await(trial int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.goOn && !s.gone && !s.stops(trial) {
		s.news.Wait()
	}
	s.goOn = false
}

// stops reports whether there is a stop for a trial. The caller holds mu.
func (s *server) stops(trial int64) bool { return s.stop.Type != "" && s.stop.Trial == trial }

// stopped reports whether the job of a trial is to end.
func (s *server) stopped(trial int64) (reason string, stop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return "the supervisor is gone", true
	}
	if s.stops(trial) {
		return s.stop.Reason, true
	}
	return "", false
}

func (s *server) answer(r request) error {
	switch r.kind {
	case evaluator.TypeHello:
		return s.hello(r.line)
	case evaluator.TypeEvaluate:
		return s.evaluate(r.line)
	case evaluator.TypePredict:
		return s.predict(r.line)
	case evaluator.TypeMap:
		return s.makeMap(r.line)
	}
	return s.fail(0, fmt.Errorf("request type %q is not known", r.kind))
}

// fail answers with an error, as a failure of kind internal unless it is one already.
func (s *server) fail(trial int64, err error) error {
	if errors.Is(err, torch.ErrDevice) {
		return err // ends the process, the only cure
	}
	failure := &evaluator.Failure{Kind: evaluator.FailureInternal, Message: err.Error()}
	errors.As(err, &failure)
	return s.out.Encode(evaluator.FailedReport{Type: evaluator.TypeFailed, Trial: trial, Failure: *failure})
}

// guard turns a panic into an error, so that one trial cannot end the worker.
func guard(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
	}
}

func (s *server) hello(line []byte) error {
	var hello evaluator.Hello
	if err := json.Unmarshal(line, &hello); err != nil {
		return s.fail(0, err)
	}
	if hello.Protocol != evaluator.ProtocolVersion {
		return s.fail(0, fmt.Errorf("the supervisor speaks protocol %d, this worker %d: use programs of one version",
			hello.Protocol, evaluator.ProtocolVersion))
	}
	if s.session != nil {
		return s.fail(0, errors.New("a second hello"))
	}
	err := func() (err error) {
		defer guard(&err)
		s.session, err = train.Open(hello, func(d evaluator.Doing) {
			s.out.Encode(loading{evaluator.TypeProgress, d}) // the answer says if nobody reads
		})
		return err
	}()
	if err != nil {
		return s.fail(0, err)
	}
	return s.out.Encode(s.session.Ready())
}

// loading is a progress message before there is a job.
type loading struct {
	Type string `json:"type"`
	evaluator.Doing
}

func (s *server) evaluate(line []byte) error {
	var request evaluator.EvaluateRequest
	if err := json.Unmarshal(line, &request); err != nil {
		return s.fail(request.Trial, err)
	}
	if s.session == nil {
		return s.fail(request.Trial, errors.New("evaluate before hello"))
	}
	s.unload() // the job may write the directory anew
	j := &job{server: s, trial: request.Trial, written: time.Now()}
	result, err := func() (result evaluator.Result, err error) {
		defer guard(&err)
		return s.session.Train(request.Job, train.Control{Stop: j.stop, Report: j.report})
	}()
	if j.err != nil {
		return j.err
	}
	if err != nil {
		return s.fail(request.Trial, err)
	}
	return s.out.Encode(evaluator.ResultReport{Type: evaluator.TypeResult, Trial: request.Trial, Result: result})
}

func (s *server) makeMap(line []byte) error {
	var request evaluator.MapRequest
	if err := json.Unmarshal(line, &request); err != nil {
		return s.fail(request.Trial, err)
	}
	if s.session == nil {
		return s.fail(request.Trial, errors.New("map before hello"))
	}
	j := &job{server: s, trial: request.Trial, written: time.Now()}
	result, err := func() (result evaluator.MapResult, err error) {
		defer guard(&err)
		return s.session.Map(request.MapJob, train.Control{Stop: j.stop, Report: j.report})
	}()
	if j.err != nil {
		return j.err
	}
	if err != nil {
		return s.fail(request.Trial, err)
	}
	return s.out.Encode(evaluator.MappedReport{Type: evaluator.TypeMapped, Trial: request.Trial, MapResult: result})
}

// job connects a training with the supervisor.
type job struct {
	*server
	trial   int64
	written time.Time // of the last message
	err     error     // of writing
}

func (j *job) write(p evaluator.Progress) {
	if j.err == nil {
		j.err = j.out.Encode(evaluator.ProgressReport{Type: evaluator.TypeProgress, Trial: j.trial, Progress: p})
	}
	j.written = time.Now()
}

// report writes progress and waits at rungs.
func (j *job) report(p evaluator.Progress) {
	j.write(p)
	if p.Score != nil && j.err == nil {
		j.await(j.trial)
	}
}

// stop reports whether the job is to end. It is asked at every step and between the batches of all that takes
// long, so it gives signs of life too.
func (j *job) stop() (reason string, stop bool) {
	if time.Since(j.written) > alive {
		j.write(evaluator.Progress{})
	}
	if j.err != nil {
		return "the supervisor is gone", true
	}
	return j.stopped(j.trial)
}

func (s *server) predict(line []byte) error {
	var request evaluator.PredictRequest
	if err := json.Unmarshal(line, &request); err != nil {
		return s.fail(0, err)
	}
	if s.session == nil {
		return s.fail(0, errors.New("predict before hello"))
	}
	predictions, err := func() (predictions []evaluator.Prediction, err error) {
		defer guard(&err)
		if err := s.load(request.Dir); err != nil {
			return nil, err
		}
		return s.predictor.Predict(request.Rows)
	}()
	if err != nil {
		return s.fail(0, err)
	}
	for len(predictions) > 0 {
		count := 0
		for size := 0; count < len(predictions) && size < answerBytes; count++ {
			size += 64 + 24*len(predictions[count].Logits) + 16*len(predictions[count].Parts) + 48*len(predictions[count].Gates)
		}
		if err := s.out.Encode(evaluator.PredictionsReport{Type: evaluator.TypeScores,
			Predictions: predictions[:count]}); err != nil {
			return err
		}
		predictions = predictions[count:]
	}
	return nil
}

// load makes predictor that of a directory. Requests for many rows name the same one.
func (s *server) load(dir string) (err error) {
	if s.predictor != nil && s.dir == dir {
		return nil
	}
	s.unload()
	s.dir = dir
	s.predictor, err = s.session.Predictor(dir)
	return err
}

func (s *server) unload() {
	if s.predictor != nil {
		s.predictor.Close()
		s.predictor = nil
	}
}
