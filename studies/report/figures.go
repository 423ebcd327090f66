package report

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"peftsearch/peft"
	"peftsearch/studies/store"
)

// palette is Okabe and Ito's, which people with any colour vision tell apart.
var palette = []color.RGBA{{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255},
	{230, 159, 0, 255}, {86, 180, 233, 255}}

var grey = color.RGBA{170, 170, 170, 255}

// figureFormats are the endings of the files.
var figureFormats = []string{"svg", "pdf", "png"}

// WriteFigures writes figures of the studies to a directory, each in every format: front (every score against the
// size, with the fronts and, of one study, the confirmed scores), for several metrics front-METRIC; hypervolume, for
// studies that cannot be compared hypervolume-STUDY; and modules-STUDY (layer × method along the front).
func WriteFigures(dir string, v Views) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var err error
	for name, some := range figuresBy(v, "front", func(s View) string { return s.Metric }) {
		front, frontErr := frontFigure(some)
		if frontErr != nil {
			return frontErr
		}
		err = errors.Join(err, save(front, dir, name, 12))
	}
	for name, some := range figuresBy(v, "hypervolume", func(s View) string {
		if v.Scale != nil {
			return ""
		}
		return s.Study
	}) {
		growth, growthErr := growthFigure(some)
		if growthErr != nil {
			return growthErr
		}
		err = errors.Join(err, save(growth, dir, name, 12))
	}
	for _, s := range v.Studies {
		if len(s.Front) == 0 {
			continue
		}
		modules, rows, err := modulesFigure(s)
		if err != nil {
			return err
		}
		if err := save(modules, dir, "modules-"+s.Study, vg.Length(3+0.4*float64(rows))); err != nil {
			return err
		}
	}
	return err
}

// figuresBy parts studies by what must be the same on one axis, each part with the name of its figure.
func figuresBy(v Views, name string, by func(View) string) map[string]Views {
	parts := map[string]Views{}
	for _, s := range v.Studies {
		part := parts[by(s)]
		part.Scale, part.Studies = v.Scale, append(part.Studies, s)
		parts[by(s)] = part
	}
	if len(parts) == 1 {
		return map[string]Views{name: v}
	}
	named := map[string]Views{}
	for key, part := range parts {
		named[name+"-"+key] = part
	}
	return named
}

// save writes a figure of 16 cm width.
func save(p *plot.Plot, dir, name string, height vg.Length) error {
	for _, format := range figureFormats {
		if err := p.Save(16*vg.Centimeter, height*vg.Centimeter, filepath.Join(dir, name+"."+format)); err != nil {
			return fmt.Errorf("writing the figure %s: %w", name, err)
		}
	}
	return nil
}

// atLeast draws plans without parameters, which a logarithmic axis has no place for, below the smallest others.
func (s View) atLeast() float64 { return float64(s.Reference.MinParams) / 2 }

func (s View) at(number int64) plotter.XY {
	return plotter.XY{X: max(float64(s.Trials.Params[number]), s.atLeast()), Y: *s.Trials.Score[number]}
}

