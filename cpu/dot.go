package cpu

import (
	"unsafe"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/openpith/evidence/cpu/internal/kernels"
)

// A dotStep multiplies matrices, once per batch:
//
//	C[m][n] = sum over k of A[m*aM + k*aK] * B[k*bK + n*bN]
//
// Any layout of A is read in place, or packed first where that is faster. B is packed,
// a panel of columns at a time, into private memory of the worker, so transposed
// operands cost nothing extra.
type dotStep struct {
	set        *kernels.Set
	a, b, c    int // slots
	m, n, k    int
	aM, aK     int // strides in elements
	bK, bN     int
	batch      int
	aB, bB     []int // start of each batch
	width      int   // columns of a panel
	panels     int
	tiles      int // the rows are split into, of nearly equal size
	rowBlocks  int // parts of a panel
	depth      int // products added up before moving on to other rows
	packed     int // slot of A in tiles, [batch][tile][k][row], or -1
	packing    dotPacking
	copyA      *stridedCopy // makes a operand readable, or nil
	copyB      *stridedCopy
	scratchTmp int // where the edge tile lies in scratch
}

// panelBlock is the numbers of a panel that are used with all rows before the next:
// they stay in the first cache level.
const panelBlock = 8192

func lowerDot(c *compiler, n *node) (step, int) {
	a, ok := n.attrs.(dotSpec)
	if !ok {
		return nil, 0
	}
	s := &dotStep{set: c.backend.opts.isa, a: c.slot(n.inputs[0]), b: c.slot(n.inputs[1]), c: c.slot(n.outputs[0]), batch: 1}
	size := func(operand int, axes []int) int {
		p := 1
		for _, axis := range axes {
			p *= n.inputs[operand].shape.Dimensions[axis]
		}
		return p
	}
	l, r := a.operands[0], a.operands[1]
	s.m, s.n, s.k, s.batch = size(0, l.cross), size(1, r.cross), size(0, l.contracting), size(0, l.batch)
	// Axes that are not one regular walk are copied into order first.
	var regular [2]bool
	var strides [2][2]int // cross, contracting
	for i, o := range a.operands {
		dims := n.inputs[i].shape.Dimensions
		own := stridesOf(dims)
		cross, ok1 := walk(dims, own, o.cross)
		contracting, ok2 := walk(dims, own, o.contracting)
		regular[i], strides[i] = ok1 && ok2, [2]int{cross, contracting}
	}
	starts := func(i int, o dotOperand) []int {
		dims := n.inputs[i].shape.Dimensions
		own := stridesOf(dims)
		list := []int{0}
		for _, axis := range o.batch {
			var next []int
			for _, at := range list {
				for j := range dims[axis] {
					next = append(next, at+j*own[axis])
				}
			}
			list = next
		}
		return list
	}
	reorder := func(i int, o dotOperand, cross, contracting int) (*stridedCopy, []int, [2]int) {
		dims := n.inputs[i].shape.Dimensions
		own := stridesOf(dims)
		var order copyPlan
		for _, axes := range [][]int{o.batch, o.cross, o.contracting} {
			for _, axis := range axes {
				order.dims = append(order.dims, dims[axis])
				order.srcStrides = append(order.srcStrides, own[axis])
			}
		}
		order.dstStrides = stridesOf(order.dims)
		temporary := c.temporary(n, n.inputs[i].shape)
		list := make([]int, s.batch)
		for j := range list {
			list[j] = j * cross * contracting
		}
		return &stridedCopy{src: c.slot(n.inputs[i]), dst: c.slot(temporary), size: 4, copyPlan: order.merged()}, list, [2]int{contracting, 1}
	}
	if regular[0] {
		s.aB = starts(0, l)
	} else {
		s.copyA, s.aB, strides[0] = reorder(0, l, s.m, s.k)
		s.a = s.copyA.dst
	}
	if regular[1] {
		s.bB = starts(1, r)
	} else {
		s.copyB, s.bB, strides[1] = reorder(1, r, s.n, s.k)
		s.b = s.copyB.dst
	}
	s.aM, s.aK = strides[0][0], strides[0][1]
	s.bN, s.bK = strides[1][0], strides[1][1]

	s.width = 2 * kernels.Lanes
	if len(s.set.Tile32) == 0 || s.n <= kernels.Lanes {
		s.width = kernels.Lanes
	}
	s.panels = (s.n + s.width - 1) / s.width
	most := len(s.set.Tile16)
	if s.width > kernels.Lanes {
		most = len(s.set.Tile32)
	}
	s.tiles = (s.m + most - 1) / most
	blocks := (s.k*s.width + panelBlock - 1) / panelBlock
	s.depth = (s.k + blocks - 1) / blocks
	// Enough parts for many workers where there are few panels.
	const fewestRows, enough = 64, 8
	s.rowBlocks = 1
	if s.panels*s.batch < enough {
		s.rowBlocks = max(1, min(s.m/fewestRows, (enough+s.panels*s.batch-1)/(s.panels*s.batch)))
	}
	s.packed = -1
	if s.worthPacking() {
		s.packed = c.slot(c.temporary(n, shapes.Make(dtypes.Float32, s.batch, s.packedSize())))
		s.packing.dotStep = s
	}
	s.scratchTmp = s.width * s.k
	c.needScratch(s.scratchTmp + s.width*maxTileRows)
	return s, 2 * s.m * s.n * s.k * s.batch
}

