package datasets

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// numbered is a split of n images in which no two pixels of an image are alike,
// as far as bytes allow.
func numbered(n int, shape ...int) *Split {
	px := shape[0] * shape[1] * shape[2]
	norm := halves
	if shape[2] == 3 {
		norm = imagenet
	}
	s, err := newSplit(ramp(n*px, 251), make([]uint8, n), shape, 10, norm)
	if err != nil {
		panic(err)
	}
	for i := range s.Labels {
		s.Labels[i] = uint8(i % 10)
	}
	return s
}

func fillEpoch(t interface{ Fatal(...any) }, s *Augmented, epoch int, indices ...int) ([]float32, []int32) {
	x, y := make([]float32, len(indices)*s.pixels()), make([]int32, len(indices))
	if err := s.FillEpoch(epoch, indices, x, y); err != nil {
		t.Fatal(err)
	}
	return x, y
}

// Every pixel of the result is, for one shift of at most pad, one flip and one
// square, what the definition says: found by trying all of them.
func TestAugmentationByDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, w := rapid.IntRange(3, 7).Draw(t, "height"), rapid.IntRange(3, 7).Draw(t, "width")
		channels := rapid.SampledFrom([]int{1, 3}).Draw(t, "channels")
		s := numbered(5, h, w, channels)
		a := Augmentation{
			Pad: rapid.IntRange(0, 2).Draw(t, "pad"), Fill: uint8(rapid.IntRange(0, 255).Draw(t, "fill")),
			Flip: rapid.Bool().Draw(t, "flip"), Cutout: rapid.IntRange(0, 4).Draw(t, "cutout"),
		}
		aug, err := s.Augment(a, rapid.Int64().Draw(t, "seed"))
		if err != nil {
			t.Fatal(err)
		}
		index := rapid.IntRange(0, 4).Draw(t, "index")
		got, label := fillEpoch(t, aug, rapid.IntRange(0, 9).Draw(t, "epoch"), index)
		if label[0] != int32(index) {
			t.Fatalf("label %d of image %d", label[0], index)
		}
		clean, y := make([]float32, s.pixels()), make([]int32, 1)
		s.Fill([]int{index}, clean, y)
		norm := *s.norm
		matches := func(dy, dx int, flip bool, cy, cx int) bool {
			for r := range h {
				for c := range w {
					source := c
					if flip {
						source = w - 1 - c
					}
					for k := range channels {
						want := norm[k][a.Fill]
						if r+dy >= 0 && r+dy < h && source+dx >= 0 && source+dx < w {
							want = clean[((r+dy)*w+source+dx)*channels+k]
						}
						top, left := cy-a.Cutout/2, cx-a.Cutout/2
						if r >= top && r < top+a.Cutout && c >= left && c < left+a.Cutout {
							want = 0
						}
						if got[(r*w+c)*channels+k] != want {
							return false
						}
					}
				}
			}
			return true
		}
		for dy := -a.Pad; dy <= a.Pad; dy++ {
			for dx := -a.Pad; dx <= a.Pad; dx++ {
				for cy := range h {
					for cx := range w {
						if matches(dy, dx, false, cy, cx) || a.Flip && matches(dy, dx, true, cy, cx) {
							return
						}
					}
				}
			}
		}
		t.Fatalf("%+v gives none of the images it may: %v", a, got)
	})
}

// Order, company, goroutines and the other options do not matter; seed, epoch
// and index do.
func TestAugmentationIsAddressed(t *testing.T) {
	s := numbered(40, 8, 8, 3)
	aug := func(a Augmentation, seed int64) *Augmented {
		x, err := s.Augment(a, seed)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	a := aug(Augmentation{Pad: 3, Fill: 127, Flip: true, Cutout: 3}, 1)
	all := make([]int, s.Len())
	for i := range all {
		all[i] = i
	}
	want, _ := fillEpoch(t, a, 4, all...)
	px := s.pixels()
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := s.Len() - 1; i >= 0; i-- {
				if i%4 != worker {
					continue
				}
				x, y := make([]float32, px), make([]int32, 1)
				if err := a.FillEpoch(4, []int{i}, x, y); err != nil || !slices.Equal(x, want[i*px:(i+1)*px]) {
					t.Errorf("image %d alone is another: %v", i, err)
				}
			}
		})
	}
	group.Wait()
	for what, other := range map[string]func() []float32{
		"epoch": func() []float32 { x, _ := fillEpoch(t, a, 5, all...); return x },
		"seed":  func() []float32 { x, _ := fillEpoch(t, aug(a.How, 2), 4, all...); return x },
	} {
		if slices.Equal(other(), want) {
			t.Errorf("another %s changes nothing", what)
		}
	}
	// Without flip and cutout the crops stay where they were.
	plain, _ := fillEpoch(t, aug(Augmentation{Pad: 3, Fill: 127}, 1), 4, all...)
	flipped, _ := fillEpoch(t, aug(Augmentation{Pad: 3, Fill: 127, Flip: true}, 1), 4, all...)
	turned := 0
	for i := range all {
		p, f := plain[i*px:(i+1)*px], flipped[i*px:(i+1)*px]
		if !slices.Equal(p, f) {
			turned++
			for r := range 8 {
				mirror(p[r*24:(r+1)*24], 3)
			}
		}
		if !slices.Equal(p, f) {
			t.Fatalf("image %d: the flip moved the crop", i)
		}
	}
	if turned < 8 || turned > 32 {
		t.Errorf("%d of 40 images are mirrored", turned)
	}
	// Evaluation sees the image itself.
	clean, again, y := make([]float32, px), make([]float32, px), make([]int32, 1)
	s.Fill([]int{7}, clean, y)
	a.Fill([]int{7}, again, y)
	if !slices.Equal(clean, again) {
		t.Error("Fill augments")
	}
}

