package datasets

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// idx is a gzipped IDX file of bytes.
func idx(data []uint8, dims ...int) []byte {
	raw := []byte{0, 0, 8, byte(len(dims))}
	for _, d := range dims {
		raw = binary.BigEndian.AppendUint32(raw, uint32(d))
	}
	return zip(append(raw, data...))
}

func zip(raw []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(raw)
	z.Close()
	return b.Bytes()
}

func ramp(n, mod int) []uint8 {
	d := make([]uint8, n)
	for i := range d {
		d[i] = uint8(i % mod)
	}
	return d
}

// tiny is a set of 6 training and 2 test images of 3 by 2, with its files.
func tiny() (published, map[string][]byte) {
	p := published{name: "tiny", source: "a test", classes: []string{"a", "b", "c"}}
	files := map[string][]byte{}
	add := func(name string, data []uint8, dims ...int) file {
		b := idx(data, dims...)
		files[name] = b
		sum := sha256.Sum256(b)
		return file{name, hex.EncodeToString(sum[:]), int64(len(b)), dims}
	}
	p.packings = []packing{{read: readIDXFiles, files: []file{
		add("train-x.gz", ramp(36, 251), 6, 3, 2), add("train-y.gz", ramp(6, 3), 6),
		add("test-x.gz", ramp(12, 7), 2, 3, 2), add("test-y.gz", ramp(2, 2), 2),
	}}}
	p.norm, p.urls = halves, []string{"http://127.0.0.1:1/"}
	return p, files
}

func put(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoad(t *testing.T) {
	p, files := tiny()
	flat, sub := t.TempDir(), t.TempDir()
	put(t, flat, files)
	put(t, filepath.Join(sub, "tiny"), files)
	for name, c := range map[string]struct{ dir, env string }{
		"flat": {flat, ""}, "sub-directory": {sub, ""}, "environment": {"", sub}, "given before environment": {flat, "/nowhere"},
	} {
		t.Setenv(DataVariable, c.env)
		s, err := p.load(c.dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s.Train.Len() != 6 || s.Test.Len() != 2 || !slices.Equal(s.Train.Shape(), []int{3, 2, 1}) || s.Train.Classes() != 3 {
			t.Errorf("%s: %+v", name, s)
		}
		x, y := make([]float32, 12), make([]int32, 2)
		s.Train.Fill([]int{5, 0}, x, y)
		if x[0] != (30./255-0.5)/0.5 || x[6] != -1 || y[0] != 2 || y[1] != 0 {
			t.Errorf("%s: filled %v %v", name, x, y)
		}
	}
	for name, c := range map[string]struct{ dir, env, says string }{
		"nothing given":          {"", "", DataVariable},
		"empty directory":        {t.TempDir(), sub, "train-x.gz"},
		"missing directory":      {"", "/nowhere", "/nowhere"},
		"given, not fallen back": {"/nowhere", sub, "/nowhere"},
	} {
		t.Setenv(DataVariable, c.env)
		if _, err := p.load(c.dir); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v: want ErrMissing that says %q", name, err, c.says)
		}
	}
	if _, err := Find("mnits", ""); !errors.Is(err, ErrUnknown) {
		t.Errorf("error %v, want ErrUnknown", err)
	}
}

func TestLoadRefusesOtherFiles(t *testing.T) {
	p, files := tiny()
	good := files["test-x.gz"]
	flipped := slices.Clone(good)
	flipped[len(flipped)/2] ^= 4
	for says, bad := range map[string][]byte{
		"cut short: 0 bytes": {}, "cut short": good[:len(good)-5], "longer": append(slices.Clone(good), 0), "SHA-256": flipped,
	} {
		dir := t.TempDir()
		put(t, dir, files)
		put(t, dir, map[string][]byte{"test-x.gz": bad})
		_, err := p.load(dir)
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), filepath.Join(dir, "test-x.gz")) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "data get") {
			t.Errorf("%s: %v: want ErrDamaged that names the file and what to do", says, err)
		}
	}
	// The published checksum is right, and the labels are not.
	labels := idx([]uint8{0, 3}, 2)
	sum := sha256.Sum256(labels)
	p.packings[0].files[3] = file{"test-y.gz", hex.EncodeToString(sum[:]), int64(len(labels)), []int{2}}
	dir := t.TempDir()
	put(t, dir, files)
	put(t, dir, map[string][]byte{"test-y.gz": labels})
	if _, err := p.load(dir); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "label 3") {
		t.Errorf("label out of range: %v", err)
	}
}

