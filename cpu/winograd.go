package cpu

import (
	"unsafe"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/openpith/evidence/cpu/internal/kernels"
	"github.com/openpith/evidence/cpu/internal/winograd"
)

// Convolutions with kernels of 3x3 or 5x5 and many channels run by Winograd's
// algorithms: a matrix product for each element of transformed tiles, with 2.25 to 4
// times fewer multiplications than the direct way. Both forms of conv.go have it; see
// package winograd for the formulas. What it costs in rounding, TestWinograd bounds.

// winogradFor returns the algorithm with the fewest products for a convolution among
// the allowed ones, or -1 where the transforms are not worth it.
func winogradFor(g *convGeometry, allowed []int) int {
	one := [2]int{1, 1}
	if g.kh != g.kw || g.stride != one || g.dilation != one || g.spread != one || g.groups != 1 ||
		g.oh < 2 || g.ow < 2 || g.ci%kernels.Lanes != 0 || g.co%kernels.Lanes != 0 {
		return -1
	}
	best, least := -1, 0
	for _, i := range allowed {
		a := &winograd.Algorithms[i]
		products := (g.oh + a.Step - 1) / a.Step * ((g.ow + a.Step - 1) / a.Step) * a.Size * a.Size
		if a.Taps == g.kh && (best < 0 || products < least) {
			best, least = i, products
		}
	}
	return best
}

// winogradPanel is the number of columns of a panel, which divides the channels of the
// result, and the kernels for it.
func winogradPanel(set *kernels.Set, channels int) (width int, tiles []kernels.TileFunc) {
	if len(set.Tile32) > 0 && channels%(2*kernels.Lanes) == 0 {
		return 2 * kernels.Lanes, set.Tile32
	}
	return kernels.Lanes, set.Tile16
}

// A winogradTiling is what both forms share: tiles of the input, transformed a
// batch of rows of tiles at a time, so that a batch stays in the second cache level.
type winogradTiling struct {
	convGeometry
	step, size int // of tiles of results and of the input
	transforms *[winograd.Count]kernels.SpanFunc
	set        *kernels.Set
	th, tw     int // tiles of an image
	rows       int // rows of tiles in a batch
	batch      int // tiles in a batch
	width      int // columns of a panel
	tiles      []kernels.TileFunc
	room       int // scratch memory for the padded image
	staged     int // numbers of a row of tiles of results, where these do not divide an image; else 0
	v, m       int // distance of elements of the transformed input, and results
}

func newWinogradTiling(set *kernels.Set, g convGeometry, algorithm int) winogradTiling {
	a := &winograd.Algorithms[algorithm]
	t := winogradTiling{convGeometry: g, set: set, step: a.Step, size: a.Size, transforms: &set.Winograd[algorithm],
		th: (g.oh + a.Step - 1) / a.Step, tw: (g.ow + a.Step - 1) / a.Step}
	t.ph, t.pw = t.step*t.th+a.Taps-1, t.step*t.tw+a.Taps-1
	if g.oh%t.step != 0 || g.ow%t.step != 0 {
		t.staged = t.step * t.step * t.tw * g.co
	}
	const enough = 64 // tiles, the rows of a matrix product
	t.rows = max(1, enough/t.tw)
	t.batch = t.rows * t.tw
	t.width, t.tiles = winogradPanel(set, g.co)
	t.room = t.ph * t.pw * g.ci
	// Off powers of two, which would compete for the same few lines of the cache.
	t.v, t.m = t.batch*g.ci+kernels.Lanes, t.batch*g.co+kernels.Lanes
	return t
}

// elements of a transformed tile.
func (t *winogradTiling) elements() int { return t.size * t.size }

// flops of the products; the transforms are not counted.
func (t *winogradTiling) flops() int { return 2 * t.n * t.th * t.tw * t.elements() * t.ci * t.co }

// scratch is the memory of a worker: the padded image, the transformed batch and its
// results, and a row of tiles.
func (t *winogradTiling) scratch() int { return t.room + t.elements()*(t.v+t.m) + t.staged }

