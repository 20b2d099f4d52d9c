package datasets

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // the two formats of a folder
	_ "image/png"
	"io"
	"io/fs"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	xdraw "golang.org/x/image/draw"

	"github.com/openpith/evidence/internal/seed"
)

// FolderConfig says what a network sees of the images of a folder.
type FolderConfig struct {
	// Size is the height and width of what the network sees; 0 is 224.
	Size int `json:"size,omitempty"`
	// Resize is the length of the shorter side of an image when a part of Size
	// is cut out of it; 0 is Size·8/7, that is 256 for 224.
	Resize int `json:"resize,omitempty"`
	// Crop is the part that training sees: "centre", the default; "random",
	// anywhere, as the reference's AlexNet; "area", of 8 to 100 % of the image
	// and 3:4 to 4:3, then resized, as its ResNets. Evaluation sees the centre.
	Crop string `json:"crop,omitempty"`
	// Flip mirrors every second image in training.
	Flip bool `json:"flip,omitempty"`
	// Seed decides crops and flips.
	Seed int64 `json:"seed,omitempty"`
}

// Limits on what an image file may ask for.
const (
	maxImagePixels = 1 << 26 // 8192 by 8192: 256 MiB when decoded
	maxFolderSize  = 4096    // of FolderConfig
	maxSkipped     = 20      // names that Skipped keeps
)

// A Folder is labelled images in files: a directory per class, in it PNG and
// JPEG files. Classes are numbered in the order of their names. Images are
// decoded when they are asked for, so memory holds their names only.
//
// It is not changed after it is made, so several goroutines may read it.
type Folder struct {
	dir     string
	config  FolderConfig
	classes []string
	names   []string // CLASS/FILE
	labels  []int32  // one per name
	index   []int    // of each sample in the whole folder: what augmentation depends on

	// Skipped is the first names in the folder that are no images of a class:
	// files of other types or at other depths. SkippedCount is how many.
	Skipped      []string
	SkippedCount int
}

// An ImageError reports an image file that cannot be used.
type ImageError struct {
	File string
	Err  error
}

func (e *ImageError) Error() string {
	return fmt.Sprintf("image %s: %v; mend the file or take it out of the folder", e.File, e.Err)
}

func (e *ImageError) Unwrap() error { return e.Err }

// Is makes errors.Is(err, ErrDamaged) true.
func (e *ImageError) Is(target error) bool { return target == ErrDamaged }

// OpenFolder lists the images below dir. Errors: ErrMissing when dir or every
// image in it is missing; an I/O error.
func OpenFolder(dir string, c FolderConfig) (*Folder, error) {
	return openFolder(dir, nil, c)
}

// OpenFolders opens a training and a test folder: dir/train and dir/val, or
// dir/test where there is no dir/val. Classes are those of the training folder.
func OpenFolders(dir string, c FolderConfig) (train, test *Folder, err error) {
	if train, err = OpenFolder(filepath.Join(dir, "train"), c); err != nil {
		return nil, nil, err
	}
	second := filepath.Join(dir, "val")
	if _, err := os.Stat(second); errors.Is(err, fs.ErrNotExist) {
		second = filepath.Join(dir, "test")
	}
	test, err = openFolder(second, train.classes, c)
	return train, test, err
}

func openFolder(dir string, classes []string, c FolderConfig) (*Folder, error) {
	if c.Size == 0 {
		c.Size = 224
	}
	if c.Resize == 0 {
		c.Resize = c.Size * 8 / 7
	}
	if c.Crop == "" {
		c.Crop = "centre"
	}
	switch {
	case c.Size < 1 || c.Size > maxFolderSize || c.Resize < c.Size || c.Resize > 2*maxFolderSize:
		return nil, fmt.Errorf("image folder: size %d, resize %d: want a size of 1 to %d, and to resize to no less", c.Size, c.Resize, maxFolderSize)
	case !slices.Contains([]string{"centre", "random", "area"}, c.Crop):
		return nil, fmt.Errorf("image folder: crop %q: want centre, random or area", c.Crop)
	}
	f := &Folder{dir: dir, config: c, classes: classes}
	top, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: no directory %s; it should hold a directory per class, with PNG and JPEG files", ErrMissing, dir)
		}
		return nil, err
	}
	var found []string
	for _, d := range top {
		if !strings.HasPrefix(d.Name(), ".") {
			if isDir(dir, d) {
				found = append(found, d.Name())
			} else {
				f.skip(d.Name())
			}
		}
	}
	if classes == nil {
		f.classes = found
	}
	for _, class := range found {
		label, ok := slices.BinarySearch(f.classes, class)
		if !ok {
			return nil, fmt.Errorf("%s has a class %q that the training images do not have", dir, class)
		}
		entries, err := os.ReadDir(filepath.Join(dir, class))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name := class + "/" + e.Name()
			if strings.HasPrefix(e.Name(), ".") {
				continue
			}
			switch strings.ToLower(filepath.Ext(e.Name())) {
			case ".png", ".jpg", ".jpeg":
				f.names, f.labels = append(f.names, name), append(f.labels, int32(label))
			default:
				f.skip(name)
			}
		}
	}
	if len(f.names) == 0 {
		return nil, fmt.Errorf("%w: no PNG or JPEG file in %s; it should hold a directory per class, with the files in it", ErrMissing, dir)
	}
	f.index = make([]int, len(f.names))
	for i := range f.index {
		f.index[i] = i
	}
	// Directories list class by class. Who reads some samples in a row, as for
	// batch-norm statistics, is to meet all classes.
	order := f.byHash("order")
	names, labels := slices.Clone(f.names), slices.Clone(f.labels)
	for i, j := range order {
		f.names[i], f.labels[i] = names[j], labels[j]
	}
	return f, nil
}