func TestReadIDX(t *testing.T) {
	raw := func(head []byte, n int) []byte { return zip(append(head, make([]byte, n)...)) }
	head := []byte{0, 0, 8, 2, 0, 0, 0, 3, 0, 0, 0, 2}
	edit := func(i int, b byte) []byte { h := slices.Clone(head); h[i] = b; return h }
	broken := raw(head, 6)
	broken[len(broken)-5] ^= 1 // the checksum of gzip
	for _, c := range []struct {
		name string
		file []byte
		says string
	}{
		{"good", raw(head, 6), ""},
		{"empty", nil, "not a gzip file"},
		{"not gzip", []byte("hello, hello, hello"), "not a gzip file"},
		{"no header", zip([]byte{0, 0}), "header"},
		{"half a header", zip(head[:7]), "header"},
		{"floats", raw(edit(2, 0x0d), 6), "magic"},
		{"three dimensions", raw(edit(3, 3), 6), "magic"},
		{"other size", raw(edit(7, 4), 8), "dimension 1 is 4, want 3"},
		{"huge size", raw(edit(4, 0xff), 6), "dimension 1"},
		{"cut short", raw(head, 5), "ends after 5 of 6 bytes"},
		{"too long", raw(head, 7), "more data"},
		{"gzip cut", raw(head, 6)[:30], "unexpected EOF"},
		{"gzip checksum", broken, "checksum"},
		{"bomb", raw(head, 1<<24), "more data"},
	} {
		data, err := readIDX(bytes.NewReader(c.file), []int{3, 2})
		if c.says == "" {
			if err != nil || len(data) != 6 {
				t.Errorf("%s: %v %v", c.name, data, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v: want one that says %q", c.name, err, c.says)
		}
	}
}

func FuzzReadIDX(f *testing.F) {
	f.Add(idx(ramp(6, 9), 3, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		if data, err := readIDX(bytes.NewReader(b), []int{3, 2}); err == nil && len(data) != 6 {
			t.Errorf("%d bytes of 6", len(data))
		}
	})
}

func TestDownload(t *testing.T) {
	p, files := tiny()
	var asked []string
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		w.Write(files[strings.TrimPrefix(r.URL.Path, "/set/")])
	}))
	defer good.Close()
	dead := httptest.NewServer(nil)
	dead.Close()
	wrong := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "<html>please log in</html>")
	}))
	defer wrong.Close()

	ctx, dir := context.Background(), t.TempDir()
	p.urls = []string{dead.URL + "/", wrong.URL + "/", good.URL + "/set/"} // later mirrors help out
	progress := map[string]int64{}
	at, err := p.download(ctx, dir, func(file string, done, total int64) {
		if done < progress[file] || done > total {
			t.Errorf("%s: %d of %d bytes after %d", file, done, total, progress[file])
		}
		progress[file] = done
	})
	if err != nil {
		t.Fatal(err)
	}
	if at != filepath.Join(dir, "tiny") || len(asked) != 4 || progress["test-x.gz"] != int64(len(files["test-x.gz"])) {
		t.Errorf("in %s after %v: %v", at, asked, progress)
	}
	if _, err := p.load(dir); err != nil {
		t.Errorf("what was downloaded does not load: %v", err)
	}

	// Only what is missing or wrong is asked for again.
	asked = nil
	put(t, at, map[string][]byte{"train-y.gz": []byte("damaged")})
	if _, err := p.download(ctx, dir, nil); err != nil || len(asked) != 1 {
		t.Errorf("second download asked for %v: %v", asked, err)
	}

	p.urls = []string{dead.URL + "/", wrong.URL + "/"}
	fresh := t.TempDir()
	_, err = p.download(ctx, fresh, nil)
	if !errors.Is(err, ErrDownload) || !strings.Contains(err.Error(), dead.URL) || !strings.Contains(err.Error(), wrong.URL) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q: want ErrDownload with what each mirror said, in one line", err)
	}
	if left, _ := os.ReadDir(fresh); len(left) != 0 {
		t.Errorf("failure left %v", left)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := p.download(cancelled, fresh, nil); !errors.Is(err, context.Canceled) || errors.Is(err, ErrDownload) {
		t.Errorf("error %v: want only that of the context", err)
	}
	if _, err := Download(ctx, "mnits", fresh, nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("error %v, want ErrUnknown", err)
	}
}

func TestHold(t *testing.T) {
	set, err := Glyphs(GlyphsConfig{Seed: 1, Train: 400, Test: 1})
	if err != nil {
		t.Fatal(err)
	}
	all := set.Train
	held, rest, err := all.Hold("validation", 100)
	if err != nil || held.Len() != 100 || rest.Len() != 300 {
		t.Fatal(err, held.Len(), rest.Len())
	}
	key := func(s *Split, i int) string {
		return string(s.Images[i*784:(i+1)*784]) + string(s.Labels[i:i+1])
	}
	in := map[string]bool{}
	for i := range held.Len() {
		in[key(held, i)] = true
	}
	for i := range rest.Len() {
		if in[key(rest, i)] {
			t.Fatal("a sample is in both parts")
		}
		in[key(rest, i)] = true
	}
	if len(in) != 400 {
		t.Errorf("%d different samples of 400", len(in))
	}

	// The same samples in another order, and fewer of them: the same choice.
	reversed := &Split{shape: all.shape, class: all.class}
	for i := all.Len() - 1; i >= 0; i-- {
		reversed.Images = append(reversed.Images, all.Images[i*784:(i+1)*784]...)
		reversed.Labels = append(reversed.Labels, all.Labels[i])
	}
	again, _, _ := reversed.Hold("validation", 100)
	chosen := map[string]bool{}
	for i := range again.Len() {
		chosen[key(again, i)] = true
	}
	for i := range held.Len() {
		if !chosen[key(held, i)] {
			t.Fatal("the choice depends on the order of the file")
		}
	}
	other, err := all.Subset(100)
	if err != nil || other.SHA256() == held.SHA256() {
		t.Error("two purposes choose the same samples", err)
	}
	for _, n := range []int{-1, 401} {
		if _, _, err := all.Hold("x", n); err == nil {
			t.Errorf("holding %d of 400 is accepted", n)
		}
	}
}