func (t *winogradTiling) workspace(x *frame, worker int) (padded, v, m, stage []float32) {
	at := 0
	take := func(n int) []float32 { at += n; return x.workspace(worker, at-n, n) }
	return take(t.room), take(t.elements() * t.v), take(t.elements() * t.m), take(t.staged)
}

// input transforms a row of tiles of the padded image to place first of a batch.
func (t *winogradTiling) input(span *kernels.Span, v, padded []float32, first, row int) {
	*span = kernels.Span{
		DstRow: 4 * t.size * t.v, DstCol: 4 * t.v, DstTile: 4 * t.ci,
		SrcRow: 4 * t.pw * t.ci, SrcCol: 4 * t.ci, SrcTile: 4 * t.step * t.ci,
		Tiles: t.tw, Lanes: t.ci}
	t.transforms[winograd.Input](&v[first*t.ci], &padded[t.step*row*t.pw*t.ci], span)
}

// each calls do for batches of rows of tiles of images lo to hi, with the first and
// the end among all rows of tiles.
func (t *winogradTiling) each(lo, hi int, do func(from, to int)) {
	for from := lo * t.th; from < hi*t.th; from += t.rows {
		do(from, min(from+t.rows, hi*t.th))
	}
}

// A winogradStep is the forward form.
type winogradStep struct {
	winogradTiling
	dealing
	x, k, y, u int // slots; u: the transformed kernel, [element][panel][ci][width]
	panels     int
	apart      int // distance of elements of u
	kernel     winogradKernel
}

func newWinogradStep(c *compiler, n *node, g convGeometry, algorithm int) (step, int) {
	s := &winogradStep{winogradTiling: newWinogradTiling(c.backend.opts.isa, g, algorithm), dealing: deal(g.n, 1),
		x: c.slot(n.inputs[0]), k: c.slot(n.inputs[1]), y: c.slot(n.outputs[0])}
	s.panels = g.co / s.width
	s.apart = g.ci*g.co + kernels.Lanes // off powers of two, as v and m are
	s.u = c.slot(c.temporary(n, shapes.Make(dtypes.Float32, s.elements(), s.apart)))
	s.kernel.winogradStep = s
	c.needScratch(max(s.scratch(), g.kh*g.kw*g.ci*s.width))
	return s, s.flops()
}

// A winogradKernel is the task that transforms the kernel, a panel per part.
type winogradKernel struct{ *winogradStep }

func (t *winogradKernel) part(x *frame, worker, panel int) {
	s := t.winogradStep
	size := s.ci * s.width
	taps := x.workspace(worker, 0, s.kh*s.kw*size)
	k := x.f32(s.k)
	for h := range s.kh {
		for w := range s.kw {
			at := s.kStart + h*s.kH + w*s.kW + panel*s.width*s.kO
			packPanel(s.set, taps[(h*s.kw+w)*size:], s.width, k[at:], s.ci, s.width, s.kI, s.kO)
		}
	}
	span := &x.workers[worker].span
	*span = kernels.Span{
		DstRow: 4 * s.size * s.apart, DstCol: 4 * s.apart,
		SrcRow: 4 * s.kw * size, SrcCol: 4 * size, Tiles: 1, Lanes: size}
	s.transforms[winograd.Kernel](&x.f32(s.u)[panel*size], &taps[0], span)
}

func (s *winogradStep) run(x *frame) error {
	s.prepare(x)
	x.parallel((s.n+winogradImages-1)/winogradImages, s)
	return nil
}

// winogradImages is the number of images in a part of a step that runs alone.
const winogradImages = 4

func (s *winogradStep) part(x *frame, worker, i int) {
	s.do(x, worker, i, i*winogradImages, min(s.n, (i+1)*winogradImages))
}

func (s *winogradStep) byImage() (operands, results []int) {
	return s.imagesOf(s.x), []int{s.y}
}
func (s *winogradStep) prepare(x *frame)  { x.parallel(s.panels, &s.kernel) }
func (s *winogradStep) begin(*frame, int) {}
func (s *winogradStep) finish(*frame)     {}

