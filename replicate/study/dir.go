package study

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/openpith/evidence/internal/atomicfile"
	"github.com/openpith/evidence/pith"
)

// Errors of a study's directory.
var (
	ErrNoStudy    = errors.New("no study here")        // there is no plan.json
	ErrOtherStudy = errors.New("another study's home") // plan.json is not the plan asked for
)

// Dir is the directory of one study. Every file in it is written atomically,
// so it can be read, and the study continued, at any time.
type Dir string

// Path is the place of a file of the study, such as "bundle.json".
func (d Dir) Path(name string) string { return filepath.Join(string(d), filepath.FromSlash(name)) }

// RunName is the file of one run, relative to the directory.
func RunName(arm string, seed int64) string { return fmt.Sprintf("runs/%s-seed%d.json", arm, seed) }

// WorkName is the folder in which runs are trained, each in a directory of
// package experiment below it.
const WorkName = "work"

// LandscapeFolder is where a study keeps the files of smoothout landscape that
// its page shows. The record names those that lie there when it is signed.
const LandscapeFolder = "landscapes"

// Landscapes are the paths of these files, in the order of their names.
func (d Dir) Landscapes() ([]string, error) {
	return filepath.Glob(d.Path(LandscapeFolder + "/*.jsonl"))
}

// Signed reports whether the study has its bundle, which is written last.
// Whatever goes by that name counts: a signed record is never replaced.
func (d Dir) Signed() (bool, error) {
	_, err := os.Lstat(d.Path("bundle.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Create makes the directory ready for plan p. An existing study of the same
// plan is left as it is, to be continued; one of another plan is refused with
// [ErrOtherStudy], and so is a directory that holds something else.
func (d Dir) Create(p *Plan) error {
	old, err := d.Plan()
	switch {
	case err == nil && old.SHA256() == p.SHA256():
		return d.makeFolders()
	case err == nil:
		return fmt.Errorf("%s: %w: its plan is %q (%.12s…)", d, ErrOtherStudy, old.Name, old.SHA256())
	case !errors.Is(err, ErrNoStudy):
		return err
	}
	entries, err := os.ReadDir(string(d))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if !d.ours(e.Name()) {
			return fmt.Errorf("%s: %w: it holds %s but no plan.json", d, ErrOtherStudy, e.Name())
		}
	}
	if err := d.makeFolders(); err != nil {
		return err
	}
	return d.Write("plan.json", p.JSON())
}

// ours tells what may be there before plan.json: what a start that was
// interrupted can have left, and landscapes of the runs to be taken over.
func (d Dir) ours(name string) bool {
	switch {
	case name == lockName, name == LandscapeFolder, strings.HasSuffix(name, ".tmp"):
		return true
	case name == "runs":
		entries, err := os.ReadDir(d.Path(name))
		return err == nil && len(entries) == 0
	}
	return false
}

// Sweep removes what writes that were killed left behind. Only the process that
// holds the lock may call it.
func (d Dir) Sweep() {
	for _, sub := range []string{"", "runs"} {
		torn, _ := filepath.Glob(d.Path(sub + "/.*.tmp")) // the pattern is a good one
		for _, path := range torn {
			_ = os.Remove(path) // it does no harm if it stays
		}
	}
}

// lockName is the file whose lock says that a process works on the study.
const lockName = ".lock"

// LockPath is where that lock lies.
func (d Dir) LockPath() string { return d.Path(lockName) }

func (d Dir) makeFolders() error { return os.MkdirAll(d.Path("runs"), 0o755) }

// Write puts a file of the study in place, atomically.
func (d Dir) Write(name string, data []byte) error {
	return atomicfile.Write(d.Path(name), data, 0o644)
}

// Plan reads plan.json. Without one the error is [ErrNoStudy].
func (d Dir) Plan() (*Plan, error) {
	data, err := d.Read("plan.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", d, ErrNoStudy)
	}
	if err != nil {
		return nil, err
	}
	p, err := ParsePlan(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Path("plan.json"), err)
	}
	return p, nil
}

