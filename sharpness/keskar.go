package sharpness

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"

	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/mat"

	"github.com/openpith/evidence/internal/seed"
)

// Keskar is the sharpness of Keskar et al. (arXiv:1609.04836, metric 2.1):
//
//	phi = 100·(max_{y in C} L(x+Ay) - L(x)) / (1 + L(x)),
//	C = {y : |y_i| <= Epsilon·(|(A⁺x)_i| + 1)},
//
// with A the identity or, Dimensions > 0, the pseudo-inverse of an A⁺ with that
// many random rows: uniform on [-1, 1), each of length 1.
//
// The maximum is sought by projected gradients with Barzilai-Borwein steps and a
// line search that takes no step down, so the value is a lower bound that grows
// with Iterations. (The authors of SmoothOut handed their solver the loss with
// the wrong sign; theirs walks down.)
type Keskar struct {
	Epsilon    float64 `json:"epsilon"`    // default 1e-3; Keskar also uses 5e-4
	Dimensions int     `json:"dimensions"` // default 0: the full space; Keskar's subspaces have 100
	Repeats    int     `json:"repeats"`    // subspaces, default 5; the full space is one
	Iterations int     `json:"iterations"` // default 10, as Keskar's
}

// KeskarDetail is the detail of a Keskar result.
type KeskarDetail struct {
	Values []float64 `json:"values"` // one per subspace
	Maxima []float64 `json:"maxima"` // the losses found
	// AtBound is the fraction of coordinates at a bound of the box in the end,
	// on average: 1 is a corner.
	AtBound float64 `json:"at_bound"`
}

// Name implements Measure.
func (Keskar) Name() string { return "keskar" }

// maxSubspace bounds the matrix A⁺, in elements: 8 GiB.
const maxSubspace = 1 << 31

func (m Keskar) filled() Measure {
	defaultTo(&m.Epsilon, 1e-3)
	defaultTo(&m.Iterations, 10)
	defaultTo(&m.Repeats, 5)
	if m.Dimensions == 0 {
		m.Repeats = 1
	}
	return m
}

func (m Keskar) measure(ctx context.Context, p *point) (*Result, error) {
	if err := positive("epsilon", m.Epsilon); err != nil {
		return nil, err
	}
	n := p.Layout().Trained()
	if m.Iterations < 1 || m.Repeats < 1 || m.Dimensions < 0 || m.Dimensions > n || m.Dimensions*n > maxSubspace {
		return nil, fmt.Errorf("%w: %d iterations, %d repeats, %d dimensions of %d", ErrSettings, m.Iterations, m.Repeats, m.Dimensions, n)
	}
	p.plan(2 * m.Repeats * m.Iterations)
	detail := KeskarDetail{}
	for k := range m.Repeats {
		var a chart = identity{p}
		if m.Dimensions > 0 {
			s, err := newSubspace(p, m.Dimensions, k)
			if err != nil {
				return nil, err
			}
			a = s
		}
		high, atBound, err := climb(ctx, p, a, m.Epsilon, m.Iterations)
		if err != nil {
			return nil, err
		}
		detail.Maxima = append(detail.Maxima, high)
		detail.Values = append(detail.Values, 100*(high-p.at)/(1+p.at))
		detail.AtBound += atBound / float64(m.Repeats)
	}
	r := &Result{Settings: m, Detail: detail}
	r.Value, r.StandardError = mean(detail.Values)
	return r, nil
}

// A chart maps coordinates y to weights.
type chart interface {
	coordinates() []float64               // A⁺x
	weights(y []float64) []float32        // x + Ay
	pull(grad []float32, slope []float64) // slope = Aᵀ·grad
}

// identity is the chart of the full space of trained weights.
type identity struct{ *point }

func (c identity) each(do func(k, i int)) {
	k := 0
	for _, t := range c.trained {
		for i := t.Offset; i < t.Offset+t.Size; i++ {
			do(k, i)
			k++
		}
	}
}

func (c identity) coordinates() []float64 {
	x := make([]float64, c.Layout().Trained())
	c.each(func(k, i int) { x[k] = float64(c.w[i]) })
	return x
}

func (c identity) weights(y []float64) []float32 {
	w := append([]float32(nil), c.w...)
	c.each(func(k, i int) { w[i] += float32(y[k]) })
	return w
}

func (c identity) pull(grad []float32, slope []float64) {
	c.each(func(k, i int) { slope[k] = float64(grad[i]) })
}

// A subspace is the chart of A, the pseudo-inverse of rows: A = rowsᵀ·G⁻¹ with
// G = rows·rowsᵀ.
type subspace struct {
	identity
	rows [][]float32
	gram mat.Cholesky
}

func newSubspace(p *point, dimensions, k int) (*subspace, error) {
	s := &subspace{identity: identity{p}, rows: make([][]float32, dimensions)}
	n := p.Layout().Size()
	inParallel(dimensions, func(i int) {
		row := make([]float32, n) // 0 where nothing is trained
		_ = Uniform.fill(seed.Stream(p.opts.Seed, "keskar subspace", k, i), p.trained, row)
		length := float32(norm(row))
		for j := range row {
			row[j] /= length
		}
		s.rows[i] = row
	})
	gram := mat.NewSymDense(dimensions, nil)
	inParallel(dimensions, func(i int) {
		for j := i; j < dimensions; j++ {
			gram.SetSym(i, j, fastDot(s.rows[i], s.rows[j]))
		}
	})
	if !s.gram.Factorize(gram) {
		return nil, fmt.Errorf("the %d random directions are not independent", dimensions)
	}
	return s, nil
}

