package report

import (
	"fmt"
	"html/template"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

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
	Answer  string // one sentence: what the picture says; may be empty
	Caption string
	SVG     template.HTML
	Table   Table

	// Names are those of the series, by index of their colour; a page offers to
	// hide each. Fewer than two are not worth it.
	Names []string
	// Surface is what a script needs to turn the picture, as JSON; may be empty.
	Surface string

	plot *plot.Plot // what SVG shows, to be drawn in other forms
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
		addDots(plt, dots, translucent(colorOf(i), 0xa0), glyphOf(i), 3.5)
		addInterval(plt, float64(i)+0.22, 100*sum.Mean, 100*sum.Low, 100*sum.High, i)
		table.Rows = append(table.Rows, []string{a.Label, strconv.Itoa(res.Arms[i].Done),
			percent(sum.Mean), percent(sum.SD), percent(sum.Low) + " to " + percent(sum.High)})
	}
	for _, s := range p.Seeds {
		addLine(plt, bySeed[s], pair, 0.8, nil)
	}
	plt.NominalX(names...)
	plt.X.Min, plt.X.Max = -0.5, float64(len(p.Arms))-0.5
	widen(&plt.Y)
	return Figure{
		Title:   "Test accuracy",
		Caption: fmt.Sprintf("Each pale mark is one run, thin lines join the runs of one seed; the solid mark is the mean with its 95 %% interval. %s; the test set was read once per run, at clean weights.", seeds(p)),
		plot:    plt,
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
		addDots(plt, dots, translucent(colorOf(arm), 0xa0), glyphOf(arm), 3.5)
		addLine(plt, plotter.XYs{{X: 100 * c.Effect.Low, Y: y}, {X: 100 * c.Effect.High, Y: y}}, colorOf(arm), 2, nil)
		addDots(plt, plotter.XYs{{X: 100 * c.Effect.Mean, Y: y}}, colorOf(arm), glyphOf(arm), 5)
		table.Rows = append(table.Rows, []string{p.Arms[arm].Label, strconv.Itoa(len(c.Differences)),
			points(c.Effect.Mean), points(c.Effect.Low) + " to " + points(c.Effect.High),
			fmt.Sprintf("%.2f", c.T), fmt.Sprintf("%.4f", c.PAdjusted), c.Outcome})
	}
	plt.NominalY(names...)
	plt.Y.Min, plt.Y.Max = -0.5, float64(len(names))-0.4
	plt.X.Min, plt.X.Max = math.Min(plt.X.Min, 0), math.Max(plt.X.Max, 100*p.Outcome.MinimumEffect)
	widen(&plt.X)
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
		plot:  plt,
		SVG:   render(plt, "Paired differences in test accuracy: "+res.Statement),
		Table: table,
	}
}

