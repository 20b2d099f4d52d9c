package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/palette/moreland"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/openpith/evidence/internal/stats"
	"github.com/openpith/evidence/landscape"
	"github.com/openpith/evidence/objective"
	"github.com/openpith/evidence/sharpness"
)

// ErrNothing reports files that give no picture.
var ErrNothing = errors.New("nothing to draw")

// A Survey is a landscape with the name it goes by on the page.
type Survey struct {
	Name string
	Grid *landscape.Grid
}

// Landscapes draws surveys that stand on one page: of a line the loss and the
// accuracy, of a plane a map and a surface of each series. All planes have one
// scale of colours, heights and contour lines, so that they can be compared. A
// survey without a loss has no pictures.
func Landscapes(surveys []Survey) [][]Figure {
	low, high := math.Inf(1), math.Inf(-1)
	planes := 0
	for _, v := range surveys {
		if len(v.Grid.Coordinates) != 2 {
			continue
		}
		for s := range v.Grid.Series {
			if a, b := (surface{g: v.Grid, s: s}).span(); a <= b {
				planes++
				low, high = math.Min(low, a), math.Max(high, b)
			}
		}
	}
	if !(high > low) {
		low, high = low-0.5, low+0.5
	}
	out := make([][]Figure, len(surveys))
	for i, v := range surveys {
		out[i] = landscapeFigures(v.Name, v.Grid, scale{low, high, planes})
	}
	return out
}

// A scale is the range of the logarithm of the loss over some planes.
type scale struct {
	low, high float64
	planes    int
}

// words says whose scale it is.
func (s scale) words() string {
	if s.planes < 2 {
		return ""
	}
	return fmt.Sprintf(" The scale is that of all %d planes on this page.", s.planes)
}

func landscapeFigures(name string, g *landscape.Grid, common scale) []Figure {
	measured := 0
	for _, v := range g.Values[0] {
		if !math.IsNaN(v.Loss) {
			measured++
		}
	}
	if measured == 0 {
		return nil
	}
	caption := landscapeCaption(name, g, measured)
	var figures []Figure
	if len(g.Coordinates) == 1 {
		figures = []Figure{lineFigure(g, "Loss along a line", "loss (nats)", caption, func(g *landscape.Grid, s, i int) float64 { return g.Values[s][i].Loss }, true)}
		if accuracies(g) {
			figures = append(figures, lineFigure(g, "Accuracy along a line", "accuracy (%)", caption,
				func(g *landscape.Grid, s, i int) float64 {
					if v := g.Values[s][i]; !math.IsNaN(v.Loss) { // without a loss, what is counted means nothing
						return 100 * v.Accuracy
					}
					return math.NaN()
				}, false))
		}
	} else {
		for s := range g.Series {
			figures = append(figures, mapFigure(g, s, caption, common), surfaceFigure(g, s, common))
		}
	}
	for i := range figures {
		figures[i].stamp(g.Note["command"])
	}
	return figures
}

func landscapeCaption(name string, g *landscape.Grid, measured int) string {
	var parts []string
	switch g.Kind {
	case "between":
		parts = append(parts, "On the straight line from one network, at 0, to another, at 1; weights and batch-norm statistics move together")
	case "random":
		parts = append(parts, randomCaption(g.Header))
	case "trajectory":
		parts = append(parts, fmt.Sprintf("In the plane that holds most of the path of training, %.0f %% and %.0f %% of its squared length, around its end", 100*g.Explained[0], 100*g.Explained[1]))
	}
	var data []string
	for s, n := range g.Series {
		data = append(data, fmt.Sprintf("%s: %d examples", n, g.Examples[s]))
	}
	have := fmt.Sprintf("%d points", measured)
	if all := len(g.Values[0]); measured < all {
		have = fmt.Sprintf("%d of %d points have a loss, the others are not measured yet or have none, as where extrapolated variances of batch norm fall below 0", measured, all)
	}
	parts = append(parts, strings.Join(data, ", "), have)
	return name + ". " + strings.Join(parts, "; ") + "."
}

