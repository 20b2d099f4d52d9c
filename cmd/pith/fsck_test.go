package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestFsckPrintsText: what stands in a damaged database moves no cursor.
func TestFsckPrintsText(t *testing.T) {
	dir := t.TempDir()
	db := "sqlite:" + filepath.Join(dir, "pith.db")
	store, err := openStore(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.SetMeta(t.Context(), "policy/key-document/\x1b[2J", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if out := must(t, 1, dir, "fsck", "--db", db); strings.Contains(out, "\x1b") || !strings.Contains(out, "policy_damaged") {
		t.Errorf("fsck prints %q", out)
	}
}
