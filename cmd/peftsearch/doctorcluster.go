package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"peftsearch/studies/slurm"
	"peftsearch/studies/store"
)

// bigSkew is a difference of clocks that makes times in tables and logs hard to follow.
const bigSkew = 2 * time.Second

// checkServer looks at a database on a server, and how far its clock is from this machine's. Leases end by the
// server's clock alone.
func checkServer(ctx context.Context, name string) check {
	c := check{name: "database", try: "see that the server runs and can be reached from here"}
	db, err := store.View(name)
	var known *store.Error
	switch {
	case errors.Is(err, store.ErrEmpty):
		c.detail = name + ", new"
		return c
	case errors.As(err, &known):
		says, try := queued(ctx, name)
		c.err, c.try = fmt.Errorf("%w%s", err, says), cmp.Or(try, known.Advice)
		return c
	case err != nil:
		c.err = err
		return c
	}
	records, err := db.Studies(ctx)
	before := time.Now()
	clock, clockErr := db.Clock(ctx)
	took := time.Since(before)
	if c.err = errors.Join(err, clockErr, db.Close()); c.err != nil {
		return c
	}
	c.detail = fmt.Sprintf("%s, %d studies, answers in %s", name, len(records), took.Round(100*time.Microsecond))
	if skew := clock.Sub(before.Add(took / 2)); skew.Abs() > bigSkew {
		c.more = append(c.more, fmt.Sprintf("Note: the server's clock is %s from this machine's; "+
			"searches go by the server's", skew.Round(time.Second)))
	}
	return c
}

// checkDisks tells the disks of this machine from those of a network, for what is read and written much. A database
// that is a file must lie on one of this machine.
func (g *globals) checkDisks(model string) check {
	c := check{name: "disks"}
	cache, err := os.UserCacheDir()
	if err != nil {
		c.err, c.try = err, "name a directory on a disk of this machine in XDG_CACHE_HOME"
		return c
	}
	database := g.db
	if store.IsServer(g.db) {
		database = ""
	}
	var places []string
	for _, d := range []struct{ what, path string }{{"database", database}, {"model", model}, {"hidden states", cache}} {
		if d.path == "" {
			continue
		}
		for { // it may not be there yet
			if _, err := os.Stat(d.path); err == nil || d.path == filepath.Dir(d.path) {
				break
			}
			d.path = filepath.Dir(d.path)
		}
		kind, err := store.NetworkDisk(d.path)
		if err != nil {
			c.err, c.try = err, "make it readable"
			return c
		}
		switch {
		case kind == "":
			kind = "a disk of this machine"
		case d.what == "database" && os.Getenv(store.AllowNetworkDisk) == "":
			c.err = fmt.Errorf("%s lies on %s, where SQLite's locks cannot be trusted: no search can write it", g.db, kind)
			c.try = "--db on a disk of this machine; of many machines, a server: peftsearch db start"
			return c
		case d.what == "hidden states":
			c.more = append(c.more, "Note: XDG_CACHE_HOME moves hidden states to a disk of this machine; "+
				"submit does so by itself")
		}
		places = append(places, fmt.Sprintf("%s on %s", d.what, kind))
	}
	c.detail = strings.Join(places, ", ")
	return c
}

// jobWait is how long the check from a job waits for a node.
const jobWait = 2 * time.Minute

// checkJob runs the same checks in a job of a minute.
func (g *globals) checkJob(ctx context.Context, study, options []string) check {
	c := check{name: "job", try: "squeue says why it waits; other options for Slurm follow --"}
	program, err := ownPath()
	if err != nil {
		c.err = err
		return c
	}
	words := append([]string{"--time=1", "--quiet", fmt.Sprintf("--immediate=%d", int(jobWait.Seconds()))}, options...)
	words = append(append(words, program, "doctor", "--no-color", "--db", g.db), study...)
	output, err := exec.CommandContext(ctx, "srun", words...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		c.err, c.try = slurm.ErrNoSlurm, "run this on a login node of the cluster"
		return c
	}
	lines := strings.Split(string(bytes.TrimSpace(output)), "\n")
	if err != nil {
		c.err, c.more = fmt.Errorf("on a node: %w", err), lines
		return c
	}
	c.detail, c.more = "the same on a node:", lines
	return c
}
