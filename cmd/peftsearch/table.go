package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"peftsearch/data/quote"
	"peftsearch/studies/report"
)

// sheet is a table without lines. Its text cells may be foreign text: what could move the cursor is spelled out.
type sheet struct {
	table.Writer
	widths []int // of the columns' widest cells
}

// painted is a cell with colours.
type painted string

func (s sheet) AppendRow(row table.Row) {
	for i, cell := range row {
		if text, ok := cell.(string); ok {
			row[i] = inLine(text)
		}
		s.widths[i] = max(s.widths[i], lipgloss.Width(fmt.Sprint(row[i])))
	}
	s.Writer.AppendRow(row)
}

func green(cell string) painted { return painted(text.FgGreen.Sprint(cell)) }

// inLine is foreign text for one line: bounded, and without what could move the cursor.
func inLine(s string) string { return quote.Line(quote.Message(s)) }

func newTable(w io.Writer, header ...any) sheet {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.Style().Options = table.OptionsNoBordersAndSeparators
	t.Style().Format.Header = text.FormatDefault
	t.Style().Color.Header = text.Colors{text.Bold}
	t.SuppressTrailingSpaces()
	t.Style().Box.PaddingLeft, t.Style().Box.PaddingRight = "", "  "
	widths := make([]int, len(header))
	for i, title := range header { // a metric is foreign text too
		text := inLine(fmt.Sprint(title))
		header[i], widths[i] = text, lipgloss.Width(text)
	}
	t.AppendHeader(header)
	return sheet{t, widths}
}

// right aligns columns, counted from 1.
func right(columns ...int) []table.ColumnConfig {
	configs := make([]table.ColumnConfig, len(columns))
	for i, number := range columns {
		configs[i] = table.ColumnConfig{Number: number, Align: text.AlignRight, AlignHeader: text.AlignRight}
	}
	return configs
}