// randomCaption says what random directions are, as far as the file knows.
func randomCaption(h landscape.Header) string {
	text := "Along random directions from the network at 0"
	if command := h.Note["command"]; h.Norm == "" && strings.HasPrefix(command, "smoothout landscape ") && !strings.Contains(command, "--norm") {
		h.Norm = objective.Filter // a file of old, made with the default
		h.Selection.ExceptBias = !strings.Contains(command, "--all")
	}
	switch h.Norm {
	case "":
		return text // a file of old
	case objective.None:
		text += ", as they were drawn: independent normal numbers, so that a step of 1 is √n long for n weights, whatever their size"
	case objective.Each:
		text += " measured against each weight: a step of 1 is about as long as the weights"
	case objective.Filter:
		text += " measured against its filters: a step of 1 is as long as the weights"
	case objective.Layer:
		text += " measured against its layers: a step of 1 is as long as the weights"
	}
	switch {
	case h.Selection.ExceptBias:
		text += "; biases and batch norm stay as they are"
	case h.Selection.ExceptBatchNorm:
		text += "; batch norm stays as it is"
	}
	return text
}

func accuracies(g *landscape.Grid) bool {
	for _, series := range g.Values {
		for _, v := range series {
			if !math.IsNaN(v.Accuracy) {
				return true
			}
		}
	}
	return false
}

func lineFigure(g *landscape.Grid, title, yLabel, caption string, get func(g *landscape.Grid, s, i int) float64, mayLog bool) Figure {
	plt := newPlot(g.Names[0], yLabel)
	plt.Add(grid())
	table := Table{Head: append([]string{"position"}, g.Series...)}
	for _, x := range g.Coordinates[0] {
		table.Rows = append(table.Rows, []string{significant(x)})
	}
	lowest := math.Inf(1)
	for s, name := range g.Series {
		var line plotter.XYs
		for i, x := range g.Coordinates[0] {
			y := get(g, s, i)
			table.Rows[i] = append(table.Rows[i], cell(y))
			if !math.IsNaN(y) {
				line = append(line, plotter.XY{X: x, Y: y})
				lowest = math.Min(lowest, y)
			}
		}
		if len(line) > 0 {
			plt.Legend.Add(name, addLine(plt, line, colorOf(s+1), 1.8, dashOf(s)))
			addHover(plt, s+1, line, func(x, y float64) string { return name + " at " + significant(x) + ": " + significant(y) })
		}
	}
	plt.Legend.Top = true
	if mayLog && lowest > 0 {
		logarithmic(&plt.Y)
	} else {
		widen(&plt.Y)
	}
	return Figure{Title: title, Caption: caption, SVG: render(plt, title), Table: table, Names: append([]string{""}, g.Series...), plot: plt}
}

// A surface is one series of a grid in two dimensions, by the logarithm of the
// loss: losses in a landscape span decades, and what matters is at the bottom.
type surface struct {
	g *landscape.Grid
	s int
}

func (f surface) Dims() (c, r int) { return len(f.g.Coordinates[0]), len(f.g.Coordinates[1]) }
func (f surface) X(c int) float64  { return f.g.Coordinates[0][c] }
func (f surface) Y(r int) float64  { return f.g.Coordinates[1][r] }
func (f surface) loss(i, j int) float64 {
	return f.g.Values[f.s][i+j*len(f.g.Coordinates[0])].Loss
}
func (f surface) Z(c, r int) float64 { return math.Log10(math.Max(f.loss(c, r), 1e-12)) }

// span is the range of Z; upside down where nothing has a loss.
func (f surface) span() (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for i := range f.g.Coordinates[0] {
		for j := range f.g.Coordinates[1] {
			if z := f.Z(i, j); !math.IsNaN(z) {
				low, high = math.Min(low, z), math.Max(high, z)
			}
		}
	}
	return low, high
}

