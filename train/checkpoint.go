package train

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/gomlx/gomlx/ml/model"

	"github.com/openpith/evidence/internal/atomicfile"
	"github.com/openpith/evidence/internal/safetensors"
)

// A checkpoint is a safetensors file, so that other tools can read the weights.
// Its tensors are all variables of the store (weights, statistics, momentum,
// random state, step counters), in the order of the store; then, under names
// that begin with "best:", those of the best epoch, where the recipe asks for
// them. The metadata holds "format"; "run", a hash of what decides the run;
// "state", the counters and the history as JSON; and "sha256" of the whole file
// with these 64 digits set to zero.

const (
	checkpointFormat = "evidence-checkpoint-1"
	digestMark       = `"sha256":"` // occurs once: inside strings, quotes are escaped
	bestPrefix       = "best:"
	noDigest         = "0000000000000000000000000000000000000000000000000000000000000000"
)

var (
	// ErrCheckpointDamaged reports a checkpoint whose bytes are not those that
	// were written.
	ErrCheckpointDamaged = errors.New("checkpoint is damaged")
	// ErrCheckpointForeign reports the checkpoint of another run: another
	// recipe, model, identity or training set.
	ErrCheckpointForeign = errors.New("checkpoint belongs to another run")
)

// A CheckpointError names the file that could not be continued from. Nothing
// was changed: move the file away to start the run from the beginning.
type CheckpointError struct {
	Path string
	Err  error // wraps ErrCheckpointDamaged, ErrCheckpointForeign or an I/O error
}

func (e *CheckpointError) Error() string {
	return fmt.Sprintf("%s: %v; to start over, move the file away", e.Path, e.Err)
}

func (e *CheckpointError) Unwrap() error { return e.Err }

// saved is what "state" holds.
type saved struct {
	state
	Frozen []string `json:"frozen"` // variables that are not trained
}

// fingerprint hashes what decides the course of the run.
func (r *run) fingerprint() (string, error) {
	init := ""
	if r.opts.Init != nil {
		sum := sha256.Sum256(r.opts.Init)
		init = hex.EncodeToString(sum[:])
	}
	b, err := json.Marshal(struct {
		Init      string     `json:"init,omitempty"`
		Recipe    Recipe     `json:"recipe"`
		Identity  string     `json:"identity"`
		Variables []variable `json:"variables"`
		Samples   int        `json:"samples"`
		Shape     []int      `json:"shape"`
	}{init, r.recipe, r.opts.Identity, r.model.variables, r.data.Train.Len(), r.model.shape})
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), err
}

// save writes the checkpoint, if one is kept. It must be called between two
// optimizer steps: within one, gradients are half accumulated. Weights that are
// no longer finite do not replace good ones.
func (r *run) save() error {
	if r.opts.Checkpoint == "" {
		return nil
	}
	if err := r.finiteWeights(); err != nil {
		return err
	}
	mark, err := r.fingerprint()
	if err != nil {
		return err
	}
	content, err := encodeCheckpoint(r.model.store, r.best, r.state, mark)
	if err != nil {
		return &CheckpointError{r.opts.Checkpoint, err}
	}
	if err := atomicfile.Write(r.opts.Checkpoint, content, 0o644); err != nil {
		return err
	}
	r.saved, r.savedStep = time.Now(), r.done()
	return nil
}

// saveIfDue is called after each step.
func (r *run) saveIfDue() error {
	steps, interval := r.opts.SaveSteps, r.opts.SaveInterval
	if steps > 0 && r.done()-r.savedStep >= steps || interval > 0 && time.Since(r.saved) >= interval {
		return r.save()
	}
	return nil
}

// resume continues from the checkpoint, if there is one.
func (r *run) resume() error {
	path := r.opts.Checkpoint
	if path == "" {
		return nil
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &CheckpointError{path, err}
	}
	mark, err := r.fingerprint()
	if err != nil {
		return err
	}
	s, best, err := decodeCheckpoint(content, mark, r.model.store)
	if err == nil && (s.Epoch < 0 || s.Epoch > r.recipe.Epochs || s.Step < 0 || s.Step > r.steps || len(s.History) != s.Epoch) {
		err = fmt.Errorf("%w: epoch %d, step %d with a history of %d epochs", ErrCheckpointDamaged, s.Epoch, s.Step, len(s.History))
	}
	if err != nil {
		return &CheckpointError{path, err}
	}
	r.state, r.best = s, best
	return nil
}

