package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"

	"peftsearch/evaluator"
	"peftsearch/search"
)

// JobKind says what a training beside the trials is for.
type JobKind string

// The kinds of jobs.
const (
	JobCalibration JobKind = "calibration" // of the learning rate of a method
	JobMap         JobKind = "map"         // of weights that many plans share
	JobReplicate   JobKind = "replicate"   // of a trial's candidate, with another seed
)

// Job is a training beside the trials.
type Job struct {
	Number    int64 // of the study's jobs, from 0
	Kind      JobKind
	Trial     int64  // of a replicate; -1 of others
	Method    string // of a calibration
	Candidate evaluator.Candidate
	Seed      uint64
	Share     float64            // of a trial's budget; what a map costs is several
	State     State              // never Pruned
	Crashes   int                // how many attempts ended with their worker
	Result    evaluator.Result   // of a map without a score
	Failure   *evaluator.Failure // of failed ones
}

// JobSeed is the seed of the training of a trial's candidate that follows so many others, below 2^53. −1 for the
// trial stands for what is of none: training 0 for calibrations, which all have the same, and 1 for the map.
func JobSeed(study uint64, trial, training int64) uint64 {
	hash := fnv.New64a()
	hash.Write([]byte("job"))
	for _, n := range []uint64{study, uint64(trial), uint64(training)} {
		hash.Write(binary.LittleEndian.AppendUint64(nil, n))
	}
	return hash.Sum64() >> 11
}

const jobColumns = "number, kind, trial, method, candidate, seed, share, state, crashes, result, failure_kind, failure"

func scanJob(scan func(...any) error) (j Job, err error) {
	var trial sql.NullInt64
	var seed int64
	var candidate string
	var result, failureKind, failure sql.NullString
	if err := scan(&j.Number, &j.Kind, &trial, &j.Method, &candidate, &seed, &j.Share, &j.State, &j.Crashes, &result,
		&failureKind, &failure); err != nil {
		return j, err
	}
	if j.Seed, j.Trial = uint64(seed), -1; trial.Valid {
		j.Trial = trial.Int64
	}
	if failureKind.Valid {
		j.Failure = &evaluator.Failure{Kind: evaluator.FailureKind(failureKind.String), Message: failure.String}
	}
	err = json.Unmarshal([]byte(candidate), &j.Candidate)
	if result.Valid {
		err = errors.Join(err, json.Unmarshal([]byte(result.String), &j.Result))
	}
	if err != nil {
		err = fmt.Errorf("%w: job %d: %w", ErrDamaged, j.Number, err)
	}
	return j, err
}

// maxShare is more than any map costs.
const maxShare = 1e6

// check reports a job that cannot be.
func (j Job) check(r *Record) error {
	err := error(nil)
	most := 1.0
	if j.Kind == JobMap {
		most = maxShare
	} else if j.State == Complete {
		err = j.Result.Check(r.metric())
	}
	if !(j.Share > 0 && j.Share <= most) {
		err = errors.Join(err, fmt.Errorf("it has a share of %g of the budget", j.Share))
	}
	if err != nil {
		return r.damaged("job %d: %w", j.Number, err)
	}
	return nil
}

// Jobs lists the jobs of a study that changed after a version of it, by number; version 0 is before every change. See
// [Store.Changes], which is read first.
func (s *Store) Jobs(ctx context.Context, r *Record, since int64) (jobs []Job, err error) {
	err = s.read(ctx, func(q querier) error {
		jobs = nil
		return each(ctx, q, func(scan func(...any) error) error {
			j, err := scanJob(scan)
			jobs = append(jobs, j)
			return cmp.Or(err, j.check(r))
		}, "SELECT "+jobColumns+" FROM jobs WHERE study = $1 AND version > $2 ORDER BY number", r.id, since)
	})
	return jobs, err
}

func queryJob(ctx context.Context, q querier, study, number int64) (Job, error) {
	return scanJob(q.QueryRowContext(ctx, "SELECT "+jobColumns+" FROM jobs WHERE study = $1 AND number = $2", study,
		number).Scan)
}

// firstJob stands in the table of leases for job 0, the number below it for job 1, and so on.
const firstJob = proposer - 1

// of is the table with what a lease is of, and the number there.
func (l Lease) of() (table string, number int64) {
	if l.trial <= firstJob {
		return "jobs", firstJob - l.trial
	}
	return "trials", l.trial
}