// shades colours heights; equal steps look equally far apart, also without
// colour vision.
func shades(low, high float64) func(z float64) color.NRGBA {
	m := moreland.ExtendedBlackBody()
	// The ends of the map are black and white, the colours of text and page.
	margin := 0.12 * (high - low)
	m.SetMin(low - margin)
	m.SetMax(high + margin)
	return func(z float64) color.NRGBA {
		c, err := m.At(math.Max(low, math.Min(high, z)))
		if err != nil { // NaN: not measured
			return color.NRGBA{}
		}
		return color.NRGBAModel.Convert(c).(color.NRGBA)
	}
}

// levels are losses to draw as contours: 1, 2 and 5 times powers of ten,
// or closer where the range is narrow.
func levels(low, high float64) []float64 {
	for _, steps := range [][]float64{{1}, {1, 3}, {1, 2, 5}, {1, 1.5, 2, 3, 4, 5, 6, 8}, nil} {
		if steps == nil {
			for m := 1.0; m < 10; m += 0.1 {
				steps = append(steps, m)
			}
		}
		var out []float64
		for e := math.Floor(low); e <= high; e++ {
			for _, m := range steps {
				if z := e + math.Log10(m); z > low && z < high {
					out = append(out, z)
				}
			}
		}
		if len(out) >= 5 {
			return out
		}
	}
	return nil
}

func mapFigure(g *landscape.Grid, s int, caption string, common scale) Figure {
	f := surface{g, s}
	low, high := common.low, common.high
	plt := newPlot(g.Names[0], g.Names[1])
	plt.Add(cells{f, shades(low, high)})
	contours := plotter.NewContour(f, levels(low, high), nil)
	contours.LineStyles = []draw.LineStyle{{Color: color.NRGBA{0xff, 0xff, 0xff, 0x90}, Width: 0.7}}
	plt.Add(contours)
	if len(g.Path) > 0 {
		var path plotter.XYs
		for _, p := range g.Path {
			path = append(path, plotter.XY{X: p[0], Y: p[1]})
		}
		addLine(plt, path, colorOf(3), 1.5, nil)
		addDots(plt, path, colorOf(3), draw.CircleGlyph{}, 2)
		plt.X.Min, plt.X.Max = f.X(0), f.X(len(g.Coordinates[0])-1)
		plt.Y.Min, plt.Y.Max = f.Y(0), f.Y(len(g.Coordinates[1])-1)
	}
	var points plotter.XYs
	for j := range g.Coordinates[1] {
		for i := range g.Coordinates[0] {
			if !math.IsNaN(f.loss(i, j)) {
				points = append(points, plotter.XY{X: f.X(i), Y: f.Y(j)})
			}
		}
	}
	at := func(x, y float64) float64 {
		return f.loss(slices.Index(g.Coordinates[0], x), slices.Index(g.Coordinates[1], y))
	}
	if len(points) <= 4000 {
		addHover(plt, 0, points, func(x, y float64) string {
			return fmt.Sprintf("loss %s at (%s, %s)", significant(at(x, y)), significant(x), significant(y))
		})
	}
	least := g.Least(s)
	c := len(g.Coordinates[0])
	x, y := f.X(least%c), f.Y(least/c)
	addDots(plt, plotter.XYs{{X: x, Y: y}}, color.NRGBA{0xff, 0xff, 0xff, 0xff}, draw.RingGlyph{}, 4)
	title := fmt.Sprintf("Loss on a plane (%s)", g.Series[s])
	answer := fmt.Sprintf("The least loss measured is %s, at (%s, %s), marked by a ring.", significant(g.Values[s][least].Loss), significant(x), significant(y))
	var lines []string
	for _, z := range levels(low, high) {
		lines = append(lines, significant(math.Pow(10, z)))
	}
	table := Table{Head: []string{g.Names[1] + " \\ " + g.Names[0]}}
	for _, x := range g.Coordinates[0] {
		table.Head = append(table.Head, significant(x))
	}
	for j, y := range g.Coordinates[1] {
		row := []string{significant(y)}
		for i := range g.Coordinates[0] {
			row = append(row, cell(f.loss(i, j)))
		}
		table.Rows = append(table.Rows, row)
	}
	return Figure{
		Title: title, Answer: answer, plot: plt, Table: table,
		Caption: fmt.Sprintf("%s Dark is a small loss, light a large one, by its logarithm, from %s to %s nats; lines at %s.%s",
			caption, significant(math.Pow(10, low)), significant(math.Pow(10, high)), strings.Join(lines, ", "), common.words()),
		SVG: render(plt, title+". "+answer),
	}
}

