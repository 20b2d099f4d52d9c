package datasets

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A published set: files that anyone can get, the same bytes for everyone.
type published struct {
	name     string
	source   string
	classes  []string
	norm     *normalization
	urls     []string // mirrors; a file is found under its name
	dirs     []string // directories that it comes in, beside one of its own name
	packings []packing
}

// A packing is one way in which a set lies on a disk. Download fetches the
// first of a set.
type packing struct {
	files []file
	read  func(p published, k packing, dir string) (train, test *Split, err error)
}

// A file as it was published.
type file struct {
	name   string
	sha256 string // of the file as it lies there; "" if nobody published one
	size   int64  // of the same, in bytes; 0 if unknown
	dims   []int  // of its content: the number of samples, and for images their height and width
}

// digits are the names of ten classes.
var digits = []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}

var sets = []published{
	{
		name:    "mnist",
		source:  "MNIST, the original files of LeCun, Cortes and Burges",
		classes: digits,
		norm:    halves,
		urls: []string{
			"https://ossci-datasets.s3.amazonaws.com/mnist/",
			"https://storage.googleapis.com/cvdf-datasets/mnist/",
		},
		packings: []packing{{read: readIDXFiles, files: []file{
			{"train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9912422, []int{60000, 28, 28}},
			{"train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28881, []int{60000}},
			{"t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1648877, []int{10000, 28, 28}},
			{"t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4542, []int{10000}},
		}}},
	},
	{
		name:    "fashion-mnist",
		source:  "Fashion-MNIST, the original files of Zalando Research",
		classes: []string{"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"},
		norm:    halves,
		urls: []string{
			"https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
			"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
		},
		packings: []packing{{read: readIDXFiles, files: []file{
			{"train-images-idx3-ubyte.gz", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26421880, []int{60000, 28, 28}},
			{"train-labels-idx1-ubyte.gz", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29515, []int{60000}},
			{"t10k-images-idx3-ubyte.gz", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4422102, []int{10000, 28, 28}},
			{"t10k-labels-idx1-ubyte.gz", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5148, []int{10000}},
		}}},
	},
	{
		name:    "cifar-10",
		source:  "CIFAR-10, binary version, by Krizhevsky",
		classes: cifar10Classes,
		norm:    imagenet,
		urls:    []string{"https://www.cs.toronto.edu/~kriz/"},
		dirs:    []string{"cifar-10-batches-bin"},
		packings: append([]packing{{read: readCIFARArchive, files: []file{
			{"cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170052171, nil},
		}}}, unpacked(1, 10000, "data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")...),
	},
	{
		name:    "cifar-100",
		source:  "CIFAR-100, binary version, by Krizhevsky, fine labels",
		classes: cifar100Classes,
		norm:    imagenet,
		urls:    []string{"https://www.cs.toronto.edu/~kriz/"},
		dirs:    []string{"cifar-100-binary"},
		packings: append([]packing{{read: readCIFARArchive, files: []file{
			{"cifar-100-binary.tar.gz", "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec", 168513733, nil},
		}}}, unpacked(2, 0, "train", "test")...),
	},
	{
		name:    "cifar-10-part",
		source:  "8,068 training and 1,017 test images of CIFAR-10 (images 0 to 3999 of data_batch_1, 0 to 1016 of the other batches)",
		classes: cifar10Classes,
		norm:    imagenet,
		dirs:    []string{"cifar-10-subset"},
		packings: []packing{{read: readCIFARFiles, files: []file{
			{"train_8068.bin.gz", "c9d751bdebb444d74594cc60ee14800e61699f744206f6b1b91a2654ce096226", 22882218, []int{8068}},
			{"test_1017.bin.gz", "113ac0e4a39d66bdbaf5a1d8b458ec342ffa3a219ec4389378d366817cc9b1b6", 2881858, []int{1017}},
		}}},
	},
}

// Names lists the sets that Load knows.
func Names() []string {
	var names []string
	for _, p := range sets {
		names = append(names, p.name)
	}
	return names
}

// Files lists the names of the files of a set, as Download gets them. The error
// is ErrUnknown.
func Files(name string) ([]string, error) {
	p, err := byName(name)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range p.packings[0].files {
		names = append(names, f.name)
	}
	return names, nil
}

// Downloadable lists the sets that Download can get.
func Downloadable() []string {
	var names []string
	for _, p := range sets {
		if len(p.urls) > 0 {
			names = append(names, p.name)
		}
	}
	return names
}

func byName(name string) (published, error) {
	for _, p := range sets {
		if p.name == name {
			return p, nil
		}
	}
	return published{}, fmt.Errorf("%w %q: have %s", ErrUnknown, name, strings.Join(Names(), ", "))
}

// DataVariable is the environment variable that names the directory in which
// data sets lie, for when no directory is given.
const DataVariable = "EVIDENCE_DATA"

// Find returns the directory that holds the files of a set: dir, or if that is
// "" the directory named by EVIDENCE_DATA, either itself or its sub-directory
// with the name of the set. It checks that the files are there, not what is in
// them; Load does. The error is ErrMissing or ErrUnknown.
func Find(name, dir string) (string, error) {
	p, err := byName(name)
	if err != nil {
		return "", err
	}
	_, at, err := p.find(dir)
	return at, err
}

func (p published) find(dir string) (k packing, at string, err error) {
	from := dir
	if from == "" {
		from = os.Getenv(DataVariable)
	}
	if from == "" {
		return k, "", fmt.Errorf("%w: %s: no directory given, and %s is not set", ErrMissing, p.name, DataVariable)
	}
	places := []string{filepath.Join(from, p.name), from}
	for _, d := range p.dirs {
		places = append(places, filepath.Join(from, d), filepath.Join(from, p.name, d))
	}
	var missing string // of the packing that Download fetches
	for i, k := range p.packings {
		for _, d := range places {
			absent := ""
			for _, f := range k.files {
				if _, err := os.Stat(filepath.Join(d, f.name)); err != nil {
					absent = f.name
					break
				}
			}
			if absent == "" {
				return k, d, nil
			}
			if i == 0 {
				missing = absent
			}
		}
	}
	return k, "", fmt.Errorf("%w: %s: %s holds no %s, neither itself nor in %s; put it into %s", ErrMissing, p.name, from, missing,
		p.name+string(filepath.Separator), filepath.Join(from, p.name))
}

// Load finds a set and reads it, checking every file against the SHA-256 of
// the published one. Errors: ErrMissing, ErrUnknown, ErrDamaged.
//
// CIFAR-10 and CIFAR-100 may also lie unpacked, as .bin or .bin.gz files. Of
// those no digests are published: their size and form is checked, and the set
// is not Verified.
func Load(name, dir string) (*Set, error) {
	p, err := byName(name)
	if err != nil {
		return nil, err
	}
	return p.load(dir)
}

func (p published) load(dir string) (*Set, error) {
	k, at, err := p.find(dir)
	if err != nil {
		return nil, err
	}
	s := &Set{Name: p.name, Source: p.source, Classes: p.classes}
	s.Verified = !slices.ContainsFunc(k.files, func(f file) bool { return f.sha256 == "" })
	if !s.Verified {
		s.Source += "; unpacked files, not checked against the digest of the archive"
	}
	s.Train, s.Test, err = k.read(p, k, at)
	return s, err
}

// damaged says what is wrong with a file, and what to do.
func (p published) damaged(path string, err error) error {
	hint := "; get it again"
	if len(p.urls) > 0 {
		hint += ", for example with: smoothout data get"
	}
	return fmt.Errorf("%s: %w: %w%s", path, ErrDamaged, err, hint)
}

// split makes a split of what a file held.
func (p published) split(path string, images, labels []uint8, shape []int) (*Split, error) {
	s, err := newSplit(images, labels, shape, len(p.classes), p.norm)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	return s, nil
}

// open opens the file in dir after checking that it is the published one, as
// far as that is known.
func (f file) open(p published, dir string) (*os.File, error) {
	path := filepath.Join(dir, f.name)
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if info, err := r.Stat(); err != nil || !info.Mode().IsRegular() {
		r.Close()
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if err := f.check(r); err != nil {
		r.Close()
		return nil, p.damaged(path, err)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		r.Close()
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

// check compares what r holds with the size and hash of the published file.
func (f file) check(r io.Reader) error {
	if f.size == 0 {
		return nil
	}
	// One byte more than wanted tells a longer file without reading all of it.
	h := sha256.New()
	switch n, err := io.Copy(h, io.LimitReader(r, f.size+1)); {
	case err != nil:
		return err
	case n < f.size:
		return fmt.Errorf("cut short: %d bytes of %d", n, f.size)
	case n > f.size:
		return fmt.Errorf("longer than the %d bytes it should have", f.size)
	}
	if got := hex.EncodeToString(h.Sum(nil)); f.sha256 != "" && got != f.sha256 {
		return fmt.Errorf("SHA-256 is %s, want %s", got, f.sha256)
	}
	return nil
}
