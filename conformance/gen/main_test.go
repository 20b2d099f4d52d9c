package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/openpith/evidence/conformance"
)

// TestCasesAreReproduced: the cases in the repository are those of this
// generator, byte for byte, and no others.
func TestCasesAreReproduced(t *testing.T) {
	want := map[string][]byte{}
	cases := allCases()
	for _, c := range cases {
		for name, data := range c.files() {
			want[filepath.Join(c.name, name)] = data
		}
	}
	if len(cases) != conformance.Count {
		t.Errorf("%d cases, conformance.Count says %d", len(cases), conformance.Count)
	}
	dir := filepath.Join("..", "cases")
	seen := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		seen++
		if !bytes.Equal(want[name], data) {
			t.Errorf("%s differs from what go run ./conformance/gen writes", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen != len(want) {
		t.Errorf("%d files, want %d", seen, len(want))
	}
}

// TestTorsion: the arithmetic of the generator is that of the curve.
func TestTorsion(t *testing.T) {
	if !base.times(groupSize).equal(identity) {
		t.Error("L times the base point is not the identity")
	}
	p := torsion()
	for n, want := range []bool{false, false, false, true} { // 1, 2, 4 and 8 times
		if got := p.equal(identity); got != want {
			t.Errorf("2^%d times the point of order 8: identity is %v", n, got)
		}
		p = p.plus(p)
	}
}
