package evaluator

import (
	"context"
	"errors"
)

// Map implements Mapper. A worker that makes no maps fails the job.
func (p *Process) Map(ctx context.Context, job MapJob, report func(Progress)) (MapResult, error) {
	if err := p.start(ctx, report); err != nil {
		return MapResult{}, err
	}
	if !p.ready.Maps {
		return MapResult{}, &Failure{FailureInternal, "the worker makes no maps"}
	}
	p.oom = watchOOM(p.child.pid)
	result, err := p.makeMap(ctx, job, report)
	if err == nil {
		return result, nil
	}
	p.end(0)
	var failure *Failure
	var mistake *slip
	switch {
	case ctx.Err() != nil:
		return MapResult{}, ctx.Err()
	case errors.As(err, &mistake):
		return MapResult{}, slipFailure(job.Trial, mistake)
	case !errors.As(err, &failure):
		failure = &Failure{FailureInternal, err.Error()}
	}
	return MapResult{}, failure
}

// makeMap sends the job and takes its result.
func (p *Process) makeMap(ctx context.Context, job MapJob, report func(Progress)) (MapResult, error) {
	if err := p.send(ctx, MapRequest{Type: TypeMap, MapJob: job}, p.options.Stall); err != nil {
		return MapResult{}, err
	}
	text, err := p.answer(ctx, TypeMapped, report)
	if err != nil {
		return MapResult{}, err
	}
	p.ended[job.Trial] = true
	return decodeMapped(text, len(job.Score), p.scale)
}

// decodeMapped reads and checks the result of a map with so many plans.
func decodeMapped(text []byte, plans int, s scale) (MapResult, error) {
	var report MappedReport
	if err := decode(text, &report); err != nil {
		return MapResult{}, err
	}
	r := report.MapResult
	if len(r.Scores) != plans {
		return MapResult{}, slipIn(text, "", "%d scores for %d plans", len(r.Scores), plans)
	}
	for i := range r.Scores {
		if err := checkScore(text, &r.Scores[i], s); err != nil {
			return MapResult{}, err
		}
	}
	if r.Steps < 1 || r.Steps > maxCount || r.PeakB < 0 || r.PeakB > maxCount ||
		!(r.WallS >= 0 && r.WallS <= maxSeconds) {
		return MapResult{}, slipIn(text, "", "a number of steps, seconds or bytes that cannot be")
	}
	return r, nil
}
