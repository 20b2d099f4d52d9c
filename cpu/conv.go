package cpu

import (
	"slices"
	"unsafe"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/openpith/evidence/cpu/internal/kernels"
)

// Convolutions over one or two spatial axes run on the micro-kernel directly,
// without unfolding the input. An image is copied into a zero-padded scratch,
// rows of pixels of all channels; then the window of a row of output pixels is a
// two-level walk over that scratch. Two forms occur:
//
//	forward     y[n,h,w,o] = sum over kh,kw,i of x[n, h*s+kh*d, w*s+kw*d, i] * k[kh,kw,i,o]
//	            also the gradient of the input, with the kernel mirrored and its
//	            channels swapped, and the input spread out by the strides
//	gradient    y[kh,kw,i,o] = sum over n,h,w of x[n, h*s+kh, w*s+kw, i] * k[n,h,w,o]
//	            of the kernel, which GoMLX writes as a convolution of images over
//	            images, with channels as the batch

// A convGeometry is a convolution in terms of those formulas. A missing second
// spatial axis has size 1.
type convGeometry struct {
	n, h, w, ci int    // input
	xN          int    // strides of the input, in elements
	xH, xW, xC  int    //
	kh, kw      int    // kernel, or for the gradient the window of the result
	oh, ow, co  int    // output, or for the gradient the images of the second operand
	stride      [2]int // of the window
	dilation    [2]int // of the kernel
	spread      [2]int // of the input: zeros between its pixels
	before      [2]int // padding, negative to cut off
	groups      int
	ph, pw      int // padded image
	gradient    bool
	kH, kW, kI  int // strides of the kernel, in elements; negative if mirrored
	kO, kStart  int
}

// nativeConv reports whether conv.go has the convolution.
func nativeConv(n *node) bool {
	_, ok := convGeometryOf(n)
	return ok
}

