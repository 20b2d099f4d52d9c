package train

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"

	"github.com/openpith/evidence/internal/atomicfile"
)

// A checkpoint is a safetensors file (https://github.com/huggingface/safetensors),
// so that other tools can read the weights:
//
//	8 bytes   length of the header, little-endian
//	header    JSON: tensor name -> {dtype, shape, data_offsets}, and __metadata__
//	data      the tensors, without gaps, in the order of the store
//
// __metadata__ holds "format"; "run", a hash of what decides the run;
// "state", the counters and the history as JSON; and "sha256" of the whole
// file with these 64 digits set to zero. The tensors are all variables of the
// store: weights, statistics, momentum, random state, step counters.

const (
	checkpointFormat = "evidence-checkpoint-1"
	digestMark       = `"sha256":"` // occurs once: inside strings, quotes are escaped
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

// entry is one tensor in the header.
type entry struct {
	DType   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// saved is what "state" holds.
type saved struct {
	state
	Frozen []string `json:"frozen"` // variables that are not trained
}

// fingerprint hashes what decides the course of the run.
func (r *run) fingerprint() (string, error) {
	b, err := json.Marshal(struct {
		Recipe    Recipe     `json:"recipe"`
		Identity  string     `json:"identity"`
		Variables []variable `json:"variables"`
		Samples   int        `json:"samples"`
		Shape     []int      `json:"shape"`
	}{r.recipe, r.opts.Identity, r.model.variables, r.data.Train.Len(), r.model.shape})
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), err
}

// save writes the checkpoint, if one is kept. It must be called between two
// optimizer steps: within one, gradients are half accumulated.
func (r *run) save() error {
	if r.opts.Checkpoint == "" {
		return nil
	}
	mark, err := r.fingerprint()
	if err != nil {
		return err
	}
	content, err := encodeCheckpoint(r.model.store, r.state, mark)
	if err != nil {
		return &CheckpointError{r.opts.Checkpoint, err}
	}
	return atomicfile.Write(r.opts.Checkpoint, content, 0o644)
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
	s, err := decodeCheckpoint(content, mark, r.model.store)
	if err == nil && (s.Epoch < 0 || s.Epoch > r.recipe.Epochs || s.Step < 0 || s.Step > r.steps || len(s.History) != s.Epoch) {
		err = fmt.Errorf("%w: epoch %d, step %d with a history of %d epochs", ErrCheckpointDamaged, s.Epoch, s.Step, len(s.History))
	}
	if err != nil {
		return &CheckpointError{path, err}
	}
	r.state = s
	return nil
}

func encodeCheckpoint(store *model.Store, s state, run string) ([]byte, error) {
	header := map[string]any{}
	var data bytes.Buffer
	extra := saved{state: s}
	for v := range store.IterVariables() {
		if !v.HasValue() {
			continue // declared, and not used yet
		}
		value, err := v.Value()
		if err != nil {
			return nil, err
		}
		name, ok := safetensorsName[v.DType()]
		if !ok {
			return nil, fmt.Errorf("variable %s: no way to save %s", v.Path(), v.DType())
		}
		begin := int64(data.Len())
		if err := value.ConstBytes(func(b []byte) { data.Write(b) }); err != nil {
			return nil, err
		}
		dims := append([]int{}, v.Shape().Dimensions...) // [] rather than null for scalars
		header[v.Path()] = entry{name, dims, [2]int64{begin, int64(data.Len())}}
		if !v.Trainable {
			extra.Frozen = append(extra.Frozen, v.Path())
		}
	}
	text, err := json.Marshal(extra)
	if err != nil {
		return nil, err
	}
	header["__metadata__"] = map[string]string{
		"format": checkpointFormat, "run": run, "sha256": noDigest, "state": string(text),
	}
	h, err := json.Marshal(header)
	if err != nil {
		return nil, err
	}
	for len(h)%8 != 0 {
		h = append(h, ' ') // so that the data is aligned
	}
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(h)))
	file = append(append(file, h...), data.Bytes()...)
	sum := sha256.Sum256(file)
	hex.Encode(file[bytes.Index(file, []byte(digestMark))+len(digestMark):], sum[:])
	return file, nil
}

