//go:build unix

package train_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
	gomlx "github.com/gomlx/gomlx/ml/train"

	"github.com/openpith/evidence/cpu"
	"github.com/openpith/evidence/internal/seed"
	"github.com/openpith/evidence/nets"
	"github.com/openpith/evidence/smoothout"
	"github.com/openpith/evidence/train"
)

// BenchmarkMethods reports what a step costs with each method, relative to a
// step of plain SGD, in processor time:
//
//	go test ./train -run '^$' -bench Methods -benchtime 40x
//
// One iteration is a step of every method in turn, on the same batch, so that
// what disturbs the machine disturbs all; the least of each counts. Steps are
// those of the trainer: a batch of four ghost batches of 128 samples is
// four passes and one update.
func BenchmarkMethods(b *testing.B) {
	const ghost = 128
	for _, c := range []struct {
		name, net string
		batch     int
	}{
		{"F1-128", "f1", ghost}, {"F1-512", "f1", 4 * ghost}, {"C1-128", "c1", ghost}, {"ResNet44-128", "resnet44", ghost},
	} {
		b.Run(c.name, func(b *testing.B) {
			backend, err := cpu.New("")
			if err != nil {
				b.Fatal(err)
			}
			defer backend.Finalize()
			about, err := nets.Lookup(c.net)
			if err != nil {
				b.Fatal(err)
			}
			net, err := nets.ByName(c.net, nets.Options{})
			if err != nil {
				b.Fatal(err)
			}
			const classes = 10
			input := about.Input
			x := make([]float32, shapes.Make(dtypes.Float32, append([]int{ghost}, input...)...).Size())
			seed.Uniform32(seed.Stream(1, "benchmark"), -1, 1, x)
			y := make([]int32, ghost)
			for i := range y {
				y[i] = int32(i % classes)
			}

			type contender struct {
				name  string
				step  func()
				least time.Duration
			}
			var contenders []*contender
			add := func(name string, change func(*train.Recipe)) {
				r := train.Recipe{Batch: c.batch, Ghost: ghost, Epochs: 1, LearningRate: 1e-3, Momentum: 0.9, WeightDecay: 1e-4, ClipNorm: 5, Seed: 1}
				change(&r)
				stepper, err := train.NewStepper(backend, net, input, classes, r, 1000)
				if err != nil {
					b.Fatal(name, err)
				}
				contenders = append(contenders, &contender{name: name, least: time.Hour, step: func() {
					for range c.batch / ghost {
						metrics, err := stepper.TrainStep(gomlx.Batch{
							Inputs: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(x, append([]int{ghost}, input...)...)},
							Labels: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(y, ghost, 1)},
						})
						if err != nil {
							b.Fatal(name, err)
						}
						for _, m := range metrics {
							m.MustFinalizeAll()
						}
					}
				}})
			}
			add("sgd", func(*train.Recipe) {})
			for _, m := range train.Methods() {
				if m.Strength == "" {
					continue
				}
				add(m.Name, func(r *train.Recipe) {
					with, err := r.WithMethod(m.Name, 1e-4)
					if err != nil {
						b.Fatal(err)
					}
					*r = with
				})
			}
			add("adasmoothout-normal", func(r *train.Recipe) {
				r.SmoothOut = smoothout.Config{Strength: 1e-4, Adapt: smoothout.Filter, Noise: smoothout.Normal}
			})
			add("smoothout-rademacher", func(r *train.Recipe) {
				r.SmoothOut = smoothout.Config{Strength: 1e-4, Noise: smoothout.Rademacher}
			})
			add("adam", func(r *train.Recipe) { r.Optimizer = "adam" })
			add("ema", func(r *train.Recipe) { r.Average.Kind, r.Average.Decay = "ema", 0.999 })

			for _, c := range contenders { // compile
				c.step()
				c.step()
			}
			for round := 0; b.Loop(); round++ {
				for i := range contenders {
					c := contenders[(i+round)%len(contenders)]
					before := processTime()
					c.step()
					c.least = min(c.least, processTime()-before)
				}
			}
			sgd := contenders[slices.IndexFunc(contenders, func(c *contender) bool { return c.name == "sgd" })]
			for _, c := range contenders {
				b.ReportMetric(c.least.Seconds()/sgd.least.Seconds(), strings.ReplaceAll(c.name, " ", "-")+"/sgd")
			}
			b.ReportMetric(sgd.least.Seconds()*1e3, "sgd-cpu-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// processTime is the processor time of the process, which other processes on the
// machine disturb less than they do the clock.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
