package report

import (
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/openpith/evidence/internal/stats"
	"github.com/openpith/evidence/replicate/study"
	"github.com/openpith/evidence/sharpness"
)

// A drawing holds what the pictures of a study share: its files, and how each
// arm looks. Colour tells the method, shape and dashes the batch size.
type drawing struct {
	plan    *study.Plan
	results *study.Results
	files   []study.RunFile
	methods []string // by index of their colour; the baseline's is first
	batches []int    // the baseline's is first
	setting []study.Setting
	byBatch []study.BatchCorrelations
}

func newDrawing(p *study.Plan, res *study.Results, files []study.RunFile) (*drawing, error) {
	d := &drawing{plan: p, results: res, files: files}
	for _, a := range p.Arms {
		s, err := a.Setting()
		if err != nil {
			return nil, fmt.Errorf("plan.json: arm %s: %w", a.Name, err)
		}
		d.setting = append(d.setting, s)
	}
	base := d.index(p.Baseline())
	d.methods, d.batches = []string{p.Arms[base].Method}, []int{d.setting[base].Recipe.Batch}
	for i, a := range p.Arms {
		if !slices.Contains(d.methods, a.Method) {
			d.methods = append(d.methods, a.Method)
		}
		if b := d.setting[i].Recipe.Batch; !slices.Contains(d.batches, b) {
			d.batches = append(d.batches, b)
		}
	}
	return d, nil
}

func (d *drawing) index(arm string) int {
	return slices.IndexFunc(d.plan.Arms, func(a study.Arm) bool { return a.Name == arm })
}

// hue is the index of the colour of an arm, regime that of its batch size.
func (d *drawing) hue(arm int) int    { return slices.Index(d.methods, d.plan.Arms[arm].Method) }
func (d *drawing) regime(arm int) int { return slices.Index(d.batches, d.setting[arm].Recipe.Batch) }

func (d *drawing) color(arm int) color.NRGBA { return colorOf(d.hue(arm)) }

func (d *drawing) glyph(arm int) draw.GlyphDrawer {
	if len(d.batches) == 1 {
		return glyphOf(arm)
	}
	return []draw.GlyphDrawer{draw.CircleGlyph{}, draw.RingGlyph{}, draw.BoxGlyph{}, draw.SquareGlyph{}}[d.regime(arm)%4]
}

// names are the methods as the page offers to hide them.
func (d *drawing) names() []string {
	out := make([]string, len(d.methods))
	for i, a := range d.plan.Arms {
		name, _, _ := strings.Cut(a.Label, ", batch ")
		out[d.hue(i)] = name
	}
	return out
}

// runs of an arm that are complete.
func (d *drawing) runs(arm int) (out []study.RunFile) {
	for _, f := range d.files {
		if f.Run.Arm == d.plan.Arms[arm].Name && f.Run.Final != nil {
			out = append(out, f)
		}
	}
	return out
}

// counts are the numbers of complete runs, arm by arm.
func (d *drawing) counts() (out []int) {
	for i := range d.plan.Arms {
		out = append(out, len(d.runs(i)))
	}
	return out
}

// seeds says how many runs the arms of a picture have, of which some may have
// fewer than others.
func seeds(counts ...int) string {
	switch least, most := slices.Min(counts), slices.Max(counts); {
	case least < most:
		return fmt.Sprintf("%d to %d seeds", least, most)
	case most == 1:
		return "1 seed"
	default:
		return fmt.Sprintf("%d seeds", most)
	}
}

func runName(label string, seed int64) string { return fmt.Sprintf("%s, seed %d", label, seed) }

