package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openpith/evidence/report"
)

// Of many runs a picture shows those that differ in the seed as one, over the
// epochs that each has come to.
func TestCurvesOverSeeds(t *testing.T) {
	got := overSeeds([]report.Curve{
		{Name: "sgd-seed1 validation", X: []float64{1, 2}, Y: []float64{10, 20}},
		{Name: "sgd-seed12 validation", X: []float64{1}, Y: []float64{30}},
		{Name: "mine validation", X: []float64{2}, Y: []float64{7}},
	})
	want := []report.Curve{
		{Name: "sgd validation, mean of 2 runs", X: []float64{1, 2}, Y: []float64{20, 20}},
		{Name: "mine validation", X: []float64{2}, Y: []float64{7}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
