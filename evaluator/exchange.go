package evaluator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

// Evaluate implements Evaluator. Until the worker has said something about the job, a mistake is put down to
// the job before: the worker is started again and gets the job once more.
func (p *Process) Evaluate(ctx context.Context, job Job, report func(Progress) Verdict) (Result, error) {
	for first := true; ; first = false {
		if err := p.start(ctx, func(d Progress) { report(d) }); err != nil {
			return Result{}, err
		}
		e := &exchange{Process: p, ctx: ctx, job: job, report: report, rungs: Rungs{}, stall: newStall(p.options.Stall)}
		result, err := e.run()
		var mistake *slip
		switch {
		case ctx.Err() != nil && !e.over:
			p.end(0)
			return Result{}, ctx.Err()
		case e.interrupted:
			return Result{}, ctx.Err()
		case errors.As(err, &mistake):
			p.end(0)
			if first && !e.heard && !mistake.silence {
				continue
			}
			return Result{}, slipFailure(job.Trial, mistake)
		}
		return result, err
	}
}

// exchange is one job on its way through the worker.
type exchange struct {
	*Process
	ctx    context.Context
	job    Job
	report func(Progress) Verdict
	stall  *stall

	heard   bool     // the worker has said something about the job
	over    bool     // the worker is through with the job
	last    Progress // the last one that was no mere sign of life
	rungs   Rungs
	stop    *Verdict // the first one that stops; nil before
	stopped bool     // stop has answered a rung

	interrupted bool // the worker was told that ctx has ended
}

// run sends the job and takes messages until it ends.
func (e *exchange) run() (Result, error) {
	e.oom = watchOOM(e.child.pid)
	if err := e.send(e.ctx, EvaluateRequest{Type: TypeEvaluate, Job: e.job}, e.options.Stall); err != nil {
		return Result{}, err
	}
	cancelled := e.ctx.Done()
	for {
		select {
		case <-cancelled:
			cancelled, e.stall = nil, newStall(min(stopGrace, cmp.Or(e.options.Stall, stopGrace)))
			e.interrupted, e.stop = true, &Verdict{Stop: true, Reason: "interrupted"}
			if err := e.verdict(); err != nil {
				return Result{}, err
			}
		case <-e.stall.C:
			if e.stop != nil {
				return Result{}, &slip{silence: true, what: fmt.Sprintf("the worker did not end the trial within %s after the stop",
					e.stall.after) + e.child.log.lastWords()}
			}
			return Result{}, e.silent()
		case line, ok := <-e.child.lines:
			if !ok {
				return Result{}, e.gone(e.ctx)
			}
			result, err := e.take(line)
			if err != nil || e.over {
				return result, err
			}
		}
	}
}

// take acts on one message.
func (e *exchange) take(line line) (Result, error) {
	h, err := decodeHeader(line)
	if err != nil {
		return Result{}, err
	}
	switch {
	case h.Type != TypeProgress && h.Type != TypeResult && h.Type != TypeFailed:
		return Result{}, slipIn(line.text, "", "message type %q during a trial", h.Type)
	case h.Trial == nil:
		return Result{}, slipIn(line.text, "", "a message without its trial")
	case *h.Trial != e.job.Trial && e.ended[*h.Trial]:
		fmt.Fprintf(e.child.log, "ignored, since trial %d has ended: %.200q\n", *h.Trial, line.text)
		return Result{}, nil
	case *h.Trial != e.job.Trial:
		return Result{}, slipIn(line.text, "", "a message about trial %d", *h.Trial)
	}
	switch h.Type {
	case TypeProgress:
		return Result{}, e.progress(line.text)
	case TypeResult:
		result, err := e.result(line.text)
		if err == nil {
			e.heard, e.over, e.ended[e.job.Trial] = true, true, true
		}
		return result, err
	default:
		failure, err := decodeFailed(line.text)
		if err != nil {
			return Result{}, err
		}
		e.heard, e.over, e.ended[e.job.Trial] = true, true, true
		return Result{}, failure
	}
}

// progress reports a progress message and answers it.
func (e *exchange) progress(text []byte) error {
	p, err := decodeProgress(text, e.scale)
	if err != nil {
		return err
	}
	if e.last.Steps > 0 && p.Steps > 0 && (p.Steps != e.last.Steps || p.Step < e.last.Step) {
		return slipIn(text, "", "step %d of %d after step %d of %d", p.Step, p.Steps, e.last.Step, e.last.Steps)
	}
	e.heard = true
	if p.Steps == 0 && p.What != "" && e.stop == nil && e.ctx.Err() == nil {
		p.Left = e.pace.left(p.Doing)
		e.report(p)
	}
	if p.Steps == 0 || e.stop != nil {
		return e.aside(text, p)
	}
	verdict := e.tell(p)
	rung := p.Score != nil
	switch {
	case e.ctx.Err() != nil: // run sends the stop
		return nil
	case verdict.Stop && !(rung && p.Step == p.Steps):
		verdict.Reason = cmp.Or(verdict.Reason, "stopped")
		e.stop, e.stopped = &verdict, rung
		err = e.verdict()
	case rung && e.ready.Waits():
		err = e.verdict()
	}
	e.stall.reset()
	return err
}

// tell notes and reports progress.
func (e *exchange) tell(p Progress) Verdict {
	e.last = p
	if p.Score != nil {
		e.rungs[p.Step] = *p.Score
	}
	return e.report(p)
}

// verdict sends the stop or, if there is none, the order to go on. These are so short that they wait only for a
// worker that has not read for very long.
func (e *exchange) verdict() error {
	var message any = GoRequest{Type: TypeGo, Trial: e.job.Trial}
	if e.stop != nil {
		message = StopRequest{Type: TypeStop, Trial: e.job.Trial, Reason: e.stop.Reason}
	}
	return e.send(context.WithoutCancel(e.ctx), message, stopGrace)
}

// aside takes a mere sign of life, or what a worker says after a stop: of that only rungs are reported. It has the time
// of a stall to end the job, however much it says.
func (e *exchange) aside(text []byte, p Progress) error {
	if e.stop == nil {
		e.stall.reset()
		return nil
	}
	if p.Score == nil {
		return nil
	}
	if e.stopped && e.ready.Waits() {
		return slipIn(text, "", "the worker went on to a rung after a stop")
	}
	e.stopped = true // the stop and the rung crossed
	if e.ctx.Err() == nil {
		e.tell(p)
	}
	return nil
}

// result checks a result and says whether it is that of a job that was stopped.
func (e *exchange) result(text []byte) (Result, error) {
	result, err := decodeResult(text, e.scale)
	if err != nil {
		return Result{}, err
	}
	name, splits := string(e.scale.metric), e.ready.Splits
	tested := e.job.Test && e.stop == nil && (splits.Test.Rows > 0 || splits == Splits{})
	if _, ok := result.Test[name]; tested && name != "" && !ok {
		return Result{}, slipIn(text, "", "the result has no %s on test, which was asked for", name)
	}
	claimed := result.Stopped != ""
	result.Stopped = ""
	switch {
	case e.stop == nil && claimed:
		return Result{}, slipIn(text, "", "the result says that the trial was stopped, which nobody did")
	case e.stop != nil && (claimed || result.Steps < e.last.Steps || e.stopped && e.ready.Waits()):
		result.Stopped = e.stop.Reason
	}
	if e.job.Output == "" && e.ctx.Err() == nil { // it has not gone on from a checkpoint
		if err := e.rungs.Check(result); err != nil {
			return Result{}, slipIn(text, "", "%v", err)
		}
	}
	return result, nil
}