func TestDigests(t *testing.T) {
	p, files := tiny()
	dir := t.TempDir()
	put(t, dir, files)
	s, err := p.load(dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{s.SHA256(): true, s.Train.SHA256(): true, s.Test.SHA256(): true}
	s.Train.Labels[0]++
	seen[s.Train.SHA256()], seen[s.SHA256()] = true, true
	s.Train.shape = []int{2, 3, 1}
	seen[s.Train.SHA256()] = true
	if len(seen) != 6 {
		t.Errorf("%d different digests of 6", len(seen))
	}
}

// The generator is part of what a seed means: its bits stay as they are.
func TestGlyphs(t *testing.T) {
	c := GlyphsConfig{Seed: 1, Train: 200, Test: 100}
	a, err := Glyphs(c)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := a.SHA256(), "94bea859bdd22561e6f4efcbff1b081712688a2a40ee51369ce2a257fec77a1c"; got != want {
		t.Errorf("SHA-256 %s, want %s", got, want)
	}
	c.Train = 50
	if b, _ := Glyphs(c); !bytes.Equal(b.Train.Images, a.Train.Images[:50*784]) || !bytes.Equal(b.Test.Images, a.Test.Images) {
		t.Error("a smaller set is not the beginning of a larger one")
	}
	c.Seed = 2
	if b, _ := Glyphs(c); bytes.Equal(b.Test.Images, a.Test.Images) {
		t.Error("another seed draws the same digits")
	}
	seen := map[string]bool{}
	for _, s := range []*Split{a.Train, a.Test} {
		count := make([]int, 10)
		for i, l := range s.Labels {
			count[l]++
			image := s.Images[i*784 : (i+1)*784]
			seen[string(image)] = true
			ink := 0
			for _, p := range image {
				if p > 128 {
					ink++
				}
			}
			if ink < 10 || ink > 400 {
				t.Errorf("sample %d, digit %d: %d dark pixels", i, l, ink)
			}
		}
		if slices.Min(count) != slices.Max(count) {
			t.Errorf("classes %v", count)
		}
	}
	if len(seen) != 300 {
		t.Errorf("%d different images of 300", len(seen))
	}
	for _, bad := range []GlyphsConfig{{}, {Train: 10}, {Train: -1, Test: 1}, {Train: 1 << 40, Test: 1}} {
		if _, err := Glyphs(bad); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

func TestIsqrt(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 4, 8, 9, 15, 16, 17, 1 << 30, 1<<31 - 1, 999999999999} {
		if r := isqrt(n); r*r > n || (r+1)*(r+1) <= n {
			t.Errorf("isqrt(%d) = %d", n, r)
		}
	}
}

// dataDir is where the real sets may lie; without them the test is skipped.
func dataDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv(DataVariable); dir != "" {
		return dir
	}
	dir := filepath.Join("..", "..", "shared", "data") // beside the module
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no real data: %s is not set, and there is no ../shared/data beside the module", DataVariable)
	}
	return dir
}

func TestRealSets(t *testing.T) {
	dir := dataDir(t)
	for name, want := range map[string]struct{ train, test, first, ones int }{ // sizes, label of the first training image, images of class 1
		"mnist": {60000, 10000, 5, 6742}, "fashion-mnist": {60000, 10000, 9, 6000},
		"cifar-10": {50000, 10000, 6, 5000}, "cifar-100": {50000, 10000, 19, 500}, "cifar-10-part": {8068, 1017, 6, 777},
	} {
		s, err := Load(name, dir)
		if errors.Is(err, ErrMissing) {
			t.Logf("skipped: %v", err)
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		ones := 0
		for _, l := range s.Train.Labels {
			if l == 1 {
				ones++
			}
		}
		if s.Train.Len() != want.train || s.Test.Len() != want.test || int(s.Train.Labels[0]) != want.first || ones != want.ones {
			t.Errorf("%s: %d training and %d test samples, first label %d, %d of class 1",
				name, s.Train.Len(), s.Test.Len(), s.Train.Labels[0], ones)
		}
		if _, _, err := s.Train.Hold("validation", 1000); err != nil {
			t.Error(err)
		}
	}
}