// AddJob stores a job and takes it to run, with the right to make a proposal, which it uses up. The job's Number is
// given here. It may be repeated.
func (s *Store) AddJob(ctx context.Context, r *Record, right Lease, j Job) (added Job, l Lease, err error) {
	l = Lease{id: right.id, study: right.study}
	err = s.writeTo(ctx, r.id, later, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, "SELECT trial FROM leases WHERE study = $1 AND trial < $2 AND lease = $3", r.id,
			proposer, right.id).Scan(&l.trial)
		if err == nil { // it was stored before, and the answer was lost
			_, number := l.of()
			added, err = queryJob(ctx, tx, r.id, number)
			return err
		} else if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err := tx.QueryRowContext(ctx, "SELECT COALESCE(MAX(number) + 1, 0) FROM jobs WHERE study = $1", r.id).
			Scan(&j.Number); err != nil {
			return err
		}
		l.trial = firstJob - j.Number
		if err := held(ctx, tx, "UPDATE leases SET trial = $1 WHERE study = $2 AND trial = $3 AND lease = $4", l.trial, r.id,
			proposer, right.id); err != nil {
			return err
		}
		version, err := change(ctx, tx, r.id)
		if err != nil {
			return err
		}
		if err := do(ctx, tx, `INSERT INTO jobs (study, number, version, kind, trial, method, candidate, seed, share, state,
			lease, created) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'running', $10, `+s.dialect.now+`)`, r.id, j.Number,
			version, j.Kind, sql.NullInt64{Int64: j.Trial, Valid: j.Kind == JobReplicate}, j.Method, marshal(j.Candidate),
			int64(j.Seed), j.Share, l.id); err != nil {
			return err
		}
		added, err = queryJob(ctx, tx, r.id, j.Number)
		return err
	})
	return added, l, err
}

// PopJob is Pop for jobs. It leaves it to Pop to make those wait whose process is gone.
func (s *Store) PopJob(ctx context.Context, r *Record, me Owner) (j Job, l Lease, err error) {
	nothing := false
	err = s.write(ctx, later, func(tx *sql.Tx) error {
		if err := s.vacate(ctx, tx, r.id, me); err != nil {
			return err
		}
		l = Lease{id: rand.Text(), study: r.id}
		var number int64
		if err := s.locked(ctx, tx, r.id, func() (bool, error) {
			err := tx.QueryRowContext(ctx, `SELECT number FROM jobs
				WHERE study = $1 AND state = 'waiting' ORDER BY number LIMIT 1`, r.id).Scan(&number)
			if nothing = errors.Is(err, sql.ErrNoRows); nothing {
				err = nil
			}
			return !nothing, err
		}); err != nil || nothing {
			return err
		}
		l.trial = firstJob - number
		if err := s.grant(ctx, tx, l, l.trial, me); err != nil {
			return err
		}
		version, err := change(ctx, tx, r.id)
		if err != nil {
			return err
		}
		if err := do(ctx, tx, "UPDATE jobs SET state = 'running', lease = $1, version = $2 WHERE study = $3 AND number = $4",
			l.id, version, r.id, number); err != nil {
			return err
		}
		j, err = queryJob(ctx, tx, r.id, number)
		return err
	})
	s.doubt(l, err)
	if err == nil && nothing {
		err = ErrNothing
	}
	return j, l, err
}

// FinishJob stores a job's result. A replicate makes the score of its trial the mean of one training more, and the
// study's front that of the means.
func (s *Store) FinishJob(ctx context.Context, r *Record, l Lease, j Job) error {
	if math.IsNaN(j.Result.Score) || math.IsInf(j.Result.Score, 0) {
		return fmt.Errorf("job %d: its score %g is not finite", j.Number, j.Result.Score)
	}
	return s.end(ctx, l, Complete, func(tx *sql.Tx, version int64) error {
		if err := s.complete(ctx, tx, r, version, j); err != nil || j.Kind != JobReplicate {
			return err
		}
		if err := again(ctx, tx, r, version, j); err != nil {
			return err
		}
		return renewFront(ctx, tx, r)
	})
}

