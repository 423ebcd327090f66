package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"peftsearch/data/metric"
	"peftsearch/peft"
	"peftsearch/studies"
	"peftsearch/studies/store"
)

// screen is what a terminal of some size shows of a study.
type screen struct {
	*studies.Overview
	width, height int
	cursor        int      // index of a front member
	trouble       string   // why the study cannot be read now
	messages      []string // the latest last
	keys          string
	own           bool // this process runs it
}

// Smallest terminal that the parts fit in.
const (
	minWidth  = 60
	minHeight = 18
)

// String draws the screen: exactly so many lines, none longer than the width.
func (s screen) String() string {
	if s.width < minWidth || s.height < minHeight {
		return cut(fmt.Sprintf("%d×%d is too small: at least %d×%d", s.width, s.height, minWidth, minHeight), s.width)
	}
	head := []string{lipgloss.NewStyle().Bold(true).Render(cut(s.title(), s.width)), cut(s.status(), s.width)}
	foot, messages := s.growth(), make([]string, len(s.messages))
	for i, m := range s.messages {
		messages[i] = cut(m, s.width)
	}
	foot = append(foot, atMost(s.height/2-3-len(foot)-len(messages), s.running())...)
	foot = append(append(foot, messages...), shadeStyles[shadeFaint].Render(cut(s.keys, s.width)))
	rows := s.height - len(head) - len(foot)
	left := s.width * 58 / 100
	chart, side := s.chart(left, rows), s.member(s.width-left-2, rows)
	lines := head
	for i := range rows {
		lines = append(lines, pad(chart[i], left)+"  "+side[i])
	}
	return strings.Join(append(lines, foot...), "\n")
}

// atMost is at most so many lines, at least one, of which the last says how many others have no room.
func atMost(room int, lines []string) []string {
	if len(lines) <= room {
		return lines
	}
	return append(lines[:room-1:room-1], fmt.Sprintf("and %d more", len(lines)-room+1))
}

// cut shortens a text without colours to a number of columns.
func cut(line string, width int) string {
	line = inLine(line)
	if lipgloss.Width(line) <= width {
		return line
	}
	runes := []rune(line)
	for len(runes) > 0 && lipgloss.Width(string(runes)) > width-1 {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "…"
}

// pad fills a line up with spaces.
func pad(line string, width int) string {
	return line + strings.Repeat(" ", max(0, width-lipgloss.Width(line)))
}

func (s screen) title() string {
	t := s.Tally
	parts := []string{s.Record.Name, fmt.Sprintf("%d/%d", t.Finished(), max(s.Budget, t.Total()))}
	for _, c := range []struct {
		count int
		name  string
	}{{t.Running, "running"}, {t.Pruned, "pruned"}, {t.Failed, "failed"}} {
		if c.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.count, c.name))
		}
	}
	if n := len(s.Front.Members); n > 0 {
		best := s.Front.Members[n-1]
		parts = append(parts, fmt.Sprintf("best %s @ %s", score(best.Result.Score), brief(best.Params)),
			"HV "+score(s.Front.Hypervolume), fmt.Sprintf("front %d", n))
	}
	return strings.Join(parts, "  ")
}

// status says what the numbers cannot: that they are old, or that there will be no others.
func (s screen) status() string {
	switch left := s.remaining(); {
	case s.trouble != "":
		return "cannot be read, trying again: " + s.trouble
	case s.over():
		return "finished"
	case s.Tally.Running == 0 && s.Tally.Total() > 0 && !s.own:
		return "nobody is running it"
	case left > 0:
		return "ETA " + duration(left)
	}
	return ""
}

// over reports whether the study has its trials.
func (s screen) over() bool {
	return s.Budget > 0 && s.Tally.Finished() >= s.Budget && s.Tally.Running+s.Tally.Waiting == 0
}

// remaining is how long the rest takes, judging by the trials so far; 0 if unknown.
func (s screen) remaining() time.Duration {
	var seconds []float64
	for _, t := range s.Trials {
		if t.State == store.Complete || t.State == store.Pruned {
			seconds = append(seconds, t.Seconds)
		}
	}
	left := max(s.Budget, s.Tally.Total()) - s.Tally.Finished()
	if len(seconds) == 0 || s.Tally.Running == 0 || left <= 0 {
		return 0
	}
	slices.Sort(seconds)
	return time.Duration(seconds[len(seconds)/2] * float64(left) / float64(s.Tally.Running) * float64(time.Second))
}

