package cpu

import (
	"testing"

	"github.com/gomlx/compute/support/backendtest"
)

// GoMLX's own suite for backends.
func TestCompliance(t *testing.T) {
	backend, err := New("")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Finalize()
	backendtest.RunAll(t, backend, nil)
}
