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

	"peftsearch/evaluator"
	"peftsearch/evaluator/train"
)

// maxLine bounds a request; the longest are rows to predict.
const maxLine = 256 << 20

// Serve answers requests until the input ends; a job that is running then stops at its next step. The
// error is that of reading or writing: everything else is an answer. All work is done on the calling
// goroutine, which Serve locks to its thread.
func Serve(in io.Reader, out io.Writer) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := &server{out: json.NewEncoder(out), requests: make(chan request)}
	go s.read(in)
	for r := range s.requests {
		if err := s.answer(r); err != nil {
			return err
		}
	}
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

	mu   sync.Mutex
	stop evaluator.StopRequest // the last one; guarded by mu
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
	scanner.Buffer(nil, maxLine)
	for scanner.Scan() {
		line := append([]byte(nil), scanner.Bytes()...)
		var message struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(line, &message); err != nil {
			s.readErr = fmt.Errorf("request %.80q: %w", line, err)
			break
		}
		if message.Type == evaluator.TypeStop {
			s.mu.Lock()
			json.Unmarshal(line, &s.stop) // it is JSON; wrong types leave the trial unmatched
			s.mu.Unlock()
			continue
		}
		if message.Type == evaluator.TypeEvaluate { // a stop read before it was for an earlier job
			s.mu.Lock()
			s.stop = evaluator.StopRequest{}
			s.mu.Unlock()
		}
		s.requests <- request{message.Type, line}
	}
	s.mu.Lock()
	s.gone = true
	s.mu.Unlock()
	s.readErr = errors.Join(s.readErr, scanner.Err())
}

// stopped reports whether the job of a trial is to end.
func (s *server) stopped(trial int64) (reason string, stop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return "the supervisor is gone", true
	}
	if s.stop.Type != "" && s.stop.Trial == trial {
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
	}
	return s.fail(0, fmt.Errorf("request type %q is not known", r.kind))
}

// fail answers with an error, as a failure of kind internal unless it is one already.
func (s *server) fail(trial int64, err error) error {
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
		return s.fail(0, fmt.Errorf("the supervisor speaks protocol %d, this worker %d: use programs of one version", hello.Protocol, evaluator.ProtocolVersion))
	}
	if s.session != nil {
		return s.fail(0, errors.New("a second hello"))
	}
	err := func() (err error) {
		defer guard(&err)
		s.session, err = train.Open(hello)
		return err
	}()
	if err != nil {
		return s.fail(0, err)
	}
	return s.out.Encode(s.session.Ready())
}

func (s *server) evaluate(line []byte) error {
	var request evaluator.EvaluateRequest
	if err := json.Unmarshal(line, &request); err != nil {
		return s.fail(request.Trial, err)
	}
	if s.session == nil {
		return s.fail(request.Trial, errors.New("evaluate before hello"))
	}
	var writeErr error
	result, err := func() (result evaluator.Result, err error) {
		defer guard(&err)
		return s.session.Train(request.Job, train.Control{
			Stop: func() (string, bool) { return s.stopped(request.Trial) },
			Report: func(p evaluator.Progress) {
				if writeErr == nil {
					writeErr = s.out.Encode(evaluator.ProgressReport{Type: evaluator.TypeProgress, Trial: request.Trial, Progress: p})
				}
			},
		})
	}()
	if writeErr != nil {
		return writeErr
	}
	if err != nil {
		return s.fail(request.Trial, err)
	}
	return s.out.Encode(evaluator.ResultReport{Type: evaluator.TypeResult, Trial: request.Trial, Result: result})
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
		return s.session.Predict(request.Dir, request.Rows, request.Precision)
	}()
	if err != nil {
		return s.fail(0, err)
	}
	return s.out.Encode(evaluator.PredictionsReport{Type: evaluator.TypeScores, Predictions: predictions})
}
