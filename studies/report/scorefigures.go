package report

import (
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"peftsearch/studies/store"
)

// atLeast draws plans without parameters, which a logarithmic axis has no place for, below the smallest others.
func (s View) atLeast() float64 { return float64(s.Reference.MinParams) / 2 }

func (s View) at(number int64) plotter.XY {
	return plotter.XY{X: max(float64(s.Trials.Params[number]), s.atLeast()), Y: *s.Trials.Score[number]}
}

func frontFigure(v Views) (*plot.Plot, error) {
	p := newPlot()
	p.X.Label.Text = "trainable parameters, without the head"
	p.Legend.Top, p.Legend.Left = true, true // where small plans would be best
	zero := 0.0                              // where plans without parameters are drawn, 0 if there is none
	p.X.Tick.Marker = plot.TickerFunc(func(low, high float64) []plot.Tick {
		ticks := logTicks(low, high)
		if zero > 0 {
			ticks = append(
				[]plot.Tick{{Value: zero, Label: "0"}},
				slices.DeleteFunc(ticks, func(t plot.Tick) bool { return t.Value < 2*zero })...)
		}
		return ticks
	})
	for k, s := range v.Studies {
		p.Y.Label.Text = s.Metric
		colour := palette[k%len(palette)]
		var all plotter.XYs
		for i, state := range s.Trials.State {
			if state == store.Complete {
				all = append(all, s.at(int64(i)))
			}
		}
		if len(all) == 0 {
			continue
		}
		dots, err := plotter.NewScatter(all)
		if err != nil {
			return nil, err
		}
		dots.GlyphStyle = draw.GlyphStyle{Color: grey, Radius: 1.5, Shape: draw.CircleGlyph{}}
		p.X.Scale = plot.LogScale{} // which there must be points for
		if s.Trials.Params[s.Front[0]] == 0 {
			zero = s.atLeast()
		}
		var stairs, members plotter.XYs
		for i, number := range s.Front {
			at := s.at(number)
			if i > 0 {
				stairs = append(stairs, plotter.XY{X: at.X, Y: members[i-1].Y})
			}
			stairs, members = append(stairs, at), append(members, at)
		}
		line, err := plotter.NewLine(stairs)
		if err != nil {
			return nil, err
		}
		line.Color = colour
		front, err := plotter.NewScatter(members)
		if err != nil {
			return nil, err
		}
		front.GlyphStyle = draw.GlyphStyle{Color: colour, Radius: 2.5, Shape: draw.CircleGlyph{}}
		p.Add(dots, line, front)
		p.Legend.Add(s.Study, line, front)
		if len(v.Studies) == 1 {
			if err := addConfirmed(p, s, all); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// intervals are points with what is known of them, as error bars of both directions read it.
type intervals struct {
	plotter.XYs
	plotter.XErrors
	plotter.YErrors
}

// ends are those of the interval of a confirmed mean, the mean itself for one seed.
func (c Confirmed) ends() (low, high float64) {
	if c.Test.Interval == nil {
		return c.Test.Mean, c.Test.Mean
	}
	return c.Test.Interval[0], c.Test.Interval[1]
}

// reach is the extent of scores with room for the ends of intervals: a quarter of the extent at each side at most, so
// that an interval of two seeds, which may be of any length, does not press the scores together. What goes on beyond
// is drawn without an end.
func reach(scores []float64, confirmed []Confirmed) (low, high float64) {
	low, high = slices.Min(scores), slices.Max(scores)
	least, greatest := low, high
	for _, c := range confirmed {
		from, to := c.ends()
		least, greatest = min(least, from), max(greatest, to)
	}
	if low == high {
		return least, greatest
	}
	room := (high - low) / 4
	return max(least, low-room), min(greatest, high+room)
}

// addConfirmed adds the confirmed means of the study's trials to its front, of these complete trials.
func addConfirmed(p *plot.Plot, s View, complete plotter.XYs) error {
	var scores []float64
	for _, at := range complete {
		scores = append(scores, at.Y)
	}
	var tested []Confirmed
	var all intervals
	for _, c := range s.Confirmed {
		if c.Trial == nil {
			continue
		}
		low, high := c.ends()
		tested, scores = append(tested, c), append(scores, c.Test.Mean)
		all.XYs = append(all.XYs, plotter.XY{X: max(float64(c.Params), s.atLeast()), Y: c.Test.Mean})
		all.YErrors = append(all.YErrors, struct{ Low, High float64 }{c.Test.Mean - low, high - c.Test.Mean})
	}
	if len(tested) == 0 {
		return nil
	}
	bars, err := plotter.NewYErrorBars(all)
	if err != nil {
		return err
	}
	means, err := plotter.NewScatter(all.XYs)
	if err != nil {
		return err
	}
	bars.Color = palette[2]
	means.GlyphStyle = draw.GlyphStyle{Color: palette[2], Radius: 2.5, Shape: draw.BoxGlyph{}}
	p.Add(bars, means)
	p.Y.Min, p.Y.Max = reach(scores, tested)
	p.Legend.Add("mean on test, 95 %", means)
	return nil
}

// confirmedFigure has a line for each confirmed plan: its scores, their mean and its interval.
func confirmedFigure(s View) (*plot.Plot, vg.Length, error) {
	n := len(s.Confirmed)
	if n == 0 {
		return nil, 0, nil
	}
	p := newPlot()
	p.X.Label.Text = s.Metric + " on test: each seed, their mean and its 95 % interval"
	var means intervals
	var seeds plotter.XYs
	var scores []float64
	names := make([]string, n)
	for i, c := range s.Confirmed {
		line := float64(n - 1 - i) // the first one is the highest
		names[i] = c.Plan
		if c.Trial != nil {
			names[i] = fmt.Sprintf("trial %d", *c.Trial)
		}
		names[i] += ", " + brief(float64(c.Params))
		low, high := c.ends()
		means.XYs = append(means.XYs, plotter.XY{X: c.Test.Mean, Y: line})
		means.XErrors = append(means.XErrors, struct{ Low, High float64 }{c.Test.Mean - low, high - c.Test.Mean})
		for _, score := range c.Scores {
			seeds, scores = append(seeds, plotter.XY{X: score, Y: line}), append(scores, score)
		}
	}
	bars, err := plotter.NewXErrorBars(means)
	if err != nil {
		return nil, 0, err
	}
	boxes, err := plotter.NewScatter(means.XYs)
	if err != nil {
		return nil, 0, err
	}
	dots, err := plotter.NewScatter(seeds)
	if err != nil {
		return nil, 0, err
	}
	bars.Color = palette[2]
	boxes.GlyphStyle = draw.GlyphStyle{Color: palette[2], Radius: 2.5, Shape: draw.BoxGlyph{}}
	dots.GlyphStyle = draw.GlyphStyle{Color: palette[0], Radius: 1.5, Shape: draw.CircleGlyph{}}
	p.Add(bars, boxes, dots)
	p.X.Min, p.X.Max = reach(scores, s.Confirmed)
	return p, list(p, names), nil
}

// list makes the vertical axis one of lines with names, the first one at the top, and returns the height for it.
func list(p *plot.Plot, names []string) vg.Length {
	ticks := make([]plot.Tick, len(names))
	for i, name := range names {
		ticks[i] = plot.Tick{Value: float64(len(names) - 1 - i), Label: name}
	}
	p.Y.Tick.Marker = plot.ConstantTicks(ticks)
	p.Y.Tick.Length, p.Y.LineStyle.Width = 0, 0
	p.Y.Min, p.Y.Max = -0.5, float64(len(names))-0.5
	return listHeight + rowHeight*vg.Length(len(names))
}

// logTicks marks powers of ten, and between them 3 where there are few.
func logTicks(low, high float64) (ticks []plot.Tick) {
	marks := []float64{1}
	if math.Log10(high/low) < 2.2 {
		marks = []float64{1, 3}
	}
	for power := math.Floor(math.Log10(low)); power <= math.Log10(high); power++ {
		for _, m := range marks {
			if v := m * math.Pow(10, power); v >= low && v <= high {
				ticks = append(ticks, plot.Tick{Value: v, Label: brief(v)})
			}
		}
	}
	return ticks
}

// brief writes a size: 1.2M, 300k, 10.
func brief(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 3, 64) + "M"
	case v >= 1e3:
		return strconv.FormatFloat(v/1e3, 'g', 3, 64) + "k"
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func growthFigure(v Views) (*plot.Plot, error) {
	p := newPlot()
	p.X.Label.Text, p.Y.Label.Text = "trials with an outcome", "hypervolume"
	p.Legend.Left, p.Legend.XOffs = true, 9*vg.Centimeter // below the curves
	for k, s := range v.Studies {
		growth := s.Growth
		if v.Scale != nil {
			growth = v.Scale.Growth[k]
		}
		var stairs plotter.XYs
		for i, volume := range growth.Hypervolume {
			x := float64(growth.Trials[i])
			if i > 0 {
				stairs = append(stairs, plotter.XY{X: x, Y: growth.Hypervolume[i-1]})
			}
			stairs = append(stairs, plotter.XY{X: x, Y: volume})
		}
		if len(stairs) == 0 {
			continue
		}
		line, err := plotter.NewLine(stairs)
		if err != nil {
			return nil, err
		}
		line.Color = palette[k%len(palette)]
		p.Add(line)
		p.Legend.Add(s.Study, line)
	}
	return p, nil
}

// drawnCurves is how many trials have their curves drawn, the latest, beside those of the front.
const drawnCurves = 100

// curvesFigure draws the dev scores of trials on the way, those of the front in a colour.
func curvesFigure(s View) (*plot.Plot, vg.Length, error) {
	var others []int64
	for i, curve := range s.Trials.Curve {
		if len(curve) > 2 && !slices.Contains(s.Front, int64(i)) { // two points at least
			others = append(others, int64(i))
		}
	}
	front := slices.DeleteFunc(slices.Clone(s.Front), func(i int64) bool { return len(s.Trials.Curve[i]) <= 2 })
	others = others[max(0, len(others)-drawnCurves):]
	if len(others)+len(front) == 0 {
		return nil, 0, nil
	}
	p := newPlot()
	p.X.Label.Text, p.Y.Label.Text = "share of the budget of a trial", s.Metric+" on dev"
	p.Legend.Top, p.Legend.Left = true, true // above where curves begin
	for _, group := range []struct {
		name   string
		trials []int64
		colour color.Color
	}{{fmt.Sprintf("latest %d", len(others)), others, grey}, {"front", front, palette[1]}} {
		for k, number := range group.trials {
			var curve plotter.XYs
			for at := range slices.Chunk(s.Trials.Curve[number], 2) {
				curve = append(curve, plotter.XY{X: at[0], Y: at[1]})
			}
			line, err := plotter.NewLine(curve)
			if err != nil {
				return nil, 0, err
			}
			line.Color = group.colour
			if p.Add(line); k == 0 {
				p.Legend.Add(group.name, line)
			}
		}
	}
	return p, usualHeight, nil
}