func convGeometryOf(n *node) (g convGeometry, ok bool) {
	a, isConv := n.attrs.(convAttrs)
	if !isConv || a.batchGroups > 1 {
		return g, false
	}
	x, k, y := n.inputs[0].shape, n.inputs[1].shape, n.outputs[0].shape
	for _, s := range []shapes.Shape{x, k, y} {
		if s.DType != dtypes.Float32 || s.Size() == 0 {
			return g, false
		}
	}
	spatial := x.Rank() - 2
	if spatial < 1 || spatial > 2 {
		return g, false
	}
	pick := func(list []int, i int) int {
		if i < len(list) {
			return max(list[i], 1)
		}
		return 1
	}
	var strides, windowDilations, spread, before, after [2]int
	for i := range 2 {
		strides[i], windowDilations[i], spread[i] = 1, 1, 1
		if j := i - (2 - spatial); j >= 0 { // one axis is the second of two
			strides[i], windowDilations[i], spread[i] = pick(a.strides, j), pick(a.kernelDilations, j), pick(a.inputDilations, j)
			if j < len(a.paddings) {
				before[i], after[i] = a.paddings[j][0], a.paddings[j][1]
			}
		}
	}
	// Sizes and strides by meaning, the absent axis with size 1.
	spatialOf := func(s shapes.Shape, axes []int) (size, stride [2]int) {
		own := stridesOf(s.Dimensions)
		size = [2]int{1, 1}
		for j, axis := range axes {
			i := j + 2 - spatial
			size[i], stride[i] = s.Dimensions[axis], own[axis]
		}
		return size, stride
	}
	xs, ks, ys := stridesOf(x.Dimensions), stridesOf(k.Dimensions), stridesOf(y.Dimensions)
	xSize, xStride := spatialOf(x, a.axes.InputSpatial)
	kSize, kStride := spatialOf(k, a.axes.KernelSpatial)
	ySize, yStride := spatialOf(y, a.axes.OutputSpatial)
	g.spread, g.before, g.groups = spread, before, a.channelGroups
	g.h, g.w, g.xH, g.xW = xSize[0], xSize[1], xStride[0], xStride[1]

	rank := y.Rank()
	// The gradient of the kernel: images of the second operand slide over those of
	// the first; the batch is summed, so it has the role of channels.
	g.gradient = a.channelGroups == 1 && !a.reverseKernel &&
		a.axes.InputChannels == 0 && a.axes.InputBatch == rank-1 && slices.IsSorted(a.axes.InputSpatial) &&
		a.axes.OutputChannels == rank-1 && a.axes.OutputBatch == rank-2 && slices.IsSorted(a.axes.OutputSpatial) &&
		a.axes.KernelInputChannels == 0 && a.axes.KernelOutputChannels == rank-1 && slices.IsSorted(a.axes.KernelSpatial)
	if !g.gradient && channelsLast(y, a.axes.OutputBatch, a.axes.OutputChannels, ySize, yStride, ys) {
		g.n, g.ci, g.xN, g.xC = x.Dimensions[a.axes.InputBatch], x.Dimensions[a.axes.InputChannels], xs[a.axes.InputBatch], xs[a.axes.InputChannels]
		g.kh, g.kw, g.kH, g.kW = kSize[0], kSize[1], kStride[0], kStride[1]
		g.kI, g.kO = ks[a.axes.KernelInputChannels], ks[a.axes.KernelOutputChannels]
		if a.reverseKernel {
			g.kStart = (g.kh-1)*g.kH + (g.kw-1)*g.kW
			g.kH, g.kW = -g.kH, -g.kW
		}
		g.oh, g.ow, g.co = ySize[0], ySize[1], y.Dimensions[a.axes.OutputChannels]
		g.stride, g.dilation = strides, windowDilations
		g.ph = (g.oh-1)*g.stride[0] + (g.kh-1)*g.dilation[0] + 1
		g.pw = (g.ow-1)*g.stride[1] + (g.kw-1)*g.dilation[1] + 1
		return g, true
	}
	if !g.gradient {
		return g, false
	}
	g.n, g.ci, g.xN, g.xC = x.Dimensions[a.axes.InputChannels], x.Dimensions[a.axes.InputBatch], xs[a.axes.InputChannels], xs[a.axes.InputBatch]
	g.oh, g.ow, g.co = kSize[0], kSize[1], k.Dimensions[rank-1]
	g.kh, g.kw = ySize[0], ySize[1]
	// Steps of the sliding images and of the window trade places.
	g.stride, g.dilation = windowDilations, strides
	g.ph = (g.oh-1)*g.stride[0] + (g.kh-1)*g.dilation[0] + 1
	g.pw = (g.ow-1)*g.stride[1] + (g.kw-1)*g.dilation[1] + 1
	return g, true
}

// channelsLast reports whether a result is laid out as [batch, spatial..., channels].
func channelsLast(s shapes.Shape, batch, channels int, size, stride [2]int, own []int) bool {
	c := s.Dimensions[channels]
	ordered := own[channels] == 1
	ordered = ordered && (size[1] == 1 || stride[1] == c) && (size[0] == 1 || stride[0] == c*size[1])
	return ordered && (s.Dimensions[batch] == 1 || own[batch] == c*size[0]*size[1])
}

// imagesOf returns the slot of the input if its images lie one after the other.
func (g *convGeometry) imagesOf(slot int) []int {
	if g.xN == g.h*g.w*g.ci {
		return []int{slot}
	}
	return nil
}

// padImage copies channels from..from+channels of one image into a padded one,
// [ph][pw][channels].
func (g *convGeometry) padImage(dst, x []float32, from, channels int) {
	whole := g.before == [2]int{} && g.spread == [2]int{1, 1} && g.ph <= g.h && g.pw <= g.w
	if !whole {
		clear(dst[:g.ph*g.pw*channels])
	}
	for i := range g.h {
		row := i*g.spread[0] + g.before[0]
		if row < 0 {
			continue
		}
		if row >= g.ph {
			break
		}
		first := 0
		if g.before[1] < 0 {
			first = (-g.before[1] + g.spread[1] - 1) / g.spread[1]
		}
		end := g.w
		if room := g.pw - g.before[1]; room <= 0 {
			end = 0
		} else {
			end = min(end, (room-1)/g.spread[1]+1)
		}
		if first >= end {
			continue
		}
		d := (row*g.pw + first*g.spread[1] + g.before[1]) * channels
		s := i*g.xH + first*g.xW + from*g.xC
		if g.xC == 1 && g.xW == channels && g.spread[1] == 1 {
			copy(dst[d:d+(end-first)*channels], x[s:])
			continue
		}
		for range end - first {
			if g.xC == 1 {
				copy(dst[d:d+channels], x[s:])
			} else {
				for c := range channels {
					dst[d+c] = x[s+c*g.xC]
				}
			}
			d += g.spread[1] * channels
			s += g.xW
		}
	}
}

