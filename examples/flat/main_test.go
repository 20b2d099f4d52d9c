package main

import (
	"testing"

	"github.com/openpith/evidence/cpu"
)

func TestFlat(t *testing.T) {
	backend, err := cpu.New("workers=1")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Finalize()
	plain, err := run(backend, 0, 700)
	if err != nil {
		t.Fatal(err)
	}
	flat, err := run(backend, 0.3, 700)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []result{plain, flat} {
		if !(r.accuracy > 0.8) {
			t.Errorf("%+v has learned little", r)
		}
	}
	if rise, flatRise := plain.shaken-plain.loss, flat.shaken-flat.loss; !(flatRise < rise/4) {
		t.Errorf("shaken, the loss rises by %v without SmoothOut and by %v with it", rise, flatRise)
	}
}