// The augmentation is part of what a seed means: its bits stay as they are.
func TestAugmentationStays(t *testing.T) {
	s := numbered(100, 8, 9, 3)
	a, err := s.Augment(Augmentation{Pad: 3, Fill: 127, Flip: true, Cutout: 3}, 1)
	if err != nil {
		t.Fatal(err)
	}
	indices := make([]int, 100)
	for i := range indices {
		indices[i] = i
	}
	h := sha256.New()
	for epoch := range 3 {
		x, _ := fillEpoch(t, a, epoch, indices...)
		if err := binary.Write(h, binary.LittleEndian, x); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := hex.EncodeToString(h.Sum(nil)), "e1ca6c132f969318c34f0aab3901ab4b6a030d2ec7265bee0937a1437a18b2a1"; got != want {
		t.Errorf("SHA-256 %s, want %s", got, want)
	}
}

// Each crop is equally frequent, and so is each mirror image.
func TestAugmentationIsFair(t *testing.T) {
	const n, rounds = 50, 200
	s := numbered(n, 4, 4, 1)
	for i := range s.Images {
		s.Images[i] = uint8(1 + i%16) // the pixel tells where it is from
	}
	a, err := s.Augment(Augmentation{Pad: 1, Flip: true}, 3)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for epoch := range rounds {
		for i := range n {
			x, _ := fillEpoch(t, a, epoch, i)
			count[fmt.Sprint(x[5:7])]++ // two inner pixels show shift and mirror
		}
	}
	want := float64(n*rounds) / 18
	if len(count) != 18 {
		t.Errorf("%d different places, want 9 crops, each in two directions", len(count))
	}
	for place, c := range count {
		if math.Abs(float64(c)-want) > 5*math.Sqrt(want) {
			t.Errorf("%s: %d times, want about %v", place, c, want)
		}
	}
}

func TestAugmentationLimits(t *testing.T) {
	s := numbered(1, 4, 6, 1)
	for _, bad := range []Augmentation{{Pad: -1}, {Pad: 4}, {Cutout: -1}, {Cutout: 9}} {
		if _, err := s.Augment(bad, 1); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	for _, name := range append(Names(), "glyphs", "anything") {
		a := Reference(name)
		if name == "mnist" && a.Flip {
			t.Error("MNIST is mirrored")
		}
		if err := a.check([]int{28, 28}); err != nil {
			t.Error(name, err)
		}
	}
}

// What a step reads, for comparison with what it computes: see docs/benchmarks.md.
func BenchmarkFillEpoch(b *testing.B) {
	for _, c := range []struct {
		name  string
		split *Split
		a     Augmentation
	}{
		{"mnist", numbered(1000, 28, 28, 1), Reference("mnist")},
		{"cifar", numbered(1000, 32, 32, 3), Reference("cifar-10")},
		{"cifar with cutout", numbered(1000, 32, 32, 3), Augmentation{Pad: 4, Fill: 127, Flip: true, Cutout: 16}},
		{"cifar, not augmented", numbered(1000, 32, 32, 3), Augmentation{}},
	} {
		b.Run(c.name, func(b *testing.B) {
			const batch = 128
			a, err := c.split.Augment(c.a, 1)
			if err != nil {
				b.Fatal(err)
			}
			indices := make([]int, batch)
			x, y := make([]float32, batch*c.split.pixels()), make([]int32, batch)
			for i := 0; b.Loop(); i++ {
				for k := range indices {
					indices[k] = (i*37 + k*13) % c.split.Len()
				}
				if err := a.FillEpoch(i, indices, x, y); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(batch*b.N)/b.Elapsed().Seconds(), "samples/s")
		})
	}
}
