package ed25519x

import (
	"encoding/binary"

	"filippo.io/edwards25519"
	"filippo.io/edwards25519/field"
)

// A table holds the multiples of one point P that turn [s]P into additions
// alone. In base 2^width with signed digits,
//
//	s = Σ dᵢ·2^(width·i),   -2^(width-1) < dᵢ <= 2^(width-1)
//
// so [s]P is the sum of one entry, or its negative, for each of the digits:
//
//	multiples[i][j-1] = [j·2^(width·i)]P,   1 <= j <= 2^(width-1)
type table struct {
	multiples [digits][half]affine
}

// Of the widths tried, 8 is the fastest whose two tables (B's and one key's)
// stay in the second level cache. A scalar is below 2^253; one more bit holds
// the last carry.
const (
	width  = 8
	half   = 1 << (width - 1)
	digits = (254 + width - 1) / width
)

// An affine is a point (x, y) in the form that costs least to add.
type affine struct {
	sum, difference, product field.Element // y+x, y-x, 2dxy
	_                        uint64        // two lines of the cache, and not three
}

// neutral is the neutral element.
var neutral = affine{sum: *new(field.Element).One(), difference: *new(field.Element).One()}

// A point is (X/Z, Y/Z) with T = XY/Z.
type point struct {
	X, Y, Z, T field.Element
}

// d2 is 2d in the equation -x² + y² = 1 + dx²y² of the curve, where
// d = -121665/121666.
var d2 = func() *field.Element {
	one := new(field.Element).One()
	numerator := new(field.Element).Mult32(one, 2*121665)
	denominator := new(field.Element).Mult32(one, 121666)
	quotient := new(field.Element).Multiply(numerator, denominator.Invert(denominator))
	return quotient.Negate(quotient)
}()

// newTable computes all multiples of p.
func newTable(p *edwards25519.Point) *table {
	t := new(table)
	power := new(edwards25519.Point).Set(p) // [2^(width·i)]p
	multiple := new(edwards25519.Point)
	for i := range t.multiples {
		var x, y, z, room [half]field.Element
		multiple.Set(power)
		for j := range half {
			X, Y, Z, _ := multiple.ExtendedCoordinates()
			x[j], y[j], z[j] = *X, *Y, *Z
			multiple.Add(multiple, power)
		}
		invertAll(z[:], room[:])
		for j := range half {
			x[j].Multiply(&x[j], &z[j])
			y[j].Multiply(&y[j], &z[j])
			a := &t.multiples[i][j]
			a.sum.Add(&y[j], &x[j])
			a.difference.Subtract(&y[j], &x[j])
			a.product.Multiply(&x[j], &y[j])
			a.product.Multiply(&a.product, d2)
		}
		for range width {
			power.Add(power, power)
		}
	}
	return t
}

// A term is a point to add, or to subtract.
type term struct {
	point    *affine
	subtract bool
}

// terms writes what [s]P is the sum of, or -[s]P. s is little-endian and below
// 2^253. Its time depends on s: here all is public.
func (t *table) terms(to []term, s []byte, subtract bool) {
	var bits [40]byte // s, with room to read a digit anywhere
	copy(bits[:], s)
	carry := 0
	for i := range t.multiples {
		at := i * width
		d := carry + int(binary.LittleEndian.Uint32(bits[at/8:])>>(at%8)&(1<<width-1))
		carry = 0
		if d > half {
			d -= 1 << width
			carry = 1
		}
		switch {
		case d > 0:
			to[i] = term{&t.multiples[i][d-1], subtract}
		case d < 0:
			to[i] = term{&t.multiples[i][-d-1], !subtract}
		default:
			to[i] = term{point: &neutral}
		}
	}
}

// add adds an affine point to q, or subtracts it. The formulas are complete:
// they hold for every pair of points on the curve (Hisil, Wong, Carter, Dawson:
// Twisted Edwards Curves Revisited, 2008, section 3.1).
//
//	A = (Y-X)·(y-x)   B = (Y+X)·(y+x)   C = T·2dxy   D = 2Z
//	E = B-A   F = D-C   G = D+C   H = B+A
//	X = E·F   Y = G·H   Z = F·G   T = E·H
//
// The negative of (x, y) is (-x, y), which swaps y+x with y-x and F with G.
func (q *point) add(p *affine, subtract bool) {
	var twoZ field.Element
	q.addScaled(p, twoZ.Add(&q.Z, &q.Z), subtract)
}

// addPoint adds a point: with p = (X/Z, Y/Z), T = XY/Z,
//
//	(X/Z, Y/Z) = (x, y)   2d·xy = 2dT/Z   D = 2Z·Z'
//
// all of it times Z, which the result does not depend on.
func (q *point) addPoint(p *point) {
	var scaled affine
	var twoZ field.Element
	scaled.sum.Add(&p.Y, &p.X)
	scaled.difference.Subtract(&p.Y, &p.X)
	scaled.product.Multiply(&p.T, d2)
	twoZ.Multiply(&q.Z, &p.Z)
	q.addScaled(&scaled, twoZ.Add(&twoZ, &twoZ), false)
}

// addScaled adds a point of which everything is multiplied by one factor, D too.
func (q *point) addScaled(p *affine, d *field.Element, subtract bool) {
	plus, minus := &p.sum, &p.difference
	if subtract {
		plus, minus = minus, plus
	}
	var a, b, c, e, f, g, h field.Element
	a.Subtract(&q.Y, &q.X)
	a.Multiply(&a, minus)
	b.Add(&q.Y, &q.X)
	b.Multiply(&b, plus)
	c.Multiply(&q.T, &p.product)
	e.Subtract(&b, &a)
	f.Subtract(d, &c)
	g.Add(d, &c)
	h.Add(&b, &a)
	if subtract {
		f, g = g, f
	}
	q.X.Multiply(&e, &f)
	q.Y.Multiply(&g, &h)
	q.Z.Multiply(&f, &g)
	q.T.Multiply(&e, &h)
}

// identity is the neutral element.
func identity() (p point) {
	p.Y.One()
	p.Z.One()
	return p
}

// encode returns the 32 bytes of a point: y and, in the last bit, the sign of
// x. z is 1/Z.
func (q *point) encode(z *field.Element) [32]byte {
	var x, y field.Element
	x.Multiply(&q.X, z)
	y.Multiply(&q.Y, z)
	out := [32]byte(y.Bytes())
	out[31] |= byte(x.IsNegative() << 7)
	return out
}

// invertAll replaces every element, none of which is 0, by its inverse: one
// inversion and three multiplications each (Montgomery's trick). room is as
// long as z.
func invertAll(z, room []field.Element) {
	product := *new(field.Element).One()
	for i := range z {
		room[i] = product // of those before i
		product.Multiply(&product, &z[i])
	}
	product.Invert(&product) // from here on: 1 / the product up to and with i
	for i := len(z) - 1; i >= 0; i-- {
		room[i].Multiply(&room[i], &product)
		product.Multiply(&product, &z[i])
		z[i] = room[i]
	}
}
