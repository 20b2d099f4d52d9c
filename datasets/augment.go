package datasets

import (
	"fmt"
	"math/bits"

	"github.com/openpith/evidence/internal/seed"
)

// An Augmentation changes images at random while a network trains on them. The
// zero value changes nothing.
type Augmentation struct {
	// Pad is the number of pixels put around the image, of which then a random
	// part of the old size is cut out.
	Pad int `json:"pad,omitempty"`
	// Fill is the pixel that padding has in each channel, before normalisation.
	Fill uint8 `json:"fill,omitempty"`
	// Flip mirrors every second image, left to right.
	Flip bool `json:"flip,omitempty"`
	// Cutout is the side of a square, its centre anywhere in the image, in which
	// all values become 0 after normalisation (DeVries and Taylor, 2017).
	Cutout int `json:"cutout,omitempty"`
}

// Reference is how the reference augments a set: MNIST padded by 2 with black
// and cropped, CIFAR padded by 4 with gray (127), cropped and mirrored. It also
// mirrors MNIST's digits, which is a slip that is not copied. Fashion-MNIST,
// which the reference does not know, is padded as MNIST and mirrored; glyphs,
// which are drawn at random already, are left alone, and so is every other set.
func Reference(set string) Augmentation {
	switch set {
	case "mnist":
		return Augmentation{Pad: 2}
	case "fashion-mnist":
		return Augmentation{Pad: 2, Flip: true}
	case "cifar-10", "cifar-100", "cifar-10-part":
		return Augmentation{Pad: 4, Fill: 127, Flip: true}
	}
	return Augmentation{}
}

func (a Augmentation) check(shape []int) error {
	// Beyond these nothing of an image might be left.
	if limit := min(shape[0], shape[1]); a.Pad < 0 || a.Pad >= limit || a.Cutout < 0 || a.Cutout > 2*limit {
		return fmt.Errorf("augmentation of %dx%d images: pad %d, cutout %d: want a pad of 0 to %d and a cutout of 0 to %d",
			shape[0], shape[1], a.Pad, a.Cutout, limit-1, 2*limit)
	}
	return nil
}

// Augmented is a split whose images change from epoch to epoch. Fill gives
// them as they are, for evaluation; FillEpoch gives them changed.
type Augmented struct {
	*Split
	How  Augmentation
	seed int64
}

// Augment returns the split with an augmentation that depends on the seed.
func (s *Split) Augment(a Augmentation, seed int64) (*Augmented, error) {
	if err := a.check(s.shape); err != nil {
		return nil, err
	}
	return &Augmented{s, a, seed}, nil
}

// FillEpoch writes the given images to x, as they are in an epoch (from 0), and
// their labels to y. How an image is changed is a function of the seed, the
// epoch and its index alone: not of the order or the company in which images
// are asked for, nor of the goroutine that asks. It may be called by several at
// once, and always returns nil.
//
// Crop, flip and cutout are drawn independently: turning one off leaves the
// others as they were.
func (s *Augmented) FillEpoch(epoch int, indices []int, x []float32, y []int32) error {
	n := s.pixels()
	key := seed.Words(s.seed, "augment", epoch)
	for i, j := range indices {
		s.draw(newCoins(key, j), s.Images[j*n:(j+1)*n], x[i*n:(i+1)*n])
		y[i] = int32(s.Labels[j])
	}
	return nil
}

// draw writes one image.
func (s *Augmented) draw(c coins, image []uint8, out []float32) {
	h, w, ch := s.shape[0], s.shape[1], s.shape[2]
	down, right := c.below(0, 2*s.How.Pad+1)-s.How.Pad, c.below(1, 2*s.How.Pad+1)-s.How.Pad
	flip := s.How.Flip && c.below(2, 2) == 1
	// Columns of the output that show the image; the others show padding.
	from, to := max(0, -right), min(w, w-right)
	for r := range h {
		row := out[r*w*ch : (r+1)*w*ch]
		src := r + down
		if src < 0 || src >= h {
			s.pad(row)
		} else {
			s.pad(row[:from*ch])
			s.norm.apply(row[from*ch:to*ch], image[(src*w+from+right)*ch:(src*w+to+right)*ch])
			s.pad(row[to*ch:])
		}
		if flip {
			mirror(row, ch)
		}
	}
	if s.How.Cutout > 0 {
		// The square of side k around pixel c begins at c - k/2.
		top, left := c.below(3, h)-s.How.Cutout/2, c.below(4, w)-s.How.Cutout/2
		for r := max(0, top); r < min(h, top+s.How.Cutout); r++ {
			clear(out[(r*w+max(0, left))*ch : (r*w+min(w, left+s.How.Cutout))*ch])
		}
	}
}

func (s *Augmented) pad(row []float32) {
	t := *s.norm
	for i := range row {
		row[i] = t[i%len(t)][s.How.Fill]
	}
}

// mirror turns a row of pixels around.
func mirror(row []float32, channels int) {
	for a, b := 0, len(row)-channels; a < b; a, b = a+channels, b-channels {
		for c := range channels {
			row[a+c], row[b+c] = row[b+c], row[a+c]
		}
	}
}

// coins are the random numbers of one sample in one epoch, by their number: a
// hash of 64 bits is enough where a stream for each sample would cost as much
// as the sample.
type coins uint64

func newCoins(key [4]uint64, sample int) coins {
	return coins(mix(key[0] + mix(key[1]+uint64(sample))))
}

// below is number k of the sample, from 0 to n-1.
func (c coins) below(k, n int) int {
	hi, _ := bits.Mul64(mix(uint64(c)+uint64(k+1)*0x9e3779b97f4a7c15), uint64(n))
	return int(hi)
}

// mix is the finaliser of SplitMix64 (Steele, Lea and Flood 2014).
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