// decodeCheckpoint checks everything before it puts anything into the store.
func decodeCheckpoint(file []byte, run string, store *model.Store) (state, error) {
	damaged := func(format string, args ...any) (state, error) {
		return state{}, fmt.Errorf("%w: %s", ErrCheckpointDamaged, fmt.Sprintf(format, args...))
	}
	if len(file) < 8 {
		return damaged("%d bytes are too few", len(file))
	}
	size := binary.LittleEndian.Uint64(file)
	if size > uint64(len(file)-8) {
		return damaged("the file ends before its header does")
	}
	head, data := file[8:8+size], file[8+size:]
	at := bytes.Index(head, []byte(digestMark)) + len(digestMark)
	if at < len(digestMark) || at+len(noDigest) > len(head) {
		return damaged("no checksum")
	}
	claimed := string(head[at : at+len(noDigest)])
	h := sha256.New()
	h.Write(file[:8+at])
	h.Write([]byte(noDigest))
	h.Write(file[8+at+len(noDigest):])
	if sum := hex.EncodeToString(h.Sum(nil)); sum != claimed {
		return damaged("SHA-256 is %s, want %s", sum, claimed)
	}

	// From here on the bytes are those that some version of this program wrote.
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(head, &raw); err != nil {
		return damaged("header: %v", err)
	}
	var meta map[string]string
	if err := json.Unmarshal(raw["__metadata__"], &meta); err != nil || meta["format"] != checkpointFormat {
		return damaged("format %q: want %q", meta["format"], checkpointFormat)
	}
	if meta["run"] != run {
		return state{}, fmt.Errorf("%w: its recipe, model, data or identity differ (%.12s, this run is %.12s)", ErrCheckpointForeign, meta["run"], run)
	}
	var s saved
	if err := json.Unmarshal([]byte(meta["state"]), &s); err != nil {
		return damaged("state: %v", err)
	}
	delete(raw, "__metadata__")
	paths := make([]string, 0, len(raw))
	entries := make(map[string]entry, len(raw))
	for path, text := range raw {
		var e entry
		if err := json.Unmarshal(text, &e); err != nil {
			return damaged("tensor %s: %v", path, err)
		}
		paths = append(paths, path)
		entries[path] = e
	}
	// Offsets give the order of the store, in which gradients are summed for
	// their norm: another order would round differently.
	sort.Slice(paths, func(i, j int) bool {
		a, b := entries[paths[i]], entries[paths[j]]
		if a.Offsets != b.Offsets {
			return a.Offsets[0] < b.Offsets[0] || a.Offsets[0] == b.Offsets[0] && a.Offsets[1] < b.Offsets[1]
		}
		return paths[i] < paths[j]
	})
	values := make([]*tensors.Tensor, len(paths))
	end := int64(0)
	for i, path := range paths {
		e := entries[path]
		shape, err := e.shape()
		if err != nil {
			return damaged("tensor %s: %v", path, err)
		}
		if e.Offsets[0] != end || e.Offsets[1] > int64(len(data)) || e.Offsets[1]-e.Offsets[0] != int64(shape.ByteSize()) {
			return damaged("tensor %s: bytes %d to %d do not fit %s", path, e.Offsets[0], e.Offsets[1], shape)
		}
		end = e.Offsets[1]
		values[i] = tensors.FromShape(shape)
		if err := values[i].MutableBytes(func(b []byte) { copy(b, data[e.Offsets[0]:e.Offsets[1]]) }); err != nil {
			return state{}, err
		}
	}
	if end != int64(len(data)) {
		return damaged("%d bytes after the last tensor", int64(len(data))-end)
	}
	frozen := map[string]bool{}
	for _, path := range s.Frozen {
		frozen[path] = true
	}
	for i, path := range paths {
		v := store.GetVariable(path)
		if v == nil {
			v = store.VariableWithValue(path, values[i])
		} else if err := v.SetValue(values[i]); err != nil {
			return state{}, err
		}
		v.SetTrainable(!frozen[path])
	}
	return s.state, nil
}

// shape of the tensor, refusing sizes that no memory holds.
func (e entry) shape() (shapes.Shape, error) {
	var dtype dtypes.DType
	for d, name := range safetensorsName {
		if name == e.DType {
			dtype = d
		}
	}
	if dtype == dtypes.InvalidDType {
		return shapes.Shape{}, fmt.Errorf("unknown type %q", e.DType)
	}
	room := e.Offsets[1] - e.Offsets[0]
	for _, d := range e.Shape {
		if d < 0 || d > 0 && room/int64(d) == 0 {
			return shapes.Shape{}, fmt.Errorf("shape %v does not fit %d bytes", e.Shape, e.Offsets[1]-e.Offsets[0])
		}
		if d > 0 {
			room /= int64(d)
		}
	}
	return shapes.Make(dtype, e.Shape...), nil
}

var safetensorsName = map[dtypes.DType]string{
	dtypes.Float64: "F64", dtypes.Float32: "F32", dtypes.Float16: "F16", dtypes.BFloat16: "BF16",
	dtypes.Int64: "I64", dtypes.Int32: "I32", dtypes.Int16: "I16", dtypes.Int8: "I8",
	dtypes.Uint64: "U64", dtypes.Uint32: "U32", dtypes.Uint16: "U16", dtypes.Uint8: "U8",
	dtypes.Bool: "BOOL",
}