// armsFigure shows one number of every run as a mark, an arm per row, and the
// mean of each arm with its 95 % interval. A row is left out where no run has
// the number.
func (d *drawing) armsFigure(title, label, caption string, mayLog bool, of func(study.RunFile) (float64, bool)) (Figure, bool) {
	plt := newPlot(label, "")
	table := Table{Head: []string{"arm", "runs", "mean", "sd", "95 % interval"}}
	type row struct {
		arm    int
		seeds  []int64
		values []float64
	}
	var rows []row
	lowest := math.Inf(1)
	for i := range d.plan.Arms {
		r := row{arm: i}
		for _, f := range d.runs(i) {
			if v, ok := of(f); ok {
				r.seeds, r.values = append(r.seeds, f.Run.Seed), append(r.values, v)
				lowest = math.Min(lowest, v)
			}
		}
		if len(r.values) > 0 {
			rows = append(rows, r)
		} else {
			table.Rows = append(table.Rows, []string{d.plan.Arms[i].Label, "0", "–", "–", "–"})
		}
	}
	if len(rows) == 0 {
		return Figure{}, false
	}
	if mayLog = mayLog && lowest > 0; mayLog {
		table.Head[2] = "geometric mean"
	}
	labels := make([]string, len(rows))
	var counts []int
	for k, r := range rows {
		counts = append(counts, len(r.values))
		y := float64(len(rows) - 1 - k) // the first on top
		arm := d.plan.Arms[r.arm]
		labels[int(y)] = arm.Label
		var dots plotter.XYs
		for n, v := range r.values {
			// A little apart, so that equal results do not hide each other.
			off := 0.26 * (float64(n)/math.Max(1, float64(len(r.values)-1)) - 0.5)
			dots = append(dots, plotter.XY{X: v, Y: y + 0.12 + off})
		}
		addDots(plt, dots, translucent(d.color(r.arm), 0xa0), d.glyph(r.arm), 2.8)
		for n := range dots {
			addHover(plt, d.hue(r.arm), dots[n:n+1], func(x, _ float64) string { return runName(arm.Label, r.seeds[n]) + ": " + significant(x) })
		}
		s := summarize(r.values, mayLog)
		if s.N > 1 {
			addLine(plt, plotter.XYs{{X: s.Low, Y: y - 0.22}, {X: s.High, Y: y - 0.22}}, d.color(r.arm), 2, nil)
		}
		addDots(plt, plotter.XYs{{X: s.Mean, Y: y - 0.22}}, d.color(r.arm), draw.PyramidGlyph{}, 3.5)
		interval := "–"
		if s.N > 1 {
			interval = significant(s.Low) + " to " + significant(s.High)
		}
		table.Rows = append(table.Rows, []string{arm.Label, strconv.Itoa(s.N), significant(s.Mean), significant(s.SD), interval})
	}
	plt.NominalY(labels...)
	plt.Y.Min, plt.Y.Max = -0.6, float64(len(labels))-0.4
	kind := "mean"
	if mayLog {
		logarithmic(&plt.X)
		kind = "geometric mean"
	}
	if _, isLog := plt.X.Scale.(plot.LogScale); !isLog {
		widen(&plt.X)
	}
	return Figure{
		Title: title, Table: table, Names: d.names(), plot: plt, SVG: render(plt, title+" of every run, by arm"),
		Caption: strings.TrimSpace(fmt.Sprintf("Each pale mark is one run (%s); the triangle below them is their %s with its 95 %% interval. %s", seeds(counts...), kind, caption)),
	}, true
}

