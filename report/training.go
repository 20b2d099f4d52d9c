package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg/draw"

	"github.com/openpith/evidence/internal/stats"
)

// A TrainingRun is one run of training as a picture needs it. Numbers that are
// not known are NaN.
type TrainingRun struct {
	Name  string // like "smoothout, batch 128, seed 1"
	Group string // like "smoothout, batch 128": one colour
	// Method and Strength place the run in a sweep of strengths.
	Method   string
	Strength float64
	// Accuracies of the result, from 0 to 1.
	Train, Validation, Test float64
	// StepCost is the time of a step over that of plain SGD.
	StepCost float64
	Curve    []CurvePoint
}

// A CurvePoint is the end of an epoch.
type CurvePoint struct {
	Epoch                                float64
	NoisyLoss, CleanLoss, ValidationLoss float64 // nats
	ValidationAccuracy                   float64 // 0 to 1
}

// Training draws runs: learning curves, the accuracy of every run by group,
// accuracy over strength where several were tried, and what a step costs.
func Training(runs []TrainingRun) ([]Figure, error) {
	if len(runs) == 0 {
		return nil, ErrNothing
	}
	var groups []string
	for _, r := range runs {
		if !slices.Contains(groups, r.Group) {
			groups = append(groups, r.Group)
		}
	}
	var figures []Figure
	add := func(f Figure, ok bool) {
		if ok {
			figures = append(figures, f)
		}
	}
	for _, a := range []struct {
		split string
		of    func(TrainingRun) float64
	}{
		{"Test", func(r TrainingRun) float64 { return r.Test }},
		{"Validation", func(r TrainingRun) float64 { return r.Validation }},
	} {
		add(groupsFigure(a.split+" accuracy", a.split+" accuracy (%)", groups, runs, func(r TrainingRun) float64 { return 100 * a.of(r) }))
	}
	add(groupsFigure("Generalisation gap", "train − test accuracy (points)", groups, runs, func(r TrainingRun) float64 { return 100 * (r.Train - r.Test) }))
	add(strengthFigure(runs))
	for _, c := range []struct {
		title, label string
		scale        float64
		of           func(CurvePoint) float64
	}{
		{"Validation accuracy by epoch", "validation accuracy (%)", 100, func(p CurvePoint) float64 { return p.ValidationAccuracy }},
		{"Training loss at clean weights", "loss (nats)", 1, func(p CurvePoint) float64 { return p.CleanLoss }},
		{"Training loss as training saw it", "loss (nats)", 1, func(p CurvePoint) float64 { return p.NoisyLoss }},
	} {
		add(runsFigure(c.title, c.label, c.scale, groups, runs, c.of))
	}
	add(groupsFigure("Cost of a step", "time of a step over plain SGD's", groups, runs, func(r TrainingRun) float64 { return r.StepCost }))
	if len(figures) == 0 {
		return nil, fmt.Errorf("%w: %d runs without an epoch", ErrNothing, len(runs))
	}
	return figures, nil
}

// groupsFigure shows one number of every run as a dot, and the mean of each
// group with its 95 % interval.
func groupsFigure(title, label string, groups []string, runs []TrainingRun, of func(TrainingRun) float64) (Figure, bool) {
	plt := newPlot("", label)
	table := Table{Head: []string{"run", label}}
	n := 0
	for i, g := range groups {
		var values []float64
		var dots plotter.XYs
		for _, r := range runs {
			if v := of(r); r.Group == g && !math.IsNaN(v) {
				dots = append(dots, plotter.XY{X: float64(i) - 0.12 + 0.04*float64(len(values)%7), Y: v})
				values = append(values, v)
				table.Rows = append(table.Rows, []string{r.Name, significant(v)})
			}
		}
		n += len(values)
		if len(values) == 0 {
			continue
		}
		addDots(plt, dots, translucent(colorOf(i), 0xa0), glyphOf(i), 3.5)
		names := namesOf(runs, g, of)
		for k, d := range dots {
			addHover(plt, i, plotter.XYs{d}, func(_, y float64) string { return names[k] + ": " + significant(y) })
		}
		if len(values) > 1 {
			s := stats.Summarize(values)
			addInterval(plt, float64(i)+0.25, s.Mean, s.Low, s.High, i)
		}
	}
	if n == 0 {
		return Figure{}, false
	}
	short, full := keys(groups)
	nominalX(plt, short)
	plt.X.Min, plt.X.Max = -0.5, float64(len(groups))-0.5
	widen(&plt.Y)
	return Figure{Title: title, plot: plt, SVG: render(plt, title+" of every run, by method"), Table: table, Names: full,
		Caption: fmt.Sprintf("Each pale mark is one of %d runs; solid marks are means with their 95 %% interval.", n)}, true
}