func encodeCheckpoint(store *model.Store, best []safetensors.Tensor, s state, run string) ([]byte, error) {
	extra := saved{state: s}
	var all []safetensors.Tensor
	for v := range store.IterVariables() {
		// Left out are variables that are declared and not used yet, and GoMLX's
		// moving averages of metrics: their names differ in every process, and no
		// step depends on them.
		if !v.HasValue() || strings.HasPrefix(v.Path(), "/metrics/") {
			continue
		}
		t, err := encodeVariable(v)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
		if !v.Trainable {
			extra.Frozen = append(extra.Frozen, v.Path())
		}
	}
	for _, t := range best {
		t.Name = bestPrefix + t.Name
		all = append(all, t)
	}
	text, err := json.Marshal(extra)
	if err != nil {
		return nil, err
	}
	file, err := safetensors.Encode(all, map[string]string{
		"format": checkpointFormat, "run": run, "sha256": noDigest, "state": string(text),
	})
	if err != nil {
		return nil, err
	}
	seal(file)
	return file, nil
}

// seal writes the SHA-256 of a file, with zeros in its place, into its metadata.
func seal(file []byte) {
	sum := sha256.Sum256(file)
	hex.Encode(file[bytes.Index(file, []byte(digestMark))+len(digestMark):], sum[:])
}

// sealed checks what seal wrote; found is false for a file without it.
func sealed(file []byte) (found bool, err error) {
	head, _, err := safetensors.Split(file)
	if err != nil {
		return false, err
	}
	at := bytes.Index(head, []byte(digestMark)) + len(digestMark)
	if at < len(digestMark) || at+len(noDigest) > len(head) {
		return false, nil
	}
	claimed := string(head[at : at+len(noDigest)])
	h := sha256.New()
	h.Write(file[:8+at])
	h.Write([]byte(noDigest))
	h.Write(file[8+at+len(noDigest):])
	if sum := hex.EncodeToString(h.Sum(nil)); sum != claimed {
		return true, fmt.Errorf("SHA-256 is %s, want %s", sum, claimed)
	}
	return true, nil
}

// decodeCheckpoint checks everything before it puts anything into the store.
func decodeCheckpoint(file []byte, run string, store *model.Store) (s state, best []safetensors.Tensor, err error) {
	damaged := func(format string, args ...any) (state, []safetensors.Tensor, error) {
		return state{}, nil, fmt.Errorf("%w: %s", ErrCheckpointDamaged, fmt.Sprintf(format, args...))
	}
	if found, err := sealed(file); err != nil {
		return damaged("%v", err)
	} else if !found {
		return damaged("no checksum")
	}

	// From here on the bytes are those that some version of this program wrote.
	all, meta, err := safetensors.Decode(file)
	if err != nil || meta["format"] != checkpointFormat {
		return damaged("format %q: want %q; %v", meta["format"], checkpointFormat, err)
	}
	if meta["run"] != run {
		return state{}, nil, fmt.Errorf("%w: its recipe, model, data or identity differ (%.12s, this run is %.12s)", ErrCheckpointForeign, meta["run"], run)
	}
	var extra saved
	if err := json.Unmarshal([]byte(meta["state"]), &extra); err != nil {
		return damaged("state: %v", err)
	}
	frozen := map[string]bool{}
	for _, path := range extra.Frozen {
		frozen[path] = true
	}
	// The order of the file is that of the store, in which gradients are summed
	// for their norm: another order would round differently.
	for _, t := range all {
		if name, ok := strings.CutPrefix(t.Name, bestPrefix); ok {
			t.Name = name
			best = append(best, t)
		} else if err := decodeVariable(store, t, !frozen[t.Name]); err != nil {
			return state{}, nil, err
		}
	}
	return extra.state, best, nil
}
