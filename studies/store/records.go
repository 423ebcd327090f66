package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const recordColumns = `id, name, created, path, config, first_config, identity, metric, geometry, reference, seed,
	warm_start`

func scanRecord(scan func(...any) error) (*Record, error) {
	var r Record
	var created, seed int64
	var identity, geometry, reference string
	var warmStart sql.NullString
	if err := scan(&r.id, &r.Name, &created, &r.Path, &r.Config, &r.First, &identity, &r.Metric, &geometry, &reference,
		&seed, &warmStart); err != nil {
		return nil, err
	}
	r.Created, r.Seed = time.UnixMilli(created), uint64(seed)
	err := errors.Join(json.Unmarshal([]byte(identity), &r.Identity),
		json.Unmarshal([]byte(geometry), &r.Geometry), json.Unmarshal([]byte(reference), &r.Reference))
	if warmStart.Valid {
		err = errors.Join(err, json.Unmarshal([]byte(warmStart.String), &r.WarmStart))
	}
	if err != nil {
		return nil, r.damaged("what it was started with cannot be read")
	}
	return &r, nil
}

// Ensure stores a new study, or finds the one of its name: of several processes that start it at once, one creates
// it and the others get what that one stored.
func (s *Store) Ensure(ctx context.Context, r *Record) (stored *Record, created bool, err error) {
	err = s.write(ctx, lasting, func(tx *sql.Tx) error {
		var id int64
		err := tx.QueryRowContext(ctx, `INSERT INTO studies (name, path, config, first_config, identity, metric, geometry,
			reference, seed, warm_start, created) VALUES ($1, $2, $3, $3, $4, $5, $6, $7, $8, $9,
				`+s.dialect.now+`) ON CONFLICT (name) DO NOTHING RETURNING id`,
			r.Name, r.Path, r.Config, marshal(r.Identity), r.Metric, marshal(r.Geometry), marshal(r.Reference), int64(r.Seed),
			sql.NullString{String: marshal(r.WarmStart), Valid: r.WarmStart != nil}).Scan(&id)
		created = err == nil
		if created {
			err = held(ctx, tx, "INSERT INTO counters (study, version) VALUES ($1, 0) ON CONFLICT DO NOTHING", id)
			if errors.Is(err, ErrFenced) {
				err = r.damaged("another study was deleted from the database, and its trials were left")
			}
		} else if errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
		if err == nil {
			stored, err = studyOf(ctx, tx, r.Name)
		}
		if err == nil && !created {
			if err = s.lock(ctx, tx, stored.id); err == nil {
				err = rekey(ctx, tx, stored)
			}
		}
		return err
	})
	return stored, created, err
}

// rekey makes the stored keys of a study's candidates those of this version, if another one wrote them.
func rekey(ctx context.Context, tx *sql.Tx, r *Record) error {
	var key, text string
	var t Trial
	err := tx.QueryRowContext(ctx, `SELECT candidate_key, candidate FROM trials
		WHERE study = $1 AND candidate_key IS NOT NULL ORDER BY number LIMIT 1`, r.id).Scan(&key, &text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err := errors.Join(err, json.Unmarshal([]byte(text), &t.Candidate)); err != nil {
		return err
	}
	if KeyOf(t.Candidate) == key {
		return nil
	}
	if err := setKeys(ctx, tx, `SELECT study, number, candidate FROM trials
		WHERE study = $1 ORDER BY number`, r.id); err != nil {
		return err
	}
	version, err := change(ctx, tx, r.id) // histories hold the keys
	if err == nil {
		_, err = tx.ExecContext(ctx, "UPDATE trials SET version = $1 WHERE study = $2", version, r.id)
	}
	return err
}

// Used stores the study file that a study was continued with, and where it stands.
func (s *Store) Used(ctx context.Context, r *Record, path, config string) error {
	err := s.writeTo(ctx, r.id, lasting, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE studies SET path = $1, config = $2 WHERE id = $3", path, config, r.id)
		return err
	})
	if err == nil {
		r.Path, r.Config = path, config
	}
	return err
}

