package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"peftsearch/evaluator"
	"peftsearch/studies"
)

const workerName = "peftsearch-worker"

var errNoWorker = errors.New(workerName + " is neither next to peftsearch nor in PATH")

// workerCommand is the study file's command, or peftsearch-worker: next to this program, else in PATH.
func workerCommand(configured []string) ([]string, error) {
	if len(configured) > 0 {
		return configured, nil
	}
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			beside := filepath.Join(filepath.Dir(self), workerName)
			if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
				return []string{beside}, nil
			}
		}
	}
	path, err := exec.LookPath(workerName)
	if err != nil {
		return nil, environment("make build builds it; peftsearch doctor checks it", errNoWorker)
	}
	return []string{path}, nil
}

// startWorker starts a worker process; its log goes to stderr if verbose.
func (g *globals) startWorker(ctx context.Context, command []string, hello evaluator.Hello, stderr io.Writer) (*evaluator.Process, error) {
	command, err := workerCommand(command)
	if err != nil {
		return nil, err
	}
	options := evaluator.ProcessOptions{Command: command, Hello: hello}
	if g.verbose {
		options.Log = stderr
	}
	process, err := evaluator.NewProcess(ctx, options)
	if err != nil && ctx.Err() == nil {
		return nil, environment("peftsearch doctor STUDY.yaml; -v shows the worker's log", err)
	}
	return process, err
}

// evaluators opens the evaluators of a study's workers; their logs go to log.
func (g *globals) evaluators(study *studies.Study, log io.Writer) func(context.Context) (evaluator.Evaluator, error) {
	config := study.Config()
	return func(ctx context.Context) (evaluator.Evaluator, error) {
		if config.Evaluator.Analytic {
			return study.Analytic(), nil
		}
		worker, err := g.startWorker(ctx, config.Evaluator.Command, config.Hello(cores()), log)
		if err != nil {
			return nil, err // not a nil worker in an interface
		}
		return worker, nil
	}
}

func cores() int { return runtime.GOMAXPROCS(0) }
