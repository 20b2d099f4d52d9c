package report

import (
	"fmt"
	"html/template"
	"image/color"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// A Figure is one picture with the words that belong to it and the numbers
// behind it.
type Figure struct {
	Title   string
	Answer  string // one sentence: what the picture says; may be empty
	Caption string
	SVG     template.HTML
	Table   Table

	// Names are those of the series; a page offers to hide each, as long as each has a
	// colour of its own. Fewer than two are not worth it.
	Names []string
	// Surface is what a script needs to turn the picture, as JSON; may be empty.
	Surface string

	plot *plot.Plot // what SVG shows, to be drawn in other forms
	made string     // the command that made it, which stands in the picture
}

// CanHide reports whether each series has a colour of its own, by which the page finds it.
func (f Figure) CanHide() bool { return len(f.Names) <= len(series) }

// Color is the number of a series' colour.
func (Figure) Color(i int) int { return i % len(series) }

// A Table holds the numbers behind a picture, ready to print.
type Table struct {
	Head []string
	Rows [][]string
}

// logTicks labels a logarithmic axis: the finest of four grids that leaves the
// labels apart.
type logTicks struct{}

func (logTicks) Ticks(low, high float64) []plot.Tick {
	if !(low > 0 && high >= low) {
		return nil
	}
	grids := [][]float64{{1, 1.5, 2, 3, 5, 7}, {1, 2, 5}, {1}}
	if high/low < 2 {
		grids = [][]float64{{1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9}}
	}
	var ticks []plot.Tick
	for _, grid := range grids {
		ticks = nil
		for e := math.Floor(math.Log10(low)); e <= math.Log10(high); e++ {
			for _, m := range grid {
				if v := m * math.Pow(10, e); v >= low && v <= high {
					ticks = append(ticks, plot.Tick{Value: v, Label: significant(v)})
				}
			}
		}
		if len(ticks) <= 8 {
			break
		}
	}
	return ticks
}

func percent(x float64) string { return fmt.Sprintf("%.2f", 100*x) }
func points(x float64) string  { return fmt.Sprintf("%+.2f", 100*x) }

// significant writes four digits, and large numbers without an exponent.
func significant(x float64) string {
	if a := math.Abs(x); a >= 1e4 && a < 1e7 {
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	return strconv.FormatFloat(x, 'g', 4, 64)
}

// probability writes a p-value where a reader expects "=" or "<".
func probability(p float64) string {
	if p < 0.001 {
		return "< 0.001"
	}
	return fmt.Sprintf("= %.3f", p)
}

func dashOf(i int) []vg.Length {
	return [][]vg.Length{nil, {6, 2}, {2, 2}, {8, 2, 2, 2}, {1, 2}, {10, 4}}[i%6]
}

func grid() plot.Plotter {
	g := plotter.NewGrid()
	g.Vertical.Color, g.Horizontal.Color = faint, faint
	g.Vertical.Width, g.Horizontal.Width = 0.5, 0.5
	return g
}

// logarithmic switches an axis whose values are all positive. A range of less
// than one decade keeps the linear ticks: it would show one label or none.
func logarithmic(a *plot.Axis) {
	if a.Min <= 0 || a.Max/a.Min < 10 {
		return
	}
	a.Scale, a.Tick.Marker = plot.LogScale{}, logTicks{}
}

// keys are what names are called within a picture: themselves, or letters if one is so
// long that it would leave no room for what is drawn. full are then the names with
// their letters.
func keys(names []string) (short, full []string) {
	const longest = 32
	if !slices.ContainsFunc(names, func(n string) bool { return len([]rune(n)) > longest }) {
		return names, names
	}
	for i, n := range names {
		letter := string(rune('A' + i%26))
		if i >= 26 {
			letter += strconv.Itoa(i / 26)
		}
		short, full = append(short, letter), append(full, letter+": "+n)
	}
	return short, full
}

// nominalX names the places 0, 1, 2… of the horizontal axis, aslant where the names
// would not fit beside each other.
func nominalX(p *plot.Plot, names []string) {
	p.NominalX(names...)
	letters := 0
	for _, n := range names {
		letters = max(letters, len([]rune(n)))
	}
	if letters*len(names) > 50 {
		p.X.Tick.Label.Rotation = math.Pi / 7
		p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = draw.XRight, draw.YTop
	}
}

func addLine(p *plot.Plot, pts plotter.XYs, c color.Color, width vg.Length, dashes []vg.Length) *plotter.Line {
	if len(pts) == 0 {
		return nil
	}
	l := &plotter.Line{XYs: pts, LineStyle: draw.LineStyle{Color: c, Width: width, Dashes: dashes}}
	p.Add(l)
	return l
}

func addDots(p *plot.Plot, pts plotter.XYs, c color.Color, shape draw.GlyphDrawer, radius vg.Length) *plotter.Scatter {
	s := &plotter.Scatter{XYs: pts, GlyphStyle: draw.GlyphStyle{Color: c, Radius: radius, Shape: shape}}
	p.Add(s)
	return s
}

func addInterval(p *plot.Plot, x, mean, low, high float64, arm int) {
	addLine(p, plotter.XYs{{X: x, Y: low}, {X: x, Y: high}}, colorOf(arm), 2, nil)
	addDots(p, plotter.XYs{{X: x, Y: mean}}, colorOf(arm), glyphOf(arm), 5)
}

func addBand(p *plot.Plot, outline plotter.XYs, c color.Color) {
	p.Add(&plotter.Polygon{XYs: []plotter.XYs{outline}, Color: c})
}