// byHash is the samples by the SHA-256 of purpose and name: mixed, but in the same
// order everywhere.
func (f *Folder) byHash(purpose string) []int {
	key, order := make([]uint64, f.Len()), make([]int, f.Len())
	for i, name := range f.names {
		sum := sha256.Sum256([]byte(purpose + "\x00" + name))
		key[i], order[i] = binary.BigEndian.Uint64(sum[:]), i
	}
	sort.SliceStable(order, func(a, b int) bool { return key[order[a]] < key[order[b]] })
	return order
}

// isDir follows a link, of which data sets are often made.
func isDir(dir string, d fs.DirEntry) bool {
	if d.Type()&fs.ModeSymlink == 0 {
		return d.IsDir()
	}
	info, err := os.Stat(filepath.Join(dir, d.Name()))
	return err == nil && info.IsDir()
}

func (f *Folder) skip(name string) {
	if f.SkippedCount++; len(f.Skipped) < maxSkipped {
		f.Skipped = append(f.Skipped, name)
	}
}

// Len is the number of samples.
func (f *Folder) Len() int { return len(f.names) }

// Shape is that of one image as the network sees it.
func (f *Folder) Shape() []int { return []int{f.config.Size, f.config.Size, 3} }

// Classes is the number of classes.
func (f *Folder) Classes() int { return len(f.classes) }

// ClassNames are the names of the directories, in the order of the labels.
func (f *Folder) ClassNames() []string { return f.classes }

// Fill writes the centre of the given images to x, normalised with the mean and
// deviation of ImageNet, and their labels to y. A file that cannot be used is
// answered with a panic, since trainers and their like take no error here; its
// value is an *ImageError. Check finds such files before.
func (f *Folder) Fill(indices []int, x []float32, y []int32) {
	if err := f.fill(indices, x, y, func(int, int, int) (image.Rectangle, bool) { return image.Rectangle{}, false }); err != nil {
		panic(err)
	}
}

// FillEpoch writes the given images, cropped and mirrored as the configuration
// says, for an epoch (from 0). Like that of [Augmented] it is a function of
// seed, epoch and sample alone, and may be called by several goroutines. The
// error is an *ImageError.
func (f *Folder) FillEpoch(epoch int, indices []int, x []float32, y []int32) error {
	key := seed.Words(f.config.Seed, "augment", epoch)
	return f.fill(indices, x, y, func(i, w, h int) (image.Rectangle, bool) {
		c := newCoins(key, f.index[i])
		return f.crop(c, w, h), f.config.Flip && c.below(2, 2) == 1
	})
}

// fill decodes images and writes the part of each that choose picks; an empty
// part means the centre.
func (f *Folder) fill(indices []int, x []float32, y []int32, choose func(i, w, h int) (image.Rectangle, bool)) error {
	size := f.config.Size
	n := size * size * 3
	canvas := image.NewRGBA(image.Rect(0, 0, size, size))
	for k, i := range indices {
		img, err := f.decode(i)
		if err != nil {
			return err
		}
		b := img.Bounds()
		part, flip := choose(i, b.Dx(), b.Dy())
		if part.Empty() {
			part = f.centre(b.Dx(), b.Dy())
		}
		clear(canvas.Pix) // what is transparent is black
		xdraw.BiLinear.Scale(canvas, canvas.Rect, img, part.Add(b.Min), xdraw.Over, nil)
		out := x[k*n : (k+1)*n]
		t := *imagenet
		for p := range size * size {
			for c := range 3 {
				out[3*p+c] = t[c][canvas.Pix[4*p+c]]
			}
		}
		if flip {
			for r := range size {
				mirror(out[r*size*3:(r+1)*size*3], 3)
			}
		}
		y[k] = f.labels[i]
	}
	return nil
}

// side is that of the square in an image of the given size which is Size when
// the shorter side is Resize.
func (f *Folder) side(w, h int) int {
	return max(1, (2*min(w, h)*f.config.Size+f.config.Resize)/(2*f.config.Resize)) // rounded
}

func (f *Folder) centre(w, h int) image.Rectangle {
	s := f.side(w, h)
	return square((w-s)/2, (h-s)/2, s, s)
}

