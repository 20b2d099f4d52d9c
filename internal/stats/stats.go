// Package stats holds the few statistics by which runs are compared: a mean
// with its interval, the paired t-test, and Holm's correction.
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
