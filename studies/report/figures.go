package report

import (
	"bytes"
	"fmt"
	"image/color"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// palette is Okabe and Ito's, which people with any colour vision tell apart.
var palette = []color.RGBA{{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255},
	{230, 159, 0, 255}, {86, 180, 233, 255}}

var grey = color.RGBA{170, 170, 170, 255}

// figureFormats are the endings of the files.
var figureFormats = []string{"svg", "pdf", "png"}

// usualHeight is that of a figure of scores, rowHeight that of a line in one that is a list, in centimetres.
const (
	usualHeight = 12
	rowHeight   = 0.4
	listHeight  = 3 // without its lines
)

// WriteFigures writes figures of the studies to a directory, each in every format: those of the page, but for parallel
// coordinates and the timeline, which need a pointer to be read. They are front (every score against the size, with the
// fronts and, of one study, the confirmed scores), for several metrics front-METRIC; hypervolume, for studies that
// cannot be compared hypervolume-STUDY; and of each study, where there is something to see, confirmed-STUDY (test
// scores with their intervals), curves-STUDY (dev scores on the way), modules-STUDY (layer × method along the front)
// and effects-STUDY (what mattered).
func WriteFigures(dir string, v Views) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, some := range figuresBy(v, "front", func(s View) string { return s.Metric }) {
		front, err := frontFigure(some)
		if err != nil {
			return err
		}
		if err := save(front, dir, name, usualHeight); err != nil {
			return err
		}
	}
	for name, some := range figuresBy(v, "hypervolume", func(s View) string {
		if v.Scale != nil {
			return ""
		}
		return s.Study
	}) {
		growth, err := growthFigure(some)
		if err != nil {
			return err
		}
		if err := save(growth, dir, name, usualHeight); err != nil {
			return err
		}
	}
	for _, s := range v.Studies {
		for _, figure := range []struct {
			name string
			of   func(View) (*plot.Plot, vg.Length, error) // nil where there is nothing to see
		}{{"confirmed", confirmedFigure}, {"curves", curvesFigure}, {"modules", modulesFigure},
			{"effects", effectsFigure}} {
			p, height, err := figure.of(s)
			if err != nil {
				return err
			}
			if p == nil {
				continue
			}
			p.Title.Text = s.Study
			if err := save(p, dir, figure.name+"-"+s.Study, height); err != nil {
				return err
			}
		}
	}
	return nil
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

// newPlot is an empty figure. Its font is as wide as Arial and Helvetica, of which every system has one.
func newPlot() *plot.Plot {
	p := plot.New()
	for _, style := range []*text.Style{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle,
		&p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font.Variant = "Sans"
	}
	p.Legend.Padding = vg.Millimeter
	return p
}

// svgFont is what an SVG calls that font, svgFonts those that do as well.
const (
	svgFont  = "font-family:Liberation Sans;"
	svgFonts = "font-family:Liberation Sans,Arial,Helvetica,sans-serif;"
)

// save writes a figure of 16 cm width, with a margin for what labels and points have beyond the axes.
func save(p *plot.Plot, dir, name string, height vg.Length) error {
	const margin = vg.Millimeter
	for _, format := range figureFormats {
		canvas, err := draw.NewFormattedCanvas(16*vg.Centimeter, height*vg.Centimeter, format)
		if err != nil {
			return err
		}
		paper := draw.New(canvas)
		paper.SetColor(color.White)
		paper.Fill(paper.Rectangle.Path())
		p.Draw(draw.Crop(paper, margin, -margin, margin, -margin))
		var content bytes.Buffer
		if _, err := canvas.WriteTo(&content); err != nil {
			return fmt.Errorf("drawing the figure %s as %s: %w", name, format, err)
		}
		out := content.Bytes()
		if format == "svg" {
			out = bytes.ReplaceAll(out, []byte(svgFont), []byte(svgFonts))
		}
		if err := os.WriteFile(filepath.Join(dir, name+"."+format), out, 0o644); err != nil {
			return err
		}
	}
	return nil
}
