package main

import (
	"fmt"
	"os"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend"

	"github.com/openpith/evidence/internal/cli"
)

// defaultBackend runs everywhere without installing anything. Its parallel
// mode can deadlock in this version, and whole runs in parallel use the cores
// better anyway.
const defaultBackend = "go:ops_sequential"

// backend returns the name of the backend to use and a function that makes a
// fresh one for each worker.
func backend() (name string, make func() (compute.Backend, error), err error) {
	name = os.Getenv(compute.ConfigEnvVar)
	if name == "" {
		name = defaultBackend
	}
	b, err := newBackend(name)
	if err != nil {
		return "", nil, cli.Hint(fmt.Errorf("backend %q: %w", name, err), "unset %s to use %s", compute.ConfigEnvVar, defaultBackend)
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
