package objective_test

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/openpith/evidence/objective"
)

func TestScale(t *testing.T) {
	l := objective.NewLayout(
		objective.Tensor{Path: "k", Shape: []int{2, 2}, Role: objective.Weight},
		objective.Tensor{Path: "b", Shape: []int{2}, Role: objective.Bias},
		objective.Tensor{Path: "g", Shape: []int{1}, Role: objective.BatchNorm},
		objective.Tensor{Path: "m", Shape: []int{1}, Role: objective.Statistic},
	)
	w := []float32{3, 1, 4, 0, -2, 0, 5, 7} // filters of k: (3, 4) and (1, 0)
	for _, tt := range []struct {
		norm objective.Norm
		sel  objective.Selection
		want []float32
	}{
		{objective.None, objective.Selection{}, []float32{1, 1, 1, 1, 1, 1, 1, 0}},
		{objective.Each, objective.Selection{ExceptBatchNorm: true}, []float32{3, 1, 4, 0, 2, 0, 0, 0}},
		{objective.Filter, objective.Selection{ExceptBias: true}, []float32{5 / math.Sqrt2, 1 / math.Sqrt2, 5 / math.Sqrt2, 1 / math.Sqrt2, 0, 0, 0, 0}},
		{objective.Filter, objective.Selection{}, []float32{5 / math.Sqrt2, 1 / math.Sqrt2, 5 / math.Sqrt2, 1 / math.Sqrt2, 2, 0, 5, 0}},
		{objective.Layer, objective.Selection{ExceptBias: true}, []float32{2.5495098, 2.5495098, 2.5495098, 2.5495098, 0, 0, 0, 0}},
	} {
		u := []float32{1, 1, 1, 1, 1, 1, 1, 1}
		if err := l.Scale(tt.norm, tt.sel, w, u); err != nil {
			t.Fatal(err)
		}
		for i := range u {
			if !(math.Abs(float64(u[i]-tt.want[i])) < 1e-5) {
				t.Errorf("%s %+v: element %d is %v, want %v", tt.norm, tt.sel, i, u[i], tt.want[i])
			}
		}
	}
	if err := l.Scale("sideways", objective.Selection{}, w, make([]float32, 8)); !errors.Is(err, objective.ErrModel) {
		t.Errorf("unknown norm: %v", err)
	}
}

func TestValuesSurviveJSON(t *testing.T) {
	for _, v := range []objective.Value{{Loss: 0.1, Accuracy: 1}, {Loss: math.Inf(1), Accuracy: math.NaN()}} {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var got objective.Value
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if math.IsInf(v.Loss, 0) != math.IsNaN(got.Loss) || math.IsNaN(v.Accuracy) != math.IsNaN(got.Accuracy) {
			t.Errorf("%v became %v", v, got)
		}
		if !math.IsInf(v.Loss, 0) && got != v {
			t.Errorf("%v became %v", v, got)
		}
	}
}