// namesOf lists the runs of a group that have the number, in order.
func namesOf(runs []TrainingRun, group string, of func(TrainingRun) float64) []string {
	var names []string
	for _, r := range runs {
		if r.Group == group && !math.IsNaN(of(r)) {
			names = append(names, r.Name)
		}
	}
	return names
}

// strengthFigure shows validation accuracy over the strength of noise for
// methods that were tried at several.
func strengthFigure(runs []TrainingRun) (Figure, bool) {
	var methods []string
	at := map[string]map[float64][]float64{}
	for _, r := range runs {
		if math.IsNaN(r.Validation) || !(r.Strength > 0) {
			continue
		}
		if at[r.Method] == nil {
			at[r.Method] = map[float64][]float64{}
			methods = append(methods, r.Method)
		}
		at[r.Method][r.Strength] = append(at[r.Method][r.Strength], 100*r.Validation)
	}
	plt := newPlot("strength", "validation accuracy (%)")
	plt.Add(grid())
	table := Table{Head: []string{"method", "strength", "runs", "mean %", "sd"}}
	methods = slices.DeleteFunc(methods, func(m string) bool { return len(at[m]) < 2 })
	short, full := keys(methods)
	for i, m := range methods {
		i++ // the colour of the baseline is not for methods
		var strengths []float64
		for s := range at[m] {
			strengths = append(strengths, s)
		}
		slices.Sort(strengths)
		var means plotter.XYs
		for _, s := range strengths {
			sum := stats.Summarize(at[m][s])
			means = append(means, plotter.XY{X: s, Y: sum.Mean})
			table.Rows = append(table.Rows, []string{m, significant(s), strconv.Itoa(len(at[m][s])), significant(sum.Mean), significant(sum.SD)})
			for _, v := range at[m][s] {
				addDots(plt, plotter.XYs{{X: s, Y: v}}, translucent(colorOf(i), 0x80), draw.CircleGlyph{}, 2)
			}
		}
		plt.Legend.Add(short[i-1], addLine(plt, means, colorOf(i), 1.8, dashOf(i)), addDots(plt, means, colorOf(i), glyphOf(i), 3.5))
	}
	if len(methods) == 0 {
		return Figure{}, false
	}
	logarithmic(&plt.X)
	widen(&plt.Y)
	title := "Accuracy over the strength of the noise"
	caption := "Small dots are runs, large marks their means. The validation set serves this choice; the test set has no part in it."
	if short[0] != full[0] {
		caption += " " + strings.Join(full, "; ") + "."
	}
	return Figure{Title: title, plot: plt, SVG: render(plt, title), Table: table, Caption: caption}, true
}

// runsFigure shows one number of every run over the epochs.
func runsFigure(title, label string, scale float64, groups []string, runs []TrainingRun, of func(CurvePoint) float64) (Figure, bool) {
	plt := newPlot("epoch", label)
	plt.Add(grid())
	table := Table{Head: []string{"run", "epoch", label}}
	lowest := math.Inf(1)
	drawn := false
	short, full := keys(groups)
	for i, g := range groups {
		shown := false
		for _, r := range runs {
			if r.Group != g {
				continue
			}
			var line plotter.XYs
			for _, p := range r.Curve {
				if v := scale * of(p); !math.IsNaN(v) {
					line = append(line, plotter.XY{X: p.Epoch, Y: v})
					lowest = math.Min(lowest, v)
					table.Rows = append(table.Rows, []string{r.Name, significant(p.Epoch), significant(v)})
				}
			}
			if len(line) == 0 {
				continue
			}
			l := addLine(plt, line, translucent(colorOf(i), 0xb0), 1.2, dashOf(i))
			addHover(plt, i, line, func(x, y float64) string { return r.Name + ", epoch " + significant(x) + ": " + significant(y) })
			if !shown {
				shown, drawn = true, true
				plt.Legend.Add(short[i], l)
			}
		}
	}
	if !drawn {
		return Figure{}, false
	}
	if scale == 1 && lowest > 0 {
		logarithmic(&plt.Y)
		plt.Legend.Top = true
	} else {
		widen(&plt.Y)
	}
	return Figure{Title: title, plot: plt, SVG: render(plt, title+" for every run"), Table: table, Names: full, Caption: "One line per run."}, true
}