// cells paints every cell of a surface in the colour of its height.
type cells struct {
	surface
	shade func(float64) color.NRGBA
}

func (f cells) edges(c []float64) []float64 {
	e := []float64{c[0]}
	for i := range len(c) - 1 {
		e = append(e, (c[i]+c[i+1])/2)
	}
	return append(e, c[len(c)-1])
}

func (f cells) Plot(c draw.Canvas, p *plot.Plot) {
	tx, ty := p.Transforms(&c)
	ex, ey := f.edges(f.g.Coordinates[0]), f.edges(f.g.Coordinates[1])
	for i := range f.g.Coordinates[0] {
		for j := range f.g.Coordinates[1] {
			fill := f.shade(f.Z(i, j))
			if fill.A == 0 {
				continue
			}
			// A hair larger, or the page shines through between cells.
			const over = 0.3
			c.FillPolygon(fill, []vg.Point{
				{X: tx(ex[i]) - over, Y: ty(ey[j]) - over}, {X: tx(ex[i+1]) + over, Y: ty(ey[j]) - over},
				{X: tx(ex[i+1]) + over, Y: ty(ey[j+1]) + over}, {X: tx(ex[i]) - over, Y: ty(ey[j+1]) + over},
			})
		}
	}
}

func (f cells) DataRange() (x0, x1, y0, y1 float64) {
	c, r := f.Dims()
	return f.X(0), f.X(c - 1), f.Y(0), f.Y(r - 1)
}

func surfaceFigure(g *landscape.Grid, s int, common scale) Figure {
	f := surface{g, s}
	low, high := common.low, common.high
	plt := newPlot("", "")
	plt.HideAxes()
	hill := hill{f, shades(low, high), low, high}
	plt.Add(hill)
	title := fmt.Sprintf("The same as a surface (%s)", g.Series[s])
	return Figure{
		Title: title, plot: plt, SVG: render(plt, title), Surface: hill.json(),
		Caption: fmt.Sprintf("Height is the logarithm of the loss, from %s to %s nats; %s runs to the right, %s to the back. It can be dragged.%s",
			significant(math.Pow(10, low)), significant(math.Pow(10, high)), g.Names[0], g.Names[1], common.words()),
	}
}

// hill is a surface seen from above the front left corner.
type hill struct {
	surface
	shade     func(float64) color.NRGBA
	low, high float64
}

// project turns coordinates in the cube [0, 1]³ into a point of the picture
// and its distance from the eye: turned by 35 degrees, seen from 30 above.
func project3(x, y, z float64) (px, py, far float64) {
	const turn, lift = 35 * math.Pi / 180, 30 * math.Pi / 180
	x, y = x-0.5, y-0.5
	px = x*math.Cos(turn) + y*math.Sin(turn)
	back := y*math.Cos(turn) - x*math.Sin(turn)
	return px, back*math.Sin(lift) + 0.75*z*math.Cos(lift), back
}

func (h hill) unit(i, j int) (x, y, z float64) {
	cx, cy := h.g.Coordinates[0], h.g.Coordinates[1]
	return (cx[i] - cx[0]) / (cx[len(cx)-1] - cx[0]), (cy[j] - cy[0]) / (cy[len(cy)-1] - cy[0]), (h.Z(i, j) - h.low) / (h.high - h.low)
}

