package archive

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/openpith/evidence/bench/pith/plain"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
)

var day = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// fixture are 25 bundles of different records, in order.
var fixture = sync.OnceValue(func() []Bundle {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	var list []Bundle
	for i := range 25 {
		data, err := plain.Another(seed.Bundle(), key, i)
		if err != nil {
			panic(err)
		}
		if data, err = pith.Canonical(data); err != nil {
			panic(err)
		}
		number := pith.Verify(data, nil).PithNumber
		list = append(list, Bundle{number[len(number)-26:], data})
	}
	slices.SortFunc(list, func(a, b Bundle) int { return strings.Compare(a.Suffix, b.Suffix) })
	return list
})

// from lists the fixture as a store does.
func from(list []Bundle) func(string) iter.Seq2[Bundle, error] {
	return func(after string) iter.Seq2[Bundle, error] {
		return func(yield func(Bundle, error) bool) {
			for _, b := range list {
				if b.Suffix > after && !yield(b, nil) {
					return
				}
			}
		}
	}
}

func options() Options {
	return Options{CreatedAt: day, Source: "test", Events: 50, PerPack: 10}
}

// written is an archive of three packs in a directory of its own.
func written(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := Write(context.Background(), dir, options(), from(fixture())); err != nil {
		t.Fatal(err)
	}
	return dir
}

// faults verifies and returns what was wrong.
func faults(t testing.TB, dir, head string) []error {
	t.Helper()
	var list []error
	r, err := Verify(context.Background(), dir, head, func(err error) { list = append(list, err) }, nil)
	if err != nil {
		list = append(list, err)
	}
	if r.Faults != len(list) && err == nil {
		t.Errorf("the report counts %d faults of %d", r.Faults, len(list))
	}
	return list
}

func TestWriteThenVerifyThenRead(t *testing.T) {
	dir := written(t)
	var last Report
	r, err := Verify(context.Background(), dir, "", func(err error) { t.Error(err) }, func(r Report) { last = r })
	if err != nil {
		t.Fatal(err)
	}
	if want := (Report{Packs: 3, Bundles: 25, Events: 50}); r != want || last != want {
		t.Errorf("report %+v, progress %+v, want %+v", r, last, want)
	}
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got [][]byte
	for i := range m.Packs {
		for data, err := range m.Pack(context.Background(), Dir(dir), i) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, bytes.Clone(data))
		}
	}
	for i, b := range fixture() {
		if i >= len(got) || !bytes.Equal(got[i], b.Data) {
			t.Fatalf("bundle %d is not what was written", i)
		}
	}
	if f := faults(t, dir, m.Head); len(f) != 0 {
		t.Errorf("with the right head: %v", f)
	}
	if f := faults(t, dir, noPack); len(f) != 1 || !errors.Is(f[0], ErrDamaged) {
		t.Errorf("with another head: %v", f)
	}
}

// TestPacksAreOrdinaryFiles reads a pack with nothing but a Zstandard library.
func TestPacksAreOrdinaryFiles(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(written(t), packName(1)))
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	text, err := z.DecodeAll(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	if len(lines) != 11 || string(lines[0]) != string(fixture()[10].Data)+"\n" {
		t.Errorf("%d lines, want the 10 bundles of the second pack", len(lines)-1)
	}
}

func TestWriteGivesTheSameBytes(t *testing.T) {
	a, b := written(t), written(t)
	for _, name := range []string{ManifestName, packName(0), packName(1), packName(2)} {
		if !bytes.Equal(contents(t, a, name), contents(t, b, name)) {
			t.Errorf("%s differs between two archives of the same bundles", name)
		}
	}
}