func lowerConv(c *compiler, n *node) (step, int) {
	g, ok := convGeometryOf(n)
	if !ok {
		return nil, 0
	}
	flops := 2 * g.n * g.oh * g.ow * g.co * g.kh * g.kw * (g.ci / g.groups)
	if algorithm := winogradFor(&g, c.backend.opts.winograd); algorithm >= 0 {
		if g.gradient {
			return newWinogradGradStep(c, n, g, algorithm)
		}
		return newWinogradStep(c, n, g, algorithm)
	}
	if g.gradient {
		return newConvGradStep(c, n, g), flops
	}
	return newConvStep(c, n, g), flops
}

// A convStep is the forward form.
type convStep struct {
	convGeometry
	dealing
	set             *kernels.Set
	x, k, y, packed int // slots
	width           int // columns of a panel
	panels          int // per group
	depth           int // products per output: kh*kw*channels of a group
	imagesPerPart   int
	packing         convPacking
}

func newConvStep(c *compiler, n *node, g convGeometry) *convStep {
	s := &convStep{convGeometry: g, dealing: deal(g.n, 1), set: c.backend.opts.isa,
		x: c.slot(n.inputs[0]), k: c.slot(n.inputs[1]), y: c.slot(n.outputs[0])}
	coGroup, ciGroup := g.co/g.groups, g.ci/g.groups
	s.width = 2 * kernels.Lanes
	if len(s.set.Tile32) == 0 || coGroup <= kernels.Lanes {
		s.width = kernels.Lanes
	}
	s.panels = (coGroup + s.width - 1) / s.width
	s.depth = g.kh * g.kw * ciGroup
	s.packed = c.slot(c.temporary(n, shapes.Make(dtypes.Float32, g.groups*s.panels, s.depth, s.width)))
	// A part is worth about half a million products.
	const worth = 1 << 19
	s.imagesPerPart = max(1, min(g.n, worth/max(1, g.oh*g.ow*g.co*s.depth)))
	s.packing.convStep = s
	c.needScratch(g.ph*g.pw*ciGroup + s.width*maxTileRows)
	return s
}

// convPacking is the task that packs the kernel, a panel per part:
// [panel][kh][kw][channel][column].
type convPacking struct{ *convStep }

func (t *convPacking) part(x *frame, _, i int) {
	s := t.convStep
	ciGroup, coGroup := s.ci/s.groups, s.co/s.groups
	group, panel := i/s.panels, i%s.panels
	first := panel * s.width
	cols := min(s.width, coGroup-first)
	dst := x.f32(s.packed)[i*s.depth*s.width : (i+1)*s.depth*s.width]
	k := x.f32(s.k)
	for h := range s.kh {
		for w := range s.kw {
			at := s.kStart + h*s.kH + w*s.kW + (group*coGroup+first)*s.kO
			packPanel(s.set, dst[(h*s.kw+w)*ciGroup*s.width:], s.width, k[at:], ciGroup, cols, s.kI, s.kO)
		}
	}
}

func (s *convStep) run(x *frame) error {
	s.prepare(x)
	x.parallel((s.n+s.imagesPerPart-1)/s.imagesPerPart, s)
	return nil
}

func (s *convStep) part(x *frame, worker, i int) {
	s.do(x, worker, i, i*s.imagesPerPart, min(s.n, (i+1)*s.imagesPerPart))
}

func (s *convStep) byImage() (operands, results []int) {
	return s.imagesOf(s.x), []int{s.y}
}
func (s *convStep) prepare(x *frame)  { x.parallel(s.groups*s.panels, &s.packing) }
func (s *convStep) begin(*frame, int) {}
func (s *convStep) finish(*frame)     {}

func (s *convStep) do(x *frame, worker, _, lo, hi int) {
	for image := lo; image < hi; image++ {
		s.image(x, worker, image)
	}
}

