package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend" // the slow reference, for comparison

	_ "github.com/openpith/evidence/cpu"
	"github.com/openpith/evidence/internal/cli"
)

// defaultBackend is ours: it runs everywhere without installing anything. Each
// run keeps to one core, since whole runs side by side use the cores best.
const defaultBackend = "cpu:workers=1"

// backend returns the name of the backend to use and a function that makes a
// fresh one for each worker.
func backend() (name string, make func() (compute.Backend, error), err error) {
	return backendOr(defaultBackend)
}

// allCores serves a single run. The bits are those of one core.
const allCores = "cpu"

// backendOr is backend with another default.
func backendOr(otherwise string) (name string, make func() (compute.Backend, error), err error) {
	name = os.Getenv(compute.ConfigEnvVar)
	if name == "" {
		name = otherwise
	}
	b, err := newBackend(name)
	if err != nil {
		hint := fmt.Sprintf("unset %s to use %s", compute.ConfigEnvVar, otherwise)
		if kind, _, _ := strings.Cut(name, ":"); kind == "xla" && !slices.Contains(compute.List(), kind) {
			hint = "build the command with -tags xla (docs/cli.md, GPUs), or " + hint
		}
		return "", nil, cli.Hint(fmt.Errorf("backend %q: %w", name, err), "%s", hint)
	}
	b.Finalize()
	return name, func() (compute.Backend, error) { return newBackend(name) }, nil
}

// newBackend is compute.NewWithConfig with the panic that it answers an
// unknown name with turned into an error.
func newBackend(name string) (b compute.Backend, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return compute.NewWithConfig(name)
}
