package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"peftsearch/data/hub"
	"peftsearch/data/quote"
	"peftsearch/evaluator"
	"peftsearch/search"
	"peftsearch/studies"
	"peftsearch/studies/config"
	"peftsearch/studies/server"
	"peftsearch/studies/slurm"
	"peftsearch/studies/store"
)

// Exit codes; docs/reference/exit-codes.md describes them.
const (
	exitUnexpected  = 1
	exitUsage       = 2 // usage or study file; nothing was started
	exitNoTrial     = 3 // ended without a usable trial
	exitEnvironment = 4
	exitFailures    = 5 // too many trials failed
	exitInterrupted = 130
)

// failure is an error with its exit code and advice.
type failure struct {
	code int
	err  error
	try  string // what to do, "" if the error says it
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func usage(try, format string, args ...any) error {
	return &failure{exitUsage, fmt.Errorf(format, args...), try}
}

func environment(try string, err error) error { return &failure{exitEnvironment, err, try} }

// printError prints an error with what to do about it, and returns the exit code.
func printError(w io.Writer, err error) int {
	f := explain(err)
	if f.code == exitInterrupted { // no mistake, but what the user asked for
		fmt.Fprintf(w, "%s\nResume: %s\n", quote.Message(f.err.Error()), f.try)
		return f.code
	}
	for _, part := range mistakes(f.err) {
		fmt.Fprintln(w, "Error:", quote.Message(part.Error()))
	}
	if f.try != "" {
		fmt.Fprintln(w, "Try:  ", strings.ReplaceAll(f.try, "\n", "\n       "))
	}
	return f.code
}

// edge lists the errors that packages tell apart and that users may see, with exit code and advice. Of several
// joined ones the first in this list counts.
var edge = []struct {
	err  error
	code int
	try  string
}{
	{evaluator.ErrWorker, exitEnvironment, "peftsearch doctor STUDY.yaml; -v shows the worker's log"},
	{store.ErrNoStudy, exitUsage, "peftsearch ls lists the studies; --db names another database"},
	{store.ErrNoTrial, exitUsage, "peftsearch show STUDY lists the trials"},
	{store.ErrPath, exitUsage, "name a file with --db, with ./ before it if it looks like an address, or a server:\n" +
		"postgres://USER@HOST/NAME, whose password comes from ~/.pgpass or PGPASSWORD"},
	{hub.ErrNetwork, exitEnvironment,
		"a proxy is named by HTTPS_PROXY, a mirror by HF_ENDPOINT; a model directory that is copied here needs no network"},
	{hub.ErrRefused, exitUsage, "docs/how-to/models.md says which models can be used, and how"},
	{store.ErrDiverged, exitUsage, "copy it to another file"},
	{server.ErrDiverged, exitUsage,
		"--data with an empty directory begins with the copy, dump.db; under another name that is left\n" +
			"alone, and the server begins with its disk. Every command reads either with --db"},
	{store.ErrMirrored, exitUsage, "end the other session, or wait until it is silent for 5 minutes;\n" +
		"session.json in the mirror says which it is"},
	{slurm.ErrNoSlurm, exitEnvironment, "run this on a login node of the cluster; --dry-run prints the script"},
	{server.ErrRunning, exitUsage, "peftsearch db status DIR; peftsearch db stop DIR"},
	{server.ErrNotInstalled, exitEnvironment,
		"apt-get install postgresql, conda install postgresql, or name the directory of its programs in PEFTSEARCH_POSTGRES"},
	{search.ErrDamagedHistory, exitEnvironment, restore},
	{store.ErrDamaged, exitEnvironment, restore},
	{studies.ErrNotCalibrated, exitUsage, "peftsearch run the study first; or give rates under training.learning_rate"},
	{studies.ErrNoTestRows, exitUsage, "name a file under task.test, or set task.test_share above 0, in a new study"},
	{studies.ErrTooManyFailures, exitFailures,
		"peftsearch show STUDY lists the reasons; running again goes on with new trials"},
	{studies.ErrNoUsableTrial, exitNoTrial, "peftsearch show STUDY lists the reasons"},
}

const restore = "restore the database from a copy, or start a new study: give it another name under the key study"

// explain finds the exit code and the advice for an error.
func explain(err error) *failure {
	var known *failure
	var file *config.Error
	var identity *studies.IdentityError
	var warmStart *studies.WarmStartError
	var mapped *studies.MapError
	var database *store.Error
	var confirm *studies.ConfirmError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &file):
		return &failure{exitUsage, err, "peftsearch init - prints every key with its meaning and default"}
	case errors.As(err, &identity):
		another := "undo the change, or start a new study: give it another name under the key study"
		if identity.Related {
			another += ";\nwith --warm-start " + quote.Shell(identity.Study) + " it learns from this one"
		}
		return &failure{exitUsage, err, another}
	case errors.As(err, &mapped):
		return &failure{exitUsage, err, "name studies on one model with the same section training"}
	case errors.As(err, &warmStart):
		return &failure{exitUsage, err,
			"leave out --warm-start, or start a new study: give it another name under the key study"}
	case errors.As(err, &database):
		return &failure{exitEnvironment, err, database.Advice}
	case errors.As(err, &confirm):
		return &failure{exitNoTrial, err, "the same command tries them again; -v shows the worker's log"}
	}
	for _, e := range edge {
		if errors.Is(err, e.err) {
			return &failure{e.code, err, e.try}
		}
	}
	return &failure{exitUnexpected, err, ""}
}

// mistakes lists the mistakes of a study file one by one; any other error is one.
func mistakes(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	for _, part := range joined.Unwrap() {
		var file *config.Error
		if !errors.As(part, &file) {
			return []error{err}
		}
	}
	return joined.Unwrap()
}