// crop is a part of an image of the given size.
func (f *Folder) crop(c coins, w, h int) image.Rectangle {
	switch f.config.Crop {
	case "random":
		s := f.side(w, h)
		return square(c.below(1, w-s+1), c.below(0, h-s+1), s, s)
	case "area":
		for try := range 10 {
			k := 16 + 8*try // numbers of this try; those below are used elsewhere
			area := float64(w*h) * (0.08 + 0.92*c.unit(k))
			aspect := 3./4 + (4./3-3./4)*c.unit(k+1)
			cw, ch := int(math.Round(math.Sqrt(area*aspect))), int(math.Round(math.Sqrt(area/aspect)))
			if c.below(k+2, 2) == 1 {
				cw, ch = ch, cw
			}
			if cw >= 1 && ch >= 1 && cw <= w && ch <= h {
				return square(c.below(k+3, w-cw+1), c.below(k+4, h-ch+1), cw, ch)
			}
		}
		s := min(w, h)
		return square((w-s)/2, (h-s)/2, s, s)
	}
	return f.centre(w, h)
}

func square(x, y, w, h int) image.Rectangle { return image.Rect(x, y, x+w, y+h) }

// unit is number k of the sample, in [0, 1).
func (c coins) unit(k int) float64 {
	hi, _ := bits.Mul64(mix(uint64(c)+uint64(k+1)*0x9e3779b97f4a7c15), 1<<53)
	return float64(hi) / (1 << 53)
}

// decode reads the image of a sample. Orientation tags are not obeyed, as they
// are not by the reference.
func (f *Folder) decode(i int) (image.Image, error) {
	path := filepath.Join(f.dir, filepath.FromSlash(f.names[i]))
	bad := func(err error) error { return &ImageError{path, err} }
	r, err := os.Open(path)
	if err != nil {
		return nil, bad(err)
	}
	defer r.Close()
	if info, err := r.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, bad(errors.New("not a regular file"))
	}
	img, err := decodeImage(r)
	if err != nil {
		return nil, bad(err)
	}
	return img, nil
}

// decodeImage reads a PNG or JPEG of bounded size.
func decodeImage(r io.ReadSeeker) (image.Image, error) {
	c, _, err := image.DecodeConfig(r)
	if err != nil {
		return nil, err
	}
	if c.Width < 1 || c.Height < 1 || c.Width > maxImagePixels/c.Height {
		return nil, fmt.Errorf("%d by %d pixels: want 1 to %d in all", c.Width, c.Height, maxImagePixels)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	img, _, err := image.Decode(r)
	return img, err
}

// Check decodes every image, on all processors, and returns the number of those
// that cannot be used. report is called after each, by one goroutine at a time,
// with the number that are done and its *ImageError or nil. The error is that of
// ctx.
func (f *Folder) Check(ctx context.Context, report func(done int, broken error)) (broken int, err error) {
	var (
		mu   sync.Mutex
		done int
		all  sync.WaitGroup
		next atomic.Int64
	)
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < f.Len() && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				_, err := f.decode(i)
				mu.Lock()
				if done++; err != nil {
					broken++
				}
				report(done, err)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return broken, context.Cause(ctx)
}

// SHA256 is the hash, in hexadecimal, of the number of classes and of each
// sample's class and file, in their order. It reads all files.
func (f *Folder) SHA256() (string, error) {
	all := sha256.New()
	fmt.Fprintf(all, "%d images in %d classes\n", f.Len(), f.Classes())
	for i, name := range f.names {
		r, err := os.Open(filepath.Join(f.dir, filepath.FromSlash(name)))
		if err != nil {
			return "", err
		}
		one := sha256.New()
		_, err = io.Copy(one, r)
		r.Close()
		if err != nil {
			return "", fmt.Errorf("read %s: %w", filepath.Join(f.dir, name), err)
		}
		fmt.Fprintf(all, "%d %x\n", f.labels[i], one.Sum(nil))
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// Hold divides the samples in two, like [Split.Hold], but by the SHA-256 of
// purpose and name, CLASS/FILE: the files are not read.
func (f *Folder) Hold(purpose string, n int) (held, rest *Folder, err error) {
	if n < 0 || n > f.Len() {
		return nil, nil, fmt.Errorf("hold %d samples for %s: there are %d", n, purpose, f.Len())
	}
	order := f.byHash(purpose)
	return f.pick(order[:n]), f.pick(order[n:]), nil
}

// Subset is n samples chosen by their name: Hold("subset", n).
func (f *Folder) Subset(n int) (*Folder, error) {
	held, _, err := f.Hold("subset", n)
	return held, err
}

func (f *Folder) pick(indices []int) *Folder {
	sorted := slices.Sorted(slices.Values(indices))
	out := &Folder{dir: f.dir, config: f.config, classes: f.classes}
	for _, i := range sorted {
		out.names, out.labels, out.index = append(out.names, f.names[i]), append(out.labels, f.labels[i]), append(out.index, f.index[i])
	}
	return out
}
