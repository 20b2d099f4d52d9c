// Package stats holds the few statistics by which runs are compared: a mean
// with its interval, the paired t-test, Holm's correction, and correlations.
package stats

import (
	"math"
	"sort"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// A Summary describes one number over repeated runs.
type Summary struct {
	N    int     `json:"n"`
	Mean float64 `json:"mean"`
	SD   float64 `json:"sd"`   // with n-1; 0 for a single run
	Low  float64 `json:"low"`  // 95 % t-interval of the mean; a single run has
	High float64 `json:"high"` // none, and its value stands here
}

// Summarize computes mean, standard deviation and the 95 % t-interval of one
// value or more.
func Summarize(xs []float64) Summary {
	n := len(xs)
	if n == 1 {
		return Summary{N: 1, Mean: xs[0], Low: xs[0], High: xs[0]}
	}
	mean, sd := stat.MeanStdDev(xs, nil)
	student := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(n - 1)}
	half := student.Quantile(0.975) * sd / math.Sqrt(float64(n))
	return Summary{N: n, Mean: mean, SD: sd, Low: mean - half, High: mean + half}
}

// PairedT is the t statistic mean/(sd/√n) of the differences of n pairs, and
// its two-sided p-value. With no spread at all the test has no scale: equal
// runs say nothing (p = 1), and a constant difference leaves no doubt (p = 0).
// t is then 0, since JSON has no infinity. n must be 2 or more.
func PairedT(differences Summary) (t, p float64) {
	mean, sd, n := differences.Mean, differences.SD, differences.N
	if sd == 0 {
		if mean == 0 {
			return 0, 1
		}
		return 0, 0
	}
	t = mean / (sd / math.Sqrt(float64(n)))
	student := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(n - 1)}
	return t, 2 * student.CDF(-math.Abs(t))
}

// Holm adjusts p-values by Holm's step-down procedure: the k-th smallest of m
// is multiplied by m-k+1, and the results are made monotone.
func Holm(ps []float64) []float64 {
	order := make([]int, len(ps))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return ps[order[a]] < ps[order[b]] })
	adjusted := make([]float64, len(ps))
	running := 0.0
	for k, i := range order {
		running = max(running, min(1, ps[i]*float64(len(ps)-k)))
		adjusted[i] = running
	}
	return adjusted
}

// An Interval is a coefficient of correlation with its 95 % interval.
type Interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Pearson is the linear correlation of pairs, with Fisher's interval:
// z = atanh r has variance 1/(n-3). It is not defined for fewer than four pairs
// or where one side does not vary.
func Pearson(xs, ys []float64) (Interval, bool) {
	if len(xs) < 4 || constant(xs) || constant(ys) {
		return Interval{}, false
	}
	return interval(stat.Correlation(xs, ys, nil), 1/float64(len(xs)-3)), true
}

// Kendall is the rank correlation τ-b of pairs, which counts ties on neither
// side, with the interval of Fieller, Hartley and Pearson (1957): z = atanh τ
// has variance 0.437/(n-4). It is not defined for fewer than five pairs or
// where one side does not vary.
func Kendall(xs, ys []float64) (Interval, bool) {
	if len(xs) < 5 || constant(xs) || constant(ys) {
		return Interval{}, false
	}
	var agree, x, y float64 // sums over pairs of pairs
	for i := range xs {
		for j := range i {
			a, b := sign(xs[i]-xs[j]), sign(ys[i]-ys[j])
			agree, x, y = agree+a*b, x+a*a, y+b*b
		}
	}
	return interval(agree/math.Sqrt(x*y), 0.437/float64(len(xs)-4)), true
}

func interval(r, variance float64) Interval {
	r = max(-1, min(1, r)) // rounding
	if math.Abs(r) == 1 {
		return Interval{r, r, r}
	}
	half := distuv.UnitNormal.Quantile(0.975) * math.Sqrt(variance)
	return Interval{r, math.Tanh(math.Atanh(r) - half), math.Tanh(math.Atanh(r) + half)}
}

func sign(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return 0
}

func constant(xs []float64) bool {
	for _, x := range xs {
		if x != xs[0] {
			return false
		}
	}
	return true
}
