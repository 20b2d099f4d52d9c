package sharpness

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"

	"github.com/openpith/evidence/internal/seed"
	"github.com/openpith/evidence/objective"
)

// Products says how a Hessian is multiplied with a vector.
type Products string

const (
	// Automatic is Exact where the network can be differentiated twice, else
	// Differences. Results say which it was.
	Automatic Products = "automatic"
	// Exact differentiates the gradient along the vector (objective.Curved).
	Exact Products = "exact"
	// Differences is (g(w+hv) - g(w-hv))/2h with h‖v‖ = 1e-3·‖w‖, and 1e-2·‖w‖ for
	// Trace, ‖w‖ that of the trained weights. Unlike a derivative it also sees the
	// kinks of ReLU and max pooling that lie between.
	Differences Products = "differences"
)

// UsedProducts says how a result multiplied with the Hessian; "" of measures that do
// not.
func UsedProducts(r *Result) Products {
	switch d := r.Detail.(type) {
	case EigenvaluesDetail:
		return d.Products
	case TraceDetail:
		return d.Products
	case FisherRaoDetail:
		return d.Products
	case DensityDetail:
		return d.Products
	}
	return ""
}

// differenceStep is the length of h·v relative to the weights: far enough that
// float32 gradients differ by more than their rounding, near enough that the
// third derivative hardly matters.
const differenceStep = 1e-3

// traceStep is the same for the trace, whose vectors point nowhere in particular: the
// loss hardly curves along them, so that they may be long. Over a short way a few
// kinks, more or less by chance, outweigh the curvature: on a small C1 with 250
// examples twelve draws gave 91 ± 142 with differenceStep, 247 ± 77 with this one,
// and 180 ± 60 with one three times as long.
const traceStep = 1e-2

// A hessian multiplies the Hessian at the point with vectors.
type hessian struct {
	*point
	how      Products
	step     float64 // of Differences
	up, down []float32
}

func newHessian(p *point, how Products) (*hessian, error) {
	switch how {
	case Automatic:
		how = Differences
		if _, ok := p.Func.(objective.Curved); ok {
			how = Automatic
		}
	case Exact:
		if _, ok := p.Func.(objective.Curved); !ok {
			return nil, fmt.Errorf("%w of this objective", objective.ErrNotCurved)
		}
	case Differences:
	default:
		return nil, fmt.Errorf("%w: products %q: want %q, %q or %q", ErrSettings, how, Automatic, Exact, Differences)
	}
	return &hessian{point: p, how: how, step: differenceStep}, nil
}

// times writes H·v to hv. Elements that are not trained stay 0.
func (h *hessian) times(ctx context.Context, v, hv []float32) error {
	if h.how != Differences {
		err := h.Func.(objective.Curved).HessianVector(ctx, h.w, v, hv)
		if h.how == Automatic && errors.Is(err, objective.ErrNotCurved) {
			h.how = Differences
		} else {
			h.how = Exact
			h.cost.HessianVectors++
			h.tell()
			return err
		}
	}
	length := norm(v)
	if length == 0 {
		clear(hv)
		return nil
	}
	size := 0.0
	for _, t := range h.trained {
		size = math.Hypot(size, norm(h.w[t.Offset:t.Offset+t.Size]))
	}
	step := h.step * size / length
	if step == 0 {
		step = h.step / length
	}
	if h.up == nil {
		h.up, h.down = make([]float32, len(h.w)), make([]float32, len(h.w))
	}
	if _, err := h.gradient(ctx, plus(h.w, step, v), h.up); err != nil {
		return err
	}
	if _, err := h.gradient(ctx, plus(h.w, -step, v), h.down); err != nil {
		return err
	}
	for i := range hv {
		hv[i] = float32((float64(h.up[i]) - float64(h.down[i])) / (2 * step))
	}
	return nil
}

// A krylov is what Lanczos finds from one starting vector: the tridiagonal
// matrix that the Hessian is on the space of v, Hv, H²v…
type krylov struct {
	diagonal, off []float64 // off[i] couples i and i+1
	rest          float64   // what couples the last to the next, 0 if the space is closed
}

