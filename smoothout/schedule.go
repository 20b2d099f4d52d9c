package smoothout

import (
	"fmt"
	"math"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
)

// A Kind is the shape of a schedule. With t optimizer steps done of T:
type Kind string

const (
	// Constant is c = 1, the default.
	Constant Kind = "constant"
	// Anneal is c = (1+t)^(-0.55/2), the reference's: variance as in Neelakantan
	// et al. (2015).
	Anneal Kind = "anneal"
	// TanhRise is c = (tanh(10·(t/T - 1/2)) + 1)/2, the reference's: off at first, on
	// in the second half.
	TanhRise Kind = "tanh"
	// CosineRise is c = 1 + (Factor-1)·(1-cos(π·t/T))/2: from 1 to Factor, as LPF-SGD
	// does it with factors of 15 to 35.
	CosineRise Kind = "cosine"
)

// A Schedule lets the strength change in the course of training. The zero value
// is constant. The coefficient is computed in the graph from the stored count
// of micro-steps: nothing has to be set between steps, nothing is compiled
// again, and a resumed run goes on where it was.
type Schedule struct {
	Kind Kind `json:"kind,omitempty"`
	// Delay is the fraction of training, from 0 to less than 1, that goes
	// without noise. The schedule takes the rest.
	Delay float64 `json:"delay,omitempty"`
	// Factor is where CosineRise ends, as a multiple of the strength.
	Factor float64 `json:"factor,omitempty"`

	// Steps is the number of optimizer steps of the whole training: all but
	// Constant and Anneal without delay need it. MicroSteps is the number of
	// executions per optimizer step, if gradients are accumulated; 0 means 1.
	// Package train fills in both.
	Steps      int `json:"-"`
	MicroSteps int `json:"-"`
}

func (s Schedule) varies() bool {
	return s.Kind != "" && s.Kind != Constant || s.Delay > 0
}

func (s Schedule) validate() error {
	switch {
	case s.Kind != "" && s.Kind != Constant && s.Kind != Anneal && s.Kind != TanhRise && s.Kind != CosineRise:
		return fmt.Errorf("schedule %q: want constant, anneal, tanh or cosine", s.Kind)
	case !(s.Delay >= 0 && s.Delay < 1):
		return fmt.Errorf("schedule delay %v: want a fraction, from 0 to less than 1", s.Delay)
	case s.Kind == CosineRise && !(s.Factor > 0 && !math.IsInf(s.Factor, 0)):
		return fmt.Errorf("schedule factor %v: want the multiple of the strength at which cosine ends, more than 0", s.Factor)
	case s.Kind != CosineRise && s.Factor != 0:
		return fmt.Errorf("schedule factor %v with kind %q: want it with cosine only", s.Factor, s.Kind)
	case s.Steps < 0 || s.MicroSteps < 0:
		return fmt.Errorf("schedule over %d steps of %d micro-steps: want no negative numbers", s.Steps, s.MicroSteps)
	case s.Steps == 0 && (s.Kind == TanhRise || s.Kind == CosineRise || s.Delay > 0):
		return fmt.Errorf("schedule %q with delay %v: want Steps, the number of optimizer steps of the whole training", s.Kind, s.Delay)
	}
	return nil
}

const annealing = -0.55 / 2

// At is the coefficient of an optimizer step, counted from 0.
func (s Schedule) At(step int) float64 {
	start, length := s.span()
	t := float64(step) - start
	if t < 0 {
		return 0
	}
	switch s.Kind {
	case Anneal:
		return math.Pow(1+t, annealing)
	case TanhRise:
		return (math.Tanh(10*(t/length-0.5)) + 1) / 2
	case CosineRise:
		return 1 + (s.Factor-1)*(1-math.Cos(math.Pi*t/length))/2
	}
	return 1
}

// Max is the largest coefficient in the course of training: Factor where a
// schedule rises to one above 1, otherwise 1.
func (s Schedule) Max() float64 {
	if s.Kind == CosineRise {
		return math.Max(1, s.Factor)
	}
	return 1
}

// span is the first optimizer step with noise, and the number of them.
func (s Schedule) span() (start, length float64) {
	start = math.Ceil(s.Delay * float64(s.Steps))
	return start, max(1, float64(s.Steps)-start)
}

// coefficient is At in the graph: a float32 scalar, for a count of micro-steps.
func (s Schedule) coefficient(microStep *Node) *Node {
	if s.MicroSteps > 1 {
		microStep = Div(microStep, Scalar(microStep.Graph(), microStep.DType(), s.MicroSteps)) // of integers
	}
	start, length := s.span()
	t := AddScalar(ConvertDType(microStep, dtypes.Float32), -start)
	c := OnesLike(t)
	switch s.Kind {
	case Anneal:
		c = Pow(OnePlus(MaxScalar(t, 0)), Scalar(t.Graph(), t.DType(), annealing))
	case TanhRise:
		c = MulScalar(OnePlus(Tanh(MulScalar(AddScalar(MulScalar(t, 1/length), -0.5), 10))), 0.5)
	case CosineRise:
		c = OnePlus(MulScalar(OneMinus(Cos(MulScalar(t, math.Pi/length))), (s.Factor-1)/2))
	}
	if start > 0 {
		c = Where(LessThan(t, ScalarZero(t.Graph(), t.DType())), ZerosLike(c), c)
	}
	return c
}
