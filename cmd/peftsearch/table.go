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

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"peftsearch/data/quote"
	"peftsearch/studies/report"
)

// sheet is a table without lines. Its text cells may be foreign text: what could move the cursor is spelled out.
type sheet struct{ table.Writer }

// painted is a cell with colours.
type painted string

func (s sheet) AppendRow(row table.Row) {
	for i, cell := range row {
		if text, ok := cell.(string); ok {
			row[i] = inLine(text)
		}
	}
	s.Writer.AppendRow(row)
}

func green(cell string) painted { return painted(text.FgGreen.Sprint(inLine(cell))) }

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
	for i, title := range header { // a metric is foreign text too
		header[i] = inLine(fmt.Sprint(title))
	}
	t.AppendHeader(header)
	return sheet{t}
}

// right aligns columns, counted from 1.
func right(columns ...int) []table.ColumnConfig {
	configs := make([]table.ColumnConfig, len(columns))
	for i, number := range columns {
		configs[i] = table.ColumnConfig{Number: number, Align: text.AlignRight, AlignHeader: text.AlignRight}
	}
	return configs
}

// planColumn wraps plans to what the terminal has left beside the columns before; elsewhere nothing wraps.
func planColumn(number, before int) table.ColumnConfig {
	config := table.ColumnConfig{Number: number, WidthMaxEnforcer: text.WrapSoft}
	if width, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		config.WidthMax = max(width-before, 30)
	}
	return config
}

// printFront writes the front as a table, the knee marked, with a column for confirmed test scores if
// there are any.
func printFront(w io.Writer, metric string, front []report.FrontMember) {
	shown := slices.ContainsFunc(front, func(m report.FrontMember) bool { return m.Confirmed != nil })
	t := newTable(w, "trial", "params", "% of model", metric, "test ± sd (seeds)", "", "plan")
	t.SetColumnConfigs(append(right(1, 2, 3, 4, 5), table.ColumnConfig{Number: 5, Hidden: !shown}, planColumn(7, 68)))
	for _, m := range front {
		var mark, plan any = "", m.Plan.String()
		test := ""
		if m.Confirmed != nil {
			test = spread(*m.Confirmed)
		}
		if m.Knee {
			mark, plan = green("knee"), green(m.Plan.String())
		}
		t.AppendRow(table.Row{m.Trial, thousands(m.Params), percent(m.ParamsPercent), score(m.Score), test, mark, plan})
	}
	t.Render()
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
