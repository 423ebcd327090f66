package storetest

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"peftsearch/search"
	"peftsearch/studies/store"
)

// Fill stores complete trials in a study that has none, many times faster than a search does: in one transaction, on a
// SQLite file that nobody else has open. trial gives the proposal of a number and its score. Each trial has a curve of
// four rungs, and the fronts are those that a search would have stored.
func Fill(path string, r *store.Record, n int64, trial func(number int64) (store.Proposal, float64, error)) (err error) {
	name := url.URL{Scheme: "file", Path: path}
	db, err := sql.Open("sqlite3", name.String()+"?_txlock=immediate")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	ctx := context.Background()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var study int64
	if err := tx.QueryRow("SELECT id FROM studies WHERE name = $1", r.Name).Scan(&study); err != nil {
		return err
	}
	insert := map[string]*sql.Stmt{}
	for table, columns := range map[string]string{
		"trials": "(study, number, version, state, origin, reason, point, candidate, candidate_key, params, seed, created, attempts, started, finished, score, best_step, steps, dev, head_params, wall_s, peak_bytes, stopped) VALUES ($1, $2, $2 + 1, 'complete', $3, $4, $5, $6, $7, $8, $9, 0, 1, 1000 * $2, 1000 * $2 + 900, $10, 300, 300, $11, 129, 0.9, 1000000, '')",
		"curves": "(study, trial, step, steps, loss, score) VALUES ($1, $2, $3, 300, 0.5, $4)",
		"fronts": "(study, sequence, trial, hypervolume, members) VALUES ($1, $2 + 1, $2, $3, $4)",
	} {
		if insert[table], err = tx.Prepare("INSERT INTO " + table + " " + columns); err != nil {
			return err
		}
		defer insert[table].Close()
	}
	var front []search.Outcome
	for number := range n {
		p, score, err := trial(number)
		if err != nil {
			return err
		}
		point, err := json.Marshal(p.Point)
		if err != nil {
			return err
		}
		candidate, err := json.Marshal(p.Candidate)
		if err != nil {
			return err
		}
		if _, err := insert["trials"].Exec(study, number, p.Origin, p.Reason, string(point), string(candidate), store.KeyOf(p.Candidate), p.Params,
			int64(store.TrialSeed(r.Seed, number)), score, fmt.Sprintf(`{"%s":%g}`, r.Metric, score)); err != nil {
			return err
		}
		for rung := 1; rung <= 4; rung++ {
			if _, err := insert["curves"].Exec(study, number, 75*rung, score*float64(rung)/4); err != nil {
				return err
			}
		}
		front = search.Front(append(front, search.Outcome{Number: number, Params: p.Params, Score: score}))
		members := make([]int64, len(front))
		for i, m := range front {
			members[i] = m.Number
		}
		listed, err := json.Marshal(members)
		if err != nil {
			return err
		}
		if _, err := insert["fronts"].Exec(study, number, search.Hypervolume(front, r.Reference), string(listed)); err != nil {
			return err
		}
	}
	if _, err := tx.Exec("UPDATE counters SET version = $1 WHERE study = $2", n, study); err != nil {
		return err
	}
	return tx.Commit()
}