// worthPacking reports whether A is read often enough, and badly enough in place: the
// rows of a tile compete for the same lines of the cache where they are a multiple of
// 1024 bytes apart (on Zen 3 that costs half of the speed), and columns use a part of
// each line.
func (s *dotStep) worthPacking() bool {
	const panels, apart = 8, 1024 / 4
	return s.panels >= panels && s.k >= kernels.Lanes && (s.aK != 1 || s.aM%apart == 0)
}

// packedSize is the room for a packed matrix. A tile has spare room behind it, as
// packing may write beyond its end.
func (s *dotStep) packedSize() int { return s.m*s.k + s.tiles*kernels.Lanes }

// tile returns the rows of a tile.
func (s *dotStep) tile(i int) (row, rows int) {
	row = s.m * i / s.tiles
	return row, s.m*(i+1)/s.tiles - row
}

// packedTile is where a tile of a packed matrix is.
func (s *dotStep) packedTile(i, row int) int { return row*s.k + i*kernels.Lanes }

// dotPacking is the task that packs A, a tile per part.
type dotPacking struct{ *dotStep }

func (t *dotPacking) part(x *frame, _, i int) {
	s := t.dotStep
	batch, i := i/s.tiles, i%s.tiles
	row, rows := s.tile(i)
	dst := x.f32(s.packed)[batch*s.packedSize()+s.packedTile(i, row):]
	packTile(s.set, dst, rows, x.f32(s.a)[s.aB[batch]+row*s.aM:], s.k, s.aM, s.aK, min(s.m-row, maxTileRows))
}

// packTile writes rows of A as columns: dst[k][p] = a[p*aM + k*aK] for p < rows. It may
// write up to 15 numbers more, and read as many rows as there are.
func packTile(set *kernels.Set, dst []float32, rows int, a []float32, depth, aM, aK, there int) {
	if aM == 1 && there >= maxTileRows {
		// What is written beyond a column is overwritten with what follows.
		for k := range depth {
			*(*[maxTileRows]float32)(dst[k*rows:]) = *(*[maxTileRows]float32)(a[k*aK:])
		}
		return
	}
	const group = 8 // rows that a kernel transposes together
	for first := (rows - 1) / group * group; first >= 0; first -= group {
		whole := 0
		if aK == 1 && first+group <= there {
			// What is written beyond a column is overwritten with what follows.
			whole = depth &^ (group - 1)
			set.Transpose8(&dst[first], 4*rows, &a[first*aM], 4*aM, whole)
		}
		count := min(rows-first, group)
		for k := whole; k < depth; k++ {
			column := dst[k*rows+first:][:count]
			if aM == 1 {
				copy(column, a[first+k*aK:])
				continue
			}
			for p := range column {
				column[p] = a[(first+p)*aM+k*aK]
			}
		}
	}
}

// maxTileRows is at least the rows of any micro-kernel.
const maxTileRows = 16

// walk returns the stride that walks axes in order as one, if there is one.
func walk(dims, strides, axes []int) (int, bool) {
	stride, span := 0, 0 // span: what an index of the next outer axis must move by
	for i := len(axes) - 1; i >= 0; i-- {
		axis := axes[i]
		if dims[axis] == 1 {
			continue
		}
		if span == 0 {
			stride = strides[axis]
		} else if strides[axis] != span {
			return 0, false
		}
		span = strides[axis] * dims[axis]
	}
	return stride, true
}

func (s *dotStep) run(x *frame) error {
	if s.copyA != nil {
		if err := s.copyA.run(x); err != nil {
			return err
		}
	}
	if s.copyB != nil {
		if err := s.copyB.run(x); err != nil {
			return err
		}
	}
	if s.packed >= 0 {
		x.parallel(s.batch*s.tiles, &s.packing)
	}
	x.parallel(s.batch*s.panels*s.rowBlocks, s)
	return nil
}

