package ed25519x

import (
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"unsafe"

	"filippo.io/edwards25519"
	"filippo.io/edwards25519/field"
)

// eager is a cache that gives every key its table at once.
func eager() *cache { return &cache{cost: 1} }

var tables = eager()

// byTable is the answer of the tables, without crypto/ed25519 to correct it.
func byTable(c Claim) bool {
	a := tables.table(&c.Key)
	var sums [1]sum
	if a == nil || !c.expect(&sums[0], a) {
		return false
	}
	return encoded(sums[0]) == [32]byte(c.Signature[:32])
}

// encoded is what a sum encodes to, added up by lanes, where this machine can, and
// point by point.
func encoded(s sum) [32]byte {
	var byLanes, byPoints [1]point
	addUp([]sum{s}, byLanes[:])
	pointByPoint(func() { addUp([]sum{s}, byPoints[:]) })
	a, b := encodedPoint(byLanes[0]), encodedPoint(byPoints[0])
	if a != b {
		panic(fmt.Sprintf("by lanes %x, point by point %x", a, b))
	}
	return a
}

func encodedPoint(p point) [32]byte { return p.encode(new(field.Element).Invert(&p.Z)) }

// pointByPoint runs f without lanes.
func pointByPoint(f func()) {
	defer func(was bool) { vectors = was }(vectors)
	vectors = false
	f()
}

func byStandard(c Claim) bool { return ed25519.Verify(c.Key[:], c.Digest[:], c.Signature[:]) }

func check(t testing.TB, what string, c Claim) (good bool) {
	t.Helper()
	want := byStandard(c)
	if got := byTable(c); got != want {
		t.Errorf("%s: the tables say %v, crypto/ed25519 says %v", what, got, want)
	}
	claims := []Claim{c}
	if tables.verify(claims); claims[0].Good != want {
		t.Errorf("%s: Verify says %v, crypto/ed25519 says %v", what, claims[0].Good, want)
	}
	return want
}

func number(n int) (digest [32]byte) {
	binary.BigEndian.PutUint64(digest[:], uint64(n))
	return digest
}

func honest(seed byte, n int) Claim {
	key := ed25519.NewKeyFromSeed([]byte(fmt.Sprintf("%032d", seed)))
	d := number(n)
	return Claim{Key: publicKey(key.Public().(ed25519.PublicKey)), Digest: d, Signature: [64]byte(ed25519.Sign(key, d[:]))}
}

func TestHonest(t *testing.T) {
	for i := range 20 {
		c := honest(byte(i%3), i)
		if !check(t, "honest", c) {
			t.Errorf("claim %d is not good", i)
		}
		c.Signature[(7*i)%64] ^= 1 << (i % 8)
		if check(t, "changed signature", c) {
			t.Errorf("changed claim %d is good", i)
		}
		c = honest(byte(i%3), i)
		c.Digest[i] ^= 1
		if check(t, "changed digest", c) {
			t.Errorf("claim %d is good for another digest", i)
		}
	}
}

