package tensorboard

import (
	"bytes"
	"encoding/json"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// RFC 3720, B.4: the checksum of 32 zero bytes is 8a9136aa.
func TestChecksum(t *testing.T) {
	if c := crc32.Checksum(make([]byte, 32), castagnoli); c != 0x8a9136aa {
		t.Errorf("CRC-32C %08x", c)
	}
}

// reader reads an event file by the words of the format, with a CRC of its own,
// bit by bit, and a decoder of its own.
const reader = `
import json, struct, sys
def crc32c(data):
    c = 0xffffffff
    for byte in data:
        c ^= byte
        for _ in range(8):
            c = (c >> 1) ^ (0x82f63b78 if c & 1 else 0)
    return c ^ 0xffffffff
def masked(data):
    c = crc32c(data)
    return (((c >> 15) | (c << 17)) + 0xa282ead8) & 0xffffffff
def varint(b, i):
    x = s = 0
    while True:
        x |= (b[i] & 127) << s
        s += 7
        i += 1
        if not b[i-1] & 128: return x, i
def fields(b):
    i = 0
    while i < len(b):
        key, i = varint(b, i)
        n, wire = key >> 3, key & 7
        if wire == 0: v, i = varint(b, i)
        elif wire == 1: v, i = struct.unpack("<d", b[i:i+8])[0], i+8
        elif wire == 5: v, i = struct.unpack("<f", b[i:i+4])[0], i+4
        elif wire == 2:
            l, i = varint(b, i)
            v, i = b[i:i+l], i+l
        else: raise ValueError(wire)
        yield n, v
f = open(sys.argv[1], "rb").read()
i, out = 0, []
while i < len(f):
    (n,) = struct.unpack("<Q", f[i:i+8])
    assert struct.unpack("<I", f[i+8:i+12])[0] == masked(f[i:i+8]), "length"
    event = f[i+12:i+12+n]
    assert struct.unpack("<I", f[i+12+n:i+16+n])[0] == masked(event), "event"
    i += 16 + n
    e = {}
    for k, v in fields(event):
        if k == 1: e["time"] = v
        elif k == 2: e["step"] = v
        elif k == 3: e["version"] = v.decode()
        elif k == 5:
            for k, v in fields(v):
                assert k == 1
                value = dict(fields(v))
                e.setdefault("values", {})[value[1].decode()] = value[2]
        else: raise ValueError(k)
    out.append(e)
json.dump(out, sys.stdout)
`

func TestPythonReads(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	var b bytes.Buffer
	now := time.Unix(1700000000, 5e8)
	w, err := NewWriter(&b, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Scalars(now, 300, map[string]float64{"loss/noisy": 0.5, "loss/clean": -2.25}); err != nil {
		t.Fatal(err)
	}
	if err := w.Scalars(now.Add(time.Second), 1<<40, map[string]float64{"learning rate": 0.125}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), FileName(now, "here"))
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(python, "-c", reader, path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := []any{
		map[string]any{"time": 1700000000.5, "version": "brain.Event:2"},
		map[string]any{"time": 1700000000.5, "step": 300.0, "values": map[string]any{"loss/noisy": 0.5, "loss/clean": -2.25}},
		map[string]any{"time": 1700000001.5, "step": float64(1 << 40), "values": map[string]any{"learning rate": 0.125}},
	}
	if d := cmp.Diff(any(want), got); d != "" {
		t.Error(d)
	}
}
