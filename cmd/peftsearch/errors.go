package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"peftsearch/studies"
)

// Exit codes; docs/reference/exit-codes.md says them to users.
const (
	exitDone        = 0
	exitUnexpected  = 1
	exitUsage       = 2 // usage or config, nothing was started
	exitNoTrial     = 3 // ended without a usable trial
	exitEnvironment = 4
	exitFailures    = 5 // too many failed trials
	exitInterrupted = 130
)

// commandError is an error with its exit code and what to do about it.
type commandError struct {
	err  error
	try  string // "" if the message says it
	code int
}

func (e *commandError) Error() string { return e.err.Error() }
func (e *commandError) Unwrap() error { return e.err }

func usage(err error, try string) error       { return &commandError{err, try, exitUsage} }
func environment(err error, try string) error { return &commandError{err, try, exitEnvironment} }

// interrupted says how to continue.
func interrupted(try string) error {
	return &commandError{errors.New("interrupted; everything that was finished is saved"), try, exitInterrupted}
}

// exit prints the error, once, and returns the exit code.
func (a *app) exit(err error) int {
	if err == nil {
		return exitDone
	}
	code, try := classify(err)
	fmt.Fprintf(a.stderr, "Error: %s\n", strings.TrimSpace(err.Error()))
	if try != "" {
		fmt.Fprintf(a.stderr, "Try:   %s\n", try)
	}
	return code
}

func classify(err error) (code int, try string) {
	var command *commandError
	var config *studies.ConfigError
	var identity *studies.IdentityError
	switch {
	case errors.As(err, &command):
		return command.code, command.try
	case errors.As(err, &identity):
		return exitUsage, "restore the inputs, or give the changed study another name (study: in the file)"
	case errors.As(err, &config):
		return exitUsage, "mend the study file; docs/reference/config.md and peftsearch init list every key"
	case errors.Is(err, studies.ErrNoStudy):
		return exitUsage, "peftsearch ls"
	case errors.Is(err, studies.ErrNoTrial):
		return exitUsage, "peftsearch show STUDY"
	case errors.Is(err, studies.ErrTooManyFailures):
		return exitFailures, "peftsearch show STUDY --trial N says why a trial failed"
	case errors.Is(err, studies.ErrNoUsableTrial):
		return exitNoTrial, "peftsearch show STUDY --trial N says why a trial failed"
	case errors.Is(err, context.Canceled):
		return exitInterrupted, ""
	case strings.HasPrefix(err.Error(), "unknown command"):
		return exitUsage, "peftsearch --help"
	}
	return exitUnexpected, ""
}
