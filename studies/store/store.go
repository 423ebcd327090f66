// Package store keeps studies in a database ([Store]) and says what is kept ([Record], [Trial]).
package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/mattn/go-sqlite3"

	"peftsearch/evaluator"
	"peftsearch/search"
)

//go:embed schema/*.sql
var migrations embed.FS

// schemaVersion is the number of migrations, and the user_version of a database with all of them.
const schemaVersion = 5

// Errors that callers tell apart.
var (
	ErrNoStudy  = errors.New("there is no such study")
	ErrNoTrial  = errors.New("there is no such trial")
	ErrFenced   = errors.New("another process has taken the trial over")
	ErrNoneLeft = errors.New("no trial is left to run")
)

// Store keeps studies in a SQLite file. A Store is safe for concurrent use, and several processes may
// have the same file open: each write is one transaction that takes the write lock at its start.
// Viewers see the last commit and never hold up a writer.
type Store struct {
	db   *sql.DB
	path string
}

// Open opens a database for writing, creates it if it is not there, and brings an older one up to
// date.
func Open(path string) (*Store, error) {
	s, err := connect(path, "mode=rwc&_journal_mode=WAL&_synchronous=FULL&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	s.db.SetMaxOpenConns(1)
	if err := s.migrate(); err != nil {
		return nil, errors.Join(s.problem("opening", err), s.db.Close())
	}
	return s, nil
}

// View opens a database for reading only. It fails if there is none.
func View(path string) (*Store, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no database %s: peftsearch run STUDY.yaml makes one, --db names another", path)
	}
	mode := "mode=ro&_query_only=1"
	if _, err := os.Stat(path + "-wal"); err != nil && !writable(filepath.Dir(path)) {
		mode = "immutable=1" // nobody can be writing, and SQLite could not make its shared memory file
	}
	s, err := connect(path, mode)
	if err != nil {
		return nil, err
	}
	var version int
	if err := s.db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return nil, errors.Join(s.problem("opening", err), s.db.Close())
	}
	if version != schemaVersion {
		return nil, errors.Join(s.wrongVersion(version), s.db.Close())
	}
	return s, nil
}

func writable(dir string) bool {
	f, err := os.CreateTemp(dir, ".peftsearch-*")
	if err != nil {
		return false
	}
	f.Close()
	return os.Remove(f.Name()) == nil
}

func connect(path, mode string) (*Store, error) {
	db, err := sql.Open("sqlite3", "file:"+path+"?_busy_timeout=10000&_foreign_keys=1&"+mode)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return &Store{db: db, path: path}, nil
}

// Close releases the database.
func (s *Store) Close() error { return s.db.Close() }

func (s *Store) wrongVersion(version int) error {
	if version > schemaVersion {
		return fmt.Errorf("database %s was written by a newer peftsearch (schema %d, this one knows %d): update peftsearch", s.path, version, schemaVersion)
	}
	return fmt.Errorf("database %s has schema %d, not %d: it is empty or of an older peftsearch; peftsearch run brings it up to date", s.path, version, schemaVersion)
}

func (s *Store) migrate() error {
	return s.write(context.Background(), func(tx *sql.Tx) error {
		var version int
		if err := tx.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		if version > schemaVersion {
			return s.wrongVersion(version)
		}
		for ; version < schemaVersion; version++ {
			script, err := migrations.ReadFile(fmt.Sprintf("schema/%04d.sql", version+1))
			if err != nil {
				return err
			}
			if _, err := tx.Exec(string(script)); err != nil {
				return fmt.Errorf("migration %d: %w", version+1, err)
			}
			if _, err := tx.Exec(fmt.Sprintf("PRAGMA user_version = %d", version+1)); err != nil {
				return err
			}
		}
		return nil
	})
}