func (s *dotStep) part(x *frame, worker, i int) {
	rowBlock := i % s.rowBlocks
	panel := i / s.rowBlocks % s.panels
	batch := i / s.rowBlocks / s.panels
	j := panel * s.width
	cols := min(s.width, s.n-j)
	width, tiles := s.width, s.set.Tile16
	if width > kernels.Lanes && cols <= kernels.Lanes {
		width = kernels.Lanes
	}
	if width > kernels.Lanes {
		tiles = s.set.Tile32
	}
	packed := x.workspace(worker, 0, s.width*s.k)
	b := x.f32(s.b)[s.bB[batch]:]
	packPanel(s.set, packed, width, b[j*s.bN:], s.k, cols, s.bK, s.bN)

	edge := x.workspace(worker, s.scratchTmp, s.width*maxTileRows)
	a, c := x.f32(s.a)[s.aB[batch]:], x.f32(s.c)[batch*s.m*s.n:]
	t := &x.workers[worker].tile
	*t = kernels.Tile{AP: 4 * s.aM, AK: 4 * s.aK, BK: 4 * width, KO: 1}
	if s.packed >= 0 {
		a = x.f32(s.packed)[batch*s.packedSize():]
		t.AP = 4
	}
	from, to := s.tiles*rowBlock/s.rowBlocks, s.tiles*(rowBlock+1)/s.rowBlocks
	for k := 0; k < s.k; k += s.depth {
		t.KI = min(s.depth, s.k-k)
		t.B = unsafe.Pointer(&packed[k*width])
		t.Add = min(k, 1)
		for i := from; i < to; i++ {
			row, rows := s.tile(i)
			if s.packed >= 0 {
				t.A = unsafe.Pointer(&a[s.packedTile(i, row)+k*rows])
				t.AK = 4 * rows
			} else {
				t.A = unsafe.Pointer(&a[row*s.aM+k*s.aK])
			}
			runTile(tiles, t, c[row*s.n+j:], s.n, rows, cols, width, edge)
		}
	}
}

// forTiles splits n rows into tiles of at most most rows and nearly equal size.
func forTiles(n, most int, tile func(row, rows int)) {
	tiles := (n + most - 1) / most
	row := 0
	for i := range tiles {
		rows := n*(i+1)/tiles - n*i/tiles
		tile(row, rows)
		row += rows
	}
}

// runTile computes rows x cols of C, whose rows are stride elements apart, with
// a kernel of the given width, by way of edge memory if that is wider.
func runTile(tiles []kernels.TileFunc, t *kernels.Tile, c []float32, stride, rows, cols, width int, edge []float32) {
	if cols == width {
		t.C, t.CP = unsafe.Pointer(&c[0]), 4*stride
		tiles[rows-1](t)
		return
	}
	if t.Add != 0 {
		for r := range rows {
			copy(edge[r*width:r*width+cols], c[r*stride:])
		}
	}
	t.C, t.CP = unsafe.Pointer(&edge[0]), 4*width
	tiles[rows-1](t)
	for r := range rows {
		copy(c[r*stride:r*stride+cols], edge[r*width:])
	}
}

// packPanel writes rows of width numbers, cols of them from B and then zeros:
// dst[k][j] = b[k*bK + j*bN].
func packPanel(set *kernels.Set, dst []float32, width int, b []float32, depth, cols, bK, bN int) {
	switch {
	case bN == 1 || cols == 1:
		if bK == width && cols == width {
			copy(dst[:depth*width], b)
			return
		}
		if width == kernels.Lanes && cols == width {
			for k := range depth {
				*(*[kernels.Lanes]float32)(dst[k*width:]) = *(*[kernels.Lanes]float32)(b[k*bK:])
			}
			return
		}
		for k := range depth {
			row := dst[k*width : (k+1)*width]
			copy(row, b[k*bK:k*bK+cols])
			clear(row[cols:])
		}
		return
	case bK == 1:
		// Eight columns of B at a time are eight contiguous rows of memory.
		whole := depth &^ 7
		j := 0
		for ; j+8 <= cols && whole > 0; j += 8 {
			set.Transpose8(&dst[j], 4*width, &b[j*bN], 4*bN, whole)
			for k := whole; k < depth; k++ {
				for i := j; i < j+8; i++ {
					dst[k*width+i] = b[k+i*bN]
				}
			}
		}
		for k := range depth {
			for i := j; i < cols; i++ {
				dst[k*width+i] = b[k+i*bN]
			}
			clear(dst[k*width+cols : (k+1)*width])
		}
		return
	}
	for k := range depth {
		row := dst[k*width : (k+1)*width]
		for j := range cols {
			row[j] = b[k*bK+j*bN]
		}
		clear(row[cols:])
	}
}
