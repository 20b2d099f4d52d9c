package report

import (
	"fmt"
	"html/template"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// hover makes points of a picture say their numbers under the pointer, without
// a script: an invisible circle with a title on each. It draws nothing itself.
type hover struct {
	series int // index of the colour, so that a hidden series is silent
	at     plotter.XYs
	text   []string
}

// addHover puts words on points; text gets their numbers.
func addHover(p *plot.Plot, series int, at plotter.XYs, text func(x, y float64) string) {
	h := hover{series: series, at: at}
	for _, xy := range at {
		h.text = append(h.text, text(xy.X, xy.Y))
	}
	if len(at) > 0 {
		p.Add(h)
	}
}

// A recorder is a canvas that remembers where the hovering points came to lie.
type recorder struct {
	*vgsvg.Canvas
	marks strings.Builder
}

func (h hover) Plot(c draw.Canvas, p *plot.Plot) {
	r := recorderOf(c.Canvas)
	if r == nil {
		return // paper has no pointer
	}
	tx, ty := p.Transforms(&c)
	for i, xy := range h.at {
		x, y := tx(xy.X), ty(xy.Y)
		if c.Contains(vg.Point{X: x, Y: y}) {
			fmt.Fprintf(&r.marks, `<circle class="mark of-%d" cx="%.4g" cy="%.4g" r="6"><title>%s</title></circle>`,
				h.series%len(series), float64(x), float64(figureHeight-y), template.HTMLEscapeString(h.text[i]))
		}
	}
}

// recorderOf looks through the cuttings that a plot draws on.
func recorderOf(c vg.Canvas) *recorder {
	for {
		switch under := c.(type) {
		case *recorder:
			return under
		case draw.Canvas:
			c = under.Canvas
		default:
			return nil
		}
	}
}

func (h hover) DataRange() (x0, x1, y0, y1 float64) { return plotter.XYRange(h.at) }
