package rivals

import (
	"errors"
	"fmt"
	"math"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"

	"github.com/openpith/evidence/smoothout"
)

// SAM is sharpness-aware minimisation (Foret et al. 2021): the gradient is taken
// at w+e, where to first order the loss is largest within the distance Rho,
//
//	e = ρ·g/(‖g‖+1e-12)                 g = ∇L(w), ‖·‖ over all parameters
//
// and, Adaptive, ASAM (Kwon et al. 2021), whose distance is relative to each
// weight and so does not change when weights are rescaled:
//
//	e = ρ·w²·g/(‖w·g‖+1e-12)
//
// The loss of a step is that at w+e; [CleanLoss] is that at w. The second pass
// sees what the first did, dropout masks included, and leaves no trace:
// statistics of batch norm and random states move on once, by the clean pass.
// With accumulated gradients each micro-step has its own e, which makes its
// size the m of m-sharpness.
type SAM struct {
	Rho      float64 `json:"rho"` // 0 is plain training, bit for bit
	Adaptive bool    `json:"adaptive,omitempty"`
}

// ErrMethod reports a method that cannot be carried out as described.
var ErrMethod = errors.New("invalid method")

// Validate reports, as ErrMethod, what is wrong.
func (s SAM) Validate() error {
	if !(s.Rho >= 0) || math.IsInf(s.Rho, 0) {
		return fmt.Errorf("%w: rho %v: want a finite number, 0 or more", ErrMethod, s.Rho)
	}
	return nil
}

// Paths of what the two functions of SAM tell each other, and others, about a
// graph.
const (
	firstPass = "/rivals/sam_first_pass"
	cleanLoss = "/rivals/clean_loss"
)

// regularization is where GoMLX keeps the losses that layers add.
var regularization = model.JoinPath(train.TrainerAbsoluteScope, train.TrainerRegularizationLossGraphParamKey)

// CleanLoss is the loss at the clean weights in a training graph of a method
// that computes it on its way, else nil.
func CleanLoss(g *Graph) *Node {
	loss, _ := model.GetGraphParam(g, cleanLoss)
	n, _ := loss.(*Node)
	return n
}

// A pass is what the loss needs to build the model again.
type pass struct {
	scope     *model.Scope
	spec      any
	inputs    []*Node
	variables []*model.Variable
	before    []*Node // their values
}

// Wrap implements Method.
func (s SAM) Wrap(fn train.ModelFn, loss train.LossFn) (train.ModelFn, train.LossFn) {
	if s.Rho == 0 {
		return fn, loss
	}
	first := func(scope *model.Scope, spec any, inputs []*Node) []*Node {
		g := inputs[0].Graph()
		if !scope.IsTraining(g) {
			return fn(scope, spec, inputs)
		}
		if err := s.Validate(); err != nil {
			panic(err)
		}
		p := &pass{scope: scope, spec: spec, inputs: inputs, variables: smoothout.Variables(fn, scope, spec, inputs)}
		p.before = values(p.variables, g)
		model.SetGraphParam(g, firstPass, p)
		return fn(scope, spec, inputs)
	}
	second := func(labels, predictions []*Node) *Node {
		clean := loss(labels, predictions)
		g := clean.Graph()
		param, _ := model.GetGraphParam(g, firstPass)
		p, ok := param.(*pass)
		if !ok { // no training graph
			return clean
		}
		clean = scalar(clean)
		model.SetGraphParam(g, cleanLoss, clean)
		total := clean
		if extra, ok := model.GetGraphParam(g, regularization); ok {
			total = Add(total, extra.(*Node))
			// It comes again with the second pass.
			model.SetGraphParam(g, regularization, ScalarZero(g, total.DType()))
		}
		var weights []*Node
		for i, v := range p.variables {
			if v.Trainable {
				weights = append(weights, p.before[i])
			}
		}
		e := s.ascent(weights, Gradient(total, weights...))

		after := values(p.variables, g)
		for i, v := range p.variables {
			if v.Trainable {
				v.SetNodeValue(Add(p.before[i], StopGradient(e[0])))
				e = e[1:]
			} else {
				v.SetNodeValue(p.before[i])
			}
		}
		worst := loss(labels, fn(p.scope.ResetVisited(), p.spec, p.inputs))
		for i, v := range p.variables {
			v.SetNodeValue(after[i])
		}
		return worst
	}
	return first, second
}

// ascent is e for each of the weights.
func (s SAM) ascent(weights, gradients []*Node) []*Node {
	direction := make([]*Node, len(weights)) // g, or w²·g
	var square *Node                         // Σ g², or Σ (w·g)²
	for i, grad := range gradients {
		direction[i] = grad
		if s.Adaptive {
			grad = Mul(weights[i], grad)
			direction[i] = Mul(weights[i], grad)
		}
		sum := ReduceAllSum(Square(grad))
		if square == nil {
			square = sum
		} else {
			square = Add(square, ConvertDType(sum, square.DType()))
		}
	}
	scale := Div(Scalar(square.Graph(), square.DType(), s.Rho), AddScalar(Sqrt(square), 1e-12))
	for i, d := range direction {
		direction[i] = Mul(d, ConvertDType(scale, d.DType()))
	}
	return direction
}

func values(variables []*model.Variable, g *Graph) []*Node {
	nodes := make([]*Node, len(variables))
	for i, v := range variables {
		nodes[i] = v.NodeValue(g)
	}
	return nodes
}

func scalar(loss *Node) *Node {
	if loss.Shape().IsScalar() {
		return loss
	}
	return ReduceAllMean(loss)
}