// json is what surface.js turns: corners in the unit cube, and colours by row.
func (h hill) json() string {
	type data struct {
		X, Y []float64
		Z    [][]*float64 // [y][x], null where there is none
		Fill [][]string   // of the tile with its lower corner there
	}
	var d data
	r3 := func(x float64) float64 { return math.Round(1000*x) / 1000 }
	nx, ny := len(h.g.Coordinates[0]), len(h.g.Coordinates[1])
	for i := range nx {
		x, _, _ := h.unit(i, 0)
		d.X = append(d.X, r3(x))
	}
	for j := range ny {
		_, y, _ := h.unit(0, j)
		d.Y = append(d.Y, r3(y))
		row, fills := make([]*float64, nx), make([]string, nx)
		for i := range nx {
			if _, _, z := h.unit(i, j); !math.IsNaN(z) {
				z = r3(z)
				row[i] = &z
			}
			if i+1 < nx && j+1 < ny {
				fills[i] = hex(h.shade((h.Z(i, j) + h.Z(i+1, j) + h.Z(i, j+1) + h.Z(i+1, j+1)) / 4))
			}
		}
		d.Z, d.Fill = append(d.Z, row), append(d.Fill, fills)
	}
	text, err := json.Marshal(d)
	if err != nil {
		panic(fmt.Sprintf("report: %v", err)) // finite numbers and strings
	}
	return string(text)
}

func (h hill) Plot(c draw.Canvas, p *plot.Plot) {
	tx, ty := p.Transforms(&c)
	at := func(x, y, z float64) vg.Point {
		px, py, _ := project3(x, y, z)
		return vg.Point{X: tx(px), Y: ty(py)}
	}
	floor := draw.LineStyle{Color: muted, Width: 0.7}
	c.StrokeLines(floor, []vg.Point{at(0, 0, 0), at(1, 0, 0), at(1, 1, 0), at(0, 1, 0), at(0, 0, 0)})
	type tile struct {
		corners []vg.Point
		far     float64
		fill    color.NRGBA
	}
	var tiles []tile
	for i := range len(h.g.Coordinates[0]) - 1 {
		for j := range len(h.g.Coordinates[1]) - 1 {
			t := tile{}
			height, ok := 0.0, true
			for _, k := range [][2]int{{i, j}, {i + 1, j}, {i + 1, j + 1}, {i, j + 1}} {
				x, y, z := h.unit(k[0], k[1])
				ok = ok && !math.IsNaN(z)
				px, py, far := project3(x, y, z)
				t.corners = append(t.corners, vg.Point{X: tx(px), Y: ty(py)})
				t.far += far / 4
				height += h.Z(k[0], k[1]) / 4
			}
			if ok {
				t.fill = h.shade(height)
				tiles = append(tiles, t)
			}
		}
	}
	slices.SortStableFunc(tiles, func(a, b tile) int {
		if a.far > b.far {
			return -1
		}
		return 1
	})
	edge := draw.LineStyle{Color: color.NRGBA{0, 0, 0, 0x50}, Width: 0.3}
	for _, t := range tiles {
		c.FillPolygon(t.fill, t.corners)
		c.StrokeLines(edge, append(t.corners, t.corners[0]))
	}
}

func (h hill) DataRange() (x0, x1, y0, y1 float64) {
	x0, x1, y0, y1 = math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, x := range []float64{0, 1} {
		for _, y := range []float64{0, 1} {
			for _, z := range []float64{0, 1} {
				px, py, _ := project3(x, y, z)
				x0, x1, y0, y1 = math.Min(x0, px), math.Max(x1, px), math.Min(y0, py), math.Max(y1, py)
			}
		}
	}
	return x0, x1, y0, y1
}

// Sharpness draws what is known of the sharpness of several networks: every
// measure per group, every measure against the generalisation gap, and the
// spectra of Hessians.
func Sharpness(files []*sharpness.File) ([]Figure, error) {
	if len(files) == 0 {
		return nil, ErrNothing
	}
	var groups []string
	for _, f := range files {
		if !slices.Contains(groups, group(f)) {
			groups = append(groups, group(f))
		}
	}
	var figures []Figure
	var spectra []spectrum
	for _, label := range measures(files) {
		points := pointsOf(files, label)
		figures = append(figures, measureFigure(label, groups, points))
		if f, ok := gapFigure(label, groups, points); ok {
			figures = append(figures, f)
		}
	}
	for _, f := range files {
		for _, r := range f.Results {
			if d, ok := r.Detail.(sharpness.DensityDetail); ok {
				spectra = append(spectra, spectrum{f, d})
			}
		}
	}
	if len(spectra) > 0 {
		figures = append(figures, spectrumFigure(groups, spectra))
	}
	if len(figures) == 0 {
		return nil, fmt.Errorf("%w: no results in %d sharpness files", ErrNothing, len(files))
	}
	return figures, nil
}