// fastDot is dot by vector instructions: float32 products are added in float32
// over short stretches, whose sums are added in float64.
func fastDot(a, b []float32) (sum float64) {
	const stretch = 1024
	for len(a) > 0 {
		n := min(stretch, len(a))
		sum += float64(blas32.Dot(blas32.Vector{N: n, Inc: 1, Data: a[:n]}, blas32.Vector{N: n, Inc: 1, Data: b[:n]}))
		a, b = a[n:], b[n:]
	}
	return sum
}

func (s *subspace) solve(x []float64) []float64 {
	var out mat.VecDense
	if err := s.gram.SolveVecTo(&out, mat.NewVecDense(len(x), x)); err != nil {
		panic(err) // only for wrong lengths or a matrix that Factorize refused
	}
	return out.RawVector().Data
}

// against is rows·v.
func (s *subspace) against(v []float32) []float64 {
	out := make([]float64, len(s.rows))
	inParallel(len(s.rows), func(i int) { out[i] = fastDot(s.rows[i], v) })
	return out
}

func (s *subspace) coordinates() []float64 { return s.against(s.w) }

func (s *subspace) weights(y []float64) []float32 {
	c := s.solve(y)
	w := append([]float32(nil), s.w...)
	chunk := (len(w) + 63) / 64
	inParallel(64, func(k int) {
		part := w[min(k*chunk, len(w)):min((k+1)*chunk, len(w))]
		for i, row := range s.rows {
			along := row[min(k*chunk, len(w)):][:len(part)]
			blas32.Axpy(float32(c[i]), blas32.Vector{N: len(part), Inc: 1, Data: along}, blas32.Vector{N: len(part), Inc: 1, Data: part})
		}
	})
	return w
}

func (s *subspace) pull(grad []float32, slope []float64) {
	copy(slope, s.solve(s.against(grad)))
}

// inParallel calls do(0..n-1) on all processors. Each call writes what is its
// own, so the result does not depend on their number.
func inParallel(n int, do func(i int)) {
	var wg sync.WaitGroup
	workers := min(n, runtime.GOMAXPROCS(0))
	for k := range workers {
		wg.Go(func() {
			for i := k; i < n; i += workers {
				do(i)
			}
		})
	}
	wg.Wait()
}

// climb maximises the loss over the box around the point, in coordinates z that
// make the box the cube [-1, 1]: y_i = bound_i·z_i. It returns the highest
// loss found and the fraction of coordinates at a bound there.
func climb(ctx context.Context, p *point, a chart, epsilon float64, iterations int) (high, atBound float64, err error) {
	bound := a.coordinates()
	for i, x := range bound {
		bound[i] = epsilon * (math.Abs(x) + 1)
	}
	n := len(bound)
	y := make([]float64, n)
	weights := func(z []float64) []float32 {
		for i := range y {
			y[i] = bound[i] * z[i]
		}
		return a.weights(y)
	}
	grad := make([]float32, len(p.w))
	slopeAt := func(z []float64) ([]float64, float64, error) {
		l, err := p.gradient(ctx, weights(z), grad)
		if err != nil {
			return nil, 0, err
		}
		slope := make([]float64, n)
		a.pull(grad, slope)
		for i := range slope {
			slope[i] *= bound[i]
		}
		return slope, l, nil
	}

	z := make([]float64, n)
	slope, high, err := slopeAt(z)
	if err != nil {
		return 0, 0, err
	}
	step := math.Inf(1) // the first step goes to the corner the gradient points at
	trial, move := make([]float64, n), make([]float64, n)
	for range iterations {
		gain := 0.0 // what the linear model promises
		for i := range z {
			move[i] = project(z[i], step, slope[i]) - z[i]
			gain += move[i] * slope[i]
		}
		if !(gain > 0) {
			break // a maximum, as far as first order sees
		}
		taken := 0.0
		for t := 1.0; t > 1e-3; t /= 2 {
			for i := range z {
				trial[i] = z[i] + t*move[i]
			}
			l, err := p.loss(ctx, weights(trial))
			if err != nil {
				return 0, 0, err
			}
			if l >= high+1e-4*t*gain { // Armijo: never down; false for NaN
				high, taken = l, t
				break
			}
		}
		if taken == 0 {
			break
		}
		next, _, err := slopeAt(trial)
		if err != nil {
			return 0, 0, err
		}
		// Barzilai and Borwein: the step 1/curvature along the move. Where the
		// loss curves up, every longer step is better: to the bounds.
		ss, sy := 0.0, 0.0
		for i := range z {
			s := trial[i] - z[i]
			ss += s * s
			sy += s * (next[i] - slope[i])
		}
		step = math.Inf(1)
		if sy < 0 {
			step = ss / -sy
		}
		z, trial, slope = trial, z, next
	}
	for _, x := range z {
		if math.Abs(x) >= 1 {
			atBound += 1 / float64(n)
		}
	}
	return high, atBound, nil
}

// project is z + step·slope, held in [-1, 1].
func project(z, step, slope float64) float64 {
	if slope == 0 {
		return z
	}
	return max(-1, min(1, z+step*slope))
}
