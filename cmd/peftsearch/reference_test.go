package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestReference keeps docs/reference/cli.md as the commands describe themselves; UPDATE=1 writes it.
func TestReference(t *testing.T) {
	const path = "../../docs/reference/cli.md"
	want := reference(newRoot())
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(have)); diff != "" {
		t.Errorf("docs/reference/cli.md is stale: UPDATE=1 go test ./cmd/peftsearch -run Reference writes it\n%s", diff)
	}
}

func reference(root *cobra.Command) []byte {
	var b bytes.Buffer
	b.WriteString("# Command line\n\nData goes to stdout, everything else to stderr; [exit codes](exit-codes.md), " +
		"[JSON documents](json.md).\n" +
		"`peftsearch completion bash|zsh|fish|powershell` writes a completion script, which knows the studies.\n\n" +
		"Flags of every command:\n\n")
	writeFlags(&b, root.PersistentFlags())
	for _, cmd := range verbs(root) {
		fmt.Fprintf(&b, "\n## %s\n\n", strings.TrimSuffix(cmd.UseLine(), " [flags]"))
		if cmd.Long == "" {
			fmt.Fprintf(&b, "%s.\n", cmd.Short)
		} else {
			fmt.Fprintf(&b, "%s\n", cmd.Long)
		}
		if cmd.Example != "" {
			fmt.Fprintf(&b, "\n```\n%s\n```\n", strings.ReplaceAll(strings.TrimSpace(cmd.Example), "\n  ", "\n"))
		}
		if cmd.LocalNonPersistentFlags().HasFlags() {
			b.WriteByte('\n')
			writeFlags(&b, cmd.LocalNonPersistentFlags())
		}
	}
	return b.Bytes()
}

// verbs lists the commands that do something.
func verbs(parent *cobra.Command) (all []*cobra.Command) {
	for _, cmd := range parent.Commands() {
		if cmd.IsAvailableCommand() && cmd.Runnable() {
			all = append(all, cmd)
		}
		all = append(all, verbs(cmd)...)
	}
	return all
}

func writeFlags(b *bytes.Buffer, flags *pflag.FlagSet) {
	b.WriteString("| flag | default | meaning |\n|---|---|---|\n")
	flags.VisitAll(func(f *pflag.Flag) {
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name += ", `-" + f.Shorthand + "`"
		}
		standard := f.DefValue
		if _, required := f.Annotations[cobra.BashCompOneRequiredFlag]; required {
			standard = "*required*"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", name, standard, f.Usage)
	})
}