// Begun is when plan.json was written, by the clock of the file system.
func (d Dir) Begun() (time.Time, error) {
	info, err := os.Stat(d.Path("plan.json"))
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// WriteRun keeps a finished or failed run of plan p.
func (d Dir) WriteRun(p *Plan, r Run, t Timing, c []Code) error {
	if err := r.check(p); err != nil {
		return err
	}
	f := RunFile{Schema: RunSchema, Run: r, Timing: t, Code: c, SHA256: digest(r)}
	return d.Write(RunName(r.Arm, r.Seed), indented(f))
}

// ReadRun reads one run of plan p. A run that was not made yet is
// [fs.ErrNotExist]; one that is torn, altered or foreign is [ErrRunFile].
func (d Dir) ReadRun(p *Plan, arm string, seed int64) (*RunFile, error) {
	path := d.Path(RunName(arm, seed))
	data, err := d.Read(RunName(arm, seed))
	if err != nil {
		return nil, err
	}
	var f RunFile
	if err := decodeStrict(data, &f); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrRunFile, err)
	}
	if err := f.check(p, arm, seed); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &f, nil
}

// Runs reads every run of the plan that is there, in the plan's order.
func (d Dir) Runs(p *Plan) ([]RunFile, error) {
	var out []RunFile
	for _, a := range p.Arms {
		for _, s := range p.Seeds() {
			f, err := d.ReadRun(p, a.Name, s)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			out = append(out, *f)
		}
	}
	return out, nil
}

// Results reads results.json.
func (d Dir) Results() (*Results, error) {
	data, err := d.Read("results.json")
	if err != nil {
		return nil, err
	}
	var r Results
	if err := decodeStrict(data, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", d.Path("results.json"), err)
	}
	return &r, nil
}

// maxFile bounds what is read into memory: a study of thousands of runs stays
// far below it.
const maxFile = 64 << 20

// Read returns a file of the study, and refuses one that is too large to be.
func (d Dir) Read(name string) ([]byte, error) {
	path := d.Path(name)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d MiB, which no file of a study is", path, maxFile>>20)
	}
	return data, nil
}

// decodeStrict reads one JSON value into v and insists that the file says
// exactly what v then holds. encoding/json alone would take "Outcome" for
// "outcome", keep the last of two, and leave out what is missing: then a digest
// of v would not be one of what other readers see in the file.
func decodeStrict(data []byte, v any) error {
	// This reader refuses repeated names and whatever else two honest readers
	// could see differently.
	if _, err := pith.Canonical(data); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return fmt.Errorf("%s: a %s stands where %s belongs", wrong.Field, wrong.Value, wrong.Type)
		}
		return err
	}
	var file, held any
	if err := errors.Join(json.Unmarshal(data, &file), json.Unmarshal(indented(v), &held)); err != nil {
		return err
	}
	if path, differ := firstDifference("", file, held); differ {
		return fmt.Errorf("%s is missing, written twice, or not spelled as it should be", strings.TrimPrefix(path, "."))
	}
	return nil
}

// firstDifference finds where two JSON values differ, as a path like
// ".training.batch".
func firstDifference(path string, a, b any) (string, bool) {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok {
			return path, true
		}
		for _, name := range slices.Sorted(maps.Keys(a)) {
			if _, ok := b[name]; !ok {
				return path + "." + name, true
			}
			if at, differ := firstDifference(path+"."+name, a[name], b[name]); differ {
				return at, true
			}
		}
		for _, name := range slices.Sorted(maps.Keys(b)) {
			if _, ok := a[name]; !ok {
				return path + "." + name, true
			}
		}
		return "", false
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return path, true
		}
		for i := range a {
			if at, differ := firstDifference(fmt.Sprintf("%s[%d]", path, i), a[i], b[i]); differ {
				return at, true
			}
		}
		return "", false
	}
	return path, a != b
}
