// Package datasets reads image classification sets and generates one.
//
//	set, err := datasets.Load("mnist", dir)   // files, checked by SHA-256
//	set, err := datasets.Glyphs(datasets.GlyphsConfig{Seed: 1, Train: 2000, Test: 1000})
//	folder, err := datasets.OpenFolder("images", datasets.FolderConfig{})
//	augmented, err := set.Train.Augment(datasets.Reference("mnist"), 1)
//
// Nothing here touches the network but [Download], and that only when called.
//
// A [Split] satisfies, by its methods, what a trainer needs of samples. Parts
// of it, such as a validation split, are chosen by the hash of each sample, so
// they depend neither on a seed nor on the order of a file.
package datasets

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
)

// A Set is a training and a test split of images with labels.
type Set struct {
	Name    string
	Source  string // where it is from, for people
	Classes []string
	Train   *Split
	Test    *Split
	// Verified says that every file was compared with its published SHA-256.
	Verified bool
}

// SHA256 identifies the set: the hash of the digests of its splits.
func (s *Set) SHA256() string {
	sum := sha256.Sum256([]byte(s.Train.SHA256() + "\n" + s.Test.SHA256() + "\n"))
	return hex.EncodeToString(sum[:])
}

// A Split is a list of labelled images. It is not changed after it is made, so
// several goroutines may read it.
type Split struct {
	Images []uint8 // one after another, each height, width, channels
	Labels []uint8 // one per image
	shape  []int   // height, width, channels
	class  int     // number of classes
	norm   *normalization
}

// newSplit checks that images and labels belong together.
func newSplit(images, labels []uint8, shape []int, classes int, norm *normalization) (*Split, error) {
	s := &Split{Images: images, Labels: labels, shape: shape, class: classes, norm: norm}
	if len(images) != len(labels)*s.pixels() {
		return nil, fmt.Errorf("%d labels, but images for %d", len(labels), len(images)/s.pixels())
	}
	for i, l := range labels {
		if int(l) >= classes {
			return nil, fmt.Errorf("label %d of sample %d: want less than %d", l, i, classes)
		}
	}
	return s, nil
}

// Len is the number of samples.
func (s *Split) Len() int { return len(s.Labels) }

// Shape is that of one image: height, width, channels.
func (s *Split) Shape() []int { return s.shape }

// Classes is the number of classes.
func (s *Split) Classes() int { return s.class }

// Fill writes the given images to x and their labels to y. Pixels are
// normalised as in the reference: (p/255 - mean)/deviation, for gray images
// with mean 0.5 and deviation 0.5, so that 0 becomes -1 and 255 becomes 1, for
// coloured ones with those of ImageNet, per channel.
func (s *Split) Fill(indices []int, x []float32, y []int32) {
	n := s.pixels()
	for i, j := range indices {
		s.norm.apply(x[i*n:(i+1)*n], s.Images[j*n:(j+1)*n])
		y[i] = int32(s.Labels[j])
	}
}

// A normalization has a table per channel, from a pixel to what a network sees.
type normalization [][256]float32

func normalize(mean, deviation []float32) *normalization {
	t := make(normalization, len(mean))
	for c := range t {
		for p := range t[c] {
			t[c][p] = (float32(p)/255 - mean[c]) / deviation[c]
		}
	}
	return &t
}

var (
	halves = normalize([]float32{0.5}, []float32{0.5})
	// The mean and deviation of ImageNet, which the reference uses for all
	// coloured images.
	imagenet = normalize([]float32{0.485, 0.456, 0.406}, []float32{0.229, 0.224, 0.225})
)

// apply normalises whole pixels.
func (t normalization) apply(x []float32, pixels []uint8) {
	if len(t) == 3 {
		r, g, b := &t[0], &t[1], &t[2]
		for ; len(pixels) >= 3 && len(x) >= 3; pixels, x = pixels[3:], x[3:] {
			x[0], x[1], x[2] = r[pixels[0]], g[pixels[1]], b[pixels[2]]
		}
		return
	}
	gray := &t[0]
	x = x[:len(pixels)]
	for k, p := range pixels {
		x[k] = gray[p]
	}
}

// SHA256 is the hash, in hexadecimal, of shape, number of classes, images and
// labels, in their order.
func (s *Split) SHA256() string {
	h := sha256.New()
	fmt.Fprintf(h, "%d samples of shape %v in %d classes\n", s.Len(), s.shape, s.class)
	h.Write(s.Images)
	h.Write(s.Labels)
	return hex.EncodeToString(h.Sum(nil))
}

// Hold divides the samples in two by their content: held gets n of them, rest
// the others, both in the old order. The held samples are those with the least
// SHA-256 of purpose, pixels and label; equal samples go by their index. So
// the division is the same on every machine and for every run, and different
// purposes ("validation", "subset") divide independently.
//
// It is an error to hold more samples than there are.
func (s *Split) Hold(purpose string, n int) (held, rest *Split, err error) {
	if n < 0 || n > s.Len() {
		return nil, nil, fmt.Errorf("hold %d samples for %s: there are %d", n, purpose, s.Len())
	}
	key := make([]uint64, s.Len())
	order := make([]int, s.Len())
	px := s.pixels()
	buf := make([]byte, 0, len(purpose)+1+px+1)
	for i := range key {
		buf = append(append(buf[:0], purpose...), 0)
		buf = append(append(buf, s.Images[i*px:(i+1)*px]...), s.Labels[i])
		sum := sha256.Sum256(buf)
		key[i] = binary.BigEndian.Uint64(sum[:])
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return key[order[a]] < key[order[b]] })
	return s.pick(order[:n]), s.pick(order[n:]), nil
}

// Subset is n samples chosen by their content: Hold("subset", n).
func (s *Split) Subset(n int) (*Split, error) {
	held, _, err := s.Hold("subset", n)
	return held, err
}

// pick copies samples, in the order they have in s.
func (s *Split) pick(indices []int) *Split {
	sorted := append([]int(nil), indices...)
	sort.Ints(sorted)
	px := s.pixels()
	out := &Split{shape: s.shape, class: s.class, norm: s.norm}
	out.Images, out.Labels = make([]uint8, 0, len(sorted)*px), make([]uint8, 0, len(sorted))
	for _, i := range sorted {
		out.Images = append(out.Images, s.Images[i*px:(i+1)*px]...)
		out.Labels = append(out.Labels, s.Labels[i])
	}
	return out
}

func (s *Split) pixels() int {
	n := 1
	for _, d := range s.shape {
		n *= d
	}
	return n
}

var (
	// ErrUnknown reports a name that no set has.
	ErrUnknown = errors.New("unknown data set")
	// ErrMissing reports that no directory holds the files of a set.
	ErrMissing = errors.New("data set not found")
	// ErrDamaged reports a file that is not what it should be.
	ErrDamaged = errors.New("damaged data file")
)
