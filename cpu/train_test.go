package cpu_test

import (
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"
	"github.com/openpith/evidence/cpu"
)

func newBackend(t testing.TB, config string) compute.Backend {
	b, err := cpu.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Finalize)
	return b
}

var smallNets = []training{
	{"F1", f1(5, 64), []int{32, 28, 28, 1}},
	{"C1", c1(16, 32, 24), []int{8, 32, 32, 3}},
	{"ResNet", resnet(1, 16, 32, 64), []int{8, 16, 16, 3}},
}

// The first losses of a training are those of the reference backend.
func TestLossesFollowReference(t *testing.T) {
	for _, tr := range smallNets {
		t.Run(tr.name, func(t *testing.T) {
			reference, err := gobackend.New("ops_sequential")
			if err != nil {
				t.Fatal(err)
			}
			defer reference.Finalize()
			ours, theirs := tr.start(t, newBackend(t, "")), tr.start(t, reference)
			other := tr.batches(4) // tensors belong to one backend
			for i, batch := range tr.batches(4) {
				got, want := ours(batch), theirs(other[i])
				// Rounding differences grow from step to step.
				if tolerance := 2e-6 * math.Pow(6, float64(i)); !(math.Abs(got-want) <= tolerance*want) {
					t.Errorf("step %d: loss %.7f, the reference has %.7f", i, got, want)
				}
			}
		})
	}
}
