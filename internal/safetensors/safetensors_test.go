package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func f32(xs ...float32) []byte {
	var b []byte
	for _, x := range xs {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

func sample() ([]Tensor, map[string]string) {
	return []Tensor{
		{"/z/weights", "F32", []int{2, 3}, f32(1, -2, 3.5, 0, 1e-20, 6)},
		{"/a \"quoted\" ü", "I64", []int{}, binary.LittleEndian.AppendUint64(nil, 1<<60)},
		{"/empty", "F32", []int{0, 7}, []byte{}},
		{"/flags", "BOOL", []int{3}, []byte{1, 0, 1}},
	}, map[string]string{"format": "x", "note": "a \"b\""}
}

func TestRoundTrip(t *testing.T) {
	tensors, metadata := sample()
	file, err := Encode(tensors, metadata)
	if err != nil {
		t.Fatal(err)
	}
	back, meta, err := Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(tensors, back); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(metadata, meta); d != "" {
		t.Error(d)
	}
}

// What Python sees, read with nothing but its standard library and by the
// words of the format's description.
func TestPythonReads(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	tensors, metadata := sample()
	file, err := Encode(tensors, metadata)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(python, "-c", `
import json, struct, sys
f = open(sys.argv[1], "rb").read()
(n,) = struct.unpack("<Q", f[:8])
head = json.loads(f[8:8+n])
data = f[8+n:]
meta = head.pop("__metadata__")
code = {"F32": "f", "I64": "q", "BOOL": "?"}
out = {}
for name, e in head.items():
    b, end = e["data_offsets"]
    count = 1
    for d in e["shape"]: count *= d
    out[name] = [e["shape"], list(struct.unpack("<%d%s" % (count, code[e["dtype"]]), data[b:end]))]
json.dump({"meta": meta, "tensors": out}, sys.stdout)
`, path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	expect := `{"meta": {"format": "x", "note": "a \"b\""}, "tensors": {
		"/z/weights": [[2, 3], [1, -2, 3.5, 0, 9.999999682655225e-21, 6]],
		"/a \"quoted\" ü": [[], [1152921504606846976]], "/empty": [[0, 7], []], "/flags": [[3], [true, false, true]]}}`
	if err := errors.Join(json.Unmarshal(out, &got), json.Unmarshal([]byte(expect), &want)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func raw(header string, data string) []byte {
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), data...)
}

func TestDecodeRefuses(t *testing.T) {
	for name, file := range map[string][]byte{
		"nothing":              {},
		"header too long":      binary.LittleEndian.AppendUint64(nil, 1<<63),
		"no object":            raw(`[]`, ""),
		"not JSON":             raw(`{"a":`, ""),
		"metadata of numbers":  raw(`{"__metadata__":{"a":1}}`, ""),
		"unknown type":         raw(`{"a":{"dtype":"F8","shape":[1],"data_offsets":[0,1]}}`, "x"),
		"no offsets":           raw(`{"a":{"dtype":"U8","shape":[0]}}`, ""),
		"offsets outside":      raw(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, "x"),
		"offsets reversed":     raw(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[1,0]}}`, "x"),
		"offsets negative":     raw(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[-1,-1]}}`, ""),
		"shape too large":      raw(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, ""),
		"overflowing shape":    raw(`{"a":{"dtype":"U8","shape":[9223372036854775807,3],"data_offsets":[0,1]}}`, "x"),
		"negative shape":       raw(`{"a":{"dtype":"U8","shape":[-1,-1],"data_offsets":[0,1]}}`, "x"),
		"gap":                  raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, "xy"),
		"overlap":              raw(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, "xy"),
		"bytes after the last": raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, "xy"),
	} {
		if _, _, err := Decode(file); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	one := Tensor{"a", "U8", []int{1}, []byte{1}}
	for says, tensors := range map[string][]Tensor{
		"taken":        {one, one},
		"is taken":     {{metadataName, "U8", []int{1}, []byte{1}}},
		"unknown type": {{"a", "F8", []int{1}, []byte{1}}},
		"do not fit":   {{"a", "F32", []int{2}, f32(1)}},
	} {
		if _, err := Encode(tensors, nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: want an error that says %q", err, says)
		}
	}
}

// Whatever is read can be written again, and read again as the same.
func FuzzDecode(f *testing.F) {
	tensors, metadata := sample()
	good, _ := Encode(tensors, metadata)
	f.Add(good)
	f.Add(raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, "x"))
	f.Fuzz(func(t *testing.T, file []byte) {
		tensors, metadata, err := Decode(file)
		if err != nil {
			return
		}
		again, err := Encode(tensors, metadata)
		if err != nil {
			t.Fatal(err)
		}
		back, meta, err := Decode(again)
		if err != nil || len(back) != len(tensors) || len(meta) != len(metadata) {
			t.Fatalf("%v", err)
		}
		for i := range back {
			if back[i].Name != tensors[i].Name || !bytes.Equal(back[i].Data, tensors[i].Data) {
				t.Fatalf("tensor %d differs", i)
			}
		}
	})
}
