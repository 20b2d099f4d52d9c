// Package landscape measures the loss of a network along lines and planes
// through its weights.
//
// A [Slice] is the line or plane: between two trained networks ([Between]), in
// random directions measured against the filters ([Random]), or through the
// path that training took ([Trajectory]). [Measure] evaluates functions of the
// weights (package objective) on a grid of it, cell by cell into a file, so
// that an interrupted survey goes on where it stopped.
package landscape

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"

	"github.com/openpith/evidence/internal/seed"
	"github.com/openpith/evidence/objective"
)

// ErrSlice reports points or axes that span no line or plane.
var ErrSlice = errors.New("no such line or plane")

// A Slice is the set of weights Origin + Σ t_k·Directions[k], a line or a plane.
type Slice struct {
	Kind       string // "between", "random" or "trajectory"
	Names      []string
	Origin     []float32
	Directions [][]float32

	// Norm is what random directions were measured against, Selection what they move.
	Norm      objective.Norm
	Selection objective.Selection

	// Path is where the points of a trajectory lie in the plane, and Explained
	// the fraction of their squared distances that each direction holds.
	Path      [][]float64
	Explained []float64
}

// At returns the weights at coordinates t, one per direction.
func (s *Slice) At(t ...float64) []float32 {
	w := make([]float32, len(s.Origin))
	for i, o := range s.Origin {
		sum := float64(o)
		for k, d := range s.Directions {
			sum += t[k] * float64(d[i])
		}
		w[i] = float32(sum)
	}
	return w
}

// Between is the line through a, at 0, and b, at 1. Everything moves, the
// statistics of batch normalisation included: without them the losses on the way
// would be those of no network anybody trained (Goodfellow et al.,
// arXiv:1412.6544; Keskar et al., arXiv:1609.04836, figure 3).
func Between(a, b []float32) (*Slice, error) {
	if len(a) != len(b) || len(a) == 0 {
		return nil, fmt.Errorf("%w: %d and %d weights: the two networks differ in form", ErrSlice, len(a), len(b))
	}
	d := make([]float32, len(a))
	same := true
	for i := range a {
		d[i] = b[i] - a[i]
		same = same && d[i] == 0
	}
	if same {
		return nil, fmt.Errorf("%w: both ends are the same point", ErrSlice)
	}
	return &Slice{Kind: "between", Names: []string{"from the first to the second"}, Origin: a, Directions: [][]float32{d}}, nil
}

// Random is the line or plane through w along one or two random directions of
// independent normal numbers, measured against w as norm says. With
// objective.Filter and no biases or batch norm it is the filter normalisation
// of Li et al. (arXiv:1712.09913): a step of 1 is as long as the weights.
// Statistics stay what they are at w.
func Random(l *objective.Layout, w []float32, dimensions int, norm objective.Norm, s objective.Selection, seedOf int64) (*Slice, error) {
	if dimensions != 1 && dimensions != 2 {
		return nil, fmt.Errorf("%w: %d dimensions: want 1 or 2", ErrSlice, dimensions)
	}
	out := &Slice{Kind: "random", Origin: w, Norm: cmp.Or(norm, objective.None), Selection: s}
	for k := range dimensions {
		d := make([]float32, len(w))
		r := rand.New(seed.Stream(seedOf, "landscape direction", k))
		for _, t := range l.Select(objective.Selection{}) {
			for i := range t.Size {
				d[t.Offset+i] = float32(r.NormFloat64())
			}
		}
		if err := l.Scale(norm, s, w, d); err != nil {
			return nil, err
		}
		out.Directions = append(out.Directions, d)
		out.Names = append(out.Names, fmt.Sprintf("random direction %d", k+1))
	}
	return out, nil
}

// Trajectory is the plane that holds most of the path through points: it goes
// through the last one, along the first two principal components of the
// others, directions of length 1 (Li et al., arXiv:1712.09913, section 7).
// Statistics move like weights. At least three points that do not lie on one
// line are needed.
func Trajectory(points [][]float32) (*Slice, error) {
	if len(points) < 3 {
		return nil, fmt.Errorf("%w: %d points: want 3 or more", ErrSlice, len(points))
	}
	last := points[len(points)-1]
	n := len(points) - 1
	diffs := make([][]float32, n)
	for i := range diffs {
		if len(points[i]) != len(last) {
			return nil, fmt.Errorf("%w: point %d has %d weights, the last %d", ErrSlice, i, len(points[i]), len(last))
		}
		diffs[i] = make([]float32, len(last))
		for j := range last {
			diffs[i][j] = points[i][j] - last[j]
		}
	}
	// The principal components of few long vectors come from their Gram matrix.
	gram := mat.NewSymDense(n, nil)
	total := 0.0
	for i := range n {
		for j := i; j < n; j++ {
			gram.SetSym(i, j, dot(diffs[i], diffs[j]))
		}
		total += gram.At(i, i)
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(gram, true) {
		return nil, fmt.Errorf("%w: the points have no principal components", ErrSlice)
	}
	var q mat.Dense
	eigen.VectorsTo(&q)
	values := eigen.Values(nil) // ascending
	s := &Slice{Kind: "trajectory", Origin: last, Names: []string{"first principal component", "second principal component"}}
	for k := range 2 {
		c := n - 1 - k
		if !(values[c] > 1e-10*total) {
			return nil, fmt.Errorf("%w: the points lie on one line", ErrSlice)
		}
		d := make([]float32, len(last))
		for i := range n {
			f := q.At(i, c) / math.Sqrt(values[c])
			for j, x := range diffs[i] {
				d[j] += float32(f * float64(x))
			}
		}
		s.Directions = append(s.Directions, d)
		s.Explained = append(s.Explained, values[c]/total)
	}
	for _, d := range append(diffs, make([]float32, len(last))) {
		s.Path = append(s.Path, []float64{dot(d, s.Directions[0]), dot(d, s.Directions[1])})
	}
	return s, nil
}

func dot(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}
