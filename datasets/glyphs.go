package datasets

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/openpith/evidence/internal/seed"
)

// GlyphsConfig says which generated digits to make.
type GlyphsConfig struct {
	Seed  int64 `json:"seed"`
	Train int   `json:"train"` // samples in the training split
	Test  int   `json:"test"`
}

// Glyphs draws a set of handwriting-like digits: 28x28 gray images in ten
// equally frequent classes. It needs no files and no network. It is not MNIST
// and looks only superficially like it; accuracies on the two do not compare.
//
// Each sample is one of several skeletons of a digit, its points moved, bent by
// a smooth random field (elastic distortion), slanted, turned and scaled, drawn
// with a pen of random width and pressure, crossed by a stray stroke and
// covered with noise. All arithmetic is on integers, so a seed gives the same
// bits on every 64-bit platform; and sample i depends on the seed, the split and i
// alone, so a smaller set is the beginning of a larger one.
func Glyphs(c GlyphsConfig) (*Set, error) {
	if c.Train < 1 || c.Test < 1 || c.Train > 1e6 || c.Test > 1e6 {
		return nil, fmt.Errorf("glyphs: %d training and %d test samples: want 1 to 1000000 of each", c.Train, c.Test)
	}
	split := func(name string, n int) *Split {
		s := &Split{
			Images: make([]uint8, n*side*side),
			Labels: make([]uint8, n),
			shape:  []int{side, side, 1},
			class:  len(skeletons),
			norm:   halves,
		}
		for i := range n {
			s.Labels[i] = uint8(i % len(skeletons))
			drawGlyph(seed.Stream(c.Seed, "glyphs", name, i), int(s.Labels[i]), s.Images[i*side*side:][:side*side])
		}
		return s
	}
	return &Set{
		Name:    "glyphs",
		Source:  fmt.Sprintf("generated from seed %d: drawn digits, distorted; not MNIST", c.Seed),
		Classes: digits,
		Train:   split("train", c.Train),
		Test:    split("test", c.Test),
	}, nil
}

const (
	side = 28   // pixels
	unit = 1024 // fixed point: one pixel, or the number one
)

// A point in fixed point: pixels times unit when drawn.
type point struct{ x, y int }

// skeletons of the ten digits: strokes separated by ";", each a list of control
// points in a box 10 wide and 14 high. A stroke is the quadratic B-spline of
// its points; a point written twice is a corner.
var skeletons = parse([][]string{
	{ // 0
		"5,0 0,0 0,14 10,14 10,0 5,0",
		"7,1 2,-1 -1,7 2,15 9,14 11,6 8,0 4,1",
		"5,0 1,2 1,12 5,14 9,12 9,2 5,0;8,3 2,11",
	},
	{ // 1
		"5,0 5,14",
		"2,3 5,0 5,0 5,14",
		"2,3 5,0 5,0 5,14;2,14 8,14",
		"7,0 4,14",
	},
	{ // 2
		"1,3 2,0 9,-1 10,5 5,9 1,14 1,14 10,14",
		"1,2 5,-2 10,3 7,8 0,13 2,10 6,14 10,13",
		"1,1 8,-1 9,6 1,14 1,14 9,13",
	},
	{ // 3
		"1,1 9,-2 10,7 4,7 4,7 11,6 10,16 1,13",
		"1,0 9,0 9,0 4,6 4,6 11,6 9,15 1,13",
		"2,2 6,-2 10,3 7,6 3,7 9,7 11,12 5,16 0,12",
	},
	{ // 4
		"7,14 7,0 7,0 0,10 0,10 10,10",
		"2,0 1,8 1,8 9,8;8,1 7,14",
		"1,0 0,7 3,8 9,6;9,0 8,7 8,14",
	},
	{ // 5
		"9,0 2,0 2,0 1,6 1,6 9,4 12,13 4,15 0,12",
		"2,0 1,6 9,5 10,13 3,15 0,12;2,0 9,0",
		"9,1 3,0 2,5 8,6 10,12 4,15 1,12",
	},
	{ // 6
		"8,0 1,4 -1,14 8,16 12,8 3,6 1,10",
		"7,0 2,5 0,12 5,15 9,13 8,8 4,7 1,11",
		"5,0 1,6 1,14 9,15 9,8 5,7 2,10",
	},
	{ // 7
		"0,0 9,0 9,0 4,14",
		"0,1 9,0 9,0 3,14;3,7 9,7",
		"0,2 1,0 6,1 10,0 6,6 4,14",
	},
	{ // 8
		"8,2 5,-1 0,2 3,6 9,9 9,14 2,15 0,10 8,6 9,2 6,0",
		"5,7 0,6 1,0 5,0 9,0 10,6 5,7 -1,8 0,14 5,14 10,14 11,8 5,7",
		"9,1 4,-2 -1,3 8,8 10,13 4,16 -1,12 8,5 9,1",
	},
	{ // 9
		"9,4 7,-1 -1,-1 1,8 8,8 9,3 9,3 8,14",
		"9,2 4,-2 -1,4 3,8 9,6 9,2 10,8 8,14 2,14",
		"8,3 4,-1 1,3 3,7 7,6 8,2 8,2 7,14",
	},
})

