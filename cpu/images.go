package cpu

import (
	"slices"

	"github.com/gomlx/compute/dtypes"
)

// Neighbouring steps that work image by image run as one loop over the batch:
// what one step writes the next reads while it is still in cache. A chain such as
//
//	normalise and ReLU -> convolution -> statistics of the result
//
// reads and writes main memory once per tensor.

// An imageStep is a step whose work on one image of the batch needs, of tensors
// that have the batch first, only that image.
type imageStep interface {
	step
	// images is the size of the batch.
	images() int
	// byImage lists the slots of operands that are read, and of results that are
	// written, image by image. Other results are complete only after finish.
	byImage() (operands, results []int)
	// prepare does what must precede all images.
	prepare(x *frame)
	// begin starts a part, which sees its images in order.
	begin(x *frame, part int)
	// do works on images from lo up to hi as a portion of a part.
	do(x *frame, worker, part, lo, hi int)
	// finish puts together what parts of so many images have left.
	finish(x *frame, parts, perPart int)
}

// An imageLoop runs steps image by image.
type imageLoop struct {
	steps   []imageStep
	n       int // images
	perPart int
	portion int // images at a time, so that what passes between steps stays in cache
	local   []localTensor
}

// A localTensor is written and read within a loop only. A worker keeps it for the
// images of one portion, in scratch memory, and it never reaches main memory.
type localTensor struct {
	slot   int
	each   int // elements of an image
	offset int // in scratch memory, bytes
}

// imageParts bounds the parts of a loop, and with it the workers of use.
const imageParts = 16

// secondLevel is the memory of tensors that a portion may touch.
const secondLevel = 768 << 10

func (l *imageLoop) parts() int { return (l.n + l.perPart - 1) / l.perPart }

func imagesPerPart(n int) int { return (n + imageParts - 1) / imageParts }

func (l *imageLoop) run(x *frame) error {
	for _, s := range l.steps {
		s.prepare(x)
	}
	x.parallel(l.parts(), l)
	for _, s := range l.steps {
		s.finish(x, l.parts(), l.perPart)
	}
	return nil
}

func (l *imageLoop) part(x *frame, worker, i int) {
	for _, s := range l.steps {
		s.begin(x, i)
	}
	end := min(l.n, (i+1)*l.perPart)
	w := &x.workers[worker]
	for _, t := range l.local {
		w.memory[t.slot] = x.scratch[worker][t.offset : t.offset+4*t.each*l.portion]
	}
	for lo := i * l.perPart; lo < end; lo += l.portion {
		for _, t := range l.local {
			w.origin[t.slot] = lo * t.each
		}
		for _, s := range l.steps {
			s.do(x, worker, i, lo, min(lo+l.portion, end))
		}
	}
}

// loopImages gathers neighbouring image steps of the plan into loops. results are
// the slots that the graph returns.
func (p *plan) loopImages(results map[int]bool, slotOf func(*value) int) {
	uses := map[int]int{} // steps that read a slot
	for _, s := range p.steps {
		for _, slot := range unique(s.inputSlots) {
			uses[slot]++
		}
	}
	p.local = map[int]bool{}
	room := p.scratchSize // of steps; local tensors lie beyond
	var steps []plannedStep
	var loop []plannedStep
	var whole, late []int // slots the loop writes: image by image, and at its end
	bytes := 0
	flush := func() {
		heavy := slices.ContainsFunc(loop, func(s plannedStep) bool { return s.heavy })
		if len(loop) < 2 || !heavy {
			steps = append(steps, loop...)
		} else {
			first := loop[0].step.(imageStep)
			l := &imageLoop{n: first.images(), perPart: imagesPerPart(first.images())}
			l.portion = max(1, min(l.perPart, secondLevel*l.n/max(1, bytes)))
			joined := plannedStep{step: l, title: "Images"}
			for _, s := range loop {
				l.steps = append(l.steps, s.step.(imageStep))
				joined.flops += s.flops
				joined.inputs = append(joined.inputs, s.inputs...)
				joined.outputs = append(joined.outputs, s.outputs...)
				joined.detail += "{" + s.detail + "} "
			}
			inside := map[int]int{}
			for _, s := range loop {
				for _, slot := range unique(s.inputSlots) {
					inside[slot]++
				}
			}
			offset := room
			for _, s := range loop {
				_, written := s.step.(imageStep).byImage()
				for i, slot := range s.outputSlots {
					shape := s.outputs[i].shape
					if !slices.Contains(written, slot) || results[slot] || inside[slot] == 0 || inside[slot] != uses[slot] ||
						shape.DType != dtypes.Float32 {
						continue
					}
					t := localTensor{slot: slot, each: shape.Size() / l.n, offset: offset}
					offset += align(4 * t.each * l.portion)
					l.local = append(l.local, t)
					p.local[slot] = true
				}
			}
			p.scratchSize = max(p.scratchSize, offset)
			// What passes between the steps does not count as memory moved.
			counted := map[int]bool{}
			for _, v := range slices.Concat(joined.inputs, joined.outputs) {
				if slot := slotOf(v); !counted[slot] && !p.local[slot] {
					counted[slot] = true
					joined.bytes += byteSize(v.shape)
				}
			}
			steps = append(steps, joined)
		}
		loop, whole, late, bytes = nil, nil, nil, 0
	}
	for _, s := range p.steps {
		is, ok := s.step.(imageStep)
		if !ok || is.images() < 2 {
			flush()
			steps = append(steps, s)
			continue
		}
		operands, results := is.byImage()
		if len(loop) > 0 {
			joins := is.images() == loop[0].step.(imageStep).images()
			for _, slot := range s.inputSlots {
				if slices.Contains(late, slot) || slices.Contains(whole, slot) && !slices.Contains(operands, slot) {
					joins = false
				}
			}
			if !joins {
				flush()
			}
		}
		loop = append(loop, s)
		bytes += s.bytes
		for _, slot := range s.outputSlots {
			if slices.Contains(results, slot) {
				whole = append(whole, slot)
			} else {
				late = append(late, slot)
			}
		}
	}
	flush()
	p.steps = steps
}

func unique(list []int) []int {
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}