// lanczos makes at most steps products, beginning with v, which it scales to
// length 1. Vectors are orthogonalised twice against all before them, since in
// float32 they would soon repeat. stop is asked after each step.
func (h *hessian) lanczos(ctx context.Context, v []float32, steps int, stop func(*krylov) bool) (*krylov, error) {
	k := &krylov{}
	scale(v, 1/norm(v))
	basis := [][]float32{v}
	largest := 0.0
	for {
		next := make([]float32, len(v))
		if err := h.times(ctx, basis[len(basis)-1], next); err != nil {
			return nil, err
		}
		largest = max(largest, norm(next))
		k.diagonal = append(k.diagonal, dot(next, basis[len(basis)-1]))
		for range 2 {
			for _, b := range basis {
				overlap := dot(next, b)
				for i := range next {
					next[i] -= float32(overlap * float64(b[i]))
				}
			}
		}
		k.rest = norm(next)
		if !(k.rest > 1e-6*largest) { // the space is closed; also for NaN
			k.rest = 0
		}
		if math.IsNaN(k.diagonal[len(k.diagonal)-1]) {
			return nil, fmt.Errorf("%w: the Hessian has elements that are not numbers", ErrUndefined)
		}
		if len(k.diagonal) == steps || k.rest == 0 || stop(k) {
			return k, nil
		}
		k.off = append(k.off, k.rest)
		scale(next, 1/k.rest)
		basis = append(basis, next)
	}
}

func scale(v []float32, by float64) {
	for i := range v {
		v[i] = float32(float64(v[i]) * by)
	}
}

