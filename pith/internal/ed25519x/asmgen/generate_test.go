package main

import (
	"testing"

	"github.com/openpith/evidence/internal/asmfile"
)

// The committed assembly is what the generator writes.
func TestCommittedFiles(t *testing.T) {
	asmfile.Committed(t, generate, "..", 2)
}