// terminalWidth is that of the terminal that a file is, 0 if it is none.
func terminalWidth(f *os.File) int {
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// room is the least width that the last column of a table shall have.
const room = 22

// left is how much of a width is left for the last column beside those that are not hidden.
func (s sheet) left(width int, configs []table.ColumnConfig) int {
	const gap = 2
	rest := width - gap // behind the last column is one too
	for i, w := range s.widths[:len(s.widths)-1] {
		if !slices.ContainsFunc(configs, func(c table.ColumnConfig) bool { return c.Number == i+1 && c.Hidden }) {
			rest -= w + gap
		}
	}
	return rest
}

// renderIn writes the table in lines of at most so many columns, 0 for as many as there are. Columns of spare, counted
// from 1, are left out in this order until the last column has room; it is wrapped.
func (s sheet) renderIn(width int, configs []table.ColumnConfig, spare ...int) {
	last := len(s.widths)
	if width > 0 {
		for ; len(spare) > 0 && s.left(width, configs) < min(s.widths[last-1], room); spare = spare[1:] {
			configs = append(configs, table.ColumnConfig{Number: spare[0], Hidden: true})
		}
		configs = append(configs, table.ColumnConfig{Number: last, WidthMax: max(s.left(width, configs), 1),
			WidthMaxEnforcer: wrapPlan})
		s.Style().Size.WidthMax = width
	}
	s.SetColumnConfigs(configs)
	s.Render()
}

// wrapPlan wraps a plan between its modules, and within one only where that is longer than a line.
func wrapPlan(plan string, width int) string {
	const between = " · "
	parts := strings.Split(plan, between)
	for i, part := range parts {
		part = strings.ReplaceAll(part, "-", "\u2011") // of a range of layers
		parts[i] = part
		if lipgloss.Width(part)+len(" ·") <= width {
			parts[i] = strings.ReplaceAll(part, " ", "\u00a0")
		}
	}
	wrapped := lipgloss.Wrap(strings.Join(parts, "\u00a0· "), width, "")
	return strings.NewReplacer("\u00a0", " ", "\u2011", "-").Replace(wrapped)
}

// printFront writes the front as a table in lines of at most so many columns, 0 for as many as there are: the best and
// the recommended plan marked, with the columns that there is something for. Marks stand above their plans where they
// have no room beside them.
func printFront(w io.Writer, width int, metric string, front []report.FrontMember) {
	t, configs := frontTable(w, metric, front, false)
	shown := append(slices.Clone(configs), table.ColumnConfig{Number: 3, Hidden: true}) // the share goes first
	if width > 0 && t.left(width, shown) < min(t.widths[7], room) {
		t, configs = frontTable(w, metric, front, true)
	}
	t.renderIn(width, configs, 3, 5, 6, 2)
}

// frontTable is the table of a front, with marks above the plans or in a column of their own.
func frontTable(w io.Writer, metric string, front []report.FrontMember, above bool) (sheet, []table.ColumnConfig) {
	without := func(known func(m report.FrontMember) bool) bool { return !slices.ContainsFunc(front, known) }
	t := newTable(w, "trial", "params", "% of model", metric, "expected", "test ± sd (seeds)", "", "plan")
	configs := append(right(1, 2, 3, 4, 5, 6),
		table.ColumnConfig{Number: 5, Hidden: without(func(m report.FrontMember) bool { return m.Expected != nil })},
		table.ColumnConfig{Number: 6, Hidden: without(func(m report.FrontMember) bool { return m.Confirmed != nil })},
		table.ColumnConfig{Number: 7, Hidden: above})
	for _, m := range front {
		marks := standing(m)
		expected, test, mark, plan := "", "", strings.Join(marks, ", "), inLine(m.Plan.String())
		if m.Expected != nil {
			expected = plusMinus(*m.Expected, m.ExpectedSD)
		}
		if m.Confirmed != nil {
			test = spread(*m.Confirmed)
		}
		if above && len(marks) > 0 {
			for i, words := range marks { // none is torn
				marks[i] = strings.ReplaceAll(words, " ", "\u00a0")
			}
			mark, plan = "", strings.Join(marks, ", ")+"\n"+plan
		}
		paint := func(cell string) painted { return painted(cell) }
		if m.Recommended {
			paint = green
		}
		t.AppendRow(table.Row{m.Trial, thousands(m.Params), percent(m.ParamsPercent),
			plusMinus(m.Score, m.RowSD) + times(m.Trainings),
			expected, test, paint(mark), paint(plan)})
	}
	return t, configs
}

// standing says in words what is known of a member of a front.
func standing(m report.FrontMember) (words []string) {
	for _, w := range []struct {
		applies bool
		word    string
	}{{m.Recommended, "recommended"}, {m.Best, "best"}, {!m.OnFront, "off the front"}, {m.WithinNoise, "within noise"}} {
		if w.applies {
			words = append(words, w.word)
		}
	}
	return words
}

// printRecommendation says how sure the recommendation is.
func printRecommendation(w io.Writer, front report.Front) {
	r := front.Recommendation
	if r == nil {
		return
	}
	lines := fmt.Sprintf("recommended: trial %d, the best; every smaller plan is distinguishably worse", r.Trial)
	if r.Trial != r.Best {
		lines = fmt.Sprintf("recommended: trial %d, the smallest plan that is not distinguishably worse than the best, "+
			"trial %d: "+
			"as good with a probability of %.2f", r.Trial, r.Best, r.AsGood)
		if b := r.Behind; b != nil && b.SD != nil {
			lines += fmt.Sprintf("\nits score is %+.4f ± %.4f from that one's on the same dev rows (p = %.2g)",
				0-b.Mean, *b.SD, // which is never −0
				*b.PValue)
		}
	}
	fmt.Fprintf(w, "\n%s\n", wrapped(lines))
}

// wrapped is text in lines that fit the terminal that stderr is.
func wrapped(lines string) string {
	if width := terminalWidth(os.Stderr); width > 0 {
		return lipgloss.Wrap(lines, width, "")
	}
	return lines
}

// plusMinus writes a value with its standard deviation, if that is known.
func plusMinus(value float64, sd *float64) string {
	if sd == nil {
		return score(value)
	}
	return score(value) + " ± " + score(*sd)
}

// spread writes a sample of test scores: mean ± sd (seeds).
func spread(s report.TestScores) string {
	if s.SD == nil {
		return fmt.Sprintf("%s (%d)", score(s.Mean), s.Seeds)
	}
	return fmt.Sprintf("%s ± %s (%d)", score(s.Mean), score(*s.SD), s.Seeds)
}

func score(s float64) string { return strconv.FormatFloat(s, 'f', 4, 64) }

func percent(p float64) string { return strconv.FormatFloat(p, 'f', 3, 64) }

// thousands groups digits: 1234567 is 1,234,567.
func thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// brief writes a number of parameters in three digits: 1.23M, 45.6k, 789.
func brief(n int64) string {
	switch {
	case n >= 999_500:
		return strconv.FormatFloat(float64(n)/1e6, 'g', 3, 64) + "M"
	case n >= 1000:
		return strconv.FormatFloat(float64(n)/1e3, 'g', 3, 64) + "k"
	}
	return strconv.FormatInt(n, 10)
}

// count is a flag value for a number of parameters: 500000, 500k or 1.5M.
type count int64

func (c *count) String() string { return strconv.FormatInt(int64(*c), 10) }
func (*count) Type() string     { return "count" }

func (c *count) Set(s string) error {
	scale, digits := 1.0, s
	switch {
	case strings.HasSuffix(s, "k"):
		scale, digits = 1e3, strings.TrimSuffix(s, "k")
	case strings.HasSuffix(s, "M"):
		scale, digits = 1e6, strings.TrimSuffix(s, "M")
	}
	v, err := strconv.ParseFloat(digits, 64)
	if err != nil || !(v >= 0 && v*scale < 1<<53) {
		return errors.New("must be a number such as 500000, 500k or 1.5M")
	}
	*c = count(math.Round(v * scale))
	return nil
}

// duration writes a time span in its two largest units.
func duration(d time.Duration) string {
	switch {
	case d >= time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%ds", int(math.Ceil(d.Seconds())))
}
