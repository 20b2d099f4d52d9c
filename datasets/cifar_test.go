package datasets

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// records are n CIFAR records; image i has label i and, in plane c, pixels that
// begin with 10i+c.
func records(n, labelBytes int) []byte {
	var b []byte
	for i := range n {
		if labelBytes == 2 {
			b = append(b, 77) // coarse
		}
		b = append(b, uint8(i))
		for c := range 3 {
			plane := make([]byte, cifarPlane)
			for k := range plane {
				plane[k] = uint8(10*i + c + k)
			}
			b = append(b, plane...)
		}
	}
	return b
}

func TestReadCIFAR(t *testing.T) {
	read := func(content []byte, labelBytes, n int) (images, labels []uint8, err error) {
		images, labels = make([]uint8, n*cifarPixels), make([]uint8, n)
		return images, labels, readCIFAR(bytes.NewReader(content), labelBytes, images, labels)
	}
	for _, labelBytes := range []int{1, 2} {
		images, labels, err := read(records(3, labelBytes), labelBytes, 3)
		if err != nil || !slices.Equal(labels, []uint8{0, 1, 2}) {
			t.Fatal(err, labels)
		}
		// Image 1, row 0, columns 0 and 1: red, green, blue side by side.
		if got := images[cifarPixels:][:6]; !slices.Equal(got, []uint8{10, 11, 12, 11, 12, 13}) {
			t.Errorf("pixels %v", got)
		}
	}
	for says, c := range map[string]struct {
		content []byte
		n       int
	}{
		"after 0 of 2 records": {nil, 2},
		"after 2 of 3 records": {records(2, 1), 3},
		"after 1 of 2 records": {records(2, 1)[:5000], 2},
		"more data":            {records(3, 1), 2},
	} {
		if _, _, err := read(c.content, 1, c.n); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v: want one that says %q", err, says)
		}
	}
}

func archive(members map[string][]byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range members {
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
		w.Write(content)
	}
	w.Close()
	return zip(b.Bytes())
}

// tinyCIFAR is a set of 2+3 training and 2 test images, as an archive and
// unpacked.
func tinyCIFAR() (p published, tarred []byte, loose map[string][]byte) {
	loose = map[string][]byte{"a.bin": records(2, 1), "b.bin": records(3, 1), "t.bin": records(2, 1)}
	tarred = archive(map[string][]byte{
		"cifar/a.bin": loose["a.bin"], "cifar/b.bin": loose["b.bin"], "cifar/t.bin": loose["t.bin"], "cifar/readme.html": []byte("hello"),
	})
	sum := sha256.Sum256(tarred)
	p = published{name: "tiny", source: "a test", classes: []string{"x", "y", "z"}, norm: imagenet, dirs: []string{"tiny-batches"}}
	p.packings = append(p.packings, packing{read: readCIFARArchive, files: []file{{"tiny.tar.gz", hex.EncodeToString(sum[:]), int64(len(tarred)), nil}}})
	p.packings = append(p.packings, unpacked(1, 2, "a", "b", "t")...)
	for _, k := range p.packings[1:] {
		k.files[1].dims = []int{3}
	}
	p.packings[1].files[1].size += 3073
	return p, tarred, loose
}

