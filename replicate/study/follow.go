package study

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"

	"github.com/openpith/evidence/internal/stats"
)

// ErrResults reports results that do not follow from plan and runs.
var ErrResults = errors.New("results.json does not follow from plan.json and runs/")

// Follows reports, as ErrResults, where results say something else than plan and
// runs, and returns what this program derives from them. What was recorded must
// be there to the last bit: the runs with their digests, seeds, counts, names,
// and the words of the verdict. Numbers that were computed from the runs may
// differ by 1e-9 of their size (or, next to 0, by 1e-12), since processors
// differ in how they add and multiply. Correlations by batch size, which
// earlier programs did not write, may be missing.
func (r *Results) Follows(p *Plan, runs []Run) (*Results, error) {
	derived, err := p.Judge(runs)
	if err != nil {
		return nil, err
	}
	want := *derived
	if r.ByBatch == nil {
		want.ByBatch = nil
	}
	if at, differ := apart("", reflect.ValueOf(*r), reflect.ValueOf(want), 0); differ {
		return nil, fmt.Errorf("%w: %s", ErrResults, at)
	}
	return derived, nil
}

// apart finds where two values of one type differ. scale is the size of the
// numbers around a number: an interval as wide as its mean is small is as exact
// as the mean.
func apart(path string, a, b reflect.Value, scale float64) (string, bool) {
	where := strings.TrimPrefix(path, ".")
	switch a.Kind() {
	case reflect.Float64:
		x, y := a.Float(), b.Float()
		if !(math.Abs(x-y) <= 1e-12+1e-9*max(math.Abs(x), math.Abs(y), scale)) {
			return fmt.Sprintf("%s is %v there, and %v by the runs", where, x, y), true
		}
	case reflect.Pointer:
		if a.IsNil() != b.IsNil() {
			return where + " is missing on one side", true
		}
		if !a.IsNil() {
			return apart(path, a.Elem(), b.Elem(), scale)
		}
	case reflect.Slice:
		if a.Len() != b.Len() {
			return fmt.Sprintf("%s has %d entries there, and %d by the runs", where, a.Len(), b.Len()), true
		}
		for i := range a.Len() {
			if at, differ := apart(fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i), 0); differ {
				return at, true
			}
		}
	case reflect.Struct:
		switch v := a.Interface().(type) {
		case RunResult: // recorded
			if digest(v) != digest(b.Interface()) {
				return fmt.Sprintf("%s (%s, seed %d) is another run", where, v.Arm, v.Seed), true
			}
			return "", false
		case stats.Summary:
			scale = max(math.Abs(v.Mean), v.SD)
		}
		for i := range a.NumField() {
			name, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("json"), ",")
			if name != "" {
				name = "." + name
			}
			if at, differ := apart(path+name, a.Field(i), b.Field(i), scale); differ {
				return at, true
			}
		}
	default: // strings, counts, seeds, truth values
		if a.Interface() != b.Interface() {
			return fmt.Sprintf("%s is %v there, and %v by the runs", where, a, b), true
		}
	}
	return "", false
}
