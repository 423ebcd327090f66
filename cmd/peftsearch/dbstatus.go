package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"peftsearch/studies/server"
	"peftsearch/studies/slurm"
	"peftsearch/studies/store"
)

func newDBStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status DIR",
		Short: "Say whether the server of a directory answers",
		Long: `Say whether the server of a directory answers, where, how many studies it has and how old its copy is. Of
servers that are queued as Slurm jobs it says why they wait, and when Slurm expects them to start.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return showServer(cmd, args[0]) },
	}
}

func showServer(cmd *cobra.Command, dir string) error {
	s, err := store.ReadServer(dir)
	if errors.Is(err, fs.ErrNotExist) {
		says, try := queued(cmd.Context(), dir)
		return environment(cmp.Or(try, "peftsearch db start "+commandLine(dir)),
			fmt.Errorf("no server runs for %s%s", dir, says))
	}
	if err != nil {
		return err
	}
	place := fmt.Sprintf("%s:%d, process %d", s.Host, s.Port, s.PID)
	if s.Job != "" {
		place = fmt.Sprintf("%s:%d, job %s", s.Host, s.Port, s.Job)
	}
	studies := 0
	db, err := store.View(dir)
	if err == nil {
		records, listErr := db.Studies(cmd.Context())
		studies, err = len(records), errors.Join(listErr, db.Close())
	}
	if err != nil && !errors.Is(err, store.ErrEmpty) {
		says, try := queued(cmd.Context(), dir)
		err = fmt.Errorf("the server was at %s: %w%s", place, err, says)
		if try != "" {
			return environment(try, err)
		}
		return err
	}
	copied := "none yet"
	if info, err := os.Stat(filepath.Join(dir, server.DumpFile)); err == nil {
		copied = fmt.Sprintf("%s, %s old", filepath.Join(dir, server.DumpFile), duration(time.Since(info.ModTime())))
	}
	fmt.Fprintf(cmd.OutOrStdout(), "server  %s, answers\nstudies %d\ncopy    %s\nuse     --db %s\n", place, studies,
		copied, commandLine(dir))
	if s.Job == "" {
		return nil
	}
	jobs, err := serverJobs(cmd.Context(), dir)
	for _, job := range jobs {
		if job.ID != s.Job {
			fmt.Fprintf(cmd.OutOrStdout(), "next    %s\n", job)
		}
	}
	return err
}

// serverJob is the name of the jobs that serve a directory, whatever name it is given.
func serverJob(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	return "peftsearch-db " + dir, err
}

// serverJobs are the caller's jobs that serve a directory or wait to do so: none where there is no Slurm.
func serverJobs(ctx context.Context, dir string) ([]slurm.Job, error) {
	name, err := serverJob(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	jobs, err := slurm.Jobs(ctx, name)
	if errors.Is(err, slurm.ErrNoSlurm) {
		return nil, nil
	}
	return jobs, err
}

// queued says of a directory whose server does not answer whether a job is to serve it, to be added to an error, and
// what to do then; both are "" if there is none.
func queued(ctx context.Context, dir string) (says, try string) {
	jobs, err := serverJobs(ctx, dir)
	switch {
	case err != nil:
		return fmt.Sprintf("; whether one is queued is unknown: %v", err), ""
	case len(jobs) == 0:
		return "", ""
	case jobs[0].Waits():
		try = "wait: searches and jobs do so, too. squeue --start --jobs=" + jobs[0].ID + " says more"
	default:
		try = "wait some seconds, then see " + filepath.Join(dir, serverLog)
	}
	return "; " + jobs[0].String(), try
}