func (s *winogradStep) do(x *frame, worker, _, lo, hi int) {
	padded, v, m, stage := s.workspace(x, worker)
	u := x.f32(s.u)
	span, t := &x.workers[worker].span, &x.workers[worker].tile
	s.each(lo, hi, func(from, to int) {
		for i := from; i < to; i++ {
			if image := i / s.th; i == lo*s.th || i%s.th == 0 {
				s.padImage(padded, x.tensor(worker, s.x, image*s.xN), 0, s.ci)
			}
			s.input(span, v, padded, (i-from)*s.tw, i%s.th)
		}
		*t = kernels.Tile{CP: 4 * s.co, AP: 4 * s.ci, AK: 4, BK: 4 * s.width, KI: s.ci, KO: 1}
		rows := (to - from) * s.tw
		for e := range s.elements() {
			for panel := range s.panels {
				t.B = unsafe.Pointer(&u[e*s.apart+panel*s.ci*s.width])
				forTiles(rows, len(s.tiles), func(row, count int) {
					t.A = unsafe.Pointer(&v[e*s.v+row*s.ci])
					t.C = unsafe.Pointer(&m[e*s.m+row*s.co+panel*s.width])
					s.tiles[count-1](t)
				})
			}
		}
		for i := from; i < to; i++ {
			*span = kernels.Span{
				DstRow: 4 * s.ow * s.co, DstCol: 4 * s.co, DstTile: 4 * s.step * s.co,
				SrcRow: 4 * s.size * s.m, SrcCol: 4 * s.m, SrcTile: 4 * s.co,
				Tiles: s.tw, Lanes: s.co}
			row := s.step * (i % s.th)
			y := x.tensor(worker, s.y, (i/s.th*s.oh+row)*s.ow*s.co)
			if s.staged == 0 {
				s.transforms[winograd.Output](&y[0], &m[(i-from)*s.tw*s.co], span)
				continue
			}
			wide := s.step * s.tw * s.co
			span.DstRow = 4 * wide
			s.transforms[winograd.Output](&stage[0], &m[(i-from)*s.tw*s.co], span)
			for h := range min(s.step, s.oh-row) {
				copy(y[h*s.ow*s.co:(h+1)*s.ow*s.co], stage[h*wide:])
			}
		}
	})
}

// A winogradGradStep is the gradient of the kernel, with sums of parts of the images
// as in convGradStep.
type winogradGradStep struct {
	winogradTiling
	dealing
	x, dy, y int // slots
	sums     int // slot of [parts][element][ci][co]
	adding   winogradAdding
	back     winogradBack
}

func newWinogradGradStep(c *compiler, n *node, g convGeometry, algorithm int) (step, int) {
	s := &winogradGradStep{winogradTiling: newWinogradTiling(c.backend.opts.isa, g, algorithm),
		x: c.slot(n.inputs[0]), dy: c.slot(n.inputs[1]), y: c.slot(n.outputs[0])}
	// The sums of a part are many times the kernel, so a part should have products
	// enough to be worth them, and yet there should be parts enough.
	const enough, parts = 64, 4
	s.dealing = deal(g.n, min(enough/(s.th*s.tw), g.n/parts))
	s.sums = c.slot(c.temporary(n, shapes.Make(dtypes.Float32, s.parts(), s.elements(), g.ci, g.co)))
	s.adding.winogradGradStep, s.back.winogradGradStep = s, s
	c.needScratch(s.scratch())
	return s, s.flops()
}

func (s *winogradGradStep) run(x *frame) error {
	x.parallel(s.parts(), s)
	s.finish(x)
	return nil
}

func (s *winogradGradStep) part(x *frame, worker, i int) {
	lo, hi := s.of(i)
	s.do(x, worker, i, lo, hi)
}