// image convolves one image.
func (s *convStep) image(x *frame, worker, image int) {
	ciGroup, coGroup := s.ci/s.groups, s.co/s.groups
	padded := x.workspace(worker, 0, s.ph*s.pw*ciGroup)
	edge := x.workspace(worker, s.ph*s.pw*ciGroup, s.width*maxTileRows)
	y := x.tensor(worker, s.y, image*s.oh*s.ow*s.co)[:s.oh*s.ow*s.co]
	packed := x.f32(s.packed)
	// A contiguous run of kernel columns and channels is one walk.
	t := &x.workers[worker].tile
	*t = kernels.Tile{AP: 4 * s.stride[1] * ciGroup, AK: 4, BK: 4 * s.width}
	outer := 1
	if s.dilation[1] == 1 {
		t.KI, t.KO = s.kw*ciGroup, s.kh
		t.AO, t.BO = 4*s.dilation[0]*s.pw*ciGroup, 4*s.kw*ciGroup*s.width
	} else {
		outer = s.kh
		t.KI, t.KO = ciGroup, s.kw
		t.AO, t.BO = 4*s.dilation[1]*ciGroup, 4*ciGroup*s.width
	}
	for group := range s.groups {
		s.padImage(padded, x.tensor(worker, s.x, image*s.xN), group*ciGroup, ciGroup)
		for panel := range s.panels {
			first := panel * s.width
			cols := min(s.width, coGroup-first)
			tiles := s.set.Tile16
			if s.width > kernels.Lanes {
				tiles = s.set.Tile32
			}
			b := packed[(group*s.panels+panel)*s.depth*s.width:]
			for h := range s.oh {
				count := (s.ow + len(tiles) - 1) / len(tiles)
				for tile := range count {
					w, end := s.ow*tile/count, s.ow*(tile+1)/count
					out := y[(h*s.ow+w)*s.co+group*coGroup+first:]
					for o := range outer {
						t.A = unsafe.Pointer(&padded[((h*s.stride[0]+o*s.dilation[0])*s.pw+w*s.stride[1])*ciGroup])
						t.B = unsafe.Pointer(&b[o*s.kw*ciGroup*s.width])
						t.Add = min(o, 1)
						if outer == 1 {
							t.A = unsafe.Pointer(&padded[(h*s.stride[0]*s.pw+w*s.stride[1])*ciGroup])
						}
						runTile(tiles, t, out, s.co, end-w, cols, s.width, edge)
					}
				}
			}
		}
	}
}

// A convGradStep is the gradient of the kernel. Images are dealt to a fixed
// number of parts, each with sums of its own, which are added up in order.
type convGradStep struct {
	convGeometry
	dealing
	set       *kernels.Set
	x, dy, y  int // slots
	sums      int // slot of [parts][kh][kw][ci][columns]
	width     int
	columns   int // of the sums: co padded to whole panels
	blockRows int // rows of an image that are walked for all of the window
	adding    convGradAdding
}

func newConvGradStep(c *compiler, n *node, g convGeometry) *convGradStep {
	s := &convGradStep{convGeometry: g, dealing: deal(g.n, 1), set: c.backend.opts.isa,
		x: c.slot(n.inputs[0]), dy: c.slot(n.inputs[1]), y: c.slot(n.outputs[0])}
	s.width = 2 * kernels.Lanes
	if len(s.set.Tile32) == 0 || g.co <= kernels.Lanes {
		s.width = kernels.Lanes
	}
	s.columns = (g.co + s.width - 1) / s.width * s.width
	// So many rows of both operands stay in the first cache level.
	const firstLevel = 40 << 10 / 4
	x, dy := g.stride[0]*g.pw*g.ci, g.ow*s.columns
	s.blockRows = max(1, (96+g.ow-1)/g.ow, (firstLevel-g.kh*g.dilation[0]*g.pw*g.ci)/(x+dy))
	s.sums = c.slot(c.temporary(n, shapes.Make(dtypes.Float32, s.parts(), g.kh*g.kw*g.ci, s.columns)))
	s.adding.convGradStep = s
	room := g.ph * g.pw * g.ci
	if s.columns != g.co {
		room += g.oh * g.ow * s.columns
	}
	c.needScratch(room)
	return s
}