// curveFigure shows one number of the learning curve over the epochs: the mean
// over seeds, and a band from the lowest to the highest seed.
func curveFigure(p *study.Plan, res *study.Results, title, yLabel, caption string, scale float64, get func(study.Epoch) float64) Figure {
	plt := newPlot("epoch", yLabel)
	plt.X.Tick.Marker = roundTicks{atLeast: 1}
	plt.Add(grid())
	table := Table{Head: []string{"epoch"}}
	epochs := 0
	for _, r := range res.Runs {
		epochs = max(epochs, len(r.Epochs))
	}
	rows := make([][]string, epochs)
	for e := range rows {
		rows[e] = []string{strconv.Itoa(e + 1)}
	}
	lowest := math.Inf(1)
	for i, a := range p.Arms {
		table.Head = append(table.Head, a.Label)
		var mean, upper, lower plotter.XYs
		for e := range epochs {
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
	} else {
		widen(&plt.Y)
	}
	table.Rows = rows
	return Figure{Title: title, Caption: caption, plot: plt, SVG: render(plt, title+" by epoch for every method"), Table: table}
}

// riseFigure shows how much the training loss grows when the final weights are
// shaken, as a multiple of the baseline's growth: the rises themselves span
// decades, over which every method looks alike. trained is the strength of this
// noise in training, or 0.
func riseFigure(p *study.Plan, res *study.Results, noise, title, symbol, meaning string, trained float64) (Figure, bool) {
	strengths := p.Flatness.SmoothOut
	if noise == study.MethodAdaSmoothOut {
		strengths = p.Flatness.AdaSmoothOut
	}
	strengths = slices.Sorted(slices.Values(strengths))
	if len(strengths) == 0 {
		return Figure{}, false
	}
	// A strength at which an arm's loss was no number is missing from its
	// summary, so cells are found by strength, not by place.
	rise := func(arm string, strength float64) *study.Summary {
		for _, a := range res.Arms {
			for i, l := range a.LossRise {
				if a.Arm == arm && l.Noise == noise && l.Strength == strength {
					return &a.LossRise[i].Rise
				}
			}
		}
		return nil
	}
	base := p.Arm(p.Baseline).Label
	table := Table{Head: []string{symbol}}
	for _, a := range p.Arms {
		table.Head = append(table.Head, a.Label)
	}
	for _, x := range strengths {
		row := []string{significant(x)}
		for _, a := range p.Arms {
			cell := "–"
			if r := rise(a.Name, x); r != nil {
				cell = significant(r.Mean)
			}
			row = append(row, cell)
		}
		table.Rows = append(table.Rows, row)
	}
	f := Figure{Title: title, Table: table}

	// ratio is the arm's rise over the baseline's, where both make sense.
	ratio := func(arm string, x float64) (mean, low, high float64, ok bool) {
		r, b := rise(arm, x), rise(p.Baseline, x)
		if r == nil || b == nil || !(r.Mean > 0 && b.Mean > 0) {
			return 0, 0, 0, false
		}
		mean, low, high = r.Mean/b.Mean, r.Low/b.Mean, r.High/b.Mean
		return mean, low, high, mean > 0 && !math.IsInf(mean, 1) && !math.IsNaN(low) && !math.IsInf(high, 1)
	}
	lowest, highest := 1.0, 1.0
	for _, a := range p.Arms {
		for _, x := range strengths {
			if mean, low, high, ok := ratio(a.Name, x); ok {
				// A very long whisker is cut, so that the means stay apart.
				lowest = math.Min(lowest, math.Max(low, mean/2))
				highest = math.Max(highest, math.Min(high, 2*mean))
			}
		}
	}
	lowest, highest = math.Max(lowest/1.05, 1e-6), math.Min(highest*1.05, 1e6)
	plt := newPlot(symbol+": "+meaning, "rise of the loss, "+base+" = 1")
	plt.Add(grid())
	drawn := false
	for i, a := range p.Arms {
		var means plotter.XYs
		// Side by side, so that the whiskers of the methods do not hide
		// each other.
		shift := math.Pow(1.05, float64(i)-float64(len(p.Arms)-1)/2)
		for _, x := range strengths {
			mean, low, high, ok := ratio(a.Name, x)
			if !ok || mean < lowest || mean > highest {
				continue
			}
			means = append(means, plotter.XY{X: x * shift, Y: mean})
			addLine(plt, plotter.XYs{{X: x * shift, Y: math.Max(low, lowest)}, {X: x * shift, Y: math.Min(high, highest)}}, colorOf(i), 1.2, nil)
		}
		if len(means) == 0 {
			continue
		}
		drawn = true
		plt.Legend.Add(a.Label, addLine(plt, means, colorOf(i), 1.8, dashOf(i)), addDots(plt, means, colorOf(i), glyphOf(i), 3.5))
	}
	if !drawn {
		f.Caption = fmt.Sprintf("No picture: without a finished run of %s there is nothing to compare with.", base)
		return f, true
	}
	plt.X.Scale, plt.X.Tick.Marker = plot.LogScale{}, ticksAt(table.Rows)
	plt.X.Min, plt.X.Max = strengths[0]/1.3, strengths[len(strengths)-1]*1.3
	plt.Y.Scale, plt.Y.Tick.Marker = plot.LogScale{}, logTicks{}
	plt.Y.Min, plt.Y.Max = lowest*math.Pow(lowest/highest, 0.3), highest // room for the legend
	plt.Legend.Left = true

	// The sentence: at the measured strength nearest to that of training.
	at := strengths[0]
	for _, x := range strengths {
		if trained > 0 && math.Abs(math.Log(x/trained)) < math.Abs(math.Log(at/trained)) {
			at = x
		}
	}
	var parts []string
	for _, a := range p.Arms {
		if mean, _, _, ok := ratio(a.Name, at); ok && a.Name != p.Baseline {
			form := "%.2g times with %s"
			if len(parts) == 0 {
				form = "%.2g times as much with %s as with " + strings.ReplaceAll(base, "%", "%%")
			}
			parts = append(parts, fmt.Sprintf(form, mean, a.Label))
		}
	}
	if len(parts) > 0 {
		why := ""
		if trained > 0 && trained != at {
			why = fmt.Sprintf(" (of those measured the nearest to training's %v)", trained)
		}
		f.Answer = fmt.Sprintf("At %s = %v%s the loss rises %s.", symbol, at, why, strings.Join(parts, ", "))
	}
	f.Caption = fmt.Sprintf("Below 1 is flatter than %s. Mean over %d draws of the noise and %s, on training samples, at the final weights; whiskers: 95 %% interval of the method's mean over seeds, in units of %s's mean, cut at the edge of the picture. The rises themselves, in nats, are in the table.",
		base, p.Flatness.Draws, seeds(p), base)
	f.plot = plt
	f.SVG = render(plt, title+", as a multiple of "+base+"'s. "+f.Answer)
	return f, true
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

func seeds(p *study.Plan) string {
	if len(p.Seeds) == 1 {
		return "1 seed"
	}
	return fmt.Sprintf("%d seeds", len(p.Seeds))
}

func percent(x float64) string     { return fmt.Sprintf("%.2f", 100*x) }
func points(x float64) string      { return fmt.Sprintf("%+.2f", 100*x) }
func significant(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

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