func (s *winogradGradStep) byImage() (operands, results []int) {
	return append(s.imagesOf(s.x), s.dy), nil
}
func (s *winogradGradStep) prepare(*frame) {}
func (s *winogradGradStep) finish(x *frame) {
	x.parallel(s.elements(), &s.adding)
	x.parallel(s.ci, &s.back)
}

// sumsOf is the memory of a part.
func (s *winogradGradStep) sumsOf(x *frame, part int) []float32 {
	size := s.elements() * s.ci * s.co
	return x.f32(s.sums)[part*size : (part+1)*size]
}

func (s *winogradGradStep) begin(*frame, int) {}

func (s *winogradGradStep) do(x *frame, worker, part, lo, hi int) {
	sums := s.sumsOf(x, part)
	padded, v, m, stage := s.workspace(x, worker)
	span, t := &x.workers[worker].span, &x.workers[worker].tile
	s.each(lo, hi, func(from, to int) {
		for i := from; i < to; i++ {
			image, row := i/s.th, i%s.th
			if i == lo*s.th || row == 0 {
				s.padImage(padded, x.tensor(worker, s.x, image*s.xN), 0, s.ci)
			}
			s.input(span, v, padded, (i-from)*s.tw, row)
			*span = kernels.Span{
				DstRow: 4 * s.size * s.m, DstCol: 4 * s.m, DstTile: 4 * s.co,
				SrcRow: 4 * s.ow * s.co, SrcCol: 4 * s.co, SrcTile: 4 * s.step * s.co,
				Tiles: s.tw, Lanes: s.co}
			dy := x.tensor(worker, s.dy, (image*s.oh+s.step*row)*s.ow*s.co)
			if s.staged > 0 {
				clear(stage)
				wide := s.step * s.tw * s.co
				span.SrcRow = 4 * wide
				for h := range min(s.step, s.oh-s.step*row) {
					copy(stage[h*wide:], dy[h*s.ow*s.co:(h+1)*s.ow*s.co])
				}
				dy = stage
			}
			s.transforms[winograd.OutputGrad](&m[(i-from)*s.tw*s.co], &dy[0], span)
		}
		*t = kernels.Tile{CP: 4 * s.co, AP: 4, AK: 4 * s.ci, BK: 4 * s.co, KI: (to - from) * s.tw, KO: 1, Add: 1}
		if from == part*s.perPart*s.th {
			t.Add = 0 // the first of the part
		}
		for e := range s.elements() {
			for col := 0; col < s.co; col += s.width {
				t.B = unsafe.Pointer(&m[e*s.m+col])
				forTiles(s.ci, len(s.tiles), func(row, count int) {
					t.A = unsafe.Pointer(&v[e*s.v+row])
					t.C = unsafe.Pointer(&sums[(e*s.ci+row)*s.co+col])
					s.tiles[count-1](t)
				})
			}
		}
	})
}

// winogradAdding is the task that adds up the parts, for one element each.
type winogradAdding struct{ *winogradGradStep }

func (t *winogradAdding) part(x *frame, _, element int) {
	s := t.winogradGradStep
	n := s.ci * s.co
	total := s.sumsOf(x, 0)[element*n : (element+1)*n]
	for p := 1; p < s.parts(); p++ {
		s.set.Vec[kernels.Add](&total[0], &total[0], &s.sumsOf(x, p)[element*n], nil, n)
	}
}

// winogradBack is the task that transforms the sum, for one input channel each.
type winogradBack struct{ *winogradGradStep }

func (t *winogradBack) part(x *frame, worker, channel int) {
	s := t.winogradGradStep
	n := s.ci * s.co
	span := &x.workers[worker].span
	*span = kernels.Span{DstRow: 4 * s.kw * n, DstCol: 4 * n, SrcRow: 4 * s.size * n, SrcCol: 4 * n, Tiles: 1, Lanes: s.co}
	s.transforms[winograd.KernelGrad](&x.f32(s.y)[channel*s.co], &s.sumsOf(x, 0)[channel*s.co], span)
}