// FinishMap stores what a map estimates: what the study knows before its trials.
func (s *Store) FinishMap(ctx context.Context, r *Record, l Lease, j Job, estimates *WarmStart) error {
	return s.end(ctx, l, Complete, func(tx *sql.Tx, version int64) error {
		if err := s.complete(ctx, tx, r, version, j); err != nil {
			return err
		}
		return do(ctx, tx, "UPDATE studies SET warm_start = $1 WHERE id = $2", marshal(estimates), r.id)
	})
}

// complete stores the result of a job.
func (s *Store) complete(ctx context.Context, tx *sql.Tx, r *Record, version int64, j Job) error {
	j.Result.Resampled = nil // those of the trial have them
	return do(ctx, tx, `UPDATE jobs SET state = 'complete', version = $1, result = $2, finished = `+s.dialect.now+`
		WHERE study = $3 AND number = $4`, version, marshal(j.Result), r.id, j.Number)
}

// again makes what is stored of a complete trial the mean of one training more.
func again(ctx context.Context, tx *sql.Tx, r *Record, version int64, j Job) error {
	var o search.Observation
	var dev string
	if err := tx.QueryRowContext(ctx, `SELECT score, trainings, spread, dev FROM trials
		WHERE study = $1 AND number = $2 AND state = 'complete'`, r.id, j.Trial).Scan(&o.Score, &o.Trainings, &o.Spread,
		&dev); err != nil {
		return err
	}
	var metrics map[string]float64
	if err := json.Unmarshal([]byte(dev), &metrics); err != nil {
		return r.damaged("trial %d: its dev scores: %w", j.Trial, err)
	}
	first := o.Score
	o = o.Again(j.Result.Score)
	for name, value := range metrics {
		if other, ok := j.Result.Dev[name]; ok {
			metrics[name] = value + (other-value)/float64(o.Trainings)
		}
	}
	if err := do(ctx, tx, `UPDATE trials SET version = $1, score = $2, trainings = $3, spread = $4, dev = $5,
		first_score = COALESCE(first_score, $6) WHERE study = $7 AND number = $8`, version, o.Score, o.Trainings, o.Spread,
		marshal(metrics), first, r.id, j.Trial); err != nil {
		return err
	}
	var text string
	err := tx.QueryRowContext(ctx, "SELECT scores FROM resamples WHERE study = $1 AND trial = $2", r.id,
		j.Trial).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	var resampled []float64
	if err := cmp.Or(err, json.Unmarshal([]byte(text), &resampled)); err != nil {
		return err
	}
	if len(resampled) != len(j.Result.Resampled) {
		return nil
	}
	for i, other := range j.Result.Resampled {
		resampled[i] += (other - resampled[i]) / float64(o.Trainings)
	}
	return do(ctx, tx, "UPDATE resamples SET scores = $1 WHERE study = $2 AND trial = $3", marshal(resampled), r.id,
		j.Trial)
}

// renewFront makes the latest front of a study that of its complete trials, whose scores may have fallen.
func renewFront(ctx context.Context, tx *sql.Tx, r *Record) error {
	var outcomes []search.Outcome
	if err := each(ctx, tx, func(scan func(...any) error) error {
		var o search.Outcome
		err := scan(&o.Number, &o.Params, &o.Score)
		outcomes = append(outcomes, o)
		return err
	}, "SELECT number, params, score FROM trials WHERE study = $1 AND state = 'complete'", r.id); err != nil {
		return err
	}
	front := search.Front(outcomes)
	return do(ctx, tx, `UPDATE fronts SET hypervolume = $1, members = $2
		WHERE study = $3 AND sequence = (SELECT MAX(sequence) FROM fronts WHERE study = $3)`,
		search.Hypervolume(front, r.Reference), marshal(numbers(front)), r.id)
}

func numbers(front []search.Outcome) []int64 {
	out := make([]int64, len(front))
	for i, m := range front {
		out[i] = m.Number
	}
	return slices.Clip(out)
}

// Elsewhere counts the trials and jobs that other processes run.
func (s *Store) Elsewhere(ctx context.Context, r *Record, me Owner) (n int, err error) {
	err = s.read(ctx, func(q querier) error {
		n = 0
		return each(ctx, q, func(scan func(...any) error) error {
			var o Owner
			err := scan(&o.Host, &o.Boot, &o.Namespace, &o.Process)
			if o != me {
				n++
			}
			return err
		}, "SELECT host, boot, namespace, process FROM leases WHERE study = $1 AND trial <> $2", r.id, proposer)
	})
	return n, err
}