func frontFigure(v Views) (*plot.Plot, error) {
	p := plot.New()
	p.X.Label.Text = "trainable parameters, without the head"
	zero := 0.0 // where plans without parameters are drawn, 0 if there is none
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
			if err := addConfirmed(p, s); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// intervals are points with what is known of them.
type intervals struct {
	plotter.XYs
	plotter.YErrors
}

func addConfirmed(p *plot.Plot, s View) error {
	var all intervals
	for _, c := range s.Confirmed {
		if c.Trial == nil {
			continue
		}
		all.XYs = append(all.XYs, plotter.XY{X: max(float64(c.Params), s.atLeast()), Y: c.Test.Mean})
		half := 0.0
		if c.Test.Interval != nil {
			half = c.Test.Interval[1] - c.Test.Mean
		}
		all.YErrors = append(all.YErrors, struct{ Low, High float64 }{half, half})
	}
	if len(all.XYs) == 0 {
		return nil
	}
	bars, err := plotter.NewYErrorBars(all)
	if err != nil {
		return err
	}
	means, err := plotter.NewScatter(all)
	if err != nil {
		return err
	}
	bars.Color = palette[2]
	means.GlyphStyle = draw.GlyphStyle{Color: palette[2], Radius: 2.5, Shape: draw.BoxGlyph{}}
	p.Add(bars, means)
	p.Legend.Add("mean on test, 95 %", means)
	return nil
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
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = "trials with an outcome", "hypervolume"
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

// shades is a heat map of the modules of a front: a row for each module that a member has, a column for each member.
type shades struct {
	cells [][]float64 // [row][column], 0 for none, to 1 for the largest of the method
}

func (s shades) Dims() (columns, rows int) { return len(s.cells[0]), len(s.cells) }
func (s shades) X(column int) float64      { return float64(column) }
func (s shades) Y(row int) float64         { return float64(row) }
func (s shades) Z(column, row int) float64 { return s.cells[row][column] }
func (s shades) Colors() (out []color.Color) { // from white to the palette's blue
	for i := range 64 {
		mix := func(c uint8) uint8 { return uint8(255 - (255-float64(c))*float64(i)/63) }
		blue := palette[0]
		out = append(out, color.RGBA{mix(blue.R), mix(blue.G), mix(blue.B), 255})
	}
	return out
}

func modulesFigure(s View) (p *plot.Plot, rows int, err error) {
	var grid shades
	var names []plot.Tick
	for layer := s.Geometry.Layers - 1; layer >= -1; layer-- { // rows go up
		for _, method := range slices.Backward(s.Methods) {
			row, largest := make([]float64, len(s.Front)), 0.0
			for column, number := range s.Front {
				row[column] = s.size(number, layer, method)
				largest = max(largest, row[column])
			}
			if largest == 0 {
				continue
			}
			for column, size := range row {
				row[column] = math.Log1p(size) / math.Log1p(s.largest(method))
			}
			names = append(
				names,
				plot.Tick{Value: float64(len(grid.cells)), Label: fmt.Sprintf("%s %s", placeName(layer), method)},
			)
			grid.cells = append(grid.cells, row)
		}
	}
	p = plot.New()
	p.Title.Text = s.Study
	p.X.Label.Text, p.Y.Label.Text = "parameters of each plan of the front", "module"
	if len(grid.cells) == 0 { // a front of the head alone
		return p, 1, nil
	}
	var columns []plot.Tick
	for i, number := range s.Front {
		columns = append(columns, plot.Tick{Value: float64(i), Label: brief(float64(s.Trials.Params[number]))})
	}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.ConstantTicks(columns), plot.ConstantTicks(names)
	p.X.Tick.Label.Rotation, p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = math.Pi/2, draw.XRight, draw.YCenter
	heat := plotter.NewHeatMap(grid, grid)
	heat.Min, heat.Max = 0, 1
	heat.Rasterized = false
	p.Add(heat)
	return p, len(grid.cells), nil
}

func placeName(layer int) string {
	if layer < 0 {
		return "input"
	}
	return fmt.Sprintf("L%d", layer)
}

// size is that of a module of a trial, 0 for none.
func (s View) size(number int64, layer int, method peft.Method) float64 {
	for m := range slices.Chunk(s.Trials.Modules[number], 2) {
		if kind := s.Modules[m[0]]; kind.Method == method && m[1] == layer {
			return float64(kind.Size)
		}
	}
	return 0
}

// largest is the largest size of a method on the front, at least 1.
func (s View) largest(method peft.Method) float64 {
	largest := 1.0
	for _, number := range s.Front {
		for m := range slices.Chunk(s.Trials.Modules[number], 2) {
			if kind := s.Modules[m[0]]; kind.Method == method {
				largest = max(largest, float64(kind.Size))
			}
		}
	}
	return largest
}
