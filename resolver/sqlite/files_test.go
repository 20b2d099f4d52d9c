package sqlite

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFilesAreTheOwners: nobody else reads the database or a backup, and a backup
// has its name only when it is whole.
func TestFilesAreTheOwners(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	path, backup := filepath.Join(dir, "pith.db"), filepath.Join(dir, "backup.db")
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.SetMeta(t.Context(), "a", []byte("b")); err != nil {
		t.Fatal(err)
	}
	// What an attempt left that was killed.
	if err := os.WriteFile(backup+".part", []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, path: 0o600, path + "-wal": 0o600, backup: 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v %v, want %v", name, info.Mode(), err, want)
		}
	}
	if _, err := os.Stat(backup + ".part"); !os.IsNotExist(err) {
		t.Errorf("the part is there: %v", err)
	}
	copied, err := Open(t.Context(), backup)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if v, err := copied.Meta(t.Context(), "a"); err != nil || string(v) != "b" {
		t.Errorf("the backup holds %q, %v", v, err)
	}
}
