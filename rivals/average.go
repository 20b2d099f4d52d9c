package rivals

import (
	"fmt"
	"math"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/model/initializer"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
)

// The kinds of averages.
const (
	EMA = "ema" // exponential moving average: a = Decay·a + (1-Decay)·w
	SWA = "swa" // stochastic weight averaging: the plain mean
)

// Average keeps an average of the weights beside those that are trained. It
// wraps an optimizer, whose updates it does not change:
//
//	optimizer = rivals.Average{Kind: rivals.EMA, Decay: 0.999}.Wrap(optimizer)
//	… train …
//	rivals.Swap(store) // now the variables hold the average, and Swap again undoes it
//
// Statistics of batch norm belong to the weights they were taken with: after a
// swap they must be computed anew (norm.UpdateBatchNormAverages of GoMLX; package
// train does it by itself).
type Average struct {
	Kind string `json:"kind,omitempty"` // EMA or SWA; "" keeps no average
	// Decay is EMA's. The average starts as the first weights it sees, as in
	// PyTorch's AveragedModel.
	Decay float64 `json:"decay,omitempty"`
	// Start is the fraction of training after which averaging begins.
	Start float64 `json:"start,omitempty"`
	// Every is the number of optimizer steps from one contribution to the next;
	// 0 means 1 here, and for SWA in package train an epoch.
	Every int `json:"every,omitempty"`

	// Steps is the number of optimizer steps of the whole training, of which Start
	// is a fraction. Package train fills it in.
	Steps int `json:"-"`
}

// Validate reports, as ErrMethod, what is wrong.
func (a Average) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: average: %s", ErrMethod, fmt.Sprintf(format, args...))
	}
	switch {
	case a.Kind == "":
		if a != (Average{Steps: a.Steps}) {
			return bad("settings without a kind: want %q or %q", EMA, SWA)
		}
	case a.Kind != EMA && a.Kind != SWA:
		return bad("kind %q: want %q or %q", a.Kind, EMA, SWA)
	case a.Kind == EMA && !(a.Decay > 0 && a.Decay < 1):
		return bad("decay %v: want a number between 0 and 1, such as 0.999", a.Decay)
	case a.Kind == SWA && a.Decay != 0:
		return bad("decay %v: want it with %q only", a.Decay, EMA)
	case !(a.Start >= 0 && a.Start < 1):
		return bad("start %v: want a fraction of training, from 0 to less than 1", a.Start)
	case a.Start > 0 && a.Steps <= 0:
		return bad("start %v: want Steps, the number of optimizer steps of the whole training", a.Start)
	case a.Every < 0:
		return bad("every %d steps: want 0 or more", a.Every)
	}
	return nil
}

// averageScope holds the averages, under the paths of their variables.
const averageScope = "/average"

// Wrap returns an optimizer that updates as o does and keeps the average.
func (a Average) Wrap(o optimizer.Interface) optimizer.Interface {
	if a.Kind == "" {
		return o
	}
	if withGradients, ok := o.(train.OptimizeWithGradients); ok {
		return averagedWithGradients{averaged{a, o}, withGradients}
	}
	return averaged{a, o}
}

type averaged struct {
	Average
	inner optimizer.Interface
}

// UpdateGraph implements optimizer.Interface.
func (o averaged) UpdateGraph(scope *model.Scope, g *Graph, loss *Node) {
	o.inner.UpdateGraph(scope, g, loss)
	o.update(scope, g)
}

// Clear implements optimizer.Interface: it forgets the average, too.
func (o averaged) Clear(scope *model.Scope) error {
	if err := scope.Store().DeleteVariablesInScope(averageScope); err != nil {
		return err
	}
	return o.inner.Clear(scope)
}

type averagedWithGradients struct {
	averaged
	gradients train.OptimizeWithGradients
}

// UpdateGraphWithGradients implements train.OptimizeWithGradients.
func (o averagedWithGradients) UpdateGraphWithGradients(scope *model.Scope, gradients []*Node, lossDType dtypes.DType) {
	o.gradients.UpdateGraphWithGradients(scope, gradients, lossDType)
	if len(gradients) > 0 {
		o.update(scope, gradients[0].Graph())
	}
}

// update takes the new weights in: a += r·(w-a), where r is 0 for weights that
// do not count, 1 for the first that do, and then 1-Decay or 1/(n+1).
func (o averaged) update(scope *model.Scope, g *Graph) {
	if err := o.Validate(); err != nil {
		panic(err)
	}
	store := scope.Store()
	counter := func(name string) *model.Variable {
		return store.VariableWithValue(model.JoinPath(averageScope, name), int64(0)).SetTrainable(false)
	}
	stepVar, countVar := counter("#step"), counter("#count")
	integer := func(n int) *Node { return Scalar(g, dtypes.Int64, n) }
	zero := integer(0)

	step := OnePlus(stepVar.NodeValue(g)) // after this update, from 1
	stepVar.SetNodeValue(step)
	count := countVar.NodeValue(g)
	since := Sub(step, integer(int(math.Ceil(o.Start*float64(o.Steps)))))
	counts := And(GreaterThan(since, zero), Equal(Mod(since, integer(max(1, o.Every))), zero))
	countVar.SetNodeValue(Add(count, ConvertDType(counts, dtypes.Int64)))

	rate := Scalar(g, dtypes.Float32, 1-o.Decay)
	if o.Kind == SWA {
		rate = Reciprocal(ConvertDType(OnePlus(count), dtypes.Float32))
	}
	rate = Where(Equal(count, zero), OnesLike(rate), rate)
	rate = Where(counts, rate, ZerosLike(rate))
	for w := range scope.IterVariables() {
		if !w.Trainable || !w.InUseByGraph(g) {
			continue
		}
		v := average(store, w)
		a := v.NodeValue(g)
		v.SetNodeValue(Add(a, Mul(ConvertDType(rate, a.DType()), Sub(w.NodeValue(g), a))))
	}
}

// average is the variable that holds the average of w. It is made on demand.
func average(store *model.Store, w *model.Variable) *model.Variable {
	shape := shapes.Make(w.DType(), w.Shape().Dimensions...)
	return store.VariableWithShape(averagePath(w), shape, initializer.Zero).SetTrainable(false)
}

func averagePath(w *model.Variable) string { return model.JoinPath(averageScope, w.Path()) }

// Swap exchanges the weights of a store with their averages, and tells whether
// there are any: training may have ended before the first.
func Swap(store *model.Store) (bool, error) {
	count := store.GetVariable(model.JoinPath(averageScope, "#count"))
	if count == nil || !count.HasValue() {
		return false, nil
	}
	n, err := count.Value()
	if err != nil {
		return false, err
	}
	if tensors.ToScalar[int64](n) == 0 {
		return false, nil
	}
	for w := range store.IterVariables() {
		if !w.Trainable {
			continue
		}
		a := store.GetVariable(averagePath(w))
		if a == nil || !a.HasValue() {
			continue // not part of what was trained
		}
		weights, err := w.Value()
		if err != nil {
			return false, err
		}
		mean, err := a.Value()
		if err != nil {
			return false, err
		}
		if err := w.SetValuePreservingOld(mean); err != nil {
			return false, err
		}
		if err := a.SetValuePreservingOld(weights); err != nil {
			return false, err
		}
	}
	return true, nil
}