func parse(digits [][]string) [][][][]point {
	parsed := make([][][][]point, len(digits))
	for d, variants := range digits {
		for _, v := range variants {
			var strokes [][]point
			for text := range strings.SplitSeq(v, ";") {
				var stroke []point
				for _, p := range strings.Fields(text) {
					x, y, _ := strings.Cut(p, ",")
					stroke = append(stroke, point{atoi(x) * unit, atoi(y) * unit})
				}
				strokes = append(strokes, stroke)
			}
			parsed[d] = append(parsed[d], strokes)
		}
	}
	return parsed
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err) // a mistake in the table above
	}
	return n
}

// drawGlyph draws one sample of a digit into image.
func drawGlyph(src rand.Source, digit int, image []uint8) {
	variants := skeletons[digit]
	skeleton := variants[seed.Below(src, len(variants))]
	w := newWarp(src)
	width := between(src, unit*7/10, unit*19/10) // radius of the pen, in pixels
	ink := between(src, 150, 255)

	var canvas [side * side]int
	for _, stroke := range skeleton {
		moved := make([]point, len(stroke))
		for i, p := range stroke {
			moved[i] = point{p.x + between(src, -unit, unit), p.y + between(src, -unit, unit)}
			if i > 0 && p == stroke[i-1] {
				moved[i] = moved[i-1] // corners stay corners
			}
		}
		line := spline(moved)
		for i := range line {
			line[i] = w.apply(line[i])
		}
		draw(&canvas, line, width, ink)
	}
	// A stray stroke, thin and fainter, somewhere.
	from := point{between(src, 0, side*unit), between(src, 0, side*unit)}
	to := point{from.x + between(src, -8*unit, 8*unit), from.y + between(src, -8*unit, 8*unit)}
	draw(&canvas, []point{from, to}, unit*6/10, between(src, 60, 180))

	grain := between(src, 10, 50)
	for i, v := range canvas {
		// The sum of two uniform numbers has a triangular law.
		v += between(src, -grain, grain) + between(src, -grain, grain)
		image[i] = uint8(min(max(v, 0), 255))
	}
}

// between is uniform from lo to hi-1.
func between(src rand.Source, lo, hi int) int { return lo + seed.Below(src, hi-lo) }

// A warp maps the box of a skeleton, 10 by 14, to the image.
type warp struct {
	lattice        [4][4]point // displacements at a grid over the box, in box units
	xx, xy, yx, yy int         // matrix, times unit
	cx, cy         int         // centre in the image
}

func newWarp(src rand.Source) warp {
	var w warp
	const bend = unit * 13 / 10
	for i := range w.lattice {
		for j := range w.lattice[i] {
			w.lattice[i][j] = point{between(src, -bend, bend), between(src, -bend, bend)}
		}
	}
	// About 1.5 pixels a box unit upright: digits 20 pixels high.
	w.xx = between(src, unit*95/100, unit*165/100)
	w.yy = between(src, unit*110/100, unit*155/100)
	w.xy = between(src, -unit*55/100, unit*45/100) // slant
	w.yx = between(src, -unit*35/100, unit*35/100)
	w.cx = side*unit/2 + between(src, -2*unit, 2*unit)
	w.cy = side*unit/2 + between(src, -2*unit, 2*unit)
	return w
}

