// Package atomicfile writes files that are either wholly there or not there
// at all: a crash, a full disk or a second writer never leaves half a file.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Write replaces the file at path with data. The bytes reach a temporary file
// in the same directory, are flushed to disk, and only then take the name:
// readers see the old content or the new, never a mixture.
//
// The file gets exactly perm, whatever the umask and whatever stood there
// before: a key must not inherit the mode of the file it replaces.
func Write(path string, data []byte, perm fs.FileMode) error {
	return place(path, bytesOf(data), perm, os.Rename)
}

// WriteFrom is Write for content that is too large to hold: fill writes it. If
// fill fails, so does WriteFrom, with its error, and nothing changes.
func WriteFrom(path string, perm fs.FileMode, fill func(io.Writer) error) error {
	return place(path, fill, perm, os.Rename)
}

// bytesOf writes what is there already.
func bytesOf(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// Create is Write for a file that must not be there yet: if it is, the error is
// [fs.ErrExist] and nothing changes. Of several callers at once one succeeds.
func Create(path string, data []byte, perm fs.FileMode) error {
	return place(path, bytesOf(data), perm, takeFree)
}

// link is a variable for tests.
var link = os.Link

// takeFree gives a temporary file a name that nothing has yet.
func takeFree(temporary, path string) error {
	// Unlike a rename, a hard link never replaces what stands there.
	err := link(temporary, path)
	if err == nil {
		return os.Remove(temporary)
	}
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Some file systems, like those of memory sticks, have no hard links. There an
	// empty file takes the name, which fails where it is taken, and the rename
	// replaces that file alone. A power cut in between leaves the name empty.
	claim, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(claim.Close(), os.Rename(temporary, path)); err != nil {
		os.Remove(path)
		return err
	}
	return nil
}

// place writes a temporary file and lets take give it its name.
func place(path string, fill func(io.Writer) error, perm fs.FileMode, take func(temporary, path string) error) (err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return through(path, fill)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, cause(err))
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, cause(err))
		}
	}()
	// CreateTemp opens with 0600, so a secret is never readable by others,
	// not even for the moment before this call.
	if err = f.Chmod(perm); err != nil {
		return err
	}
	if err = fill(f); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = take(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// MkdirAll is [os.MkdirAll] for directories that a power cut must not take away: each
// that it makes is on the disk when it returns.
func MkdirAll(path string, perm fs.FileMode) error {
	err, parent := os.Mkdir(path, perm), filepath.Dir(path)
	if errors.Is(err, fs.ErrNotExist) && parent != path {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
		err = os.Mkdir(path, perm) // an empty path, or one through ".." of what is not there, fails again
	}
	if err == nil {
		return syncDir(parent)
	}
	if info, failed := os.Stat(path); failed == nil && info.IsDir() {
		return nil // it is there
	}
	return err
}

// through writes into a device or a pipe: it is no content to be replaced, and a
// rename would put a file in its place.
func through(path string, fill func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		err = errors.Join(fill(f), f.Close())
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, cause(err))
	}
	return nil
}

// syncDir makes a new name in a directory itself durable: without it a power cut may
// bring back the old directory entry although the data is on disk. It is a variable
// for tests.
var syncDir = func(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be flushed there, and renames are journalled
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// cause drops the name of the temporary file from an error: people know the
// path they asked for, not the one we invented.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	var l *os.LinkError
	if errors.As(err, &l) {
		return l.Err
	}
	return err
}
