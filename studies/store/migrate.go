package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"peftsearch/evaluator"
)

//go:embed schema/*.sql
var scripts embed.FS

// schemaVersion is the number of scripts, and the user_version of a database with all of them. From markedSchema
// on our files have our application id.
const (
	schemaVersion = 12
	markedSchema  = 6
)

// migrate brings the schema up to date, in one transaction. It refuses while a process of an older version works on
// it, unless it is a copy that nobody works on.
func (s *Store) migrate(ctx context.Context, shared bool) error {
	return s.transact(ctx, lasting, func(tx *sql.Tx) error {
		if s.dialect.migrate != "" {
			if err := do(ctx, tx, s.dialect.migrate); err != nil {
				return err
			}
		}
		version, err := s.dialect.version(ctx, tx)
		if err != nil || version == schemaVersion {
			return err
		}
		unmarked := version < markedSchema
		if shared && version > 0 {
			if err := s.idle(ctx, tx, unmarked); err != nil {
				return err
			}
		}
		for ; version < schemaVersion; version++ {
			script, err := scripts.ReadFile(fmt.Sprintf("schema/%04d.sql", version+1))
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, s.dialect.schema(string(script))); err != nil {
				return fmt.Errorf("migration %d: %w", version+1, err)
			}
		}
		if unmarked {
			if err := setKeys(ctx, tx, "SELECT study, number, candidate FROM trials ORDER BY study, number"); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "INSERT INTO instance (id, live) VALUES ($1, 0)", rand.Text()); err != nil {
				return err
			}
		}
		return do(ctx, tx, s.dialect.migrated)
	})
}

// idle refuses while a process of an older version may be at work: it could not store what it is training. Trials that
// such a process has left running wait again. unmarked databases say in another way who runs them.
func (s *Store) idle(ctx context.Context, tx *sql.Tx, unmarked bool) error {
	me := ThisProcess()
	var working error
	check := func(o Owner, late bool) {
		if life := o.seen(me); life == alive || life == unseen && !late {
			pid, _, _ := strings.Cut(o.Process, " ")
			working = &Error{Doing: "opening",
				Err:    fmt.Errorf("process %s on %s is running trials of it with an older peftsearch", pid, o.Host),
				Advice: "let it end, or stop it with Ctrl-C, and run again"}
		}
	}
	if !unmarked { // Pop makes trials wait whose processes have ended
		err := each(ctx, tx, func(scan func(...any) error) error {
			var o Owner
			var late bool
			err := scan(&o.Host, &o.Boot, &o.Namespace, &o.Process, &late)
			check(o, late)
			return err
		}, "SELECT host, boot, namespace, process, until < "+s.dialect.now+" FROM leases")
		return cmp.Or(err, working)
	}
	if err := each(ctx, tx, func(scan func(...any) error) error {
		var host, process string
		var heartbeat int64
		err := scan(&host, &process, &heartbeat)
		name, boot, _ := strings.Cut(host, " ")
		check(Owner{Host: name, Boot: boot, Namespace: me.Namespace, Process: process},
			time.Since(time.Unix(heartbeat, 0)) > leaseTime)
		return err
	}, `SELECT COALESCE(host, ''), COALESCE(process, ''), COALESCE(heartbeat, 0)
		FROM trials WHERE state = 'running'`); err != nil || working != nil {
		return cmp.Or(err, working)
	}
	_, err := tx.ExecContext(ctx, "UPDATE trials SET state = 'waiting', lease = NULL WHERE state = 'running'")
	return err
}

// KeyOf is equal for two candidates exactly if they are the same: a digest of the candidate's own key, short enough
// for an index.
func KeyOf(c evaluator.Candidate) string {
	sum := sha256.Sum256([]byte(c.Key()))
	return hex.EncodeToString(sum[:16])
}

// setKeys computes the keys of stored candidates. A database has those of the version that wrote them; of two trials
// with one key the later one loses it.
func setKeys(ctx context.Context, tx *sql.Tx, query string, args ...any) error {
	type place struct{ study, number int64 }
	type candidate struct {
		study int64
		key   string
	}
	var places []place
	var keys []string
	if err := each(ctx, tx, func(scan func(...any) error) error {
		var at place
		var text string
		var c evaluator.Candidate
		if err := scan(&at.study, &at.number, &text); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			return fmt.Errorf("%w: candidate of trial %d: %w", ErrDamaged, at.number, err)
		}
		places, keys = append(places, at), append(keys, KeyOf(c))
		return nil
	}, query, args...); err != nil {
		return err
	}
	update, err := tx.PrepareContext(ctx, "UPDATE trials SET candidate_key = $1 WHERE study = $2 AND number = $3")
	if err != nil {
		return err
	}
	defer update.Close()
	for _, at := range places { // first, so that no key is in the way of a new one
		if _, err := update.ExecContext(ctx, nil, at.study, at.number); err != nil {
			return err
		}
	}
	seen := map[candidate]bool{}
	for i, at := range places {
		if c := (candidate{at.study, keys[i]}); !seen[c] {
			seen[c] = true
			if _, err := update.ExecContext(ctx, keys[i], at.study, at.number); err != nil {
				return err
			}
		}
	}
	return nil
}
