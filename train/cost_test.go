package train

import (
	"testing"
	"time"

	gomlx "github.com/gomlx/gomlx/ml/train"

	"github.com/gomlx/gomlx/core/tensors"
)

type idle struct{}

func (idle) TrainStep(gomlx.Batch) ([]*tensors.Tensor, error) { return nil, nil }

// The twin never waits for its input, so the run's waiting is not counted either.
func TestCostLeavesOutWaiting(t *testing.T) {
	c := cost{twin: idle{}}
	c.note(chunk{}, 3*time.Second)
	c.note(chunk{}, 4*time.Second) // one second passed in waiting for the second ghost batch
	c.started = time.Unix(100, 0)
	if got := c.took(time.Unix(110, 0), 5*time.Second); got != 8*time.Second {
		t.Errorf("a step of 10 s, of which 2 were waiting, took %v", got)
	}
}
