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
	// dealt is how many images there are, and how they are dealt to parts.
	dealt() *dealing
	// byImage lists the slots of operands that are read, and of results that are
	// written, image by image. Other results are complete only after finish.
	byImage() (operands, results []int)
	// prepare does what must precede all images.
	prepare(x *frame)
	// begin starts a part, which sees its images in order.
	begin(x *frame, part int)
	// do works on images from lo up to hi as a portion of a part.
	do(x *frame, worker, part, lo, hi int)
	// finish puts together what the parts have left.
	finish(x *frame)
}

// A dealing gives the images of a batch to parts, which leave sums of their own. Parts
// are fixed by shapes, so that these add up the same way whatever the workers are.
type dealing struct{ images, perPart int }

// deal makes parts of at least so many images.
func deal(images, atLeast int) dealing {
	return dealing{images, max((images+imageParts-1)/imageParts, min(images, atLeast))}
}

// imageParts bounds the parts of a batch, and with it the workers of use.
const imageParts = 16

func (d *dealing) dealt() *dealing { return d }
func (d *dealing) parts() int      { return (d.images + d.perPart - 1) / d.perPart }

// of returns the images of a part.
func (d *dealing) of(part int) (lo, hi int) {
	return part * d.perPart, min(d.images, (part+1)*d.perPart)
}

// An imageLoop runs steps image by image.
type imageLoop struct {
	dealing
	steps   []imageStep
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

// secondLevel is the memory of tensors that a portion may touch.
const secondLevel = 768 << 10

func (l *imageLoop) run(x *frame) error {
	for _, s := range l.steps {
		s.prepare(x)
	}
	x.parallel(l.parts(), l)
	for _, s := range l.steps {
		s.finish(x)
	}
	return nil
}

func (l *imageLoop) part(x *frame, worker, i int) {
	for _, s := range l.steps {
		s.begin(x, i)
	}
	first, end := l.of(i)
	w := &x.workers[worker]
	for _, t := range l.local {
		w.memory[t.slot] = x.scratch[worker][t.offset : t.offset+4*t.each*l.portion]
	}
	for lo := first; lo < end; lo += l.portion {
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
			l := &imageLoop{}
			for _, s := range loop {
				d := s.step.(imageStep).dealt()
				l.dealing = dealing{d.images, max(l.perPart, d.perPart)}
			}
			l.portion = max(1, min(l.perPart, secondLevel*l.images/max(1, bytes)))
			joined := plannedStep{step: l, title: "Images"}
			for _, s := range loop {
				step := s.step.(imageStep)
				*step.dealt() = l.dealing
				l.steps = append(l.steps, step)
				joined.flops += s.flops
				joined.inputs = append(joined.inputs, s.inputs...)
				joined.outputs = append(joined.outputs, s.outputs...)
				joined.detail += "{" + s.detail + "} "
				joined.inputSlots = append(joined.inputSlots, s.inputSlots...)
				joined.outputSlots = append(joined.outputSlots, s.outputSlots...)
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
					t := localTensor{slot: slot, each: shape.Size() / l.images, offset: offset}
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
		if !ok || is.dealt().images < 2 {
			flush()
			steps = append(steps, s)
			continue
		}
		operands, results := is.byImage()
		if len(loop) > 0 {
			joins := is.dealt().images == loop[0].step.(imageStep).dealt().images
			for _, slot := range s.inputSlots {
				// A slot may be read image by image and otherwise, as a convolution does
				// that has its input for a kernel.
				if slices.Contains(late, slot) || slices.Contains(whole, slot) && count(operands, slot) < count(s.inputSlots, slot) {
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

func count(list []int, slot int) (n int) {
	for _, s := range list {
		if s == slot {
			n++
		}
	}
	return n
}

func unique(list []int) []int {
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}