// problem explains an error of SQLite to the user.
func (s *Store) problem(doing string, err error) error {
	if err == nil {
		return nil
	}
	advice := ""
	var lite sqlite3.Error
	if errors.As(err, &lite) {
		switch lite.Code {
		case sqlite3.ErrCantOpen, sqlite3.ErrReadonly, sqlite3.ErrPerm:
			advice = ": make the file and its directory writable, or choose another with --db"
		case sqlite3.ErrFull, sqlite3.ErrIoErr:
			advice = ": the disk is full or failing; what was stored before is intact"
		case sqlite3.ErrNotADB, sqlite3.ErrCorrupt:
			advice = ": it is not a peftsearch database, or it is damaged; choose another with --db"
		case sqlite3.ErrBusy, sqlite3.ErrLocked:
			advice = ": another process holds it; try again"
		}
	}
	return fmt.Errorf("%s database %s: %w%s", doing, s.path, err, advice)
}

func (s *Store) write(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // no effect after Commit
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func marshal(v any) string {
	encoded, err := json.Marshal(v)
	if err != nil {
		panic(err) // values of this program; scores are checked to be finite
	}
	return string(encoded)
}

// Create stores a new study; the name must be free.
func (s *Store) Create(ctx context.Context, r *Record) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		result, err := tx.Exec(`INSERT INTO studies (name, created, path, config, identity, metric, geometry, reference, seed, warm_start)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, r.Name, r.Created.Unix(), r.Path, r.Config, marshal(r.Identity), r.Metric,
			marshal(r.Geometry), marshal(r.Reference), int64(r.Seed), sql.NullString{String: marshal(r.WarmStart), Valid: r.WarmStart != nil})
		if err != nil {
			return err
		}
		r.id, err = result.LastInsertId()
		return err
	})
	return s.problem("writing", err)
}

const recordColumns = "id, name, created, path, config, identity, metric, geometry, reference, seed, warm_start"

func scanRecord(row interface{ Scan(...any) error }) (*Record, error) {
	var r Record
	var created, seed int64
	var identity, geometry, reference string
	var warmStart sql.NullString
	if err := row.Scan(&r.id, &r.Name, &created, &r.Path, &r.Config, &identity, &r.Metric, &geometry, &reference, &seed, &warmStart); err != nil {
		return nil, err
	}
	r.Created, r.Seed = time.Unix(created, 0), uint64(seed)
	err := errors.Join(json.Unmarshal([]byte(identity), &r.Identity),
		json.Unmarshal([]byte(geometry), &r.Geometry), json.Unmarshal([]byte(reference), &r.Reference))
	if warmStart.Valid {
		err = errors.Join(err, json.Unmarshal([]byte(warmStart.String), &r.WarmStart))
	}
	return &r, err
}

// Study finds a study; the error wraps ErrNoStudy if there is none of that name.
func (s *Store) Study(ctx context.Context, name string) (*Record, error) {
	r, err := scanRecord(s.db.QueryRowContext(ctx, "SELECT "+recordColumns+" FROM studies WHERE name = ?", name))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("study %q in %s: %w", name, s.path, ErrNoStudy)
	}
	return r, s.problem("reading", err)
}

// Studies lists the studies, oldest first.
func (s *Store) Studies(ctx context.Context) ([]*Record, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT "+recordColumns+" FROM studies ORDER BY id")
	if err != nil {
		return nil, s.problem("reading", err)
	}
	defer rows.Close()
	var records []*Record
	for rows.Next() {
		r, err := scanRecord(rows)
		if err != nil {
			return nil, s.problem("reading", err)
		}
		records = append(records, r)
	}
	return records, s.problem("reading", rows.Err())
}

const trialColumns = `number, state, origin, reason, point, candidate, params, seed, attempts, created, started, finished,
	score, best_step, steps, dev, head_params, wall_s, peak_bytes, stopped, failure_kind, failure, forecast, forecast_sd`

func scanTrial(row interface{ Scan(...any) error }) (Trial, error) {
	var t Trial
	var seed, created int64
	var candidate string
	var point, dev, stopped, failureKind, failure sql.NullString
	var started, finished, bestStep, steps, head, peak sql.NullInt64
	var score, wall, forecast, forecastSD sql.NullFloat64
	err := row.Scan(&t.Number, &t.State, &t.Origin, &t.Reason, &point, &candidate, &t.Params, &seed, &t.Attempts, &created, &started, &finished,
		&score, &bestStep, &steps, &dev, &head, &wall, &peak, &stopped, &failureKind, &failure, &forecast, &forecastSD)
	if err != nil {
		return t, err
	}
	unix := func(n sql.NullInt64) time.Time {
		if !n.Valid {
			return time.Time{}
		}
		return time.Unix(n.Int64, 0)
	}
	t.Seed, t.Created, t.Started, t.Finished = uint64(seed), time.Unix(created, 0), unix(started), unix(finished)
	t.Result = evaluator.Result{Score: score.Float64, BestStep: int(bestStep.Int64), Steps: int(steps.Int64),
		Head: head.Int64, WallS: wall.Float64, PeakB: peak.Int64, Stopped: stopped.String}
	t.Forecast = search.Forecast{Score: forecast.Float64, SD: forecastSD.Float64}
	if failureKind.Valid {
		t.Failure = &evaluator.Failure{Kind: evaluator.FailureKind(failureKind.String), Message: failure.String}
	}
	err = json.Unmarshal([]byte(candidate), &t.Candidate)
	if point.Valid {
		err = errors.Join(err, json.Unmarshal([]byte(point.String), &t.Point))
	}
	if dev.Valid {
		err = errors.Join(err, json.Unmarshal([]byte(dev.String), &t.Result.Dev))
	}
	return t, err
}

// Trials lists a study's trials by number, without their curves.
func (s *Store) Trials(ctx context.Context, r *Record) ([]Trial, error) {
	trials, err := queryTrials(ctx, s.db, r)
	return trials, s.problem("reading", err)
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func queryTrials(ctx context.Context, q querier, r *Record) ([]Trial, error) {
	rows, err := q.QueryContext(ctx, "SELECT "+trialColumns+" FROM trials WHERE study = ? ORDER BY number", r.id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var trials []Trial
	for rows.Next() {
		t, err := scanTrial(rows)
		if err != nil {
			return nil, err
		}
		trials = append(trials, t)
	}
	return trials, rows.Err()
}

// Trial reads one trial with its curve; the error wraps ErrNoTrial if there is none.
func (s *Store) Trial(ctx context.Context, r *Record, number int64) (Trial, error) {
	t, err := scanTrial(s.db.QueryRowContext(ctx, "SELECT "+trialColumns+" FROM trials WHERE study = ? AND number = ?", r.id, number))
	if errors.Is(err, sql.ErrNoRows) {
		return t, fmt.Errorf("trial %d of study %s: %w", number, r.Name, ErrNoTrial)
	}
	if err != nil {
		return t, s.problem("reading", err)
	}
	rows, err := s.db.QueryContext(ctx, "SELECT step, steps, loss, score FROM curves WHERE study = ? AND trial = ? ORDER BY step", r.id, number)
	if err != nil {
		return t, s.problem("reading", err)
	}
	defer rows.Close()
	for rows.Next() {
		var p CurvePoint
		if err := rows.Scan(&p.Step, &p.Steps, &p.Loss, &p.Score); err != nil {
			return t, s.problem("reading", err)
		}
		t.Curve = append(t.Curve, p)
	}
	return t, s.problem("reading", rows.Err())
}

// Curves reads the curves of all of a study's trials, by trial.
func (s *Store) Curves(ctx context.Context, r *Record) (map[int64][]CurvePoint, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT trial, step, steps, loss, score FROM curves WHERE study = ? ORDER BY trial, step", r.id)
	if err != nil {
		return nil, s.problem("reading", err)
	}
	defer rows.Close()
	curves := map[int64][]CurvePoint{}
	for rows.Next() {
		var trial int64
		var p CurvePoint
		if err := rows.Scan(&trial, &p.Step, &p.Steps, &p.Loss, &p.Score); err != nil {
			return nil, s.problem("reading", err)
		}
		curves[trial] = append(curves[trial], p)
	}
	return curves, s.problem("reading", rows.Err())
}

// HypervolumePoint is a study's hypervolume after one of its complete trials.
type HypervolumePoint struct {
	Trial       int64
	Hypervolume float64
	Members     []int64
}

// Hypervolumes lists the stored fronts in the order in which they came about.
func (s *Store) Hypervolumes(ctx context.Context, r *Record) ([]HypervolumePoint, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT trial, hypervolume, members FROM fronts WHERE study = ? ORDER BY sequence", r.id)
	if err != nil {
		return nil, s.problem("reading", err)
	}
	defer rows.Close()
	var points []HypervolumePoint
	for rows.Next() {
		var p HypervolumePoint
		var members string
		if err := errors.Join(rows.Scan(&p.Trial, &p.Hypervolume, &members)); err != nil {
			return nil, s.problem("reading", err)
		}
		if err := json.Unmarshal([]byte(members), &p.Members); err != nil {
			return nil, s.problem("reading", err)
		}
		points = append(points, p)
	}
	return points, s.problem("reading", rows.Err())
}

// Trainings lists the full trainings of a study's plans, in the order in which they ended.
func (s *Store) Trainings(ctx context.Context, r *Record) ([]Training, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT candidate, seed, result FROM confirmations WHERE study = ? ORDER BY id", r.id)
	if err != nil {
		return nil, s.problem("reading", err)
	}
	defer rows.Close()
	var all []Training
	for rows.Next() {
		var candidate, result string
		var seed int64
		if err := rows.Scan(&candidate, &seed, &result); err != nil {
			return nil, s.problem("reading", err)
		}
		t := Training{Seed: uint64(seed)}
		if err := errors.Join(json.Unmarshal([]byte(candidate), &t.Candidate), json.Unmarshal([]byte(result), &t.Result)); err != nil {
			return nil, s.problem("reading", err)
		}
		all = append(all, t)
	}
	return all, s.problem("reading", rows.Err())
}

// AddTraining stores a full training. One that is there already stays: the same training has the same result.
func (s *Store) AddTraining(ctx context.Context, r *Record, t Training) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT OR IGNORE INTO confirmations (study, candidate, seed, result, finished) VALUES (?, ?, ?, ?, ?)`,
			r.id, marshal(t.Candidate), int64(t.Seed), marshal(t.Result), time.Now().Unix())
		return err
	})
	return s.problem("writing", err)
}

