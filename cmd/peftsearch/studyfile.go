package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"peftsearch/data/files"
	"peftsearch/data/quote"
	"peftsearch/studies"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// fileFlags are the flags of verbs that use the study file of a stored study.
type fileFlags struct {
	config string
	trust  bool
}

// add adds --config, and --trust to a verb that runs the study's worker.
func (f *fileFlags) add(cmd *cobra.Command, runs bool) {
	cmd.Flags().StringVar(&f.config, "config", "",
		"study file; of a stored study, if it has moved or changed since it was last used")
	cmd.MarkFlagFilename("config", "yaml", "yml")
	if runs {
		cmd.Flags().BoolVar(&f.trust, "trust", false, "run an evaluator.command that only the database asks for")
	}
}

// open reads the study file of a stored study, as it was last used or as --config gives it, and opens what it
// names.
func (f fileFlags) open(record *store.Record, stderr io.Writer) (*config.Config, *config.Inputs, error) {
	if f.config != "" {
		file, err := config.Read(f.config)
		if err != nil {
			return nil, nil, err
		}
		if file.Study != record.Name {
			return nil, nil, usage("--config names the file of the study itself",
				"%s is the file of study %s, not of %s", f.config, quote.Text(file.Study), quote.Text(record.Name))
		}
		studies.Continue(record, file)
		inputs, err := file.OpenLoaded(studies.Loaded(record, file))
		return file, inputs, err
	}
	const moved = "--config FILE names the study file, if it or what it names has moved"
	file, err := studies.StudyFile(record)
	if err != nil {
		return nil, nil, &failure{exitUsage, fmt.Errorf("the study file in the database: %w", err), moved}
	}
	if now, err := files.Read(record.Path, files.Document); err == nil && string(now) != record.Config {
		fmt.Fprintf(stderr, "%s has changed since the study last used it; --config takes it as it is now\n",
			quote.Line(record.Path))
	}
	inputs, err := file.OpenLoaded(studies.Loaded(record, file))
	if err != nil {
		return nil, nil, &failure{exitUsage, err, moved}
	}
	return file, inputs, nil
}

// read reads a study file whose study the database may have already.
func (g *globals) read(cmd *cobra.Command, path string) (*config.Config, error) {
	file, err := config.Read(path)
	if err != nil || g.mustExist() != nil {
		return file, err
	}
	db, err := store.View(g.db)
	if err != nil {
		return file, nil // opening it for writing tells why, or mends it
	}
	defer db.Close()
	if record, err := db.Study(cmd.Context(), file.Study); err == nil {
		studies.Continue(record, file)
	}
	return file, nil
}

// mayRun refuses to run a program that nothing but the database asks for: the database may be somebody
// else's. A study file that the user gives, or owns at the place where the database says it is, asks for it too.
func (f fileFlags) mayRun(record *store.Record, file *config.Config) error {
	command := file.Evaluator.Command
	if len(command) == 0 || f.config != "" || f.trust {
		return nil
	}
	if info, err := os.Stat(record.Path); err == nil {
		owner, ok := info.Sys().(*syscall.Stat_t)
		own, err := config.Read(record.Path)
		if ok && int(owner.Uid) == os.Getuid() && err == nil && slices.Equal(own.Evaluator.Command, command) {
			return nil
		}
	}
	return &failure{exitUsage, fmt.Errorf("study %s runs a program that no study file of yours asks for: %s",
		quote.Text(record.Name), quote.Message(commandLine(command...))),
		"--config FILE names your study file; look at the program, then --trust runs it all the same"}
}

// openStudy opens the database for writing and a study in it, with its study file. The caller closes the
// store.
func (g *globals) openStudy(cmd *cobra.Command, name string, flags fileFlags) (*store.Store, *studies.Study, error) {
	if err := g.mustExist(); err != nil {
		return nil, nil, err
	}
	db, err := g.open()
	if err != nil {
		return nil, nil, err
	}
	study, err := g.continueStudy(cmd, db, name, flags)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, study, nil
}

func (g *globals) continueStudy(cmd *cobra.Command, db *store.Store, name string,
	flags fileFlags) (*studies.Study, error) {
	record, err := db.Study(cmd.Context(), name)
	if err != nil {
		return nil, err
	}
	file, inputs, err := flags.open(record, g.notes(cmd))
	if err != nil {
		return nil, err
	}
	return studies.Start(cmd.Context(), db, file, inputs)
}

// warnMixed says what is doubtful about comparing new scores of a study with those that it has.
func (g *globals) warnMixed(cmd *cobra.Command, study *studies.Study) {
	if study.Continued() && studies.TrainedOtherwise(study.Record(), study.Config()) {
		fmt.Fprintf(g.notes(cmd), "Warning: an older peftsearch trained study %[1]s in another way: "+
			"new scores do not quite compare with its own;\n         a new study with --warm-start %[1]s learns from it\n",
			commandLine(study.Record().Name))
	}
}

// notes is where remarks go that --quiet turns off.
func (g *globals) notes(cmd *cobra.Command) io.Writer {
	if g.quiet {
		return io.Discard
	}
	return cmd.ErrOrStderr()
}