func group(f *sharpness.File) string {
	if f.Group != "" {
		return f.Group
	}
	return f.Name
}

// measures lists the labels of all numbers, in order of appearance; densities
// have a picture of their own.
func measures(files []*sharpness.File) []string {
	var labels []string
	for _, f := range files {
		for _, r := range f.Results {
			if _, density := r.Settings.(sharpness.Density); density {
				continue
			}
			if l := sharpness.Label(r.Settings); !slices.Contains(labels, l) {
				labels = append(labels, l)
			}
		}
	}
	return labels
}

// A measured is one network with one of its numbers.
type measured struct {
	file   *sharpness.File
	result *sharpness.Result
}

func pointsOf(files []*sharpness.File, label string) []measured {
	var out []measured
	for _, f := range files {
		for _, r := range f.Results {
			if sharpness.Label(r.Settings) == label {
				out = append(out, measured{f, r})
			}
		}
	}
	return out
}

func measureFigure(label string, groups []string, points []measured) Figure {
	plt := newPlot("", label)
	table := Table{Head: []string{"network", "group", "value", "standard error", "loss", "examples", "data", "batch norm", "losses", "gradients", "H·v", "seconds"}}
	lowest := math.Inf(1)
	for i, name := range groups {
		var dots plotter.XYs
		for k, p := range points {
			if group(p.file) != name {
				continue
			}
			r := p.result
			x := float64(i) + 0.3*(float64(k%7)/6-0.5)
			dots = append(dots, plotter.XY{X: x, Y: r.Value})
			addLine(plt, plotter.XYs{{X: x, Y: r.Value - r.StandardError}, {X: x, Y: r.Value + r.StandardError}}, colorOf(i), 1, nil)
			lowest = math.Min(lowest, r.Value-r.StandardError)
			table.Rows = append(table.Rows, []string{p.file.Name, name, significant(r.Value), significant(r.StandardError), significant(r.Loss),
				strconv.Itoa(r.Examples), p.file.Data, p.file.BatchNorm, significant(r.Cost.Losses), significant(r.Cost.Gradients), significant(r.Cost.HessianVectors), fmt.Sprintf("%.1f", r.Cost.Seconds)})
		}
		addDots(plt, dots, translucent(colorOf(i), 0xc0), glyphOf(i), 4)
		k := 0
		for _, p := range points {
			if group(p.file) == name {
				addHover(plt, i, dots[k:k+1], func(_, y float64) string { return p.file.Name + ": " + significant(y) })
				k++
			}
		}
	}
	short, full := keys(groups)
	nominalX(plt, short)
	plt.X.Min, plt.X.Max = -0.5, float64(len(groups))-0.5
	if lowest > 0 {
		logarithmic(&plt.Y)
	}
	if _, isLog := plt.Y.Scale.(plot.LogScale); !isLog {
		widen(&plt.Y)
	}
	first := points[0]
	return Figure{
		Title: label, plot: plt, SVG: render(plt, label+" of every network, by method"), Table: table, Names: full,
		Caption: fmt.Sprintf("Each mark is one of %d networks, with the standard error of its estimate where that is known. Measured on %s, batch-norm statistics: %s.", len(points), first.file.Data, first.file.BatchNorm),
	}
}