func TestCIFARPackings(t *testing.T) {
	p, tarred, loose := tinyCIFAR()
	zipped := map[string][]byte{}
	for name, b := range loose {
		zipped[name+".gz"] = zip(b)
	}
	var digest string
	for what, files := range map[string]map[string][]byte{"archive": {"tiny.tar.gz": tarred}, "unpacked": loose, "gzipped": zipped} {
		for _, sub := range []string{"", "tiny", "tiny-batches", "tiny/tiny-batches"} {
			dir := t.TempDir()
			put(t, filepath.Join(dir, sub), files)
			s, err := p.load(dir)
			if err != nil {
				t.Errorf("%s in %q: %v", what, sub, err)
				continue
			}
			if s.Train.Len() != 5 || s.Test.Len() != 2 || !slices.Equal(s.Train.Labels, []uint8{0, 1, 0, 1, 2}) || !slices.Equal(s.Test.Shape(), []int{32, 32, 3}) {
				t.Errorf("%s: %v", what, s.Train.Labels)
			}
			if digest == "" {
				digest = s.SHA256()
			}
			if s.SHA256() != digest {
				t.Errorf("%s gives another set", what)
			}
			if unchecked := strings.Contains(s.Source, "not checked"); unchecked != (what != "archive") || s.Verified == unchecked {
				t.Errorf("%s: verified %v, source %q", what, s.Verified, s.Source)
			}
			x, y := make([]float32, cifarPixels), make([]int32, 1)
			s.Train.Fill([]int{1}, x, y)
			for c, want := range []float64{(10./255 - 0.485) / 0.229, (11./255 - 0.456) / 0.224, (12./255 - 0.406) / 0.225} {
				if !(math.Abs(float64(x[c])-want) < 1e-6) {
					t.Errorf("channel %d is %v, want %v", c, x[c], want)
				}
			}
		}
	}
	fails := func(what, says string, files map[string][]byte) {
		t.Helper()
		dir := t.TempDir()
		put(t, dir, files)
		if _, err := p.load(dir); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v: want ErrDamaged that says %q", what, err, says)
		}
	}
	edit := func(m map[string][]byte, name string, b []byte) map[string][]byte {
		c := map[string][]byte{}
		for k, v := range m {
			c[k] = v
		}
		c[name] = b
		return c
	}
	fails("archive", "cut short", map[string][]byte{"tiny.tar.gz": tarred[:100]})
	fails("unpacked", "cut short", edit(loose, "b.bin", loose["a.bin"]))
	fails("unpacked", "label 3", edit(loose, "t.bin", edit(nil, "", append(append([]byte{3}, loose["t.bin"][1:]...), nil...))[""]))
	fails("gzipped", "not a gzip file", edit(zipped, "a.bin.gz", []byte("hello, hello")))
	fails("gzipped", "more data", edit(zipped, "a.bin.gz", zip(make([]byte, 1<<24))))
	for says, b := range map[string][]byte{
		"no b.bin in it": archive(map[string][]byte{"a.bin": loose["a.bin"]}),
		"not a tar":      zip([]byte(strings.Repeat("hello", 1000))),
		"not a gzip":     []byte("hello, hello, hello"),
		"after 1 of 2":   archive(map[string][]byte{"a.bin": records(1, 1)}),
	} {
		sum := sha256.Sum256(b)
		p.packings[0].files[0] = file{"tiny.tar.gz", hex.EncodeToString(sum[:]), int64(len(b)), nil}
		fails("archive", says, map[string][]byte{"tiny.tar.gz": b})
	}
	if _, err := p.load(t.TempDir()); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "put it into") {
		t.Errorf("error %v: want ErrMissing that says where to put it", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tiny.tar.gz"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := p.load(dir); err == nil {
		t.Error("a directory is read as a file")
	}
}

func FuzzReadCIFAR(f *testing.F) {
	f.Add(records(2, 1), false)
	f.Add(records(2, 2), true)
	f.Fuzz(func(t *testing.T, b []byte, two bool) {
		labelBytes := 1
		if two {
			labelBytes = 2
		}
		images, labels := make([]uint8, 2*cifarPixels), make([]uint8, 2)
		err := readCIFAR(bytes.NewReader(b), labelBytes, images, labels)
		if (err == nil) != (len(b) == 2*(labelBytes+cifarPixels)) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	})
}

func FuzzReadCIFARTar(f *testing.F) {
	p, tarred, _ := tinyCIFAR()
	f.Add(tarred)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := p.newCIFAR(p.packings[1].files)
		if err := c.readTar(bytes.NewReader(b)); err != nil {
			return
		}
		if train, test, err := c.splits(p, "fuzz"); err == nil && (train.Len() != 5 || test.Len() != 2) || err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
	})
}

func TestClassNames(t *testing.T) {
	for _, p := range sets {
		want := 10
		if p.name == "cifar-100" {
			want = 100
		}
		if len(p.classes) != want || slices.Contains(p.classes, "") {
			t.Errorf("%s has %d class names", p.name, len(p.classes))
		}
	}
	if !slices.IsSorted(cifar100Classes) || len(slices.Compact(slices.Clone(cifar100Classes))) != 100 {
		t.Error("the classes of CIFAR-100 are in alphabetical order, each once")
	}
}
