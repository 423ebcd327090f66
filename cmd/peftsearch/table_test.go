package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"charm.land/lipgloss/v2"
	"github.com/jedib0t/go-pretty/v6/table"
)

func TestTablesFitTheTerminal(t *testing.T) {
	const plan = "lora qv r8 L0-5 · parallel adapter 64 L0-3,5 · prefix 10 L4-5 · bitfit"
	modules := strings.Split(plan, " · ")
	for width := 40; width <= 120; width++ {
		var out bytes.Buffer
		s := newTable(&out, "trial", "params", "% of model", "accuracy", "", "plan")
		s.AppendRow(table.Row{7, "1,234,567", "1.234", "0.8123 ± 0.0123", green("recommended, best"), green(plan)})
		s.renderIn(width, right(1, 2, 3, 4), 3, 5, 2)
		for line := range strings.Lines(out.String()) {
			if got := lipgloss.Width(strings.TrimSuffix(line, "\n")); got > width {
				t.Fatalf("%d columns in a terminal of %d:\n%s", got, width, out.String())
			}
		}
		if whole := func(module string) bool { return strings.Contains(out.String(), module) }; width >= 60 &&
			slices.IndexFunc(modules, func(m string) bool { return !whole(m) }) >= 0 {
			t.Fatalf("a module is torn at %d columns:\n%s", width, out.String())
		}
	}
}
