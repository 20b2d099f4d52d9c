package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpith/evidence/conformance"
)

// TestMutants compares a sample; the whole run is a command.
func TestMutants(t *testing.T) {
	if _, err := conformance.Python(); err != nil {
		t.Skip(err)
	}
	n := 1500
	if testing.Short() {
		n = 200
	}
	sum, err := compare(filepath.Join("..", "oracle.py"), 2, n, 2)
	if err != nil {
		t.Fatal(err)
	}
	if sum.verdicts+sum.forged > 0 {
		t.Error(sum)
	}
	accepted := 0
	for kind, count := range sum.byKind {
		if strings.HasPrefix(kind, "resigned") && (strings.HasSuffix(kind, ": untrusted") || strings.HasSuffix(kind, ": valid")) {
			accepted += count
		}
	}
	if accepted < n/50 {
		t.Errorf("only %d resigned mutants were accepted: the comparison hardly gets past the signatures", accepted)
	}
}

// TestDisagreement: an oracle that refuses everything makes every mutant that
// pith accepts an unsafe one.
func TestDisagreement(t *testing.T) {
	if _, err := conformance.Python(); err != nil {
		t.Skip(err)
	}
	grim := filepath.Join(t.TempDir(), "grim.py")
	if err := os.WriteFile(grim, []byte("import sys\nfor line in sys.stdin:\n    print('rejected state', flush=True)\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sum, err := compare(grim, 2, 100, 1)
	if err != nil {
		t.Fatal(err)
	}
	if sum.unsafe == 0 || sum.verdicts < sum.unsafe || len(sum.examples) == 0 {
		t.Errorf("nothing was noticed: %v", sum)
	}
}
