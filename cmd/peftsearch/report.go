package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"peftsearch/studies"
	"peftsearch/studies/report"
	"peftsearch/studies/store"
	"peftsearch/studies/web"
)

type reportFlags struct {
	out, figures  string
	asJSON, asCSV bool
}

func newReport(g *globals) *cobra.Command {
	var flags reportFlags
	cmd := &cobra.Command{
		Use:   "report STUDY…",
		Short: "Write a page, figures or tables of studies",
		Long: `Write what there is to see of studies, of which several are compared: as a page (--out), one file that any
browser shows without a network; as figures for a paper (--figures); as a table of the trials (--csv) or everything in
one document (--json) on stdout.`,
		Example: "  peftsearch report my-study --out report.html\n" +
			"  peftsearch report my-study other --figures figures\n  peftsearch report my-study --csv > trials.csv",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: g.completeStudies,
		RunE: func(cmd *cobra.Command, args []string) error {
			if flags == (reportFlags{}) {
				return usage(
					"peftsearch report "+args[0]+" --out report.html writes a page",
					"say what to write: --out, --figures, --csv or --json",
				)
			}
			return g.report(cmd, args, flags)
		},
	}
	set := cmd.Flags()
	set.StringVar(&flags.out, "out", "", "write the page to this file")
	set.StringVar(&flags.figures, "figures", "",
		"write the figures of the page to this directory as SVG, PDF and PNG")
	set.BoolVar(&flags.asCSV, "csv", false, "print the trials as CSV")
	set.BoolVar(&flags.asJSON, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("csv", "json", "out") // stdout names the files that were written
	cmd.MarkFlagsMutuallyExclusive("csv", "json", "figures")
	cmd.MarkFlagFilename("out", "html")
	cmd.MarkFlagDirname("figures")
	return cmd
}

func (g *globals) report(cmd *cobra.Command, names []string, flags reportFlags) error {
	if flags.asCSV {
		return g.csv(cmd.Context(), cmd.OutOrStdout(), names)
	}
	seen, err := g.seen(cmd.Context(), names)
	if err != nil {
		return err
	}
	for i := range seen {
		seen[i].Insight = report.NewInsight(seen[i].Overview)
	}
	views := report.NewViews(seen, time.Now())
	if flags.asJSON {
		return report.WriteViews(cmd.OutOrStdout(), views)
	}
	if flags.figures != "" {
		if err := report.WriteFigures(flags.figures, views); err != nil {
			return environment("choose a directory that can be written to", err)
		}
		fmt.Fprintln(cmd.OutOrStdout(), flags.figures)
	}
	if flags.out == "" {
		return nil
	}
	if err := writeFile(flags.out, func(w io.Writer) error { return web.WritePage(w, views) }); err != nil {
		return environment("choose a place that can be written to", err)
	}
	fmt.Fprintln(cmd.OutOrStdout(), flags.out)
	return nil
}

// csv prints the trials of studies.
func (g *globals) csv(ctx context.Context, w io.Writer, names []string) error {
	db, err := g.view()
	if err != nil {
		return err
	}
	defer db.Close()
	return writeSnapshot(ctx, db, w, func(w io.Writer, at *store.Store) error {
		var records []*store.Record
		for _, name := range names {
			record, err := at.Study(ctx, name)
			if err != nil {
				return err
			}
			records = append(records, record)
		}
		return writeCSV(ctx, w, at, records)
	})
}

func writeCSV(ctx context.Context, w io.Writer, at *store.Store, records []*store.Record) error {
	var tables []report.Table
	for _, record := range records {
		table, err := report.ReadTable(ctx, at, record)
		if err != nil {
			return err
		}
		tables = append(tables, table)
	}
	return report.WriteCSV(w, tables)
}

// writeSnapshot prints one moment of a database, however long that is: in a file first, since a snapshot may be read
// again and a study may turn out to be damaged in the middle.
func writeSnapshot(ctx context.Context, db *store.Store, w io.Writer,
	write func(w io.Writer, at *store.Store) error) (err error) {
	file, err := os.CreateTemp("", "peftsearch-*")
	if err != nil {
		return environment("TMPDIR names a directory that can be written to", err)
	}
	defer file.Close()
	if err := os.Remove(file.Name()); err != nil { // it ends with this program
		return err
	}
	if err := db.Snapshot(ctx, func(at *store.Store) error {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := file.Truncate(0); err != nil {
			return err
		}
		buffered := bufio.NewWriter(file)
		if err := write(buffered, at); err != nil {
			return err
		}
		return buffered.Flush()
	}); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(w, file)
	return err
}

// seen reads studies of the database, but for what takes a while to work out.
func (g *globals) seen(ctx context.Context, names []string) ([]report.Seen, error) {
	db, err := g.view()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var all []report.Seen
	for _, name := range names {
		record, err := db.Study(ctx, name)
		if err != nil {
			return nil, err
		}
		columns := report.NewColumns(record)
		overview, err := studies.Watch(db, record, columns.Put).Look(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, report.Seen{Overview: overview, Columns: columns})
	}
	return all, nil
}

// writeFile writes a file whole or not at all, in the place of one that is there.
func writeFile(path string, write func(w io.Writer) error) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	buffered := bufio.NewWriter(file)
	if err := errors.Join(write(buffered), buffered.Flush(), file.Chmod(0o644), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
