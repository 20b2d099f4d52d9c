package ed25519x

import (
	"math/bits"
	"unsafe"

	"filippo.io/edwards25519/field"
)

//go:generate go run ./asmgen .

// lanes is how many points are added to at once.
const lanes = 8

// points are eight points, limb by limb, as addLanes takes them: the limb k of a
// coordinate stands for multiples of 2^(51k).
type points struct {
	X, Y, Z, T [5][lanes]uint64
}

// addTogether computes as many sums as there are lanes at most. Where there are
// fewer, each is cut into parts of the same length for several lanes.
func addTogether(sums []sum, to []point) {
	parts := 1 << (bits.Len(uint(lanes/len(sums))) - 1) // of a sum
	length := len(sum{}) / parts
	var p points
	for i := range lanes {
		p.Y[0][i], p.Z[0][i] = 1, 1 // the neutral element
	}
	entries := [lanes]*affine{&neutral, &neutral, &neutral, &neutral, &neutral, &neutral, &neutral, &neutral}
	for step := range length {
		negative := uint64(0)
		for i := range sums {
			for part := range parts {
				lane := i*parts + part
				t := &sums[i][part*length+step]
				entries[lane] = t.point
				if t.subtract {
					negative |= 1 << lane
				}
			}
		}
		addLanes(&p, &entries, negative)
	}
	for i := range sums {
		to[i] = p.lane(i * parts)
		for part := 1; part < parts; part++ {
			other := p.lane(i*parts + part)
			to[i].addPoint(&other)
		}
	}
}

// lane returns the point of one lane.
func (p *points) lane(i int) point {
	return point{X: element(&p.X, i), Y: element(&p.Y, i), Z: element(&p.Z, i), T: element(&p.T, i)}
}

func element(from *[5][lanes]uint64, lane int) field.Element {
	var limbs [5]uint64
	for k := range limbs {
		limbs[k] = from[k][lane]
	}
	return *(*field.Element)(unsafe.Pointer(&limbs))
}

// elementsAreLimbs reports whether a field.Element is the five limbs that the
// assembly reads. It is now; another version of the library may do otherwise, and
// then all is added point by point.
func elementsAreLimbs() bool {
	if unsafe.Sizeof(field.Element{}) != 5*8 || unsafe.Sizeof(affine{}) != 16*8 {
		return false
	}
	var number [32]byte // 1 + 2·2^51 + 3·2^102 + 4·2^153 + 5·2^204
	for k := range 5 {
		for at, n := 51*k, k+1; n > 0; at, n = at+1, n>>1 {
			number[at/8] |= byte(n&1) << (at % 8)
		}
	}
	e, err := new(field.Element).SetBytes(number[:])
	return err == nil && *(*[5]uint64)(unsafe.Pointer(e)) == [5]uint64{1, 2, 3, 4, 5}
}
