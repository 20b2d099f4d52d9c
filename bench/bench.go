// Package bench holds the networks that the backends are measured on, with the
// stock trainer of GoMLX, and the same networks in PyTorch. All numbers of
// docs/benchmarks.md about package cpu come from one command:
//
//	go run ./bench/tables
//
// and a single one from a Go benchmark:
//
//	go test ./bench -run '^$' -bench . -benchtime 20x
package bench

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/model/initializer"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"

	"github.com/openpith/evidence/smoothout"
	evidence "github.com/openpith/evidence/train"
)

// A Network computes logits [batch, 10] of images [batch, height, width, channels].
type Network = func(scope *model.Scope, x *graph.Node) *graph.Node

func relu(x *graph.Node) *graph.Node { return graph.Max(x, graph.ZerosLike(x)) }

// batchNorm normalises the last axis, by the operation of the backend if there
// is one, else by basic operations.
func batchNorm(scope *model.Scope, x *graph.Node) *graph.Node {
	g := x.Graph()
	d := x.Shape().Dimensions
	c := d[len(d)-1]
	scale := scope.WithInitializer(initializer.One).VariableWithShape("scale", shapes.Make(dtypes.Float32, c)).NodeValue(g)
	offset := scope.WithInitializer(initializer.Zero).VariableWithShape("offset", shapes.Make(dtypes.Float32, c)).NodeValue(g)
	const epsilon = 1e-5
	if g.Backend().Capabilities().Operations[compute.OpTypeBatchNormForTraining] {
		y, _, _ := graph.InternalBatchNormForTraining(x, scale, offset, epsilon, -1)
		return y
	}
	rows := graph.Reshape(x, x.Shape().Size()/c, c)
	centered := graph.Sub(rows, graph.ReduceAndKeep(rows, graph.ReduceMean, 0))
	variance := graph.ReduceAndKeep(graph.Square(centered), graph.ReduceMean, 0)
	y := graph.Mul(centered, graph.Div(graph.Reshape(scale, 1, c), graph.Sqrt(graph.AddScalar(variance, epsilon))))
	return graph.Reshape(graph.Add(y, graph.Reshape(offset, 1, c)), d...)
}

// F1 has hidden layers of the given width, each with batch norm and ReLU. The
// experiments use five layers of 512.
func F1(layersCount, width int) Network {
	return func(scope *model.Scope, x *graph.Node) *graph.Node {
		x = graph.Reshape(x, x.Shape().Dimensions[0], -1)
		for i := range layersCount {
			s := scope.In("l%d", i)
			x = relu(batchNorm(s, layers.DenseWithBias(s, x, width)))
		}
		return layers.DenseWithBias(scope.In("out"), x, 10)
	}
}

func conv(s *model.Scope, x *graph.Node, channels, kernel, stride int) *graph.Node {
	return layers.Convolution(s, x).Channels(channels).KernelSize(kernel).Strides(stride).UseBias(false).PadSame().Done()
}

// C1 has two convolutions with max pooling and two hidden layers. The
// experiments use 64 channels and layers of 384 and 192.
func C1(channels, wide, narrow int) Network {
	return func(scope *model.Scope, x *graph.Node) *graph.Node {
		for i := range 2 {
			s := scope.In("c%d", i)
			x = conv(s, x, channels, 5, 1)
			x = graph.MaxPool(x).Window(3).Strides(2).NoPadding().Done()
			x = relu(batchNorm(s, x))
		}
		x = graph.Reshape(x, x.Shape().Dimensions[0], -1)
		for i, n := range []int{wide, narrow} {
			s := scope.In("f%d", i)
			x = relu(batchNorm(s, layers.Dense(s, x, false, n)))
		}
		return layers.DenseWithBias(scope.In("out"), x, 10)
	}
}

