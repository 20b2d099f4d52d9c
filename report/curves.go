package report

import (
	"math"
	"slices"

	"gonum.org/v1/plot/plotter"
)

// A Curve is one line of a picture over a common axis.
type Curve struct {
	Name string
	X, Y []float64 // of equal length; a Y that is not finite is a gap
}

// Curves draws lines over a common axis, such as losses over epochs. An axis of
// positive values that span more than a decade becomes logarithmic if it may.
func Curves(title, xLabel, yLabel, caption string, mayLog bool, curves []Curve) Figure {
	plt := newPlot(xLabel, yLabel)
	plt.Add(grid())
	table := Table{Head: []string{xLabel}}
	lowest, highest := math.Inf(1), math.Inf(-1)
	at := map[float64][]string{}
	for i, c := range curves {
		table.Head = append(table.Head, c.Name)
		var line plotter.XYs
		for j, x := range c.X {
			if math.IsNaN(c.Y[j]) || math.IsInf(c.Y[j], 0) {
				continue
			}
			line = append(line, plotter.XY{X: x, Y: c.Y[j]})
			lowest, highest = math.Min(lowest, c.Y[j]), math.Max(highest, c.Y[j])
			row := at[x]
			for len(row) < i {
				row = append(row, "")
			}
			at[x] = append(row, significant(c.Y[j]))
		}
		if len(line) > 0 {
			plt.Legend.Add(c.Name, addLine(plt, line, colorOf(i), 1.6, dashOf(i)))
		}
	}
	xs := make([]float64, 0, len(at))
	for x := range at {
		xs = append(xs, x)
	}
	slices.Sort(xs)
	for _, x := range xs {
		row := append([]string{significant(x)}, at[x]...)
		for len(row) < len(table.Head) {
			row = append(row, "")
		}
		table.Rows = append(table.Rows, row)
	}
	plt.Legend.Top = mayLog // losses fall, and leave room there; accuracies rise
	if len(xs) > 0 && xs[0] > 0 {
		plt.X.Min = 0
	}
	if len(xs) == 1 { // an axis needs two ends
		plt.X.Min, plt.X.Max = xs[0]-1, xs[0]+1
	}
	if lowest == highest {
		plt.Y.Min, plt.Y.Max = lowest-1, highest+1
	}
	if mayLog && lowest > 0 && highest > 10*lowest {
		logarithmic(&plt.Y)
	} else {
		widen(&plt.Y)
	}
	return Figure{Title: title, Caption: caption, SVG: render(plt, title), Table: table, plot: plt}
}
