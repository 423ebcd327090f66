package main

import (
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
	jobs, err := serverJobs(cmd.Context(), dir)
	if err != nil {
		return environment("", err)
	}
	s, err := store.ReadServer(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("no server runs for %s", dir)
		if len(jobs) > 0 {
			return environment(waiting(dir, jobs[0]), fmt.Errorf("%w: %s", err, jobs[0]))
		}
		return environment("peftsearch db start "+commandLine(dir), err)
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
		err = fmt.Errorf("the server was at %s: %w", place, err)
		if len(jobs) > 0 {
			return environment(waiting(dir, jobs[0]), fmt.Errorf("%w; %s", err, jobs[0]))
		}
		return err
	}
	copied := "none yet"
	if info, err := os.Stat(filepath.Join(dir, server.DumpFile)); err == nil {
		copied = fmt.Sprintf("%s, %s old", filepath.Join(dir, server.DumpFile), duration(time.Since(info.ModTime())))
	}
	fmt.Fprintf(cmd.OutOrStdout(), "server  %s, answers\nstudies %d\ncopy    %s\nuse     --db %s\n", place, studies,
		copied, commandLine(dir))
	for _, job := range jobs {
		if job.ID != s.Job {
			fmt.Fprintf(cmd.OutOrStdout(), "next    %s\n", job)
		}
	}
	return nil
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

// waiting is what to do until a directory's server answers whose job is there.
func waiting(dir string, job slurm.Job) string {
	if job.Waits() {
		return "wait: searches and jobs do so, too. squeue --start --jobs=" + job.ID + " says more"
	}
	return "wait some seconds, then see " + filepath.Join(dir, serverLog)
}