// chart draws every score against the size, the sizes on a logarithmic axis.
func (s screen) chart(width, height int) []string {
	low, high := math.Inf(1), math.Inf(-1)
	smallest, largest := math.Inf(1), 1.0
	for _, t := range s.Trials {
		if t.State == store.Complete || t.State == store.Pruned {
			low, high = min(low, t.Score), max(high, t.Score)
			largest = max(largest, float64(t.Params))
			if t.Params > 0 {
				smallest = min(smallest, float64(t.Params))
			}
		}
	}
	lines := make([]string, height)
	if math.IsInf(low, 1) {
		lines[height/2] = "   waiting for the first score"
		return lines
	}
	decimals := 3 // as many as tell scores apart
	if span := max(math.Abs(low), math.Abs(high)); span >= 1000 {
		decimals = 0
	}
	gutter := 1
	for _, score := range []float64{low, high, (low + high) / 2} {
		gutter = max(gutter, 2+len(fmt.Sprintf("%.*f", decimals, score)))
	}
	c := newCanvas(width-gutter, height-2)
	first := math.Log10(min(smallest, largest) / 2) // head only lies here
	x := func(params int64) float64 {
		return (math.Log10(max(float64(params), math.Pow(10, first))) - first) / max(math.Log10(largest)-first, 1e-9)
	}
	y := func(score float64) float64 { return (score - low) / max(high-low, 1e-9) }
	for _, t := range s.Trials {
		switch t.State {
		case store.Complete:
			c.dot(x(t.Params), y(t.Score), shadeComplete)
		case store.Pruned:
			c.dot(x(t.Params), y(t.Score), shadePruned)
		}
	}
	members := s.Front.Members
	for i, m := range members {
		until := 1.0
		if i+1 < len(members) {
			until = x(members[i+1].Params)
			c.line(until, y(m.Result.Score), until, y(members[i+1].Result.Score), shadeFront)
		}
		c.line(x(m.Params), y(m.Result.Score), until, y(m.Result.Score), shadeFront)
	}
	for _, m := range members {
		c.mark(x(m.Params), y(m.Result.Score), '•', shadeFront)
	}
	if m, ok := s.chosen(); ok && s.cursor >= 0 {
		c.mark(x(m.Params), y(m.Result.Score), '◆', shadeChosen)
	}
	for i, row := range c.lines() {
		label := ""
		if last := c.height - 1; i == 0 || high > low && (i == last || i == last/2) {
			label = fmt.Sprintf("%.*f", decimals, high-(high-low)*float64(i)/float64(max(last, 1)))
		}
		lines[i] = fmt.Sprintf("%*s│%s", gutter-1, label, row)
	}
	lines[height-2] = strings.Repeat(" ", gutter-1) + "└" + strings.Repeat("─", c.width)
	axis := []rune(strings.Repeat(" ", width))
	place := func(value float64, label string) {
		at := gutter + int(value*float64(c.width-1)) - len(label)/2
		at = min(max(at, gutter), width-len(label))
		if strings.TrimSpace(string(axis[max(at-1, 0):min(at+len(label)+1, width)])) == "" {
			copy(axis[at:], []rune(label))
		}
	}
	if len(members) > 0 && members[0].Params == 0 {
		place(0, "0")
	}
	for _, digit := range []int64{1, 3, 2, 5} { // what has no room beside those before is left out
		for power := math.Floor(first); power <= math.Log10(largest); power++ {
			if params := digit * int64(math.Pow(10, power)); float64(params) > math.Pow(10, first) &&
				float64(params) <= largest {
				place(x(params), brief(params))
			}
		}
	}
	lines[height-1] = string(axis)
	return lines
}

// chosen is the front member under the cursor.
func (s screen) chosen() (store.Trial, bool) {
	if len(s.Front.Members) == 0 {
		return store.Trial{}, false
	}
	return s.Front.Members[min(max(s.cursor, 0), len(s.Front.Members)-1)], true
}

// member describes the front member under the cursor, with a map of its modules by method and layer.
func (s screen) member(width, height int) []string {
	lines := make([]string, height)
	m, ok := s.chosen()
	if !ok {
		return lines
	}
	own := []string{
		shadeStyles[shadeChosen].Render(
			cut(fmt.Sprintf("◆ trial %d, %d of %d on the front", m.Number, s.cursor+1, len(s.Front.Members)), width),
		),
		cut(
			fmt.Sprintf(
				"%s parameters, %s %%",
				thousands(m.Params),
				percent(100*float64(m.Params)/float64(s.Record.Geometry.BackboneParams)),
			),
			width,
		),
	}
	value := score(m.Result.Score)
	if sd := s.RowSD(m.Number); !math.IsNaN(sd) {
		value = plusMinus(m.Result.Score, &sd)
	}
	own = append(own, inTurn(width, s.Record.Metric, value)...)
	if len(s.Confirmed) > 0 {
		if c := s.Confirmed.Of(m.Candidate); c != nil {
			test := []string{"on test " + score(c.Test.Mean)}
			if low, high, ok := c.Test.Interval(metric.Name(s.Record.Metric)); ok {
				test = append(test, fmt.Sprintf("[%.3f, %.3f]", low, high))
			}
			own = append(own, inTurn(width, test...)...)
		}
	}
	own = append(own, "")
	own = append(own, planMap(m.Candidate.Plan, width)...)
	own = append(own, "")
	own = append(own, strings.Split(wrapPlan(inLine(m.Candidate.Plan.String()), width), "\n")...)
	copy(lines, own)
	return lines
}