// ResNet has a stage of the given number of blocks of two convolutions for each
// width. ResNet-44 has seven blocks of 16, 32 and 64 channels.
func ResNet(blocks int, widths ...int) Network {
	return func(scope *model.Scope, x *graph.Node) *graph.Node {
		channels := widths[0]
		x = relu(batchNorm(scope.In("bn0"), conv(scope.In("c0"), x, channels, 3, 1)))
		for stage, out := range widths {
			for k := range blocks {
				s := scope.In("s%d_%d", stage, k)
				stride := 1
				if stage > 0 && k == 0 {
					stride = 2
				}
				y := relu(batchNorm(s.In("b1"), conv(s.In("c1"), x, out, 3, stride)))
				y = batchNorm(s.In("b2"), conv(s.In("c2"), y, out, 3, 1))
				if stride != 1 || channels != out {
					x = batchNorm(s.In("bd"), conv(s.In("cd"), x, out, 1, stride))
				}
				channels = out
				x = relu(graph.Add(x, y))
			}
		}
		return layers.DenseWithBias(scope.In("out"), graph.ReduceMean(x, 1, 2), 10)
	}
}

// A Training is a network and the shape of its input.
type Training struct {
	Name  string
	Net   Network
	Shape []int
}

// Batches makes batches with something to learn, the same on every call.
func (tr Training) Batches(n int) []train.Batch {
	rng := rand.New(rand.NewPCG(1, 2))
	list := make([]train.Batch, n)
	for i := range list {
		size := shapes.Make(dtypes.Float32, tr.Shape...).Size()
		x, labels := make([]float32, size), make([]int32, tr.Shape[0])
		for j := range x {
			x[j] = float32(rng.NormFloat64())
		}
		for j := range labels {
			labels[j] = int32(j % 10)
			x[j*(size/len(labels))] += float32(labels[j])
		}
		list[i] = train.Batch{
			Inputs: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(x, tr.Shape...)},
			Labels: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(labels, len(labels), 1)},
		}
	}
	return list
}

// FixedInit draws initial weights on the host, so that they are the same on
// every backend: uniform with the spread of Glorot's rule, zero for vectors.
func FixedInit(g *graph.Graph, shape shapes.Shape) *graph.Node {
	if shape.Rank() <= 1 {
		return graph.Zeros(g, shape)
	}
	rng := rand.New(rand.NewPCG(uint64(shape.Size()), 3))
	d := shape.Dimensions
	last := d[len(d)-1]
	limit := math.Sqrt(6 / float64(shape.Size()/last+last*shape.Size()/last/d[len(d)-2]))
	w := make([]float32, shape.Size())
	for i := range w {
		w[i] = float32((2*rng.Float64() - 1) * limit)
	}
	return graph.Const(g, tensors.FromFlatDataAndDimensions(w, d...))
}

// Networks are the trainings of the experiments, by name, of any batch size: F1 of
// five hidden layers of 512, C1, and ResNet-44.
var Networks = map[string]func(batch int) Training{
	"F1": func(n int) Training { return Training{fmt.Sprint("F1-", n), F1(5, 512), []int{n, 28, 28, 1}} },
	"C1": func(n int) Training { return Training{fmt.Sprint("C1-", n), C1(64, 384, 192), []int{n, 32, 32, 3}} },
	"ResNet44": func(n int) Training {
		return Training{fmt.Sprint("ResNet44-", n), ResNet(7, 16, 32, 64), []int{n, 32, 32, 3}}
	},
}

// Start prepares a trainer with stochastic gradient descent with momentum and
// returns a function that takes a step and returns the loss.
func (tr Training) Start(backend compute.Backend) func(batch train.Batch) (float64, error) {
	return tr.StartNoisy(backend, smoothout.Config{})
}

// StartNoisy is Start with noise in the weights.
func (tr Training) StartNoisy(backend compute.Backend, noise smoothout.Config) func(batch train.Batch) (float64, error) {
	net := func(scope *model.Scope, _ any, inputs []*graph.Node) []*graph.Node {
		return []*graph.Node{tr.Net(scope.WithInitializer(FixedInit), inputs[0])}
	}
	trainer := train.NewTrainer(backend, model.NewStore(), smoothout.Wrap(noise, net), loss.SparseCategoricalCrossEntropyLogits,
		evidence.SGD{LearningRate: 0.1, Momentum: 0.9}, nil, nil)
	return func(batch train.Batch) (float64, error) {
		metrics, err := trainer.TrainStep(batch)
		if err != nil {
			return 0, err
		}
		v := float64(metrics[0].Value().(float32))
		for _, m := range metrics {
			if err := m.FinalizeAll(); err != nil {
				return 0, err
			}
		}
		return v, nil
	}
}