// ritz returns the eigenvalues of the tridiagonal matrix, descending; for each
// the square of the first component of its vector (weight) and the size of the
// last times rest (residual), a bound on the distance to an eigenvalue of H.
func (k *krylov) ritz() (values, weights, residuals []float64) {
	n := len(k.diagonal)
	t := mat.NewSymDense(n, nil)
	for i, d := range k.diagonal {
		t.SetSym(i, i, d)
		if i+1 < n {
			t.SetSym(i, i+1, k.off[i])
		}
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(t, true) {
		return nil, nil, nil
	}
	values = eigen.Values(nil) // ascending
	var q mat.Dense
	eigen.VectorsTo(&q)
	weights, residuals = make([]float64, n), make([]float64, n)
	for j := range n {
		weights[j] = q.At(0, j) * q.At(0, j)
		residuals[j] = math.Abs(q.At(n-1, j)) * k.rest
	}
	slices.Reverse(values)
	slices.Reverse(weights)
	slices.Reverse(residuals)
	return values, weights, residuals
}

// Eigenvalues are the largest eigenvalues of the Hessian, by Lanczos; the
// value is the first.
type Eigenvalues struct {
	N          int      `json:"n"`          // default 3
	Iterations int      `json:"iterations"` // at most; default 60
	Tolerance  float64  `json:"tolerance"`  // of each, relative to the first; default 1e-3
	Products   Products `json:"products"`   // default Automatic
}

// EigenvaluesDetail is the detail of an Eigenvalues result.
type EigenvaluesDetail struct {
	Values []float64 `json:"values"` // descending
	// Errors bound the distance of each value to an eigenvalue.
	Errors     []float64 `json:"errors"`
	Smallest   float64   `json:"smallest"` // least Ritz value seen: below 0, the point is no minimum
	Iterations int       `json:"iterations"`
	Products   Products  `json:"products"` // which were used
}

// Name implements Measure.
func (Eigenvalues) Name() string { return "hessian-eigenvalues" }

func (m Eigenvalues) filled() Measure {
	defaultTo(&m.N, 3)
	defaultTo(&m.Iterations, 60)
	defaultTo(&m.Tolerance, 1e-3)
	defaultTo(&m.Products, Automatic)
	return m
}

func (m Eigenvalues) measure(ctx context.Context, p *point) (*Result, error) {
	if err := positive("tolerance", m.Tolerance); err != nil {
		return nil, err
	}
	if m.N < 1 || m.Iterations < m.N {
		return nil, fmt.Errorf("%w: %d eigenvalues in %d iterations", ErrSettings, m.N, m.Iterations)
	}
	h, err := newHessian(p, m.Products)
	if err != nil {
		return nil, err
	}
	p.plan(2 * m.Iterations)
	v := make([]float32, len(p.w))
	if err := Normal.fill(seed.Stream(p.opts.Seed, "lanczos"), p.trained, v); err != nil {
		return nil, err
	}
	k, err := h.lanczos(ctx, v, min(m.Iterations, p.Layout().Trained()), func(k *krylov) bool {
		values, _, residuals := k.ritz()
		if len(values) <= m.N { // one more, so that none is missed for want of looking
			return false
		}
		for j := range m.N {
			if !(residuals[j] <= m.Tolerance*math.Abs(values[0])) {
				return false
			}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	values, _, residuals := k.ritz()
	if values == nil {
		return nil, fmt.Errorf("%w: the eigenvalues of the tridiagonal matrix were not found", ErrUndefined)
	}
	n := min(m.N, len(values))
	return &Result{Settings: m, Value: values[0], Detail: EigenvaluesDetail{
		Values: values[:n], Errors: residuals[:n], Smallest: values[len(values)-1],
		Iterations: len(k.diagonal), Products: h.how,
	}}, nil
}

// Trace is tr H by Hutchinson's estimate, the mean of ⟨v, Hv⟩ over vectors of
// random signs.
type Trace struct {
	Draws     int      `json:"draws"`     // at most; default 100
	Tolerance float64  `json:"tolerance"` // stops at this standard error, relative to the trace; default 0.05
	Products  Products `json:"products"`  // default Automatic
}

// TraceDetail is the detail of a Trace result.
type TraceDetail struct {
	Draws     int      `json:"draws"`     // made
	Frobenius float64  `json:"frobenius"` // √ of the mean of ‖Hv‖²: the Frobenius norm of H
	PerWeight float64  `json:"per_weight"`
	Products  Products `json:"products"` // which were used
}

// Name implements Measure.
func (Trace) Name() string { return "hessian-trace" }

// leastDraws is from how many draws on their spread is believed.
const leastDraws = 10

func (m Trace) filled() Measure {
	defaultTo(&m.Draws, 100)
	defaultTo(&m.Tolerance, 0.05)
	defaultTo(&m.Products, Automatic)
	return m
}

func (m Trace) measure(ctx context.Context, p *point) (*Result, error) {
	if err := positive("tolerance", m.Tolerance); err != nil {
		return nil, err
	}
	if m.Draws < 2 {
		return nil, fmt.Errorf("%w: %d draws: want 2 or more", ErrSettings, m.Draws)
	}
	h, err := newHessian(p, m.Products)
	if err != nil {
		return nil, err
	}
	h.step = traceStep
	p.plan(2 * m.Draws)
	v, hv := make([]float32, len(p.w)), make([]float32, len(p.w))
	r := &Result{Settings: m}
	var traces []float64
	squares := 0.0
	for draw := range m.Draws {
		if err := Rademacher.fill(seed.Stream(p.opts.Seed, "hutchinson", draw), p.trained, v); err != nil {
			return nil, err
		}
		if err := h.times(ctx, v, hv); err != nil {
			return nil, err
		}
		traces = append(traces, dot(v, hv))
		squares += dot(hv, hv)
		r.Value, r.StandardError = mean(traces)
		if len(traces) >= leastDraws && r.StandardError <= m.Tolerance*math.Abs(r.Value) {
			break
		}
	}
	r.Detail = TraceDetail{
		Draws: len(traces), Frobenius: math.Sqrt(squares / float64(len(traces))),
		PerWeight: r.Value / float64(p.Layout().Trained()), Products: h.how,
	}
	return r, nil
}

// FisherRao is wᵀHw, the Fisher-Rao norm where the Hessian is the Fisher matrix.
type FisherRao struct {
	Products Products `json:"products"` // default Automatic
}

// FisherRaoDetail is the detail of a FisherRao result.
type FisherRaoDetail struct {
	Products Products `json:"products"` // which were used
}

// Name implements Measure.
func (FisherRao) Name() string { return "fisher-rao" }

func (m FisherRao) filled() Measure {
	defaultTo(&m.Products, Automatic)
	return m
}

func (m FisherRao) measure(ctx context.Context, p *point) (*Result, error) {
	p.plan(2)
	v, hv := make([]float32, len(p.w)), make([]float32, len(p.w))
	for _, t := range p.trained {
		copy(v[t.Offset:t.Offset+t.Size], p.w[t.Offset:])
	}
	var used Products
	value, standardError, err := p.overParts(func(part *point) (float64, error) {
		h, err := newHessian(part, m.Products)
		if err != nil {
			return 0, err
		}
		err = h.times(ctx, v, hv)
		used = h.how
		return dot(v, hv), err
	})
	return &Result{Settings: m, Value: value, StandardError: standardError, Detail: FisherRaoDetail{used}}, err
}

// Density is the distribution of the eigenvalues of the Hessian, by stochastic
// Lanczos quadrature (Ghorbani et al., arXiv:1901.10159; Yao et al.,
// arXiv:1912.07145): every draw gives nodes and weights of a Gauss rule.
// The value is the mean eigenvalue.
type Density struct {
	Draws    int      `json:"draws"`    // default 3
	Steps    int      `json:"steps"`    // of Lanczos per draw; default 80
	Products Products `json:"products"` // default Automatic
}

// DensityDetail is the detail of a Density result: the spectrum is estimated by
// points of mass Weights[i] at Nodes[i]; the weights add up to 1.
type DensityDetail struct {
	Nodes    []float64 `json:"nodes"` // ascending
	Weights  []float64 `json:"weights"`
	Products Products  `json:"products"` // which were used
}

// At is the density at x when every node is spread as a normal distribution of
// the given width.
func (d DensityDetail) At(x, width float64) float64 {
	s := 0.0
	for i, node := range d.Nodes {
		z := (x - node) / width
		s += d.Weights[i] * math.Exp(-z*z/2) / (width * math.Sqrt(2*math.Pi))
	}
	return s
}

// Name implements Measure.
func (Density) Name() string { return "hessian-density" }

func (m Density) filled() Measure {
	defaultTo(&m.Draws, 3)
	defaultTo(&m.Steps, 80)
	defaultTo(&m.Products, Automatic)
	return m
}

func (m Density) measure(ctx context.Context, p *point) (*Result, error) {
	if m.Draws < 1 || m.Steps < 2 {
		return nil, fmt.Errorf("%w: %d draws of %d steps", ErrSettings, m.Draws, m.Steps)
	}
	h, err := newHessian(p, m.Products)
	if err != nil {
		return nil, err
	}
	p.plan(2 * m.Draws * m.Steps)
	type node struct{ value, weight float64 }
	var nodes []node
	var means []float64
	for draw := range m.Draws {
		v := make([]float32, len(p.w))
		if err := Rademacher.fill(seed.Stream(p.opts.Seed, "spectrum", draw), p.trained, v); err != nil {
			return nil, err
		}
		k, err := h.lanczos(ctx, v, min(m.Steps, p.Layout().Trained()), func(*krylov) bool { return false })
		if err != nil {
			return nil, err
		}
		values, weights, _ := k.ritz()
		if values == nil {
			return nil, fmt.Errorf("%w: the eigenvalues of the tridiagonal matrix were not found", ErrUndefined)
		}
		mean := 0.0
		for i := range values {
			nodes = append(nodes, node{values[i], weights[i] / float64(m.Draws)})
			mean += values[i] * weights[i]
		}
		means = append(means, mean)
	}
	slices.SortFunc(nodes, func(a, b node) int {
		if a.value < b.value {
			return -1
		}
		return 1
	})
	detail := DensityDetail{Products: h.how}
	for _, n := range nodes {
		detail.Nodes = append(detail.Nodes, n.value)
		detail.Weights = append(detail.Weights, n.weight)
	}
	r := &Result{Settings: m, Detail: detail}
	r.Value, r.StandardError = mean(means)
	return r, nil
}
