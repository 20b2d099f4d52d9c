package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestWriteReplacesContentAndMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("old and longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != "new" {
		t.Fatalf("content %q, error %v; want \"new\"", got, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode().Perm())
	}
}

func TestCreateHappensOnce(t *testing.T) {
	t.Run("with hard links", createOnce)
	t.Run("without", func(t *testing.T) {
		defer func(f func(string, string) error) { link = f }(link)
		link = func(from, to string) error {
			return &os.LinkError{Op: "link", Old: from, New: to, Err: errors.ErrUnsupported}
		}
		createOnce(t)
	})
}

func createOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	made := make(chan error, 8)
	for i := range cap(made) {
		go func() { made <- Create(path, []byte{byte(i)}, 0o600) }()
	}
	succeeded := 0
	for range cap(made) {
		switch err := <-made; {
		case err == nil:
			succeeded++
		case !errors.Is(err, fs.ErrExist):
			t.Errorf("error %v, want ErrExist", err)
		}
	}
	if succeeded != 1 {
		t.Errorf("%d of %d creations succeeded, want 1", succeeded, cap(made))
	}
	if data, err := os.ReadFile(path); err != nil || len(data) != 1 {
		t.Errorf("content %v, error %v", data, err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestFailedWriteLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(target, "child"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := Write(target, []byte("x"), 0o644) // a non-empty directory cannot be replaced
	if err == nil {
		t.Fatal("replacing a directory did not fail")
	}
	if !strings.Contains(err.Error(), target) || strings.Contains(err.Error(), ".tmp") {
		t.Errorf("error %q should name %s and not the temporary file", err, target)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

// TestDevicesStayDevices: what is no file is written to, not replaced.
func TestDevicesStayDevices(t *testing.T) {
	if _, err := os.Stat(os.DevNull); err != nil {
		t.Skip("no null device")
	}
	for name, write := range map[string]func(string, []byte, fs.FileMode) error{"Write": Write, "Create": Create} {
		if err := write(os.DevNull, []byte("gone"), 0o600); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
			t.Fatalf("%s replaced the null device: %v, %v", name, info, err)
		}
	}
}

// TestMkdirAll: the name of each directory that is made is made durable in the one
// above it, and nothing else is.
func TestMkdirAll(t *testing.T) {
	base := t.TempDir()
	var synced []string
	real := syncDir
	syncDir = func(dir string) error { synced = append(synced, dir); return real(dir) }
	defer func() { syncDir = real }()
	path := filepath.Join(base, "a", "b", "c")
	for range 2 {
		if err := MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{base, filepath.Join(base, "a"), filepath.Join(base, "a", "b")}; !slices.Equal(synced, want) {
		t.Errorf("%q are synced, want %q", synced, want)
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		t.Errorf("%v, %v", info, err)
	}
	file := filepath.Join(base, "file")
	if err := Write(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "x"), "", base + "/nosuch/../x"} {
		if err := MkdirAll(path, 0o755); err == nil {
			t.Errorf("%s is a directory now", path)
		}
	}
}