func (s *convGradStep) run(x *frame) error {
	x.parallel(s.parts(), s)
	s.finish(x)
	return nil
}

func (s *convGradStep) part(x *frame, worker, i int) {
	s.begin(x, i)
	lo, hi := s.of(i)
	s.do(x, worker, i, lo, hi)
}

func (s *convGradStep) byImage() (operands, results []int) {
	return append(s.imagesOf(s.x), s.dy), nil
}
func (s *convGradStep) prepare(*frame)  {}
func (s *convGradStep) finish(x *frame) { x.parallel(s.kh*s.kw, &s.adding) }

// sumsOf is the memory of a part.
func (s *convGradStep) sumsOf(x *frame, part int) []float32 {
	size := s.kh * s.kw * s.ci * s.columns
	return x.f32(s.sums)[part*size : (part+1)*size]
}

func (s *convGradStep) begin(x *frame, part int) { clear(s.sumsOf(x, part)) }

func (s *convGradStep) do(x *frame, worker, part, lo, hi int) {
	sums := s.sumsOf(x, part)
	padded := x.workspace(worker, 0, s.ph*s.pw*s.ci)
	tiles := s.set.Tile16
	if s.width > kernels.Lanes {
		tiles = s.set.Tile32
	}
	t := &x.workers[worker].tile
	*t = kernels.Tile{
		CP: 4 * s.columns, AP: 4,
		AK: 4 * s.stride[1] * s.ci, AO: 4 * s.stride[0] * s.pw * s.ci,
		BK: 4 * s.columns, BO: 4 * s.ow * s.columns,
		KI: s.ow, Add: 1,
	}
	// Columns and channels of the window are rows of the tile, in one walk where
	// they are contiguous.
	rows, outer := s.kw*s.ci, 1
	if s.dilation[1] != 1 {
		rows, outer = s.ci, s.kw
	}
	for image := lo; image < hi; image++ {
		s.padImage(padded, x.tensor(worker, s.x, image*s.xN), 0, s.ci)
		dy := x.tensor(worker, s.dy, image*s.oh*s.ow*s.co)[:s.oh*s.ow*s.co]
		if s.columns != s.co {
			wide := x.workspace(worker, s.ph*s.pw*s.ci, s.oh*s.ow*s.columns)
			for p := range s.oh * s.ow {
				copy(wide[p*s.columns:], dy[p*s.co:(p+1)*s.co])
				clear(wide[p*s.columns+s.co : (p+1)*s.columns])
			}
			dy = wide
		}
		for from := 0; from < s.oh; from += s.blockRows {
			t.KO = min(s.blockRows, s.oh-from)
			for h := range s.kh {
				for o := range outer {
					origin := ((from*s.stride[0]+h*s.dilation[0])*s.pw + o*s.dilation[1]) * s.ci
					for col := 0; col < s.columns; col += s.width {
						t.B = unsafe.Pointer(&dy[from*s.ow*s.columns+col])
						count := (rows + len(tiles) - 1) / len(tiles)
						for tile := range count {
							r, end := rows*tile/count, rows*(tile+1)/count
							t.A = unsafe.Pointer(&padded[origin+r])
							t.C = unsafe.Pointer(&sums[((h*s.kw+o)*s.ci+r)*s.columns+col])
							tiles[end-r-1](t)
						}
					}
				}
			}
		}
	}
}

// convGradAdding is the task that adds up the parts, for one position of the
// window each.
type convGradAdding struct{ *convGradStep }

func (t *convGradAdding) part(x *frame, _, i int) {
	s := t.convGradStep
	size, n := s.kh*s.kw*s.ci*s.columns, s.ci*s.columns
	sums := x.f32(s.sums)
	total := sums[i*n : (i+1)*n] // of the first part
	add := s.set.Vec[kernels.Add]
	for p := 1; p < s.parts(); p++ {
		other := sums[p*size+i*n:]
		add(&total[0], &total[0], &other[0], nil, n)
	}
	y := x.f32(s.y)[i*s.ci*s.co : (i+1)*s.ci*s.co]
	for r := range s.ci {
		copy(y[r*s.co:(r+1)*s.co], total[r*s.columns:])
	}
}
