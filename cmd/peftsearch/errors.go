package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"peftsearch/data/quote"
	"peftsearch/evaluator"
	"peftsearch/studies"
	"peftsearch/studies/config"
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

// explain finds the exit code and the advice for an error.
func explain(err error) *failure {
	var known *failure
	var file *config.Error
	var identity *studies.IdentityError
	var warmStart *studies.WarmStartError
	var database *store.Error
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
	case errors.As(err, &warmStart):
		return &failure{exitUsage, err, "leave out --warm-start, or start a new study: give it another name under the key study"}
	case errors.Is(err, evaluator.ErrWorker):
		return &failure{exitEnvironment, err, "peftsearch doctor STUDY.yaml; -v shows the worker's log"}
	case errors.Is(err, store.ErrNoStudy):
		return &failure{exitUsage, err, "peftsearch ls lists the studies; --db names another database"}
	case errors.Is(err, store.ErrNoTrial):
		return &failure{exitUsage, err, "peftsearch show STUDY lists the trials"}
	case errors.Is(err, studies.ErrNoTestRows):
		return &failure{exitUsage, err, "name a file under task.test, or set task.test_share above 0, in a new study"}
	case errors.Is(err, studies.ErrTooManyFailures):
		return &failure{exitFailures, err, "peftsearch show STUDY lists the reasons; running again goes on with new trials"}
	case errors.As(err, &database):
		return &failure{exitEnvironment, err, database.Advice}
	case errors.Is(err, store.ErrPath):
		return &failure{exitUsage, err, "name a file with --db"}
	case errors.Is(err, evaluator.ErrWorker):
		return &failure{exitEnvironment, err, "peftsearch doctor STUDY.yaml; -v shows the worker's log"}
	case errors.Is(err, studies.ErrNoUsableTrial):
		return &failure{exitNoTrial, err, "peftsearch show STUDY lists the reasons"}
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