// inTurn puts parts into a line, or into one each where they do not fit.
func inTurn(width int, parts ...string) []string {
	if line := inLine(strings.Join(parts, " ")); lipgloss.Width(line) <= width {
		return []string{line}
	}
	for i := range parts {
		parts[i] = cut(parts[i], width)
	}
	return parts
}

// planMap draws the modules of a plan: a row for each method that it has, a column for each layer, darker for larger
// sizes of the method.
func planMap(p peft.Plan, width int) []string {
	const gutter = 10
	var lines []string
	column := 2
	if gutter+2*len(p.Layers) > width {
		column = 1
	}
	for _, m := range peft.Methods {
		largest := 0
		for _, l := range p.Layers {
			if module := l.Module(m); module != nil {
				largest = max(largest, module.Size())
			}
		}
		if largest == 0 {
			continue
		}
		var row strings.Builder
		for _, l := range p.Layers[:min(len(p.Layers), max(width-gutter, 0)/column)] {
			cell := '·'
			if module := l.Module(m); module != nil {
				cell = []rune("░▒▓█")[min(3, int(4*math.Log1p(float64(module.Size()))/math.Log1p(float64(largest))-1e-9))]
			}
			row.WriteString(strings.Repeat(string(cell), column))
		}
		lines = append(lines, fmt.Sprintf("%-*s%s", gutter, m, row.String()))
	}
	if len(lines) > 0 {
		lines = append(lines, cut(fmt.Sprintf("%-*slayers 0 to %d", gutter, "", len(p.Layers)-1), width))
	}
	return lines
}

// growth draws the hypervolume over the trials.
func (s screen) growth() []string {
	points := s.Growth(s.Record.Reference)
	if len(points) < 2 {
		return nil
	}
	const rows, gutter = 2, 7
	c := newCanvas(s.width-gutter, rows)
	top := max(points[len(points)-1].Hypervolume, 1e-9)
	for i, p := range points[1:] {
		x := func(i int) float64 { return float64(i) / float64(len(points)-1) }
		c.line(x(i), points[i].Hypervolume/top, x(i+1), p.Hypervolume/top, shadeFront)
	}
	lines := c.lines()
	for i, name := range []string{"hyper-", "volume"} {
		lines[i] = fmt.Sprintf("%-*s%s", gutter, name, lines[i])
	}
	return lines
}

// running lists the trials that run, with how far they are and their curves.
func (s screen) running() []string {
	var lines []string
	for i, a := range s.Attempts {
		t := s.Running[i]
		parts := []string{fmt.Sprintf("#%-4d", a.Trial)}
		switch {
		case a.Progress.What != "":
			parts = append(parts, doing(a.Progress.Doing))
		case a.Progress.Steps == 0:
			parts = append(parts, "begins")
		default:
			share := float64(a.Progress.Step) / float64(a.Progress.Steps)
			done := int(10 * share)
			parts = append(parts, strings.Repeat("█", done)+strings.Repeat("░", 10-done),
				fmt.Sprintf("%d/%d", a.Progress.Step, a.Progress.Steps))
			if took := a.Reported.Sub(a.Started); share > 0 && took > 0 {
				parts = append(parts, "ETA "+duration(time.Duration(float64(took)*(1-share)/share)))
			}
		}
		if len(t.Curve) > 0 {
			parts = append(parts, sparkline(t.Curve)+" "+score(t.Curve[len(t.Curve)-1].Score))
		}
		parts = append(parts, brief(t.Params), t.Candidate.Plan.String())
		lines = append(lines, cut(strings.Join(parts, "  "), s.width))
	}
	return lines
}

// sparkline draws the scores of a curve.
func sparkline(curve []store.CurvePoint) string {
	low, high := math.Inf(1), math.Inf(-1)
	for _, p := range curve {
		low, high = min(low, p.Score), max(high, p.Score)
	}
	var b strings.Builder
	for _, p := range curve {
		b.WriteRune([]rune("▁▂▃▄▅▆▇█")[min(7, int(8*(p.Score-low)/max(high-low, 1e-9)))])
	}
	return b.String()
}