// effectFigure shows the paired differences: the numbers that the verdict
// rests on, and those of the other methods at the baseline's batch size.
func (d *drawing) effectFigure() Figure {
	p := d.plan
	base := p.Arm(p.Baseline()).Label
	plt := newPlot("difference in test accuracy (percentage points)", "")
	table := Table{Head: []string{"arm", "pairs", "mean", "95 % interval", "t", "p (Holm)", "outcome"}}
	type row struct {
		study.Difference
		judged bool
	}
	var rows []row
	add := func(c study.Difference, cells ...string) {
		label := p.Arm(c.Arm).Label
		if c.Effect == nil {
			table.Rows = append(table.Rows, append([]string{label, "0", "–", "–"}, cells...))
			return
		}
		table.Rows = append(table.Rows, append([]string{label, strconv.Itoa(len(c.Differences)), points(c.Effect.Mean),
			points(c.Effect.Low) + " to " + points(c.Effect.High)}, cells...))
		if d.regime(d.index(c.Arm)) == 0 {
			rows = append(rows, row{c, cells[0] != "–"})
		}
	}
	for _, c := range d.results.Comparisons {
		add(c.Difference, fmt.Sprintf("%.2f", c.T), fmt.Sprintf("%.4f", c.PAdjusted), c.Outcome)
	}
	for _, c := range d.results.Reported {
		add(c, "–", "–", "not judged")
	}
	names := make([]string, len(rows))
	for k, c := range rows {
		y := float64(len(rows) - 1 - k)
		arm := d.index(c.Arm)
		name, _, _ := strings.Cut(p.Arms[arm].Label, ", batch ")
		names[int(y)] = name
		if !c.judged {
			names[int(y)] += " (not judged)"
		}
		var dots plotter.XYs
		for k, x := range c.Differences {
			off := 0.3 * (float64(k+1)/float64(len(c.Differences)+1) - 0.5)
			dots = append(dots, plotter.XY{X: 100 * x, Y: y + 0.2 + off/3})
		}
		addDots(plt, dots, translucent(d.color(arm), 0xa0), d.glyph(arm), 3.2)
		for k := range dots {
			addHover(plt, d.hue(arm), dots[k:k+1], func(x, _ float64) string { return fmt.Sprintf("seed %d: %+.2f points", c.Seeds[k], x) })
		}
		addLine(plt, plotter.XYs{{X: 100 * c.Effect.Low, Y: y}, {X: 100 * c.Effect.High, Y: y}}, d.color(arm), 2, nil)
		addDots(plt, plotter.XYs{{X: 100 * c.Effect.Mean, Y: y}}, d.color(arm), draw.PyramidGlyph{}, 4)
	}
	f := Figure{Title: "Effect, paired by seed", Table: table}
	if len(rows) == 0 {
		f.Caption = "No picture: there is no pair of complete runs."
		return f
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
	f.Caption = fmt.Sprintf("Right of the solid line is better than %s. Pale marks are the pairs, the bar is the 95 %% interval of their mean; the dashed line is the smallest improvement that the plan counts (%s points).",
		base, points(p.Outcome.MinimumEffect))
	f.plot, f.SVG = plt, render(plt, "Paired differences in test accuracy: "+d.results.Statement)
	return f
}

// curveFigures show one number of the learning curve over the epochs, a
// picture per batch size: the mean over seeds, and a band from the lowest to
// the highest seed.
func (d *drawing) curveFigures(title, yLabel, caption string, scale float64, get func(study.Epoch) float64) (figures []Figure) {
	for g, batch := range d.batches {
		plt := newPlot("epoch", yLabel)
		plt.X.Tick.Marker = roundTicks{atLeast: 1}
		plt.Add(grid())
		table := Table{Head: []string{"epoch"}}
		var counts []int
		lowest := math.Inf(1)
		for i, a := range d.plan.Arms {
			if d.regime(i) != g {
				continue
			}
			table.Head = append(table.Head, a.Label)
			n := d.setting[i].Recipe.Epochs
			var mean, upper, lower plotter.XYs
			for e := range n {
				var at []float64
				for _, f := range d.runs(i) {
					at = append(at, scale*get(f.Run.Epochs[e]))
				}
				for len(table.Rows) <= e {
					table.Rows = append(table.Rows, []string{strconv.Itoa(len(table.Rows) + 1)})
				}
				for len(table.Rows[e]) < len(table.Head)-1 { // arms with fewer epochs
					table.Rows[e] = append(table.Rows[e], "–")
				}
				if len(at) == 0 {
					table.Rows[e] = append(table.Rows[e], "–")
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
				table.Rows[e] = append(table.Rows[e], significant(total/float64(len(at))))
			}
			if len(mean) == 0 {
				continue
			}
			drawn := len(d.runs(i))
			counts = append(counts, drawn)
			slices.Reverse(lower)
			addBand(plt, append(upper, lower...), translucent(d.color(i), 0x30))
			name, _, _ := strings.Cut(a.Label, ", batch ")
			plt.Legend.Add(name, addLine(plt, mean, d.color(i), 1.6, dashOf(d.hue(i))))
			addHover(plt, d.hue(i), mean, func(x, y float64) string {
				return fmt.Sprintf("%s, epoch %s: %s (mean of %s)", a.Label, significant(x), significant(y), seeds(drawn))
			})
		}
		if math.IsInf(lowest, 1) {
			continue
		}
		if scale == 1 && lowest > 0 {
			logarithmic(&plt.Y)
			plt.Legend.Top = true
		} else {
			widen(&plt.Y)
		}
		t := title
		if len(d.batches) > 1 {
			t = fmt.Sprintf("%s, batch %d", title, batch)
		}
		figures = append(figures, Figure{Title: t, Table: table, Names: d.names(), plot: plt, SVG: render(plt, t+" by epoch for every method"),
			Caption: fmt.Sprintf("%s Line: mean over %s; band: lowest to highest seed.", caption, seeds(counts...))})
	}
	return figures
}

func (d *drawing) curves() []Figure {
	return slices.Concat(
		d.curveFigures("Validation accuracy", "validation accuracy (%)", "At clean weights, with running batch-norm statistics.", 100,
			func(e study.Epoch) float64 { return e.ValidationAccuracy }),
		d.curveFigures("Training loss as training saw it", "loss (nats)", "At perturbed weights where the method perturbs them, so the arms measure different things here.", 1,
			func(e study.Epoch) float64 { return e.TrainLoss }))
}

// costFigure compares the time of training with that of plain SGD at the same
// batch size and seed.
func (d *drawing) costFigure() (Figure, bool) {
	plain := func(f study.RunFile) float64 {
		at := d.index(f.Run.Arm)
		for i, a := range d.plan.Arms {
			if a.Method != "sgd" || d.regime(i) != d.regime(at) || d.setting[i].Recipe.Epochs != d.setting[at].Recipe.Epochs {
				continue
			}
			for _, g := range d.runs(i) {
				if g.Run.Seed == f.Run.Seed {
					return g.Timing.Seconds
				}
			}
		}
		return 0
	}
	return d.armsFigure("Cost of training", "time of training over plain SGD's",
		"By the clock, against plain SGD with the same batch size and seed, on a machine that did other things as well: single runs are rough.", false,
		func(f study.RunFile) (float64, bool) {
			s := plain(f)
			return f.Timing.Seconds / s, s > 0 && f.Timing.Seconds > 0 && f.Timing.Seconds/s < 1e6
		})
}

// sharpness shows every measure by arm.
func (d *drawing) sharpness() (figures []Figure) {
	for m, label := range d.plan.Measures.Labels() {
		if f, ok := d.armsFigure(capital(label), label, d.measured(d.plan.Measures.List[m].Measure), true, func(f study.RunFile) (float64, bool) {
			return f.Run.Measures[m].Value, f.Run.Measures[m].Error == ""
		}); ok {
			figures = append(figures, f)
		}
	}
	return figures
}

func (d *drawing) measured(m sharpness.Measure) string {
	n := "all training examples"
	if d.plan.Measures.Examples > 0 {
		n = fmt.Sprintf("%d training examples, the same for all", d.plan.Measures.Examples)
	}
	flatter := "Left"
	if !sharpness.LargerIsSharper(m) {
		flatter = "Right"
	}
	return "On " + n + ", at clean final weights. " + flatter + " is flatter."
}

// reversed says of which measures a τ is to be read the other way round.
func (d *drawing) reversed() string {
	var labels []string
	for m, label := range d.plan.Measures.Labels() {
		if !sharpness.LargerIsSharper(d.plan.Measures.List[m].Measure) {
			labels = append(labels, label)
		}
	}
	return reversed(labels...)
}

// reversed is a sentence on measures that are smaller at sharper points.
func reversed(labels ...string) string {
	if len(labels) == 0 {
		return ""
	}
	return " Smaller is sharper by " + strings.Join(labels, " and ") + ": there, −1 is what 1 is of other measures."
}

// correlations sets every measure against the generalisation gap: first how
// well each goes with it, then run by run.
func (d *drawing) correlations() (figures []Figure) {
	plt := newPlot("Kendall's τ", "")
	table := d.correlationsTable()
	var names []string
	n := 0
	for _, c := range d.results.Correlations {
		if c.Kendall != nil {
			names = append(names, c.Measure)
		}
		n = max(n, c.N)
	}
	if len(names) > 0 {
		for _, c := range d.results.Correlations {
			if c.Kendall == nil {
				continue
			}
			y := float64(len(names) - 1 - slices.Index(names, c.Measure))
			addLine(plt, plotter.XYs{{X: c.Kendall.Low, Y: y}, {X: c.Kendall.High, Y: y}}, colorOf(1), 2, nil)
			at := plotter.XYs{{X: c.Kendall.Value, Y: y}}
			addDots(plt, at, colorOf(1), draw.CircleGlyph{}, 4)
			addHover(plt, 1, at, func(x, _ float64) string { return fmt.Sprintf("%s: τ = %+.2f over %d runs", c.Measure, x, c.N) })
		}
		slices.Reverse(names)
		plt.NominalY(names...)
		plt.Y.Min, plt.Y.Max = -0.5, float64(len(names))-0.5
		plt.X.Min, plt.X.Max = -1.05, 1.05 // as in the picture before, to be compared
		addLine(plt, plotter.XYs{{X: 0, Y: plt.Y.Min}, {X: 0, Y: plt.Y.Max}}, muted, 1, nil)
		title := "Which measure goes with the generalisation gap?"
		if len(d.batches) > 1 {
			title = "Over all runs and batch sizes: which measure goes with the gap?"
		}
		figures = append(figures, Figure{Title: title, Table: table, plot: plt, SVG: render(plt, title),
			Caption: fmt.Sprintf("Over %d runs; bars are 95 %% intervals that take runs for independent, though runs of one arm are alike: they are rather too narrow. 1: the order of the measure is that of the gap; 0: it says nothing; −1: the reverse.", n) + d.reversed()})
	}
	if f, ok := d.byBatchFigure(); ok {
		figures = append([]Figure{f}, figures...)
	}
	for m, c := range d.results.Correlations {
		if f, ok := d.gapFigure(m, c); ok {
			figures = append(figures, f)
		}
	}
	return figures
}

// byBatchFigure shows the correlations among the runs of each batch size, which
// differ in method and seed alone. Over all runs, batch sizes are compared as well.
func (d *drawing) byBatchFigure() (Figure, bool) {
	if len(d.byBatch) < 2 {
		return Figure{}, false
	}
	labels := d.plan.Measures.Labels()
	plt := newPlot("Kendall's τ", "")
	drawn := 0
	for g, b := range d.byBatch {
		regime := slices.Index(d.batches, b.Batch)
		glyph := []draw.GlyphDrawer{draw.CircleGlyph{}, draw.RingGlyph{}, draw.BoxGlyph{}, draw.SquareGlyph{}}[regime%4]
		var shown draw.GlyphDrawer
		n := 0
		for m, c := range b.Correlations {
			n = max(n, c.N)
			if c.Kendall == nil {
				continue
			}
			drawn++
			y := float64(len(labels)-1-m) + 0.3*(0.5-float64(g)/float64(len(d.byBatch)-1))
			addLine(plt, plotter.XYs{{X: c.Kendall.Low, Y: y}, {X: c.Kendall.High, Y: y}}, colorOf(g+1), 2, dashOf(g))
			at := plotter.XYs{{X: c.Kendall.Value, Y: y}}
			dots := addDots(plt, at, colorOf(g+1), glyph, 4)
			if shown == nil {
				shown = glyph
				plt.Legend.Add(fmt.Sprintf("batch %d", b.Batch), dots)
			}
			addHover(plt, g+1, at, func(x, _ float64) string {
				return fmt.Sprintf("%s, batch %d: τ = %+.2f over %d runs", c.Measure, b.Batch, x, c.N)
			})
		}
	}
	if drawn == 0 {
		return Figure{}, false
	}
	names := slices.Clone(labels)
	slices.Reverse(names)
	plt.NominalY(names...)
	plt.Legend.Top = true
	plt.Y.Min, plt.Y.Max = -0.5, float64(len(names))+0.4 // with room for the legend
	plt.X.Min, plt.X.Max = -1.05, 1.05
	addLine(plt, plotter.XYs{{X: 0, Y: plt.Y.Min}, {X: 0, Y: plt.Y.Max}}, muted, 1, nil)
	title := "Within one batch size: which measure goes with the gap?"
	source := ""
	if d.results.ByBatch == nil {
		source = " Computed from the runs for this page; the results of this study, made by an earlier program, do not hold it."
	}
	return Figure{Title: title, Table: d.byBatchTable(), plot: plt, SVG: render(plt, title),
		Caption: "The runs of a batch size differ in method and seed alone. Over all runs, as in the next picture, networks of different batch sizes are compared, too, and what makes these differ (how long they were trained, in steps) can hide or turn what holds within each. " +
			"Bars are 95 % intervals that take runs for independent; runs of one arm are alike, so they are rather too narrow. 1: the order of the measure is that of the gap; 0: it says nothing; −1: the reverse." + d.reversed() + source}, true
}

// byBatchTable has a measure per row, and for each batch size τ with its interval
// and the number of runs.
func (d *drawing) byBatchTable() Table {
	t := Table{Head: []string{"measure"}}
	for m, label := range d.plan.Measures.Labels() {
		row := []string{label}
		for _, b := range d.byBatch {
			if m == 0 {
				t.Head = append(t.Head, fmt.Sprintf("batch %d: runs", b.Batch), "Kendall's τ", "95 % interval", "Pearson's r")
			}
			row = append(row, correlationCells(b.Correlations[m])[:4]...)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// correlationCells are the number of runs, τ, its interval, r, and its interval.
func correlationCells(c study.Correlation) []string {
	cells := []string{strconv.Itoa(c.N), "–", "–", "–", "–"}
	if k := c.Kendall; k != nil {
		cells[1], cells[2] = fmt.Sprintf("%+.2f", k.Value), fmt.Sprintf("%+.2f to %+.2f", k.Low, k.High)
	}
	if r := c.Pearson; r != nil {
		cells[3], cells[4] = fmt.Sprintf("%+.2f", r.Value), fmt.Sprintf("%+.2f to %+.2f", r.Low, r.High)
	}
	return cells
}

func (d *drawing) correlationsTable() Table {
	table := Table{Head: []string{"measure", "runs", "Kendall's τ", "95 % interval", "Pearson's r", "95 % interval", "of"}}
	for _, c := range d.results.Correlations {
		of := "the measure"
		if c.Logarithm {
			of = "its logarithm"
		}
		table.Rows = append(table.Rows, append(append([]string{c.Measure}, correlationCells(c)...), of))
	}
	return table
}

func (d *drawing) gapFigure(m int, c study.Correlation) (Figure, bool) {
	plt := newPlot(c.Measure, "train − test accuracy (points)")
	plt.Add(grid())
	table := Table{Head: []string{"run", c.Measure, "gap (points)"}}
	shown := map[string]bool{}
	for i, a := range d.plan.Arms {
		var dots plotter.XYs
		for _, f := range d.runs(i) {
			if f.Run.Measures[m].Error != "" {
				continue
			}
			at := plotter.XY{X: f.Run.Measures[m].Value, Y: 100 * f.Run.Final.Gap()}
			dots = append(dots, at)
			addHover(plt, d.hue(i), plotter.XYs{at}, func(x, y float64) string {
				return fmt.Sprintf("%s: %s, gap %s points", runName(a.Label, f.Run.Seed), significant(x), significant(y))
			})
			table.Rows = append(table.Rows, []string{runName(a.Label, f.Run.Seed), significant(at.X), significant(at.Y)})
		}
		if len(dots) == 0 {
			continue
		}
		s := addDots(plt, dots, translucent(d.color(i), 0xc0), d.glyph(i), 3.2)
		if name, _, _ := strings.Cut(a.Label, ", batch "); !shown[name] {
			shown[name] = true
			plt.Legend.Add(name, s)
		}
	}
	if len(table.Rows) < 3 {
		return Figure{}, false
	}
	if c.Logarithm {
		logarithmic(&plt.X)
	}
	if _, isLog := plt.X.Scale.(plot.LogScale); !isLog {
		widen(&plt.X)
	}
	widen(&plt.Y)
	// Where the marks leave room.
	plt.Legend.Top, plt.Legend.Left = true, c.Kendall == nil || c.Kendall.Value >= 0
	answer := "The correlation is not defined."
	if k := c.Kendall; k != nil {
		answer = fmt.Sprintf("Over %d runs τ = %+.2f (%+.2f to %+.2f).", c.N, k.Value, k.Low, k.High)
	}
	if len(d.byBatch) > 1 {
		var within []string
		for _, b := range d.byBatch {
			if w := b.Correlations[m]; w.Kendall != nil {
				within = append(within, fmt.Sprintf("%+.2f among the %d with batches of %d", w.Kendall.Value, w.N, b.Batch))
			}
		}
		if len(within) > 0 {
			answer += " Within a batch size: τ = " + strings.Join(within, ", ") + "."
		}
	}
	caption := "Each mark is one run."
	if len(d.batches) > 1 {
		caption = fmt.Sprintf("Each mark is one run; filled ones were trained with batches of %d.", d.batches[0])
	}
	if m := d.plan.Measures.List[m].Measure; !sharpness.LargerIsSharper(m) {
		caption += reversed(c.Measure)
	}
	title := capital(c.Measure) + " and the gap"
	return Figure{Title: title, Answer: answer, Caption: caption, Names: d.names(), Table: table, plot: plt, SVG: render(plt, title+". "+answer)}, true
}

// capital makes the first letter of a label one.
func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// summarize is the mean of values with its interval or, of what spans decades,
// the geometric mean with its own.
func summarize(values []float64, logarithm bool) stats.Summary {
	if !logarithm {
		return stats.Summarize(values)
	}
	logs := make([]float64, len(values))
	for i, v := range values {
		logs[i] = math.Log(v)
	}
	s := stats.Summarize(logs)
	s.Mean, s.Low, s.High = math.Exp(s.Mean), math.Exp(s.Low), math.Exp(s.High)
	s.SD = stats.Summarize(values).SD
	return s
}