// Proposal is a new trial before it has a number.
type Proposal struct {
	Origin, Reason string
	Trial          Trial // Point, Candidate, Params
}

// Claim takes a trial to run: one that waits, else a new one that propose makes, while the study has
// fewer than limit trials. Trials whose process is gone wait again first. It is one transaction, so
// that propose sees every other trial, running ones included; propose is called with the history and
// the new number. The error is ErrNoneLeft if there is nothing to do now; others may still be running.
func (s *Store) Claim(ctx context.Context, r *Record, limit int, me Process, propose func([]Trial, int64) (Proposal, error)) (t Trial, lease string, err error) {
	lease = rand.Text()
	err = s.write(ctx, func(tx *sql.Tx) error {
		if err := recoverStale(ctx, tx, r, me); err != nil {
			return err
		}
		trials, err := queryTrials(ctx, tx, r)
		if err != nil {
			return err
		}
		number := int64(len(trials))
		for _, candidate := range trials {
			if candidate.State == Waiting {
				number = candidate.Number
				break
			}
		}
		now := time.Now().Unix()
		if number == int64(len(trials)) {
			if len(trials) >= limit {
				return ErrNoneLeft
			}
			p, err := propose(trials, number)
			if err != nil {
				return err
			}
			if err := insertWaiting(tx, r, number, p); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(`UPDATE trials SET state = 'running', lease = ?, host = ?, process = ?, heartbeat = ?, started = ?,
			attempts = attempts + 1 WHERE study = ? AND number = ?`, lease, me.host, me.id, now, now, r.id, number); err != nil {
			return err
		}
		t, err = scanTrial(tx.QueryRow("SELECT "+trialColumns+" FROM trials WHERE study = ? AND number = ?", r.id, number))
		return err
	})
	if errors.Is(err, ErrNoneLeft) || errors.Is(err, search.ErrExhausted) {
		return t, "", err
	}
	return t, lease, s.problem("writing", err)
}

// Enqueue adds a waiting trial, unless the study has its candidate: then it returns that trial.
func (s *Store) Enqueue(ctx context.Context, r *Record, p Proposal) (t Trial, added bool, err error) {
	err = s.write(ctx, func(tx *sql.Tx) error {
		trials, err := queryTrials(ctx, tx, r)
		if err != nil {
			return err
		}
		var known bool
		if t, known = Find(trials, p.Trial.Candidate); known {
			return nil
		}
		number := int64(len(trials))
		if err := insertWaiting(tx, r, number, p); err != nil {
			return err
		}
		added = true
		t, err = scanTrial(tx.QueryRow("SELECT "+trialColumns+" FROM trials WHERE study = ? AND number = ?", r.id, number))
		return err
	})
	return t, added, s.problem("writing", err)
}

func insertWaiting(tx *sql.Tx, r *Record, number int64, p Proposal) error {
	var point any
	if p.Trial.Point != nil {
		point = marshal(p.Trial.Point)
	}
	_, err := tx.Exec(`INSERT INTO trials (study, number, state, origin, reason, point, candidate, plan_key, params, seed, created)
		VALUES (?, ?, 'waiting', ?, ?, ?, ?, ?, ?, ?, ?)`, r.id, number, p.Origin, p.Reason, point,
		marshal(p.Trial.Candidate), p.Trial.Candidate.Plan.Key(), p.Trial.Params, int64(TrialSeed(r.Seed, number)), time.Now().Unix())
	return err
}

// heartbeatGrace is how long a trial on another host may go without a heartbeat.
const heartbeatGrace = 2 * time.Minute

// recoverStale makes running trials wait again whose process is gone.
func recoverStale(ctx context.Context, tx *sql.Tx, r *Record, me Process) error {
	rows, err := tx.QueryContext(ctx, "SELECT number, host, process, heartbeat FROM trials WHERE study = ? AND state = 'running'", r.id)
	if err != nil {
		return err
	}
	defer rows.Close()
	var stale []int64
	for rows.Next() {
		var number, heartbeat int64
		var host, id string
		if err := rows.Scan(&number, &host, &id, &heartbeat); err != nil {
			return err
		}
		silent := time.Since(time.Unix(heartbeat, 0)) > heartbeatGrace
		if host == me.host && !processAlive(id) || host != me.host && silent {
			stale = append(stale, number)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, number := range stale {
		if _, err := tx.Exec("UPDATE trials SET state = 'waiting', lease = NULL WHERE study = ? AND number = ?", r.id, number); err != nil {
			return err
		}
	}
	return nil
}

// held runs an update of a running trial that the lease still holds.
func held(tx *sql.Tx, query string, args ...any) error {
	result, err := tx.Exec(query, args...)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(ErrFenced, err)
	}
	return nil
}

// Beat says that a trial is still running.
func (s *Store) Beat(ctx context.Context, r *Record, number int64, lease string) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		return held(tx, "UPDATE trials SET heartbeat = ? WHERE study = ? AND number = ? AND lease = ?", time.Now().Unix(), r.id, number, lease)
	})
	return s.problem("writing", err)
}