// gapFigure sets a measure against the generalisation gap, with Kendall's rank
// correlation: which measure predicts what a network forgets.
func gapFigure(label string, groups []string, points []measured) (Figure, bool) {
	plt := newPlot(label, "train − test accuracy (points)")
	plt.Add(grid())
	table := Table{Head: []string{"network", label, "gap (points)"}}
	var xs, ys []float64
	positive := true
	short, full := keys(groups)
	for i, name := range groups {
		var dots plotter.XYs
		for _, p := range points {
			gap, ok := p.file.Gap()
			if !ok || group(p.file) != name {
				continue
			}
			at := plotter.XY{X: p.result.Value, Y: 100 * gap}
			dots = append(dots, at)
			addHover(plt, i, plotter.XYs{at}, func(x, y float64) string {
				return fmt.Sprintf("%s: %s, gap %s points", p.file.Name, significant(x), significant(y))
			})
			xs, ys = append(xs, p.result.Value), append(ys, gap)
			positive = positive && p.result.Value > 0
			table.Rows = append(table.Rows, []string{p.file.Name, significant(p.result.Value), significant(100 * gap)})
		}
		if len(dots) > 0 {
			plt.Legend.Add(short[i], addDots(plt, dots, translucent(colorOf(i), 0xc0), glyphOf(i), 4))
		}
	}
	if len(xs) < 3 {
		return Figure{}, false
	}
	if positive {
		logarithmic(&plt.X)
	}
	if _, isLog := plt.X.Scale.(plot.LogScale); !isLog {
		widen(&plt.X)
	}
	widen(&plt.Y)
	plt.Legend.Top, plt.Legend.Left = true, true
	title := label + " and the generalisation gap"
	answer := fmt.Sprintf("Kendall's rank correlation over %d networks is not defined: there are fewer than 5, or one side does not vary.", len(xs))
	if tau, ok := stats.Kendall(xs, ys); ok {
		answer = fmt.Sprintf("Kendall's rank correlation over %d networks: τ = %+.2f (%+.2f to %+.2f).", len(xs), tau.Value, tau.Low, tau.High)
	}
	caption := "Each mark is one network. τ = 1: the order of the measure is that of the gap; 0: it says nothing; −1: the reverse."
	if !sharpness.LargerIsSharper(points[0].result.Settings) {
		caption += reversed(label)
	}
	return Figure{Title: title, Answer: answer, plot: plt, SVG: render(plt, title+". "+answer), Table: table, Names: full, Caption: caption}, true
}

type spectrum struct {
	file   *sharpness.File
	detail sharpness.DensityDetail
}

func spectrumFigure(groups []string, spectra []spectrum) Figure {
	low, high := math.Inf(1), math.Inf(-1)
	for _, s := range spectra {
		low, high = math.Min(low, s.detail.Nodes[0]), math.Max(high, s.detail.Nodes[len(s.detail.Nodes)-1])
	}
	width := 0.01 * math.Max(high-low, 1e-9)
	plt := newPlot("eigenvalue of the Hessian", "density")
	plt.Add(grid())
	table := Table{Head: []string{"network", "node", "weight"}}
	const floor = 1e-7
	shown := map[string]bool{}
	short, full := keys(groups)
	for _, s := range spectra {
		i := slices.Index(groups, group(s.file))
		var line plotter.XYs
		for x := low - 5*width; x <= high+5*width; x += width / 3 {
			line = append(line, plotter.XY{X: x, Y: math.Max(floor, s.detail.At(x, width))})
		}
		l := addLine(plt, line, colorOf(i), 1.2, dashOf(i))
		if !shown[group(s.file)] {
			shown[group(s.file)] = true
			plt.Legend.Add(short[i], l)
		}
		for k, node := range s.detail.Nodes {
			table.Rows = append(table.Rows, []string{s.file.Name, significant(node), significant(s.detail.Weights[k])})
		}
	}
	plt.Y.Min = floor
	logarithmic(&plt.Y)
	plt.Legend.Top = true
	title := "Spectral density of the Hessian"
	return Figure{Title: title, plot: plt, SVG: render(plt, title), Table: table, Names: full,
		Caption: fmt.Sprintf("Stochastic Lanczos quadrature; every node spread by %s, densities below 1e-7 cut off.", significant(width))}
}

func cell(x float64) string {
	if math.IsNaN(x) {
		return "–"
	}
	return significant(x)
}
