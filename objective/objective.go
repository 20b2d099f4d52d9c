// Package objective sees a network as what analysis needs: the loss as a
// function of one long vector of weights.
//
// [Func] is the interface that packages sharpness and landscape measure.
// Package network makes one of any GoMLX model and data, a test one of a formula.
//
// The vector holds every floating-point variable of the model one after
// another: the trained ones, and the running statistics of batch normalisation,
// which belong to the point where the loss is measured although no gradient
// leads there. [Layout] says which stretch is what.
package objective

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// A Value is the loss of a network on a set of examples.
type Value struct {
	Loss     float64 `json:"loss"`     // mean over the examples
	Accuracy float64 `json:"accuracy"` // fraction that is right, 0 to 1; NaN where the objective does not count it
}

// jsonValue has null for what JSON has no number for: NaN and infinities.
type jsonValue struct {
	Loss     *float64 `json:"loss"`
	Accuracy *float64 `json:"accuracy"`
}

// MarshalJSON writes numbers that are not finite as null.
func (v Value) MarshalJSON() ([]byte, error) {
	var out jsonValue
	if !math.IsNaN(v.Loss) && !math.IsInf(v.Loss, 0) {
		out.Loss = &v.Loss
	}
	if !math.IsNaN(v.Accuracy) && !math.IsInf(v.Accuracy, 0) {
		out.Accuracy = &v.Accuracy
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads null as NaN.
func (v *Value) UnmarshalJSON(data []byte) error {
	var in jsonValue
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*v = Value{math.NaN(), math.NaN()}
	if in.Loss != nil {
		v.Loss = *in.Loss
	}
	if in.Accuracy != nil {
		v.Accuracy = *in.Accuracy
	}
	return nil
}

// A Func is a loss over a fixed set of examples, as a function of the
// weights. Loss may be called by several goroutines at once; the other methods
// need not be safe for that.
type Func interface {
	// Layout describes the vector of weights. It never changes.
	Layout() *Layout
	// Examples is the number of examples that the loss is a mean of.
	Examples() int
	// Loss measures the function at w.
	Loss(ctx context.Context, w []float32) (Value, error)
	// Gradient measures the function at w and writes its gradient, 0 for
	// statistics, to grad, which has the length of w.
	Gradient(ctx context.Context, w, grad []float32) (Value, error)
	// Parts is the number of batches the examples lie in, Part one of them
	// (from 0) as a function of its own.
	Parts() int
	Part(i int) Func
}

// A Curved function knows its exact second derivatives.
type Curved interface {
	Func
	// HessianVector writes H(w)·v to hv. The error is ErrNotCurved where some
	// operation of the network has no second derivative.
	HessianVector(ctx context.Context, w, v, hv []float32) error
}

var (
	// ErrNotCurved reports a function without exact second derivatives.
	ErrNotCurved = errors.New("no exact second derivative")
	// ErrModel reports a model, weights or data that do not fit together.
	ErrModel = errors.New("model, weights and data do not fit")
)

// Role is what a stretch of the vector is for.
type Role string

const (
	Weight    Role = "weight"     // kernels, embeddings: two axes or more
	Bias      Role = "bias"       // one axis or none
	BatchNorm Role = "batch norm" // scale and offset of batch normalisation
	Statistic Role = "statistic"  // not trained: running mean and variance
)

// A Tensor is a stretch of the vector.
type Tensor struct {
	Path   string `json:"path"`
	Shape  []int  `json:"shape"`
	Role   Role   `json:"role"`
	Offset int    `json:"offset"` // of its first element
	Size   int    `json:"size"`
}

// Filters is the number of filters of the tensor: what feeds one output, a
// slice along the last axis. Each element of a vector is a filter of its own.
// Element i belongs to filter i modulo Filters.
func (t Tensor) Filters() int {
	if len(t.Shape) == 0 {
		return 1
	}
	return t.Shape[len(t.Shape)-1]
}

// Layout lists the tensors of a vector of weights, without gaps.
type Layout struct {
	Tensors []Tensor
}

// NewLayout places tensors one after another; their Offset and Size are set.
func NewLayout(tensors ...Tensor) *Layout {
	offset := 0
	for i := range tensors {
		tensors[i].Offset, tensors[i].Size = offset, 1
		for _, d := range tensors[i].Shape {
			tensors[i].Size *= d
		}
		offset += tensors[i].Size
	}
	return &Layout{tensors}
}

// Size is the length of the vector.
func (l *Layout) Size() int {
	if len(l.Tensors) == 0 {
		return 0
	}
	last := l.Tensors[len(l.Tensors)-1]
	return last.Offset + last.Size
}

// Select returns the tensors that a measure acts on. The zero Selection is
// every trained tensor.
func (l *Layout) Select(s Selection) []Tensor {
	var out []Tensor
	for _, t := range l.Tensors {
		switch {
		case t.Role == Statistic,
			s.ExceptBatchNorm && t.Role == BatchNorm,
			s.ExceptBias && (t.Role == Bias || t.Role == BatchNorm):
		default:
			out = append(out, t)
		}
	}
	return out
}

// Trained is the number of trained elements.
func (l *Layout) Trained() int {
	n := 0
	for _, t := range l.Select(Selection{}) {
		n += t.Size
	}
	return n
}

// A Selection leaves out tensors by role. Statistics are never selected.
type Selection struct {
	ExceptBatchNorm bool `json:"except_batch_norm,omitempty"`
	ExceptBias      bool `json:"except_bias,omitempty"` // biases and batch norm: all vectors
}

// Norm says what a direction or a perturbation is measured against.
type Norm string

const (
	None   Norm = "none"   // nothing: e = u
	Each   Norm = "weight" // every weight against itself: e = |w|·u
	Filter Norm = "filter" // e_f = ‖w_f‖·u_f/(‖u_f‖+1e-6), as AdaSmoothOut; of vectors: |w|·sign(u) in essence
	Layer  Norm = "layer"  // e = ‖w‖·u/(‖u‖+1e-6) for a whole tensor
)

// Scale multiplies u, in place, so that it is measured against w as norm says,
// and clears what is not selected. In formulas see the constants; the norms are
// Euclidean. Filter is both the noise of AdaSmoothOut (arXiv:1805.07898v3) with
// s = 1 and the filter-normalised direction of Li et al. (arXiv:1712.09913).
func (l *Layout) Scale(norm Norm, s Selection, w, u []float32) error {
	if len(w) != l.Size() || len(u) != l.Size() {
		return fmt.Errorf("%w: vectors of %d and %d for a layout of %d", ErrModel, len(w), len(u), l.Size())
	}
	end := 0
	for _, t := range l.Select(s) {
		clear(u[end:t.Offset])
		end = t.Offset + t.Size
		if err := scaleTensor(norm, t, w[t.Offset:end], u[t.Offset:end]); err != nil {
			return err
		}
	}
	clear(u[end:])
	return nil
}

func scaleTensor(norm Norm, t Tensor, w, u []float32) error {
	groups := 0 // element i belongs to group i modulo groups
	switch norm {
	case None, "":
		return nil
	case Each:
		for i := range u {
			u[i] *= float32(math.Abs(float64(w[i])))
		}
		return nil
	case Filter:
		groups = t.Filters()
	case Layer:
		groups = 1
	default:
		return fmt.Errorf("%w: norm %q: want %q, %q, %q or %q", ErrModel, norm, None, Each, Filter, Layer)
	}
	sums := make([]float64, 2*groups) // squares of w, of u
	for i := range u {
		g := i % groups
		sums[2*g] += float64(w[i]) * float64(w[i])
		sums[2*g+1] += float64(u[i]) * float64(u[i])
	}
	for g := range groups {
		sums[2*g] = math.Sqrt(sums[2*g]) / (math.Sqrt(sums[2*g+1]) + 1e-6)
	}
	for i := range u {
		u[i] = float32(float64(u[i]) * sums[2*(i%groups)])
	}
	return nil
}