// Release makes a running trial wait again.
func (s *Store) Release(ctx context.Context, r *Record, number int64, lease string) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		return held(tx, "UPDATE trials SET state = 'waiting', lease = NULL WHERE study = ? AND number = ? AND lease = ? AND state = 'running'", r.id, number, lease)
	})
	return s.problem("writing", err)
}

// Fail records a trial's failure.
func (s *Store) Fail(ctx context.Context, r *Record, number int64, lease string, failure *evaluator.Failure) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		return held(tx, `UPDATE trials SET state = 'failed', lease = NULL, finished = ?, failure_kind = ?, failure = ?
			WHERE study = ? AND number = ? AND lease = ? AND state = 'running'`,
			time.Now().Unix(), failure.Kind, failure.Message, r.id, number, lease)
	})
	return s.problem("writing", err)
}

// Finish records a trial's State, Result, Curve and Forecast, and the front that follows, in one
// transaction.
func (s *Store) Finish(ctx context.Context, r *Record, t Trial, lease string) error {
	result := t.Result
	if math.IsNaN(result.Score) || math.IsInf(result.Score, 0) {
		return fmt.Errorf("trial %d: its score %g is not finite", t.Number, result.Score)
	}
	err := s.write(ctx, func(tx *sql.Tx) error {
		if err := held(tx, `UPDATE trials SET state = ?, lease = NULL, finished = ?, score = ?, best_step = ?, steps = ?, dev = ?,
			head_params = ?, wall_s = ?, peak_bytes = ?, stopped = ?, forecast = ?, forecast_sd = ?
			WHERE study = ? AND number = ? AND lease = ? AND state = 'running'`,
			t.State, time.Now().Unix(), result.Score, result.BestStep, result.Steps, marshal(result.Dev),
			result.Head, result.WallS, result.PeakB, result.Stopped, sql.NullFloat64{Float64: t.Forecast.Score, Valid: t.State == Pruned},
			sql.NullFloat64{Float64: t.Forecast.SD, Valid: t.State == Pruned}, r.id, t.Number, lease); err != nil {
			return err
		}
		for _, p := range t.Curve {
			if _, err := tx.Exec("INSERT OR REPLACE INTO curves (study, trial, step, steps, loss, score) VALUES (?, ?, ?, ?, ?, ?)",
				r.id, t.Number, p.Step, p.Steps, p.Loss, p.Score); err != nil {
				return err
			}
		}
		if t.State != Complete {
			return nil
		}
		return insertFront(ctx, tx, r, t.Number)
	})
	return s.problem("writing", err)
}

// insertFront stores the front of the complete trials, of which the given one is the last.
func insertFront(ctx context.Context, tx *sql.Tx, r *Record, last int64) error {
	trials, err := queryTrials(ctx, tx, r)
	if err != nil {
		return err
	}
	var outcomes []search.Outcome
	for _, t := range trials {
		if t.State == Complete {
			outcomes = append(outcomes, search.Outcome{Number: t.Number, Params: t.Params, Score: t.Result.Score})
		}
	}
	front := search.Front(outcomes)
	members := make([]int64, len(front))
	for i, m := range front {
		members[i] = m.Number
	}
	_, err = tx.Exec(`INSERT INTO fronts (study, sequence, trial, hypervolume, members)
		SELECT ?, COUNT(*) + 1, ?, ?, ? FROM fronts WHERE study = ?`, r.id, last, search.Hypervolume(front, r.Reference), marshal(members), r.id)
	return err
}

// Find finds the trial of a candidate.
func Find(trials []Trial, c evaluator.Candidate) (Trial, bool) {
	key := c.Key()
	for _, t := range trials {
		if t.Candidate.Key() == key {
			return t, true
		}
	}
	return Trial{}, false
}
