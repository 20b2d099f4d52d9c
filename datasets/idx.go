package datasets

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A published set in IDX form: four gzipped files.
type published struct {
	name    string
	source  string
	classes []string
	train   [2]file // images, labels
	test    [2]file
	urls    []string // mirrors; a file is found under its name
}

// A file as it was published.
type file struct {
	name   string
	sha256 string // of the file as it lies there
	size   int64  // of the same, in bytes
	dims   []int  // of its content
}

func (p published) files() []file {
	return []file{p.train[0], p.train[1], p.test[0], p.test[1]}
}

var sets = []published{
	{
		name:    "mnist",
		source:  "MNIST, the original files of LeCun, Cortes and Burges",
		classes: []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"},
		train: [2]file{
			{"train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9912422, []int{60000, 28, 28}},
			{"train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28881, []int{60000}},
		},
		test: [2]file{
			{"t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1648877, []int{10000, 28, 28}},
			{"t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4542, []int{10000}},
		},
		urls: []string{
			"https://ossci-datasets.s3.amazonaws.com/mnist/",
			"https://storage.googleapis.com/cvdf-datasets/mnist/",
		},
	},
	{
		name:    "fashion-mnist",
		source:  "Fashion-MNIST, the original files of Zalando Research",
		classes: []string{"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"},
		train: [2]file{
			{"train-images-idx3-ubyte.gz", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26421880, []int{60000, 28, 28}},
			{"train-labels-idx1-ubyte.gz", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29515, []int{60000}},
		},
		test: [2]file{
			{"t10k-images-idx3-ubyte.gz", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4422102, []int{10000, 28, 28}},
			{"t10k-labels-idx1-ubyte.gz", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5148, []int{10000}},
		},
		urls: []string{
			"https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
			"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
		},
	},
}

// Names lists the sets that Load and Download know.
func Names() []string {
	var names []string
	for _, p := range sets {
		names = append(names, p.name)
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
	return p.find(dir)
}

func (p published) find(dir string) (string, error) {
	from := dir
	if from == "" {
		from = os.Getenv(DataVariable)
	}
	if from == "" {
		return "", fmt.Errorf("%w: %s: no directory given, and %s is not set", ErrMissing, p.name, DataVariable)
	}
	var missing string
	for _, d := range []string{filepath.Join(from, p.name), from} {
		missing = ""
		for _, f := range p.files() {
			if _, err := os.Stat(filepath.Join(d, f.name)); err != nil {
				missing = f.name
				break
			}
		}
		if missing == "" {
			return d, nil
		}
	}
	return "", fmt.Errorf("%w: %s: %s holds no %s, neither itself nor in %s", ErrMissing, p.name, from, missing, p.name+string(filepath.Separator))
}

// Load finds a set and reads it, checking every file against the SHA-256 of
// the published one. Errors: ErrMissing, ErrUnknown, ErrDamaged.
func Load(name, dir string) (*Set, error) {
	p, err := byName(name)
	if err != nil {
		return nil, err
	}
	return p.load(dir)
}

func (p published) load(dir string) (*Set, error) {
	at, err := p.find(dir)
	if err != nil {
		return nil, err
	}
	s := &Set{Name: p.name, Source: p.source, Classes: p.classes}
	if s.Train, err = p.loadSplit(at, p.train); err != nil {
		return nil, err
	}
	if s.Test, err = p.loadSplit(at, p.test); err != nil {
		return nil, err
	}
	return s, nil
}

func (p published) loadSplit(dir string, pair [2]file) (*Split, error) {
	images, err := pair[0].read(dir)
	if err != nil {
		return nil, err
	}
	labels, err := pair[1].read(dir)
	if err != nil {
		return nil, err
	}
	shape := append(slices.Clone(pair[0].dims[1:]), 1) // one channel
	s, err := newSplit(images, labels, shape, len(p.classes))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", filepath.Join(dir, pair[1].name), ErrDamaged, err)
	}
	return s, nil
}

// read returns the content of the file in dir after checking that it is the
// published one.
func (f file) read(dir string) ([]uint8, error) {
	path := filepath.Join(dir, f.name)
	damaged := func(err error) error {
		return fmt.Errorf("%s: %w: %w; get it again, for example with: smoothout data get", path, ErrDamaged, err)
	}
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// One byte more than wanted tells a longer file without reading all of it.
	packed, err := io.ReadAll(io.LimitReader(r, f.size+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if err := f.check(packed); err != nil {
		return nil, damaged(err)
	}
	data, err := readIDX(bytes.NewReader(packed), f.dims)
	if err != nil {
		return nil, damaged(err)
	}
	return data, nil
}

// check compares bytes with the size and hash of the published file.
func (f file) check(packed []byte) error {
	switch n := int64(len(packed)); {
	case n < f.size:
		return fmt.Errorf("cut short: %d bytes of %d", n, f.size)
	case n > f.size:
		return fmt.Errorf("longer than the %d bytes it should have", f.size)
	}
	sum := sha256.Sum256(packed)
	if got := hex.EncodeToString(sum[:]); got != f.sha256 {
		return fmt.Errorf("SHA-256 is %s, want %s", got, f.sha256)
	}
	return nil
}

// readIDX reads a gzipped IDX file of bytes with the given dimensions: two zero
// bytes, the type (8: unsigned byte), the number of dimensions, each dimension
// as a big-endian uint32, and the data. It reads no more than that size.
func readIDX(r io.Reader, dims []int) ([]uint8, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("not a gzip file: %w", short(err))
	}
	head := make([]byte, 4+4*len(dims))
	if _, err := io.ReadFull(z, head[:4]); err != nil {
		return nil, fmt.Errorf("IDX header: %w", short(err))
	}
	if want := []byte{0, 0, 8, byte(len(dims))}; !bytes.Equal(head[:4], want) {
		return nil, fmt.Errorf("IDX magic number is % x, want % x", head[:4], want)
	}
	if _, err := io.ReadFull(z, head[4:]); err != nil {
		return nil, fmt.Errorf("IDX header: %w", short(err))
	}
	size := 1
	for i, want := range dims {
		if got := binary.BigEndian.Uint32(head[4+4*i:]); int64(got) != int64(want) {
			return nil, fmt.Errorf("IDX dimension %d is %d, want %d", i+1, got, want)
		}
		size *= want
	}
	data := make([]uint8, size)
	if n, err := io.ReadFull(z, data); err != nil {
		return nil, fmt.Errorf("data ends after %d of %d bytes: %w", n, size, short(err))
	}
	// Reading to the end also checks the checksum of gzip.
	switch n, err := z.Read(make([]byte, 1)); {
	case n > 0:
		return nil, errors.New("more data than the header says")
	case err != io.EOF:
		return nil, fmt.Errorf("after the data: %w", short(err))
	}
	return data, nil
}

// short names the two ways in which Go reports an early end alike.
func short(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