func scalar(t testing.TB, b []byte) *edwards25519.Scalar {
	t.Helper()
	wide := sha512.Sum512(b)
	s, err := new(edwards25519.Scalar).SetUniformBytes(wide[:])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// order8 is a point of order 8: [L]P for the first P on the curve that gives one.
func order8(t testing.TB) *edwards25519.Point {
	t.Helper()
	for y := byte(2); ; y++ {
		p, err := new(edwards25519.Point).SetBytes(append([]byte{y}, make([]byte, 31)...))
		if err != nil {
			continue
		}
		// [L]P = [L-1]P + P
		minusOne := new(edwards25519.Scalar).Subtract(new(edwards25519.Scalar), scalarOne(t))
		torsion := new(edwards25519.Point).ScalarMult(minusOne, p)
		torsion.Add(torsion, p)
		four := new(edwards25519.Point).Add(torsion, torsion)
		four.Add(four, four)
		if four.Equal(edwards25519.NewIdentityPoint()) == 0 {
			return torsion
		}
	}
}

func scalarOne(t testing.TB) *edwards25519.Scalar {
	t.Helper()
	one, err := new(edwards25519.Scalar).SetCanonicalBytes(append([]byte{1}, make([]byte, 31)...))
	if err != nil {
		t.Fatal(err)
	}
	return one
}

// TestEdgeCases makes the signatures on which implementations are known to
// differ (Chalkias, Garillot, Nikolaenko: Taming the many EdDSAs, 2020, section
// 5): keys and R with a part of small order, S that is not reduced, encodings
// that are not canonical. With A = [a]B + T, R = [r]B + U and S = r + ka,
//
//	[S]B - [k]A - R = -[k]T - U
//
// so cofactored verification accepts them all, and ours must where this is the
// identity and the encodings are canonical where they have to be.
func TestEdgeCases(t *testing.T) {
	torsion := order8(t)
	multiples := []*edwards25519.Point{edwards25519.NewIdentityPoint()}
	for i := range 7 {
		multiples = append(multiples, new(edwards25519.Point).Add(multiples[i], torsion))
	}
	counts := map[bool]int{}
	make := func(a, r *edwards25519.Scalar, T, U *edwards25519.Point, n int) Claim {
		A := new(edwards25519.Point).ScalarBaseMult(a)
		R := new(edwards25519.Point).ScalarBaseMult(r)
		return sign(t, A.Add(A, T).Bytes(), R.Add(R, U).Bytes(), a, r, n)
	}
	zero := new(edwards25519.Scalar)
	for n, secret := range []struct {
		name string
		a, r *edwards25519.Scalar
	}{
		{"A and R of large order", scalar(t, []byte("a")), scalar(t, []byte("r"))},
		{"A of small order", zero, scalar(t, []byte("r"))},
		{"R of small order", scalar(t, []byte("a")), zero},
		{"A and R of small order, S = 0", zero, zero},
	} {
		for i, T := range multiples {
			for j, U := range multiples {
				what := fmt.Sprintf("%s, torsion %d and %d", secret.name, i, j)
				c := make(secret.a, secret.r, T, U, n)
				good := check(t, what, c)
				counts[good]++
				if i == 0 && j == 0 && !good {
					t.Errorf("%s: not good", what)
				}
				if i == 0 && j != 0 && good {
					t.Errorf("%s: good with a torsion in R alone", what)
				}
				plusL(&c)
				if check(t, what+", S + L", c) {
					t.Errorf("%s: good with S + L", what)
				}
			}
		}
	}
	if counts[true] < 20 || counts[false] < 100 {
		t.Errorf("%d good and %d bad cases: too few of one kind to tell", counts[true], counts[false])
	}

	// y and y + p are the same; R has one spelling, while A is taken as it comes.
	for _, low := range []byte{0, 1} { // y = 0: order 4; y = 1: the identity
		for _, sign8 := range []byte{0, 0x80} {
			other := append([]byte{0xed + low}, hexBytes(t, "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")...)
			other[31] |= sign8
			for n := range 16 {
				a, r := scalar(t, []byte("a")), scalar(t, []byte("r"))
				what := fmt.Sprintf("y = p+%d, sign %x", low, sign8)
				if c := sign(t, new(edwards25519.Point).ScalarBaseMult(a).Bytes(), other, a, zero, n); check(t, "R with "+what, c) {
					t.Errorf("R with %s: good", what)
				}
				counts[check(t, "A with "+what, sign(t, other, new(edwards25519.Point).ScalarBaseMult(r).Bytes(), zero, r, n))]++
			}
		}
	}

	garbage := honest(1, 1)
	for i := range garbage.Key {
		garbage.Key[i] = byte(3*i + 2) // no point
	}
	if check(t, "no point", garbage) {
		t.Error("good under a key that is no point")
	}
}

// sign returns the claim with S = r + k·a, whatever A and R encode.
func sign(t testing.TB, A, R []byte, a, r *edwards25519.Scalar, n int) Claim {
	t.Helper()
	digest := number(n)
	k := scalar(t, append(append(append([]byte{}, R...), A...), digest[:]...))
	S := new(edwards25519.Scalar).MultiplyAdd(k, a, r)
	return Claim{Key: publicKey(A), Digest: digest, Signature: [64]byte(append(append([]byte{}, R...), S.Bytes()...))}
}

// plusL adds the order L of the base point to S.
func plusL(c *Claim) {
	l := [32]byte{0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 31: 0x10}
	carry := 0
	for i := range l {
		carry += int(c.Signature[32+i]) + int(l[i])
		c.Signature[32+i] = byte(carry)
		carry >>= 8
	}
}

func hexBytes(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTable compares every kind of digit with the library's multiplication.
func TestTable(t *testing.T) {
	p := new(edwards25519.Point).ScalarBaseMult(scalar(t, []byte("p")))
	table := newTable(p)
	minusOne := new(edwards25519.Scalar).Subtract(new(edwards25519.Scalar), scalarOne(t))
	scalars := []*edwards25519.Scalar{new(edwards25519.Scalar), scalarOne(t), minusOne}
	for i := range 20 {
		scalars = append(scalars, scalar(t, []byte{byte(i)}))
	}
	for i, s := range scalars {
		for _, subtract := range []bool{false, true} {
			var q sum
			for i := range q {
				q[i].point = &neutral
			}
			table.terms(q[digits:], s.Bytes(), subtract)
			want := new(edwards25519.Point).ScalarMult(s, p)
			if subtract {
				want.Negate(want)
			}
			if encoded(q) != [32]byte(want.Bytes()) {
				t.Errorf("scalar %d, subtract %v: another point", i, subtract)
			}
		}
	}
}

// TestLanes compares addLanes with add where the limbs are as large as they may
// be: random ones hardly carry.
func TestLanes(t *testing.T) {
	if !vectors {
		t.Skip("this machine adds point by point")
	}
	random := rand.New(rand.NewPCG(1, 2))
	element := func(most uint64) (e field.Element) {
		limbs := (*[5]uint64)(unsafe.Pointer(&e))
		for k := range limbs {
			if limbs[k] = random.Uint64N(most + 1); random.IntN(2) == 0 {
				limbs[k] = most
			}
		}
		return e
	}
	const reduced, any = 1<<51 + 1<<14 - 1, 1<<52 - 1
	for try := range 2000 {
		var p points
		var entries [lanes]*affine
		var want [lanes]point
		for i := range lanes {
			want[i] = point{element(reduced), element(reduced), element(reduced), element(reduced)}
			for k := range 5 {
				limb := func(e *field.Element) uint64 { return (*[5]uint64)(unsafe.Pointer(e))[k] }
				p.X[k][i], p.Y[k][i], p.Z[k][i], p.T[k][i] = limb(&want[i].X), limb(&want[i].Y), limb(&want[i].Z), limb(&want[i].T)
			}
			entries[i] = &affine{sum: element(any), difference: element(any), product: element(any)}
		}
		negative := random.Uint64() & 0xff
		addLanes(&p, &entries, negative)
		for i := range lanes {
			want[i].add(entries[i], negative>>i&1 == 1)
			got := p.lane(i)
			if got.X.Equal(&want[i].X)&got.Y.Equal(&want[i].Y)&got.Z.Equal(&want[i].Z)&got.T.Equal(&want[i].T) != 1 {
				t.Fatalf("try %d, lane %d: another point", try, i)
			}
			for _, c := range []*[5][lanes]uint64{&p.X, &p.Y, &p.Z, &p.T} {
				for k := range c {
					if c[k][i] > reduced {
						t.Fatalf("try %d, lane %d: limb %d is %x", try, i, k, c[k][i])
					}
				}
			}
		}
	}
}

// TestAddPoint adds points that are not affine.
func TestAddPoint(t *testing.T) {
	p, q := new(edwards25519.Point).ScalarBaseMult(scalar(t, []byte("p"))), new(edwards25519.Point).ScalarBaseMult(scalar(t, []byte("q")))
	both := new(edwards25519.Point).Add(p, q)
	scaled := func(p *edwards25519.Point) point { // whatever Z it has
		X, Y, Z, T := new(edwards25519.Point).Add(p, edwards25519.NewGeneratorPoint()).ExtendedCoordinates()
		minus := new(edwards25519.Point).Negate(edwards25519.NewGeneratorPoint())
		out := point{*X, *Y, *Z, *T}
		x, y, z, tt := minus.ExtendedCoordinates()
		out.addPoint(&point{*x, *y, *z, *tt})
		return out
	}
	a, b := scaled(p), scaled(q)
	if a.addPoint(&b); encodedPoint(a) != [32]byte(both.Bytes()) {
		t.Error("another point")
	}
}

func TestBatches(t *testing.T) {
	t.Run("lanes", testBatches)
	pointByPoint(func() { t.Run("point by point", testBatches) })
}

func testBatches(t *testing.T) {
	c := eager()
	for n := range 3*batch + 2 {
		claims := make([]Claim, n)
		for i := range claims {
			claims[i] = honest(byte(i%5), i)
			if i%3 == 1 {
				claims[i].Signature[i] ^= 4
			}
			claims[i].Good = i%3 == 1 // must be overwritten
		}
		c.verify(claims)
		for i, claim := range claims {
			if claim.Good != (i%3 != 1) {
				t.Errorf("claim %d of %d: %v", i, n, claim.Good)
			}
		}
	}
}

func TestCache(t *testing.T) {
	var c cache
	use := func(seed byte, times int) {
		for i := range times {
			claims := []Claim{honest(seed, i)}
			if c.verify(claims); !claims[0].Good {
				t.Fatal("not good")
			}
		}
	}
	has := func(seed byte) bool {
		key := honest(seed, 0).Key
		return c.find(&key) != nil
	}
	use(0, tableCost-1)
	if has(0) {
		t.Error("a key has a table that it has not earned")
	}
	use(0, 1)
	if !has(0) {
		t.Error("a key that has earned a table has none")
	}
	for seed := byte(1); seed <= maxTables; seed++ {
		use(seed, tableCost)
	}
	if n := len(*c.tables.Load()); n != maxTables || has(0) || !has(maxTables) {
		t.Errorf("%d tables, want %d, the newest", n, maxTables)
	}
	for n := range 2 * maxNovice {
		key := publicKey(number(n))
		c.table(&key)
	}
	if n := len(c.novices); n > maxNovice {
		t.Errorf("%d keys are counted, want at most %d", n, maxNovice)
	}
}

func TestConcurrent(t *testing.T) {
	var c cache
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range 3 * tableCost {
				claims := []Claim{honest(byte((g+i)%3), i), honest(7, i)}
				claims[1].Digest[0] ^= 1
				if c.verify(claims); !claims[0].Good || claims[1].Good {
					t.Errorf("claims %d: %v, %v", i, claims[0].Good, claims[1].Good)
				}
			}
		})
	}
	group.Wait()
}

