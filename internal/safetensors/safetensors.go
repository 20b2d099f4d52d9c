// Package safetensors reads and writes named tensors in the format of
// https://github.com/huggingface/safetensors, which Python, Rust and others
// read without running code:
//
//	8 bytes   length of the header, little-endian
//	header    JSON: name -> {dtype, shape, data_offsets}, and __metadata__ (text -> text)
//	data      the tensors, row-major, little-endian, without gaps
package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Tensor is a name with numbers. Data is little-endian and row-major.
type Tensor struct {
	Name  string
	DType string // F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, BOOL
	Shape []int  // empty for a scalar
	Data  []byte
}

// ErrFormat reports bytes that are not in the format.
var ErrFormat = errors.New("not a safetensors file")

const metadataName = "__metadata__"

// sizes of the types, in bytes.
var sizes = map[string]int{
	"F64": 8, "F32": 4, "F16": 2, "BF16": 2,
	"I64": 8, "I32": 4, "I16": 2, "I8": 1,
	"U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}

// entry is one tensor in the header.
type entry struct {
	DType   string    `json:"dtype"`
	Shape   []int     `json:"shape"`
	Offsets *[2]int64 `json:"data_offsets"`
}

// Encode writes tensors, in their order, and metadata. It refuses what Decode
// would not read.
func Encode(tensors []Tensor, metadata map[string]string) ([]byte, error) {
	header := make(map[string]any, len(tensors)+1)
	if len(metadata) > 0 {
		header[metadataName] = metadata
	}
	size := int64(0)
	for _, t := range tensors {
		if _, twice := header[t.Name]; twice || t.Name == metadataName {
			return nil, fmt.Errorf("tensor %q: the name is taken", t.Name)
		}
		if err := t.check(); err != nil {
			return nil, err
		}
		end := size + int64(len(t.Data))
		header[t.Name] = entry{t.DType, append([]int{}, t.Shape...), &[2]int64{size, end}} // [] rather than null for scalars
		size = end
	}
	h, err := json.Marshal(header)
	if err != nil {
		return nil, err
	}
	for len(h)%8 != 0 {
		h = append(h, ' ') // so that the data is aligned
	}
	file := make([]byte, 0, 8+len(h)+int(size))
	file = binary.LittleEndian.AppendUint64(file, uint64(len(h)))
	file = append(file, h...)
	for _, t := range tensors {
		file = append(file, t.Data...)
	}
	return file, nil
}

// Decode returns the tensors in the order of their data, which stays part of
// file, and the metadata. What it returns is consistent: every tensor has as
// many bytes as its shape says, and together they are the data. It never
// reserves more memory than file justifies. Errors are [ErrFormat].
func Decode(file []byte) (tensors []Tensor, metadata map[string]string, err error) {
	fail := func(format string, args ...any) ([]Tensor, map[string]string, error) {
		return nil, nil, fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
	}
	head, data, err := Split(file)
	if err != nil {
		return nil, nil, err
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(head, &raw); err != nil {
		return fail("header: %v", err)
	}
	if text, ok := raw[metadataName]; ok {
		if err := json.Unmarshal(text, &metadata); err != nil {
			return fail("metadata: %v", err)
		}
		delete(raw, metadataName)
	}
	offsets := make(map[string][2]int64, len(raw))
	for name, text := range raw {
		var e entry
		if err := json.Unmarshal(text, &e); err != nil {
			return fail("tensor %q: %v", name, err)
		}
		if e.Offsets == nil || e.Offsets[0] < 0 || e.Offsets[1] < e.Offsets[0] || e.Offsets[1] > int64(len(data)) {
			return fail("tensor %q: offsets outside the %d bytes of data", name, len(data))
		}
		t := Tensor{name, e.DType, e.Shape, data[e.Offsets[0]:e.Offsets[1]:e.Offsets[1]]}
		if err := t.check(); err != nil {
			return fail("%v", err)
		}
		offsets[name] = *e.Offsets
		tensors = append(tensors, t)
	}
	slices.SortFunc(tensors, func(a, b Tensor) int {
		x, y := offsets[a.Name], offsets[b.Name]
		if c := slices.Compare(x[:], y[:]); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name) // tensors without elements
	})
	end := int64(0)
	for _, t := range tensors {
		if offsets[t.Name][0] != end {
			return fail("tensor %q begins at byte %d of the data, want %d", t.Name, offsets[t.Name][0], end)
		}
		end = offsets[t.Name][1]
	}
	if end != int64(len(data)) {
		return fail("%d bytes after the last tensor", int64(len(data))-end)
	}
	return tensors, metadata, nil
}

// Split divides a file into header and data without reading either.
func Split(file []byte) (header, data []byte, err error) {
	if len(file) < 8 {
		return nil, nil, fmt.Errorf("%w: %d bytes are too few", ErrFormat, len(file))
	}
	size := binary.LittleEndian.Uint64(file)
	if size > uint64(len(file)-8) {
		return nil, nil, fmt.Errorf("%w: it ends before its header does", ErrFormat)
	}
	header, data = file[8:8+size], file[8+size:]
	if !bytes.HasPrefix(bytes.TrimLeft(header, " "), []byte("{")) {
		return nil, nil, fmt.Errorf("%w: no header", ErrFormat)
	}
	return header, data, nil
}

// check compares the number of bytes with the shape.
func (t Tensor) check() error {
	each, ok := sizes[t.DType]
	if !ok {
		return fmt.Errorf("tensor %q: unknown type %q", t.Name, t.DType)
	}
	// Dividing what is there cannot overflow, multiplying what is claimed can.
	left, empty := len(t.Data)/each, false
	for _, d := range t.Shape {
		if d < 0 {
			return fmt.Errorf("tensor %q: shape %v", t.Name, t.Shape)
		}
		empty = empty || d == 0
	}
	if empty && len(t.Data) == 0 {
		return nil
	}
	for _, d := range t.Shape {
		if d == 0 || left%d != 0 {
			return fmt.Errorf("tensor %q: %d bytes do not fit %s%v", t.Name, len(t.Data), t.DType, t.Shape)
		}
		left /= d
	}
	if left != 1 || len(t.Data)%each != 0 {
		return fmt.Errorf("tensor %q: %d bytes do not fit %s%v", t.Name, len(t.Data), t.DType, t.Shape)
	}
	return nil
}
