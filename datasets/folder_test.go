package datasets

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// shaded is an image whose red tells the column, green the row.
func shaded(w, h int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.Set(x, y, color.RGBA{uint8(255 * x / w), uint8(255 * y / h), 40, 255})
		}
	}
	return m
}

func pngOf(m image.Image) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func jpegOf(m image.Image) []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// album is a folder of two classes, three images, and things that are none.
func album(t *testing.T) string {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "dog"), map[string][]byte{"b.png": pngOf(shaded(40, 20)), "a.JPG": jpegOf(shaded(30, 30)), "notes.txt": nil, ".DS_Store": nil})
	put(t, filepath.Join(dir, "cat"), map[string][]byte{"only.jpeg": jpegOf(shaded(16, 64))})
	put(t, dir, map[string][]byte{"README": nil, ".hidden": nil})
	return dir
}

func TestFolder(t *testing.T) {
	f, err := OpenFolder(album(t), FolderConfig{Size: 8, Resize: 10})
	if err != nil {
		t.Fatal(err)
	}
	if f.Len() != 3 || f.Classes() != 2 || !slices.Equal(f.ClassNames(), []string{"cat", "dog"}) || !slices.Equal(f.Shape(), []int{8, 8, 3}) {
		t.Errorf("%+v", f)
	}
	if f.SkippedCount != 2 || !slices.Equal(f.Skipped, []string{"README", "dog/notes.txt"}) {
		t.Errorf("skipped %d: %v", f.SkippedCount, f.Skipped)
	}
	n := 8 * 8 * 3
	x, y := make([]float32, 3*n), make([]int32, 3)
	at := func(name string) int { return slices.Index(f.names, name) }
	f.Fill([]int{at("dog/b.png"), at("cat/only.jpeg"), at("dog/a.JPG")}, x, y)
	if !slices.Equal(y, []int32{1, 0, 1}) {
		t.Errorf("labels %v", y)
	}
	// dog/b.png, 40 by 20: 16 of its 20 rows, and as many columns, from the
	// middle: columns 12 to 28, rows 2 to 18. Pixel (r, c) of 8 by 8 covers 2x2.
	for r := range 8 {
		for c := range 8 {
			red, green := 255*(12.5+2*float64(c))/40, 255*(2.5+2*float64(r))/20
			got := x[(r*8+c)*3:][:3]
			for k, want := range []float64{(red/255 - 0.485) / 0.229, (green/255 - 0.456) / 0.224, (40./255 - 0.406) / 0.225} {
				// The kernel reaches half a pixel over its 2x2; the edge is one-sided.
				if math.Abs(float64(got[k])-want) > 0.06 {
					t.Errorf("pixel %d %d, channel %d: %v, want about %v", r, c, k, got[k], want)
				}
			}
		}
	}
	seen := 0
	if broken, err := f.Check(context.Background(), func(done int, err error) {
		if seen++; done != seen || err != nil {
			t.Errorf("check: %d done after %d: %v", done, seen, err)
		}
	}); err != nil || broken != 0 || seen != 3 {
		t.Error(broken, err, seen)
	}
	again, err := OpenFolder(f.dir, FolderConfig{Size: 8, Resize: 10, Crop: "random", Flip: true, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	a, errA := f.SHA256()
	b, errB := again.SHA256()
	if a != b || errA != nil || errB != nil {
		t.Error("the digest depends on how training sees the images", errA, errB)
	}
	put(t, filepath.Join(f.dir, "dog"), map[string][]byte{"b.png": pngOf(shaded(40, 21))})
	if c, _ := f.SHA256(); c == a {
		t.Error("the digest does not depend on the files")
	}
}

func TestFolderErrors(t *testing.T) {
	dir := album(t)
	for name, c := range map[string]FolderConfig{
		"size": {Size: -1}, "size 5000": {Size: 5000}, "resize": {Size: 10, Resize: 9}, "crop": {Crop: "corner"},
	} {
		if _, err := OpenFolder(dir, c); err == nil {
			t.Errorf("bad %s is accepted", name)
		}
	}
	empty := t.TempDir()
	for _, missing := range []string{filepath.Join(dir, "nowhere"), empty} {
		if _, err := OpenFolder(missing, FolderConfig{}); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), missing) || !strings.Contains(err.Error(), "directory per class") {
			t.Errorf("error %v: want ErrMissing that says what should be there", err)
		}
	}
	bomb := pngOf(shaded(1, 1))
	copy(bomb[16:], []byte{0, 1, 0, 0, 0, 1, 0, 0}) // 65536 by 65536, with a checksum that is wrong
	good := pngOf(shaded(20, 20))
	for name, c := range map[string]struct {
		content []byte
		says    string
	}{
		"empty.png": {nil, "unknown format"}, "text.jpg": {[]byte("hello"), "unknown format"},
		"cut.png": {good[:len(good)/2], "not enough pixel data"}, "cut.jpg": {jpegOf(shaded(20, 20))[:300], "EOF"},
		"bomb.png": {bomb, ""}, "huge.jpg": {hugeJPEG(), "pixels"},
	} {
		sick := album(t)
		put(t, filepath.Join(sick, "dog"), map[string][]byte{name: c.content})
		f, err := OpenFolder(sick, FolderConfig{Size: 8})
		if err != nil {
			t.Fatal(err)
		}
		var check error
		if broken, err := f.Check(context.Background(), func(_ int, err error) {
			if err != nil {
				check = err
			}
		}); broken != 1 || err != nil {
			t.Errorf("%s: %d are broken, %v", name, broken, err)
		}
		all := []int{0, 1, 2, 3}
		x, y := make([]float32, 4*192), make([]int32, 4)
		epoch := f.FillEpoch(0, all, x, y)
		var filled any
		func() {
			defer func() { filled = recover() }()
			f.Fill(all, x, y)
		}()
		for how, err := range map[string]any{"check": check, "epoch": epoch, "fill": filled} {
			e, ok := err.(error)
			var image *ImageError
			if !ok || !errors.As(e, &image) || !errors.Is(e, ErrDamaged) || image.File != filepath.Join(sick, "dog", name) || !strings.Contains(e.Error(), c.says) {
				t.Errorf("%s, %s: %v: want an ImageError for the file that says %q", name, how, err, c.says)
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f, _ := OpenFolder(dir, FolderConfig{})
	if _, err := f.Check(ctx, func(int, error) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}

// hugeJPEG says that it is 65535 by 65535, in 40 bytes.
func hugeJPEG() []byte {
	b := jpegOf(shaded(8, 8))
	i := bytes.Index(b, []byte{0xff, 0xc0})
	copy(b[i+5:], []byte{0xff, 0xff, 0xff, 0xff})
	return b
}

func TestFolders(t *testing.T) {
	dir := t.TempDir()
	one := map[string][]byte{"1.png": pngOf(shaded(9, 9))}
	put(t, filepath.Join(dir, "train", "a"), one)
	put(t, filepath.Join(dir, "train", "b"), one)
	put(t, filepath.Join(dir, "train", "c"), one)
	if _, _, err := OpenFolders(dir, FolderConfig{Size: 4}); !errors.Is(err, ErrMissing) {
		t.Errorf("error %v, want ErrMissing", err)
	}
	put(t, filepath.Join(dir, "test", "c"), one)
	train, test, err := OpenFolders(dir, FolderConfig{Size: 4})
	if err != nil || train.Len() != 3 || test.Len() != 1 || test.Classes() != 3 || test.labels[0] != 2 {
		t.Errorf("%+v %+v %v", train, test, err)
	}
	put(t, filepath.Join(dir, "val", "b"), one)
	if _, test, err = OpenFolders(dir, FolderConfig{Size: 4}); err != nil || test.labels[0] != 1 {
		t.Errorf("val is not preferred: %+v %v", test, err)
	}
	put(t, filepath.Join(dir, "val", "d"), one)
	if _, _, err = OpenFolders(dir, FolderConfig{Size: 4}); err == nil || !strings.Contains(err.Error(), `"d"`) {
		t.Errorf("error %v: want one that names the class", err)
	}
	// Links to classes and images are followed.
	linked := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "train", "a"), filepath.Join(linked, "x")); err != nil {
		t.Skip(err)
	}
	if f, err := OpenFolder(linked, FolderConfig{Size: 4}); err != nil || f.Len() != 1 {
		t.Errorf("link: %v", err)
	}
}

func TestFolderHold(t *testing.T) {
	dir := t.TempDir()
	content := pngOf(shaded(9, 9))
	for i := range 30 {
		put(t, filepath.Join(dir, string(rune('a'+i%3))), map[string][]byte{string(rune('a'+i)) + ".png": content})
	}
	c := FolderConfig{Size: 4, Crop: "random", Flip: true}
	f, err := OpenFolder(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	held, rest, err := f.Hold("validation", 10)
	if err != nil || held.Len() != 10 || rest.Len() != 20 || held.Classes() != 3 {
		t.Fatal(err)
	}
	if both := slices.Sorted(slices.Values(slices.Concat(held.names, rest.names))); !slices.Equal(both, slices.Sorted(slices.Values(f.names))) {
		t.Error("the two parts are not the whole")
	}
	// Samples in a row are of all classes, in every part.
	for _, part := range []*Folder{f, held, rest} {
		for start := 0; start+10 <= part.Len(); start += 10 {
			if some := slices.Compact(slices.Sorted(slices.Values(part.labels[start : start+10]))); len(some) != 3 {
				t.Errorf("of %d images, 10 from number %d are of the classes %v alone", part.Len(), start, some)
			}
		}
	}
	subset, err := f.Subset(10)
	if err != nil || slices.Equal(subset.names, held.names) {
		t.Error("two purposes choose the same", err)
	}
	if _, _, err := f.Hold("x", 31); err == nil {
		t.Error("31 of 30 are held")
	}
	// Fewer files: those that are left are chosen as before.
	gone := rest.names[0]
	if err := os.Remove(filepath.Join(dir, gone)); err != nil {
		t.Fatal(err)
	}
	g, _ := OpenFolder(dir, c)
	if again, _, _ := g.Hold("validation", 10); !slices.Equal(again.names, held.names) {
		t.Error("the choice depends on other files")
	}
}

// A crop lies in the image, has the size that it should, and depends on seed,
// epoch and sample only.
func TestFolderCrops(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, h := rapid.IntRange(1, 3000).Draw(t, "width"), rapid.IntRange(1, 3000).Draw(t, "height")
		size := rapid.IntRange(1, 300).Draw(t, "size")
		config := FolderConfig{Size: size, Resize: size + rapid.IntRange(0, 60).Draw(t, "more"), Crop: rapid.SampledFrom([]string{"centre", "random", "area"}).Draw(t, "crop")}
		f := &Folder{config: config}
		c := coins(rapid.Uint64().Draw(t, "coins"))
		r := f.crop(c, w, h)
		if r.Empty() || !r.In(image.Rect(0, 0, w, h)) {
			t.Fatalf("crop %v of %d by %d", r, w, h)
		}
		if r != f.crop(c, w, h) {
			t.Fatal("not a function")
		}
		short := float64(min(w, h))
		if config.Crop != "area" {
			if want := short * float64(size) / float64(config.Resize); r.Dx() != r.Dy() || math.Abs(float64(r.Dx())-want) > 1 {
				t.Fatalf("crop %v of %d by %d: want a square of %v", r, w, h, want)
			}
			return
		}
		area, aspect := float64(r.Dx()*r.Dy())/float64(w*h), float64(r.Dx())/float64(r.Dy())
		fallback := r.Dx() == min(w, h) && r.Dy() == min(w, h)
		if short > 100 && !fallback && (area < 0.07 || aspect < 0.7 || aspect > 1.43) {
			t.Fatalf("crop %v of %d by %d: area %v, aspect %v", r, w, h, area, aspect)
		}
	})
}

// What is transparent is black, also after another image.
func TestFolderTransparency(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a"), map[string][]byte{"1.png": pngOf(shaded(8, 8)), "2.png": pngOf(image.NewNRGBA(image.Rect(0, 0, 8, 8)))})
	f, err := OpenFolder(dir, FolderConfig{Size: 4})
	if err != nil {
		t.Fatal(err)
	}
	x, y := make([]float32, 2*48), make([]int32, 2)
	f.Fill([]int{slices.Index(f.names, "a/1.png"), slices.Index(f.names, "a/2.png")}, x, y)
	for i, v := range x[48:] {
		if v != (*imagenet)[i%3][0] {
			t.Fatalf("value %d is %v, want that of black", i, v)
		}
	}
}

func TestFolderEpochs(t *testing.T) {
	dir := album(t)
	for _, crop := range []string{"random", "area"} {
		f, err := OpenFolder(dir, FolderConfig{Size: 8, Crop: crop, Flip: true, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		n := 192
		see := func(f *Folder, epoch int, indices ...int) []float32 {
			x, y := make([]float32, len(indices)*n), make([]int32, len(indices))
			if err := f.FillEpoch(epoch, indices, x, y); err != nil {
				t.Fatal(err)
			}
			return x
		}
		all := see(f, 0, 0, 1, 2)
		if !slices.Equal(see(f, 0, 2), all[2*n:]) || slices.Equal(see(f, 1, 0, 1, 2), all) {
			t.Errorf("%s: a sample depends on its company, or not on the epoch", crop)
		}
		f.config.Seed = 2
		if slices.Equal(see(f, 0, 0, 1, 2), all) {
			t.Errorf("%s: the seed changes nothing", crop)
		}
		f.config.Seed = 1
		held, _, _ := f.Hold("x", 1)
		i := slices.Index(f.names, held.names[0])
		if !slices.Equal(see(held, 0, 0), all[i*n:(i+1)*n]) {
			t.Errorf("%s: a part of the folder is augmented otherwise", crop)
		}
	}
}

func FuzzDecodeImage(f *testing.F) {
	f.Add(pngOf(shaded(3, 2)))
	f.Add(jpegOf(shaded(9, 9)))
	f.Add(hugeJPEG())
	f.Fuzz(func(t *testing.T, b []byte) {
		if img, err := decodeImage(bytes.NewReader(b)); err == nil {
			if r := img.Bounds(); r.Empty() || r.Dx()*r.Dy() > maxImagePixels {
				t.Errorf("an image of %v", r)
			}
		}
	})
}

// Names of directories and files are data too.
func FuzzFolderListing(f *testing.F) {
	f.Add("dog", "a.png", "b.PNG")
	f.Add("..", ".jpg", "x.jpeg.txt")
	content := pngOf(shaded(2, 2))
	f.Fuzz(func(t *testing.T, class, a, b string) {
		dir := t.TempDir()
		for _, name := range []string{a, b} {
			p := filepath.Join(dir, class, name)
			if rel, err := filepath.Rel(dir, p); err != nil || !filepath.IsLocal(rel) {
				return
			}
			if os.MkdirAll(filepath.Dir(p), 0o755) != nil || os.WriteFile(p, content, 0o644) != nil {
				return // no name of this system
			}
		}
		folder, err := OpenFolder(dir, FolderConfig{Size: 2})
		if err != nil {
			if !errors.Is(err, ErrMissing) {
				t.Error(err)
			}
			return
		}
		x, y := make([]float32, 12*folder.Len()), make([]int32, folder.Len())
		indices := make([]int, folder.Len())
		for i := range indices {
			indices[i] = i
		}
		if err := folder.FillEpoch(0, indices, x, y); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkFolder(b *testing.B) {
	dir := b.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "a"), 0o755); err != nil {
		b.Fatal(err)
	}
	for i := range 4 {
		if err := os.WriteFile(filepath.Join(dir, "a", string(rune('a'+i))+".jpg"), jpegOf(shaded(500, 375)), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	f, err := OpenFolder(dir, FolderConfig{Crop: "area", Flip: true})
	if err != nil {
		b.Fatal(err)
	}
	x, y := make([]float32, 4*224*224*3), make([]int32, 4)
	for i := 0; b.Loop(); i++ {
		if err := f.FillEpoch(i, []int{0, 1, 2, 3}, x, y); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(4*b.N)/b.Elapsed().Seconds(), "samples/s")
}
