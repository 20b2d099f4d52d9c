package smoothout

import (
	"math"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
)

// Adapt says what the noise of a weight is measured against.
type Adapt string

const (
	// None is SmoothOut: every weight gets noise of the same size, e = a·u.
	None Adapt = "none"
	// Weights measures against each weight itself: e = s·|w|·u.
	Weights Adapt = "weight"
	// Filter is AdaSmoothOut: the noise of a filter is proportional to the norm
	// of the filter, e_f = s·‖w_f‖·u_f/(‖u_f‖+1e-6). A filter is what feeds one
	// output: a slice along the last axis of a GoMLX kernel. Each element of a
	// vector, such as a bias, is a filter of its own.
	Filter Adapt = "filter"
	// Layer is Filter with a whole tensor, also a vector, as one filter.
	Layer Adapt = "layer"
	// FilterNorm is how LPF-SGD and RWP measure: each weight of a filter gets
	// e = γ·‖w_f‖·u, so the noise of a filter of d weights has √d times the norm
	// that Filter gives it at the same strength (see [FromLPF]). A vector is one
	// filter.
	FilterNorm Adapt = "filter-norm"
)

// Noise is the law of the raw noise u, independent for each weight.
type Noise string

const (
	Uniform    Noise = "uniform"    // on [-1, 1): variance 1/3
	Normal     Noise = "normal"     // N(0, 1)
	Rademacher Noise = "rademacher" // -1 or 1
)

// variance of the raw noise of one weight.
func (n Noise) variance() float64 {
	if n == Uniform || n == "" {
		return 1. / 3
	}
	return 1
}

// A draw is one noise for all parameters. The factor (a scalar, nil for 1)
// multiplies the strength.
type draw struct {
	address
	factor *Node
}

// noise builds the noise of each parameter, of its shape and type.
func (c Config) noise(g *Graph, d draw, params []noisyParam) []*Node {
	states := d.states(g, c.Seed, params)
	e := make([]*Node, len(params))
	for i, p := range params {
		w := p.NodeValue(g)
		half := w.DType() == dtypes.Float16 || w.DType() == dtypes.BFloat16
		if half { // too coarse for norms, and for noise that is small beside w
			w = ConvertDType(w, dtypes.Float32)
		}
		e[i] = c.scale(w, c.raw(states[i], w), c.Strength*p.factor, d.factor)
		if half {
			e[i] = ConvertDType(e[i], p.DType())
		}
	}
	return e
}

// raw draws u, shaped like w.
func (c Config) raw(state, w *Node) *Node {
	_, u := RandomUniform(state, w.Shape()) // [0, 1)
	switch c.Noise {
	case Normal:
		return normal(u)
	case Rademacher:
		return AddScalar(MulScalar(Floor(MulScalar(u, 2)), 2), -1)
	default:
		return AddScalar(MulScalar(u, 2), -1)
	}
}

// normal makes normal numbers of uniform ones in [0, 1), by the middle of each of
// the 2^24 cells that float32 has there: 0 has no quantile. The cells of float64 are
// finer, and its largest numbers would come out beyond 1, which has none either.
func normal(u *Node) *Node {
	x := AddScalar(MulScalar(u, 2), math.Ldexp(1, -24)-1)
	if x.DType() == dtypes.Float64 {
		x = MinScalar(x, 1-math.Ldexp(1, -24))
	}
	return MulScalar(erfInv(x), math.Sqrt2)
}

// scale makes the noise e of raw noise u. Norms are constants for the gradient
// (the caller stops it): with gradients through ‖w_f‖ it would be another
// algorithm.
func (c Config) scale(w, u *Node, strength float64, factor *Node) *Node {
	switch c.Adapt {
	case Weights:
		u = Mul(u, Abs(w))
	case Filter:
		// As in the reference implementation.
		u = Mul(u, Div(filterNorm(w), AddScalar(filterNorm(u), 1e-6)))
	case Layer:
		u = Mul(u, Div(wholeNorm(w), AddScalar(wholeNorm(u), 1e-6)))
	case FilterNorm:
		if w.Rank() <= 1 {
			u = Mul(u, wholeNorm(w))
		} else {
			u = Mul(u, filterNorm(w))
		}
	}
	if factor == nil {
		return MulScalar(u, strength)
	}
	return Mul(u, ConvertDType(MulScalar(factor, strength), u.DType()))
}

// filterNorm is the Euclidean norm of each slice along the last axis, shaped
// to broadcast against x. The elements of vectors are filters of one weight.
func filterNorm(x *Node) *Node {
	if x.Rank() <= 1 {
		return Abs(x)
	}
	axes := make([]int, x.Rank()-1)
	for i := range axes {
		axes[i] = i
	}
	return Sqrt(ReduceAndKeep(Square(x), ReduceSum, axes...))
}

// wholeNorm is the Euclidean norm of all of x, a scalar.
func wholeNorm(x *Node) *Node { return Sqrt(ReduceAllSum(Square(x))) }

// erfInv is the inverse of the error function to a relative error of 1e-4, with
// which a quantile of the normal distribution is √2·erfInv(2p-1). It costs one
// uniform number, a logarithm, a root and nine products, where Box and Muller's
// method needs two uniform numbers and a cosine, and no branch.
//
//	erfInv(x) = x·f(s)     s = √(-log(1-x²)), from 0 to 4.08 for float32
//
// f is smooth in s; the polynomial is its minimax fit (by iteratively reweighted
// least squares against math.Erfinv).
func erfInv(x *Node) *Node {
	s := Sqrt(Neg(Log(Mul(OneMinus(x), OnePlus(x)))))
	return Mul(x, polynomial(s,
		0.000101892078, -0.00162257174, 0.00970682881, -0.0250037978, 0.0175813367,
		0.0218865071, -0.0243313713, 0.244895631, -0.0021826448, 0.886284853))
}

// polynomial is Horner's rule, the highest coefficient first.
func polynomial(x *Node, coefficients ...float64) *Node {
	p := AddScalar(MulScalar(x, coefficients[0]), coefficients[1])
	for _, c := range coefficients[2:] {
		p = AddScalar(Mul(p, x), c)
	}
	return p
}
