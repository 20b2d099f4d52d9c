package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/openpith/evidence/pith"
)

// TestMirrorCodes: every code that a mirror or fsck gives is explained, and no other.
func TestMirrorCodes(t *testing.T) {
	given := map[string]bool{}
	named := regexp.MustCompile(`(?:problem\((?:[^,\n]|\([^()]*\))*, |Code: +|Code[A-Z]\w+ += )"([a-z_]+)"|\{"([a-z_]+)", ` + "`SELECT")
	err := filepath.WalkDir("../../resolver", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || d.Name() == "storetest.go" {
			return err
		}
		source, err := os.ReadFile(path)
		for _, found := range named.FindAllStringSubmatch(string(source), -1) {
			given[found[1]+found[2]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range mirrorCodes {
		if _, _, ok := pith.Explain(pith.Code(c.code)); ok || !given[c.code] {
			t.Errorf("%s is explained twice, or given by nobody", c.code)
		}
		delete(given, c.code)
	}
	for code := range given {
		if _, _, ok := pith.Explain(pith.Code(code)); ok {
			continue // it means there what it means here
		}
		t.Errorf("%s is not explained", code)
	}
}
