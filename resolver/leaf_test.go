package resolver_test

import (
	"testing"

	"github.com/openpith/evidence/resolver"
)

// Logs out there hold these bytes: they never change.
func TestLeaf(t *testing.T) {
	got := string(resolver.Leaf(resolver.Event{Seq: 7, ID: "sha256:34", Suffix: suffix, SHA256: resolver.Digest{0xab}}))
	want := "pith-event/1\nsha256:34\n" + suffix + "\nab00000000000000000000000000000000000000000000000000000000000000\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if string(resolver.Leaf(resolver.Event{ID: "a\nb"})) == string(resolver.Leaf(resolver.Event{ID: "a", Suffix: "b"})) {
		t.Error("an id with a line break looks like another leaf")
	}
}
