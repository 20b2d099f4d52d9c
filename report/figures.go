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

	"github.com/openpith/evidence/replicate/study"
)

// A Figure is one picture with the words that belong to it and the numbers
// behind it.
type Figure struct {
	Title   string
	Caption string
	SVG     template.HTML
	Table   Table
}

// A Table holds the numbers behind a picture, ready to print.
type Table struct {
	Head []string
	Rows [][]string
}

// accuracyFigure shows every run as a dot, the runs of one seed joined by a
// line, and the mean of every arm with its 95 % interval.
func accuracyFigure(p *study.Plan, res *study.Results) Figure {
	plt := newPlot("", "test accuracy (%)")
	names := make([]string, len(p.Arms))
	table := Table{Head: []string{"method", "runs", "mean %", "sd", "95 % interval"}}
	bySeed := map[uint64]plotter.XYs{}
	// Arms stand at 0, 1, 2…; within an arm the seeds are spread a little so
	// that equal results do not hide each other.
	spread := func(k int) float64 {
		return 0.22 * (float64(k)/float64(max(1, len(p.Seeds)-1)) - 0.5)
	}
	for i, a := range p.Arms {
		names[i] = a.Label
		var dots plotter.XYs
		for _, r := range res.Runs {
			if r.Arm != a.Name || r.Final == nil {
				continue
			}
			at := plotter.XY{X: float64(i) + spread(slices.Index(p.Seeds, r.Seed)), Y: 100 * r.Final.TestAccuracy}
			dots = append(dots, at)
			bySeed[r.Seed] = append(bySeed[r.Seed], at)
		}
		sum := res.Arms[i].TestAccuracy
		if sum == nil {
			table.Rows = append(table.Rows, []string{a.Label, "0", "–", "–", "–"})
			continue
		}
		addDots(plt, dots, translucent(colorOf(i), 0x70), glyphOf(i), 3.5)
		addInterval(plt, float64(i)+0.22, 100*sum.Mean, 100*sum.Low, 100*sum.High, i)
		table.Rows = append(table.Rows, []string{a.Label, strconv.Itoa(res.Arms[i].Done),
			percent(sum.Mean), percent(sum.SD), percent(sum.Low) + " to " + percent(sum.High)})
	}
	for _, s := range p.Seeds {
		addLine(plt, bySeed[s], faint, 0.8, nil)
	}
	plt.NominalX(names...)
	plt.X.Min, plt.X.Max = -0.4, float64(len(p.Arms))-0.4
	return Figure{
		Title:   "Test accuracy",
		Caption: fmt.Sprintf("Each pale mark is one run, thin lines join the runs of one seed; the solid mark is the mean with its 95 %% interval. %s; the test set was read once per run, at clean weights.", seeds(p)),
		SVG:     render(plt, "Test accuracy of every run per method: "+res.Statement),
		Table:   table,
	}
}

// effectFigure shows the paired differences: the numbers that the verdict
// rests on.
func effectFigure(p *study.Plan, res *study.Results) Figure {
	base := p.Arm(p.Baseline).Label
	plt := newPlot("difference in test accuracy to "+base+" (percentage points)", "")
	table := Table{Head: []string{"method", "pairs", "mean", "95 % interval", "t", "p (Holm)", "outcome"}}
	names := make([]string, len(res.Comparisons))
	for i, c := range res.Comparisons {
		y := float64(len(res.Comparisons) - 1 - i) // first comparison on top
		arm := slices.IndexFunc(p.Arms, func(a study.Arm) bool { return a.Name == c.Arm })
		names[int(y)] = p.Arms[arm].Label
		if c.Effect == nil {
			table.Rows = append(table.Rows, []string{p.Arms[arm].Label, "0", "–", "–", "–", "–", c.Outcome})
			continue
		}
		var dots plotter.XYs
		for k, d := range c.Differences {
			off := 0.3 * (float64(k+1)/float64(len(c.Differences)+1) - 0.5)
			dots = append(dots, plotter.XY{X: 100 * d, Y: y + 0.2 + off/3})
		}
		addDots(plt, dots, translucent(colorOf(arm), 0x70), glyphOf(arm), 3.5)
		addLine(plt, plotter.XYs{{X: 100 * c.Effect.Low, Y: y}, {X: 100 * c.Effect.High, Y: y}}, colorOf(arm), 2, nil)
		addDots(plt, plotter.XYs{{X: 100 * c.Effect.Mean, Y: y}}, colorOf(arm), glyphOf(arm), 5)
		table.Rows = append(table.Rows, []string{p.Arms[arm].Label, strconv.Itoa(len(c.Differences)),
			points(c.Effect.Mean), points(c.Effect.Low) + " to " + points(c.Effect.High),
			fmt.Sprintf("%.2f", c.T), fmt.Sprintf("%.4f", c.PAdjusted), c.Outcome})
	}
	plt.NominalY(names...)
	plt.Y.Min, plt.Y.Max = -0.5, float64(len(names))-0.4
	plt.X.Min, plt.X.Max = math.Min(plt.X.Min, 0), math.Max(plt.X.Max, 100*p.Outcome.MinimumEffect)
	margin := 0.05 * (plt.X.Max - plt.X.Min)
	plt.X.Min, plt.X.Max = plt.X.Min-margin, plt.X.Max+margin
	low, high := plt.Y.Min, plt.Y.Max
	addLine(plt, plotter.XYs{{X: 0, Y: low}, {X: 0, Y: high}}, muted, 1, nil)
	if m := 100 * p.Outcome.MinimumEffect; m > 0 {
		addLine(plt, plotter.XYs{{X: m, Y: low}, {X: m, Y: high}}, muted, 1, []vg.Length{4, 3})
	}
	plt.Y.Min, plt.Y.Max = low, high
	return Figure{
		Title: "Effect, paired by seed",
		Caption: fmt.Sprintf("Right of the solid line is better than %s. Pale marks are the pairs, the bar is the 95 %% interval of their mean; the dashed line is the smallest improvement that the plan counts (%s points).",
			base, points(p.Outcome.MinimumEffect)),
		SVG:   render(plt, "Paired differences in test accuracy: "+res.Statement),
		Table: table,
	}
}