// Settle stores a value that a study's identity lacks, unless another process has stored one. It returns the one that
// counts.
func (s *Store) Settle(ctx context.Context, r *Record, key, value string) (settled string, err error) {
	err = s.writeTo(ctx, r.id, lasting, func(tx *sql.Tx) error {
		stored, err := studyOf(ctx, tx, r.Name)
		if err != nil {
			return err
		}
		if settled = stored.Identity[key]; settled != "" {
			return nil
		}
		settled, stored.Identity[key] = value, value
		_, err = tx.ExecContext(ctx, "UPDATE studies SET identity = $1 WHERE id = $2", marshal(stored.Identity), r.id)
		return err
	})
	return settled, err
}

func studyOf(ctx context.Context, q querier, name string) (*Record, error) {
	return scanRecord(q.QueryRowContext(ctx, "SELECT "+recordColumns+" FROM studies WHERE name = $1", name).Scan)
}

// Study finds a study; the error wraps ErrNoStudy if there is none of that name.
func (s *Store) Study(ctx context.Context, name string) (r *Record, err error) {
	err = s.read(ctx, func(q querier) (err error) {
		if r, err = studyOf(ctx, q, name); errors.Is(err, sql.ErrNoRows) {
			err = fmt.Errorf("study %q in %s: %w", name, s.path, ErrNoStudy)
		}
		if err == nil {
			err = r.check()
		}
		return err
	})
	return r, err
}

// Studies lists the studies, oldest first: with an error that wraps ErrDamaged, those that can be read.
func (s *Store) Studies(ctx context.Context) (records []*Record, err error) {
	err = s.read(ctx, func(q querier) error {
		records = nil
		var damaged []error
		err := each(ctx, q, func(scan func(...any) error) error {
			r, err := scanRecord(scan)
			switch {
			case errors.Is(err, ErrDamaged):
				damaged = append(damaged, err)
				return nil
			case err == nil:
				records = append(records, r)
			}
			return err
		}, "SELECT "+recordColumns+" FROM studies ORDER BY id")
		return cmp.Or(err, errors.Join(damaged...))
	})
	return records, err
}

// Trainings lists the full trainings of a study's plans, in the order in which they ended.
func (s *Store) Trainings(ctx context.Context, r *Record) (all []Training, err error) {
	err = s.read(ctx, func(q querier) error {
		all = nil
		return each(ctx, q, func(scan func(...any) error) error {
			var candidate, result string
			var seed int64
			var t Training
			if err := scan(&candidate, &seed, &t.Conditions, &result); err != nil {
				return err
			}
			t.Seed = uint64(seed)
			err := errors.Join(json.Unmarshal([]byte(candidate), &t.Candidate), json.Unmarshal([]byte(result), &t.Result))
			if err = cmp.Or(err, t.check(r.metric())); err != nil {
				return r.damaged("a full training with seed %d: %w", t.Seed, err)
			}
			all = append(all, t)
			return nil
		}, "SELECT candidate, seed, conditions, result FROM trainings WHERE study = $1 ORDER BY id", r.id)
	})
	return all, err
}

// AddTraining stores a full training. One that is there already stays: the same training has the same result.
func (s *Store) AddTraining(ctx context.Context, r *Record, t Training) error {
	return s.write(ctx, lasting, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO trainings (study, candidate, seed, conditions, result, finished)
			VALUES ($1, $2, $3, $4, $5, `+s.dialect.now+`) ON CONFLICT (study, candidate, seed, conditions) DO NOTHING`,
			r.id, marshal(t.Candidate), int64(t.Seed), t.Conditions, marshal(t.Result))
		return err
	})
}

// Clock is the database's time, by which leases end.
func (s *Store) Clock(ctx context.Context) (now time.Time, err error) {
	err = s.read(ctx, func(q querier) error {
		var milliseconds int64
		err := q.QueryRowContext(ctx, "SELECT "+s.dialect.now).Scan(&milliseconds)
		now = time.UnixMilli(milliseconds)
		return err
	})
	return now, err
}