func contents(t testing.TB, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestWriteGoesOnAfterInterruption stops at every bundle once.
func TestWriteGoesOnAfterInterruption(t *testing.T) {
	boom := errors.New("power is gone")
	want := written(t)
	for stop := range len(fixture()) {
		dir := t.TempDir()
		broken := func(after string) iter.Seq2[Bundle, error] {
			return func(yield func(Bundle, error) bool) {
				for _, b := range fixture()[:stop] {
					if b.Suffix > after && !yield(b, nil) {
						return
					}
				}
				yield(Bundle{}, boom)
			}
		}
		if _, err := Write(context.Background(), dir, options(), broken); !errors.Is(err, boom) {
			t.Fatalf("error %v, want that of the store", err)
		}
		if _, err := Open(dir); !errors.Is(err, ErrIncomplete) {
			t.Fatalf("error %v, want ErrIncomplete", err)
		}
		torn := filepath.Join(dir, "."+packName(1)+".123.tmp") // as a run leaves that is killed
		if err := os.WriteFile(torn, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Write(context.Background(), dir, options(), from(fixture())); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(torn); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", torn, err)
		}
		for _, name := range []string{ManifestName, packName(0), packName(1), packName(2)} {
			if !bytes.Equal(contents(t, want, name), contents(t, dir, name)) {
				t.Errorf("stopped at %d: %s is not what an uninterrupted run writes", stop, name)
			}
		}
		if _, err := Write(context.Background(), dir, options(), from(nil)); !errors.Is(err, ErrComplete) {
			t.Errorf("error %v, want ErrComplete", err)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	good := fixture()[0]
	tests := map[string][]Bundle{
		"an order that is none": {fixture()[1], fixture()[0]},
		"the same twice":        {good, good},
		"a short suffix":        {{"ABC", good.Data}},
		"two lines":             {{good.Suffix, []byte("{\n}")}},
		"nothing":               {{good.Suffix, nil}},
	}
	for name, list := range tests {
		dir := t.TempDir()
		unordered := func(string) iter.Seq2[Bundle, error] {
			return func(yield func(Bundle, error) bool) {
				for _, b := range list {
					if !yield(b, nil) {
						return
					}
				}
			}
		}
		if _, err := Write(context.Background(), dir, options(), unordered); err == nil {
			t.Errorf("%s was written", name)
		}
		if names, _ := filepath.Glob(filepath.Join(dir, "*pack*")); len(names) != 0 {
			t.Errorf("%s left %v", name, names)
		}
	}
}

// TestVerifyFindsEveryFlippedBit flips one bit of every byte of a small archive.
func TestVerifyFindsEveryFlippedBit(t *testing.T) {
	dir := t.TempDir()
	o := options()
	if _, err := Write(context.Background(), dir, o, from(fixture()[:1])); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ManifestName, packName(0)} {
		whole := contents(t, dir, name)
		step := 1
		if testing.Short() {
			step = 17
		}
		for i := 0; i < len(whole); i += step {
			torn := bytes.Clone(whole)
			torn[i] ^= 1 << (i % 8)
			if err := os.WriteFile(filepath.Join(dir, name), torn, 0o644); err != nil {
				t.Fatal(err)
			}
			if f := readFaults(dir); len(f) == 0 {
				t.Fatalf("%s: a flipped bit in byte %d of %d went unseen", name, i, len(whole))
			} else if !errors.Is(f[0], ErrDamaged) && !errors.Is(f[0], ErrIncomplete) {
				t.Fatalf("%s: byte %d: error %v, want ErrDamaged", name, i, f[0])
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if f := readFaults(dir); len(f) != 0 {
		t.Fatalf("the whole archive: %v", f)
	}
}

// readFaults reads all packs without the cost of verifying their bundles, so the
// digests alone must find the damage.
func readFaults(dir string) (list []error) {
	m, err := Open(dir)
	if err != nil {
		return []error{err}
	}
	for i := range m.Packs {
		for _, err := range m.Pack(context.Background(), Dir(dir), i) {
			if err != nil {
				list = append(list, err)
			}
		}
	}
	return list
}

func TestVerifyFindsDamage(t *testing.T) {
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   string // in the first fault
	}{
		{"a missing pack", func(t *testing.T, dir string) { try(t, os.Remove(filepath.Join(dir, packName(1)))) }, packName(1)},
		{"packs in another order", func(t *testing.T, dir string) {
			a, b := filepath.Join(dir, packName(0)), filepath.Join(dir, packName(1))
			try(t, os.Rename(a, a+"x"))
			try(t, os.Rename(b, a))
			try(t, os.Rename(a+"x", b))
		}, "begin"},
		{"a pack more", func(t *testing.T, dir string) {
			try(t, os.WriteFile(filepath.Join(dir, packName(3)), contents(t, dir, packName(2)), 0o644))
		}, "not in the manifest"},
		{"a file with a similar name", func(t *testing.T, dir string) {
			try(t, os.WriteFile(filepath.Join(dir, packName(1)+".bak"), nil, 0o644))
		}, "not in the manifest"},
		{"a torn pack", func(t *testing.T, dir string) {
			try(t, os.Truncate(filepath.Join(dir, packName(2)), 1000))
		}, packName(2)},
		{"something behind a pack", func(t *testing.T, dir string) {
			data := contents(t, dir, packName(0))
			try(t, os.WriteFile(filepath.Join(dir, packName(0)), append(data, packHeader(7, noPack)...), 0o644))
		}, packName(0)},
		{"packs out of order in a manifest with a good digest", func(t *testing.T, dir string) {
			rewrite(t, dir, func(m *Manifest) { m.Packs[0], m.Packs[1] = m.Packs[1], m.Packs[0] })
		}, "is called"},
		{"a pack left out of a manifest with a good digest", func(t *testing.T, dir string) {
			rewrite(t, dir, func(m *Manifest) { m.Packs = m.Packs[:2] })
		}, "head or count"},
		{"a manifest that leaves out the last pack and is right otherwise", func(t *testing.T, dir string) {
			rewrite(t, dir, func(m *Manifest) {
				m.Packs = m.Packs[:2]
				m.Head, m.Bundles = m.Packs[1].SHA256, 20
			})
		}, "not in the manifest"},
		{"an impossible size", func(t *testing.T, dir string) {
			rewrite(t, dir, func(m *Manifest) { m.Packs[0].Bundles = PerPack + 1 })
		}, "impossible"},
		{"a signature that is wrong in a pack that is right", func(t *testing.T, dir string) {
			list := slices.Clone(fixture())
			list[12].Data = bytes.Replace(list[12].Data, []byte(`"event_type":"graph_snapshot"`), []byte(`"event_type":"graph_snapshoT"`), 1)
			rewritten(t, dir, list)
		}, fixture()[12].Suffix},
		{"a bundle that is not canonical in a pack that is right", func(t *testing.T, dir string) {
			list := slices.Clone(fixture())
			list[12].Data = append([]byte(" "), list[12].Data...)
			rewritten(t, dir, list)
		}, "canonical"},
		{"bundles under the wrong suffix", func(t *testing.T, dir string) {
			list := slices.Clone(fixture())
			list[3].Data, list[4].Data = list[4].Data, list[3].Data
			rewritten(t, dir, list)
		}, "comes after"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := written(t)
			tt.damage(t, dir)
			f := faults(t, dir, "")
			if len(f) == 0 {
				t.Fatal("went unseen")
			}
			if !strings.Contains(f[0].Error(), tt.want) {
				t.Errorf("first fault %q, want it to name %q", f[0], tt.want)
			}
		})
	}
}

// rewritten replaces the archive by one of other bundles.
func rewritten(t *testing.T, dir string, list []Bundle) {
	t.Helper()
	try(t, os.Remove(filepath.Join(dir, ManifestName)))
	_, err := Write(context.Background(), dir, options(), from(list))
	try(t, err)
}

// rewrite changes the manifest and gives it the digest that fits.
func rewrite(t *testing.T, dir string, change func(*Manifest)) {
	t.Helper()
	var m Manifest
	try(t, json.Unmarshal(contents(t, dir, ManifestName), &m))
	change(&m)
	try(t, m.save(dir))
}

func try(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestBombs: what unpacks to more than the manifest says is cut off there.
func TestBombs(t *testing.T) {
	var pack bytes.Buffer
	header := packHeader(0, noPack)
	pack.Write(header)
	z, err := zstd.NewWriter(&pack)
	try(t, err)
	zeros := make([]byte, 1<<20)
	for range 64 {
		_, err := z.Write(zeros)
		try(t, err)
	}
	try(t, z.Close())
	for _, content := range []int64{100, 32 << 20} {
		p := Pack{Name: packName(0), Bundles: 1, Bytes: int64(pack.Len()), ContentBytes: content}
		var last error
		for _, err := range readPack(context.Background(), bytes.NewReader(pack.Bytes()), p, header) {
			last = err
		}
		if !errors.Is(last, ErrDamaged) {
			t.Errorf("64 MiB where %d bytes should be: error %v, want ErrDamaged", content, last)
		}
	}
}

func FuzzReadPack(f *testing.F) {
	dir := f.TempDir()
	o := options()
	if _, err := Write(context.Background(), dir, o, from(fixture()[:2])); err != nil {
		f.Fatal(err)
	}
	m, err := Open(dir)
	if err != nil {
		f.Fatal(err)
	}
	whole := contents(f, dir, packName(0))
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(packHeader(0, noPack))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, failed := 0, false
		for line, err := range readPack(context.Background(), bytes.NewReader(data), m.Packs[0], packHeader(0, noPack)) {
			if failed {
				t.Fatal("the list goes on after an error")
			}
			if failed = err != nil; !failed {
				n++
				if len(line) > pith.MaxSize {
					t.Fatalf("a line of %d bytes", len(line))
				}
			}
		}
		if !failed && !bytes.Equal(data, whole) {
			t.Fatalf("%d bundles of a pack that is not the one of the manifest", n)
		}
	})
}

func FuzzManifest(f *testing.F) {
	dir := f.TempDir()
	if _, err := Write(context.Background(), dir, options(), from(fixture()[:3])); err != nil {
		f.Fatal(err)
	}
	f.Add(contents(f, dir, ManifestName))
	f.Add([]byte(`{"manifest_type":"pith_archive_manifest","archive_version":"1.0"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil || !bytes.Equal(again, bytes.TrimSuffix(data, []byte("\n"))) {
			t.Fatalf("a manifest was taken that writes itself differently: %v", err)
		}
	})
}