func (w warp) apply(p point) point {
	// Displacement, interpolated between the four lattice points around.
	i, fy := cell(p.y, 14)
	j, fx := cell(p.x, 10)
	mix := func(a, b, f int) int { return a + (b-a)*f/unit }
	dx := mix(mix(w.lattice[i][j].x, w.lattice[i][j+1].x, fx), mix(w.lattice[i+1][j].x, w.lattice[i+1][j+1].x, fx), fy)
	dy := mix(mix(w.lattice[i][j].y, w.lattice[i][j+1].y, fx), mix(w.lattice[i+1][j].y, w.lattice[i+1][j+1].y, fx), fy)
	x, y := p.x+dx-5*unit, p.y+dy-7*unit
	return point{w.cx + (w.xx*x+w.xy*y)/unit, w.cy + (w.yx*x+w.yy*y)/unit}
}

// cell finds the lattice cell of a coordinate in a box of the given size, and
// the smoothed position within it (3f²-2f³), times unit.
func cell(v, size int) (i, f int) {
	t := min(max(v*3/size, 0), 3*unit-1)
	i, f = t/unit, t%unit
	return i, f * f / unit * (3*unit - 2*f) / unit
}

// spline is the quadratic B-spline of control points as a polyline: Bézier
// arcs between the middles of the sides, starting and ending at the ends.
func spline(p []point) []point {
	line := []point{p[0]}
	last := len(p) - 1
	for i := 1; i < last; i++ {
		a, b, c := middle(p[i-1], p[i]), p[i], middle(p[i], p[i+1])
		if i == 1 {
			a = p[0]
		}
		if i == last-1 {
			c = p[last]
		}
		const pieces = 8
		for k := 1; k <= pieces; k++ {
			u, v := pieces-k, k
			line = append(line, point{
				(u*u*a.x + 2*u*v*b.x + v*v*c.x) / (pieces * pieces),
				(u*u*a.y + 2*u*v*b.y + v*v*c.y) / (pieces * pieces),
			})
		}
	}
	return append(line, p[last])
}

func middle(a, b point) point { return point{(a.x + b.x) / 2, (a.y + b.y) / 2} }

// draw lays a polyline onto the canvas with a round pen: full ink within the
// radius, none a pixel further out. Where lines overlap the darker one stays.
func draw(canvas *[side * side]int, line []point, radius, ink int) {
	for i := 1; i < len(line); i++ {
		a, b := line[i-1], line[i]
		reach := radius + unit
		x0, x1 := max((min(a.x, b.x)-reach)/unit, 0), min((max(a.x, b.x)+reach)/unit, side-1)
		y0, y1 := max((min(a.y, b.y)-reach)/unit, 0), min((max(a.y, b.y)+reach)/unit, side-1)
		for y := y0; y <= y1; y++ {
			for x := x0; x <= x1; x++ {
				d := distance(point{x*unit + unit/2, y*unit + unit/2}, a, b)
				cover := min(max(radius+unit/2-d, 0), unit)
				canvas[y*side+x] = max(canvas[y*side+x], ink*cover/unit)
			}
		}
	}
}

// distance from p to the segment from a to b.
func distance(p, a, b point) int {
	dx, dy := b.x-a.x, b.y-a.y
	px, py := p.x-a.x, p.y-a.y
	if length := dx*dx + dy*dy; length > 0 {
		t := min(max(px*dx+py*dy, 0), length)
		px -= dx * t / length
		py -= dy * t / length
	}
	return isqrt(px*px + py*py)
}

// isqrt is the integer square root, by Newton's method from above.
func isqrt(n int) int {
	if n == 0 {
		return 0
	}
	x := 1 << ((bits.Len(uint(n)) + 1) / 2)
	for {
		y := (x + n/x) / 2
		if y >= x {
			return x
		}
		x = y
	}
}