// FuzzVerify looks for a claim that the tables see differently.
func FuzzVerify(f *testing.F) {
	for i := range 3 {
		c := honest(byte(i), i)
		f.Add(c.Key[:], c.Digest[:], c.Signature[:])
	}
	torsion := order8(f).Bytes()
	f.Add(torsion, make([]byte, 32), append(torsion, make([]byte, 32)...))
	f.Fuzz(func(t *testing.T, key, digest, sig []byte) {
		var c Claim
		copy(c.Key[:], key)
		copy(c.Digest[:], digest)
		copy(c.Signature[:], sig)
		check(t, "fuzz", c)
		// Most of what is mutated is far from good. Sign with a key made of the
		// input, then change what the input says.
		private := ed25519.NewKeyFromSeed(c.Key[:])
		near := Claim{Key: publicKey(private.Public().(ed25519.PublicKey)), Digest: c.Digest, Signature: [64]byte(ed25519.Sign(private, c.Digest[:]))}
		if !check(t, "fuzz, signed", near) {
			t.Error("an honest signature is not good")
		}
		near.Signature[c.Signature[0]%64] ^= c.Signature[1]
		check(t, "fuzz, changed", near)
	})
}

func BenchmarkVerify(b *testing.B) {
	claims := make([]Claim, 1024)
	for i := range claims {
		claims[i] = honest(0, i)
	}
	tables := func(b *testing.B) {
		const n = 4 // as many as the real bundle has
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if Verify(claims[i : i+n]); !claims[i].Good {
				b.Fatal("not good")
			}
			i = (i + n) % len(claims)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*b.N), "ns/signature")
	}
	b.Run("lanes", tables)
	pointByPoint(func() { b.Run("points", tables) })
	b.Run("standard", func(b *testing.B) {
		i := 0
		for b.Loop() {
			if !byStandard(claims[i]) {
				b.Fatal("not good")
			}
			i = (i + 1) % len(claims)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "ns/signature")
	})
	b.Run("table", func(b *testing.B) {
		for b.Loop() {
			newTable(edwards25519.NewGeneratorPoint())
		}
	})
}
