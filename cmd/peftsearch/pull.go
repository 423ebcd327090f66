package main

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"peftsearch/data/checkpoint"
	"peftsearch/data/hub"
	"peftsearch/data/tokenizer"
)

func newPull(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "pull MODEL",
		Short: "Download a model from the Hugging Face Hub",
		Long: `Download what a search needs of a model, by its name on the Hugging Face Hub and optionally a revision, into
the cache that Hugging Face's libraries use too, and print its directory. A study file names it in the same way, under
model.path. A download that is interrupted goes on where it was, and every file's checksum is checked.

HF_HOME or HF_HUB_CACHE names the cache, HF_ENDPOINT a mirror, HF_TOKEN what private and gated models need.`,
		Example: "  peftsearch pull EMBEDDIA/sloberta\n  peftsearch pull FacebookAI/xlm-roberta-base@main",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, ok := hub.Parse(args[0])
			if !ok {
				return usage("peftsearch pull OWNER/NAME", "%q is not the name of a model", args[0])
			}
			client, err := hub.NewClient()
			if err != nil {
				return err
			}
			display := g.newDisplay(cmd.ErrOrStderr(), logText)
			progress := pullProgress{display: display}
			dir, err := client.Pull(cmd.Context(), m, progress.report)
			display.close()
			if cmd.Context().Err() != nil {
				return &failure{exitInterrupted, err, "peftsearch pull " + args[0]}
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), dir)
			return usable(dir)
		},
	}
}

// usable refuses a model that is no use here.
func usable(dir string) error {
	c, err := checkpoint.Open(dir)
	if err == nil {
		if err = c.Close(); err == nil {
			_, err = tokenizer.Load(dir)
		}
	}
	if err != nil {
		return usage("docs/how-to/models.md says which models can be used",
			"the model is there, but cannot be searched with: %w", err)
	}
	return nil
}

// pullProgress shows a download.
type pullProgress struct {
	*display
	start, logged time.Time
	file          string
	last          int64 // bytes at the last report
	fetched       int64 // bytes since start; what was there does not count
}

// report takes hub.Client.Pull's progress.
func (p *pullProgress) report(file string, done, total int64) {
	const mib = 1 << 20
	now := time.Now()
	if p.start.IsZero() {
		p.start = now
	}
	another := file != p.file
	if !another {
		p.fetched += done - p.last
	}
	p.file, p.last = file, done
	parts := []string{fmt.Sprintf("%d/%d MiB", done/mib, total/mib)}
	if rate := float64(p.fetched) / now.Sub(p.start).Seconds(); rate > 0 {
		left := time.Duration(float64(total-done) / rate * float64(time.Second))
		parts = append(parts, fmt.Sprintf("%.1f MiB/s", rate/mib), "ETA "+duration(left))
	}
	parts = append(parts, file)
	p.update(int(done/1024), int(total/1024), parts...)
	if p.bars == nil && (another || now.Sub(p.logged) > 10*time.Second) {
		p.logged = now
		p.note(slog.LevelInfo, strings.Join(parts, "  "))
	}
}
