package report

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"peftsearch/peft"
)

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

func modulesFigure(s View) (*plot.Plot, vg.Length, error) {
	if len(s.Front) == 0 {
		return nil, 0, nil
	}
	var grid shades
	var names []string
	for layer := -1; layer < s.Geometry.Layers; layer++ {
		for _, method := range s.Methods {
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
			grid.cells, names = append(grid.cells, row), append(names, fmt.Sprintf("%s %s", placeName(layer), method))
		}
	}
	p := newPlot()
	p.X.Label.Text = "parameters of each plan of the front"
	if len(grid.cells) == 0 { // a front of the head alone
		return p, listHeight + rowHeight, nil
	}
	slices.Reverse(grid.cells) // rows go up
	var columns []plot.Tick
	for i, number := range s.Front {
		columns = append(columns, plot.Tick{Value: float64(i), Label: brief(float64(s.Trials.Params[number]))})
	}
	p.X.Tick.Marker = plot.ConstantTicks(columns)
	p.X.Tick.Label.Rotation, p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = math.Pi/2, draw.XRight, draw.YCenter
	heat := plotter.NewHeatMap(grid, grid)
	heat.Min, heat.Max = 0, 1
	heat.Rasterized = false
	p.Add(heat)
	return p, list(p, names), nil
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

// drawnEffects is how many effects of one method in one place are drawn, the surest.
const drawnEffects = 12

// effectsFigure has a line for each effect: of methods, of layers, and of methods in layers.
func effectsFigure(s View) (*plot.Plot, vg.Length, error) {
	if len(s.Effects) == 0 {
		return nil, 0, nil
	}
	surest := func(e Effect) float64 { return math.Abs(e.Mean) / max(e.SD, 1e-9) }
	var rows, single []Effect
	for _, e := range s.Effects { // methods come first, then layers
		if e.Method != "" && e.Layers != nil {
			single = append(single, e)
		} else {
			rows = append(rows, e)
		}
	}
	slices.SortStableFunc(single, func(a, b Effect) int { return cmp.Compare(surest(b), surest(a)) })
	rows = append(rows, single[:min(len(single), drawnEffects)]...)

	p := newPlot()
	p.X.Label.Text = fmt.Sprintf("what %s loses on average without them (± 2 sd)", s.Metric)
	zero, err := plotter.NewLine(plotter.XYs{{X: 0, Y: -0.5}, {X: 0, Y: float64(len(rows)) - 0.5}})
	if err != nil {
		return nil, 0, err
	}
	zero.Color = grey
	p.Add(zero)
	names := make([]string, len(rows))
	for i, e := range rows {
		names[i] = strings.TrimSpace(fmt.Sprintf("%s %s", layersName(e.Layers), e.Method))
		colour := color.Color(grey) // not told from nothing
		if surest(e) > 2 {
			colour = palette[1]
		}
		at := plotter.XYs{{X: e.Mean, Y: float64(len(rows) - 1 - i)}}
		bar, err := plotter.NewXErrorBars(intervals{XYs: at, XErrors: plotter.XErrors{{Low: 2 * e.SD, High: 2 * e.SD}}})
		if err != nil {
			return nil, 0, err
		}
		dot, err := plotter.NewScatter(at)
		if err != nil {
			return nil, 0, err
		}
		bar.Color, bar.CapWidth = colour, 0
		dot.GlyphStyle = draw.GlyphStyle{Color: colour, Radius: 2.5, Shape: draw.CircleGlyph{}}
		p.Add(bar, dot)
	}
	return p, list(p, names), nil
}

// layersName names layers as plans do: L0-2,5.
func layersName(layers []int) string {
	if layers == nil {
		return ""
	}
	return "L" + peft.LayerRanges(layers)
}
