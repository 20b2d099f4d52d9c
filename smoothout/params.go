package smoothout

import (
	"fmt"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
)

// A Role is what a parameter is for, told from its shape and its neighbours,
// never from its name.
type Role string

const (
	Weight    Role = "weight"     // two axes or more: kernels, embeddings
	Bias      Role = "bias"       // one axis or none: biases, scales of layer norm
	BatchNorm Role = "batch norm" // scale and offset beside running statistics
)

// A Param is a trainable variable that the model uses.
type Param struct {
	*model.Variable
	Role Role
}

// Params lists the trainable variables that fn uses, in the order in which it
// creates them.
//
// It is for graph building and panics like it.
func Params(fn train.ModelFn, scope *model.Scope, spec any, inputs []*Node) []Param {
	var params []Param
	for _, v := range Variables(fn, scope, spec, inputs) {
		if v.Trainable {
			params = append(params, Param{v, role(scope.Store(), v)})
		}
	}
	return params
}

// Variables lists all variables that fn uses, also those that are not trained.
// It builds fn once on a graph that is thrown away: in the first graph of a
// model the variables do not exist before fn has run.
//
// It is for graph building and panics like it.
func Variables(fn train.ModelFn, scope *model.Scope, spec any, inputs []*Node) []*model.Variable {
	g := inputs[0].Graph()
	store := scope.Store()

	scratch := NewGraph(g.Backend(), g.Name()+" (variables)")
	defer scratch.Finalize()
	model.SetStore(scratch, store)
	store.SetTraining(scratch, scope.IsTraining(g))
	stand := make([]*Node, len(inputs))
	for i, x := range inputs {
		stand[i] = Parameter(scratch, fmt.Sprintf("smoothout input %d", i), x.Shape())
	}
	fn(scope.ResetVisited(), spec, stand)

	var variables []*model.Variable
	for v := range store.IterVariables() {
		if v.InUseByGraph(scratch) {
			variables = append(variables, v)
		}
	}
	return variables
}

// role calls a vector a batch-norm parameter when its scope also holds at
// least two variables of its shape that are not trained: the running mean and
// variance. That is how GoMLX's layer looks, ours, and any other that must
// keep statistics per feature beside its parameters.
func role(store *model.Store, v *model.Variable) Role {
	if v.Shape().Rank() > 1 {
		return Weight
	}
	statistics := 0
	for other := range store.IterVariables() {
		if !other.Trainable && other.Scope() == v.Scope() && other.Shape().Equal(v.Shape()) {
			statistics++
		}
	}
	if v.Shape().Rank() == 1 && statistics >= 2 {
		return BatchNorm
	}
	return Bias
}
