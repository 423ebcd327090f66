package main

import (
	"math"
	"strings"

	"charm.land/lipgloss/v2"
)

// canvas is a drawing of dots, 2 × 4 in each character (Unicode's braille patterns). A character has the colour of the
// most important that is drawn in it, and may be covered by a mark.
type canvas struct {
	width, height int // in characters
	dots          []byte
	shades        []shade
	marks         map[int]rune
}

// shade is a colour, the more important the larger.
type shade int

// The shades.
const (
	shadeNone shade = iota
	shadeFaint
	shadePruned
	shadeComplete
	shadeFront
	shadeChosen
)

// shadeStyles are Okabe and Ito's colours, which people with any colour vision tell apart; a terminal without colours
// shows them alike, so nothing is told by colour alone.
var shadeStyles = map[shade]lipgloss.Style{
	shadeFaint:    lipgloss.NewStyle().Faint(true),
	shadePruned:   lipgloss.NewStyle().Foreground(lipgloss.Color("#999999")),
	shadeComplete: lipgloss.NewStyle().Foreground(lipgloss.Color("#56B4E9")),
	shadeFront:    lipgloss.NewStyle().Foreground(lipgloss.Color("#E69F00")),
	shadeChosen:   lipgloss.NewStyle().Foreground(lipgloss.Color("#D55E00")).Bold(true),
}

func newCanvas(width, height int) *canvas {
	width, height = max(width, 1), max(height, 1)
	return &canvas{width, height, make([]byte, width*height), make([]shade, width*height), map[int]rune{}}
}

// at is the place of a point of the unit square, whose origin is at the lower left: a character, and a dot in it.
func (c *canvas) at(x, y float64) (cell int, dot byte) {
	column := int(math.Round(min(max(x, 0), 1) * float64(2*c.width-1)))
	row := int(math.Round((1 - min(max(y, 0), 1)) * float64(4*c.height-1)))
	bits := [4][2]byte{{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}
	return row/4*c.width + column/2, bits[row%4][column%2]
}

func (c *canvas) dot(x, y float64, s shade) {
	cell, dot := c.at(x, y)
	c.dots[cell] |= dot
	c.shades[cell] = max(c.shades[cell], s)
}

// line draws a straight line.
func (c *canvas) line(x0, y0, x1, y1 float64, s shade) {
	steps := int(max(math.Abs(x1-x0)*float64(2*c.width), math.Abs(y1-y0)*float64(4*c.height))) + 1
	for i := range steps + 1 {
		share := float64(i) / float64(steps)
		c.dot(x0+share*(x1-x0), y0+share*(y1-y0), s)
	}
}

// mark covers the character of a point.
func (c *canvas) mark(x, y float64, r rune, s shade) {
	cell, _ := c.at(x, y)
	c.marks[cell], c.shades[cell] = r, s
}

// lines are the rows of the drawing.
func (c *canvas) lines() []string {
	out := make([]string, c.height)
	for row := range out {
		var b strings.Builder
		for column := 0; column < c.width; {
			first := row*c.width + column
			var run []rune
			for ; column < c.width && c.shades[row*c.width+column] == c.shades[first]; column++ {
				cell := row*c.width + column
				switch mark, marked := c.marks[cell]; {
				case marked:
					run = append(run, mark)
				case c.dots[cell] == 0:
					run = append(run, ' ')
				default:
					run = append(run, 0x2800+rune(c.dots[cell]))
				}
			}
			b.WriteString(shadeStyles[c.shades[first]].Render(string(run)))
		}
		out[row] = b.String()
	}
	return out
}