// curveFigure shows one number of the learning curve over the epochs: the mean
// over seeds, and a band from the lowest to the highest seed.
func curveFigure(p *study.Plan, res *study.Results, title, yLabel, caption string, scale float64, get func(study.Epoch) float64) Figure {
	plt := newPlot("epoch", yLabel)
	plt.Add(grid())
	table := Table{Head: []string{"epoch"}}
	rows := make([][]string, p.Training.Epochs)
	for e := range rows {
		rows[e] = []string{strconv.Itoa(e + 1)}
	}
	lowest := math.Inf(1)
	for i, a := range p.Arms {
		table.Head = append(table.Head, a.Label)
		var mean, upper, lower plotter.XYs
		for e := range p.Training.Epochs {
			var at []float64
			for _, r := range res.Runs {
				if r.Arm == a.Name && r.Final != nil && e < len(r.Epochs) {
					at = append(at, scale*get(r.Epochs[e]))
				}
			}
			if len(at) == 0 {
				rows[e] = append(rows[e], "–")
				continue
			}
			total := 0.0
			for _, v := range at {
				total += v
			}
			x := float64(e + 1)
			mean = append(mean, plotter.XY{X: x, Y: total / float64(len(at))})
			upper = append(upper, plotter.XY{X: x, Y: slices.Max(at)})
			lower = append(lower, plotter.XY{X: x, Y: slices.Min(at)})
			lowest = math.Min(lowest, slices.Min(at))
			rows[e] = append(rows[e], significant(total/float64(len(at))))
		}
		if len(mean) == 0 {
			continue
		}
		slices.Reverse(lower)
		addBand(plt, append(upper, lower...), translucent(colorOf(i), 0x30))
		line := addLine(plt, mean, colorOf(i), 1.8, dashOf(i))
		plt.Legend.Add(a.Label, line)
	}
	if scale == 1 && lowest > 0 && !math.IsInf(lowest, 1) {
		logarithmic(&plt.Y)
		plt.Legend.Top = true
	}
	table.Rows = rows
	return Figure{Title: title, Caption: caption, SVG: render(plt, title+" by epoch for every method"), Table: table}
}

// riseFigure shows how much the training loss grows when the final weights are
// shaken: the flatter the minimum, the lower the curve.
func riseFigure(p *study.Plan, res *study.Results, noise, title, xLabel string) (Figure, bool) {
	plt := newPlot(xLabel, "rise of the training loss (nats)")
	plt.Add(grid())
	table := Table{Head: []string{"strength"}}
	var rows [][]string
	positive := true
	for i, a := range res.Arms {
		label := p.Arms[i].Label
		table.Head = append(table.Head, label)
		var pts plotter.XYs
		row := 0
		for _, l := range a.LossRise {
			if l.Noise != noise {
				continue
			}
			if row == len(rows) {
				rows = append(rows, []string{significant(l.Strength)})
			}
			rows[row] = append(rows[row], significant(l.Rise.Mean))
			row++
			positive = positive && l.Rise.Mean > 0
			pts = append(pts, plotter.XY{X: l.Strength, Y: l.Rise.Mean})
		}
		if len(pts) == 0 {
			continue
		}
		line := addLine(plt, pts, colorOf(i), 1.8, dashOf(i))
		marks := addDots(plt, pts, colorOf(i), glyphOf(i), 3.5)
		plt.Legend.Add(label, line, marks)
	}
	if len(rows) == 0 {
		return Figure{}, false
	}
	plt.Legend.Top, plt.Legend.Left = true, true
	logarithmic(&plt.X)
	plt.X.Tick.Marker = ticksAt(rows)
	if positive {
		logarithmic(&plt.Y)
	}
	table.Rows = rows
	return Figure{
		Title:   title,
		Caption: fmt.Sprintf("Lower is flatter. Mean over %d draws of the noise and %s, on training samples, at the final weights.", p.Flatness.Draws, seeds(p)),
		SVG:     render(plt, title+": rise of the training loss by strength of the noise for every method"),
		Table:   table,
	}, true
}

func seeds(p *study.Plan) string {
	if len(p.Seeds) == 1 {
		return "1 seed"
	}
	return fmt.Sprintf("%d seeds", len(p.Seeds))
}

func percent(x float64) string     { return fmt.Sprintf("%.2f", 100*x) }
func points(x float64) string      { return fmt.Sprintf("%+.2f", 100*x) }
func significant(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

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
	a.Scale = plot.LogScale{}
	a.Tick.Marker = plot.LogTicks{Prec: -1}
}

// ticksAt labels the axis at the values of the first column: the strengths that
// were measured.
func ticksAt(rows [][]string) plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for _, row := range rows {
		if v, err := strconv.ParseFloat(row[0], 64); err == nil {
			ticks = append(ticks, plot.Tick{Value: v, Label: row[0]})
		}
	}
	return ticks
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
