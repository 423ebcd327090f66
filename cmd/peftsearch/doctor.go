package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// cores is the number of processor cores.
func cores() int { return runtime.NumCPU() }

// check is one line of doctor.
type check struct {
	name   string
	result func(ctx context.Context) (string, error)
	try    string
}

func (a *app) doctor() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check what a search needs from this machine",
		Args:  exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks := []check{
				{"worker", workerVersion, "make build"},
				{"memory", memory, "close other programs; a worker with a small model needs about 2 GiB"},
				{"cores", func(context.Context) (string, error) { return fmt.Sprintf("%d", cores()), nil }, ""},
				{"database", a.databaseDirectory, "a directory that is writable: --db PATH"},
			}
			failed := false
			for _, c := range checks {
				result, err := c.result(cmd.Context())
				if err != nil {
					failed = true
					fmt.Fprintf(a.stdout, "✗ %-10s %v\n             %s\n", c.name, err, c.try)
					continue
				}
				fmt.Fprintf(a.stdout, "✓ %-10s %s\n", c.name, result)
			}
			if failed {
				return environment(errors.New("this machine is not ready"), "what stands below each ✗")
			}
			return nil
		},
	}
}

// workerVersion runs the worker once, which loads libtorch.
func workerVersion(ctx context.Context) (string, error) {
	path, err := findWorker()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	output, err := exec.CommandContext(ctx, path, "version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s does not start: %w: %s", path, err, strings.TrimSpace(string(output)))
	}
	return strings.TrimSpace(string(output)), nil
}

func memory(context.Context) (string, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return "", err
	}
	const gib = 1 << 30
	total := float64(info.Totalram) * float64(info.Unit) / gib
	if total < 2 {
		return "", fmt.Errorf("%.1f GiB", total)
	}
	return fmt.Sprintf("%.1f GiB", total), nil
}

func (a *app) databaseDirectory(context.Context) (string, error) {
	dir := filepath.Dir(a.db)
	f, err := os.CreateTemp(dir, ".peftsearch-*")
	if err != nil {
		return "", err
	}
	f.Close()
	return a.db, os.Remove(f.Name())
}
