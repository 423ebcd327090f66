package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"charm.land/lipgloss/v2"
	"github.com/jedib0t/go-pretty/v6/table"

	"peftsearch/peft"
	"peftsearch/studies/report"
)

func TestTablesFitTheTerminal(t *testing.T) {
	const plan = "lora r8 L0-5 · parallel 64 L0-3,5 · prefix 10 L4-5 · bitfit L0-5"
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

// However narrow the terminal, the front says what is recommended and which steps may be noise.
func TestTheFrontKeepsItsMarks(t *testing.T) {
	layer := func(rank int) peft.Layer {
		return peft.Layer{}.With(peft.LoRA{Rank: rank}).With(peft.Prefix{Length: rank})
	}
	sd := 0.0082
	members := []report.FrontMember{
		{Trial: 0, Score: 0.1826, RowSD: &sd},
		{Trial: 7, Params: 5_382, Score: 0.5871, RowSD: &sd, WithinNoise: true,
			Plan: peft.Plan{Layers: []peft.Layer{layer(4), layer(8), nil}}},
		{Trial: 11, Params: 1_097_620, Score: 0.8298, RowSD: &sd, Best: true, Recommended: true,
			Plan: peft.Plan{Layers: []peft.Layer{layer(4), layer(8), layer(16)}}},
	}
	for i := range members {
		members[i].Expected, members[i].ExpectedSD, members[i].OnFront = &members[i].Score, &sd, true
	}
	for _, confirmed := range []*report.TestScores{nil, {Seeds: 5, Mean: 0.8261, SD: &sd}} {
		members[2].Confirmed = confirmed
		for _, width := range []int{60, 80, 100, 160, 0} {
			var out bytes.Buffer
			printFront(&out, width, "spearman", members)
			for line := range strings.Lines(out.String()) {
				if got := lipgloss.Width(strings.TrimSuffix(line, "\n")); width > 0 && got > width {
					t.Fatalf("%d columns in a terminal of %d:\n%s", got, width, out.String())
				}
			}
			for _, want := range []string{"recommended, best", "within noise", "params", "97,620"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q at %d columns:\n%s", want, width, out.String())
				}
			}
			if width >= 80 && confirmed != nil && !strings.Contains(out.String(), "0.8261 ± 0.0082 (5)") {
				t.Errorf("no test score at %d columns:\n%s", width, out.String())
			}
			if width == 80 {
				t.Log("\n" + out.String())
			}
		}
	}
}
