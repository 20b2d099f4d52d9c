package resolver

import (
	"slices"
	"testing"
	"time"
)

// TestDiffering: of a row that is wrong the wrong member is shown alone, in whatever
// zone its times are.
func TestDiffering(t *testing.T) {
	at := time.Date(2026, 11, 27, 2, 0, 0, 0, time.UTC)
	got := Record{Title: "a", Abstract: "long", BuiltAt: at.In(time.FixedZone("", 3600))}
	want := Record{Title: "b", Abstract: "long", BuiltAt: at}
	if d := differing(got, want); !slices.Equal(d, []string{`Title: the row says "a", the bundle "b"`}) {
		t.Errorf("they differ in %q", d)
	}
}
