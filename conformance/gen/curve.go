package main

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"math/big"
)

// Edwards25519 in affine coordinates, as RFC 8032 section 5.1 defines it: slow,
// and enough to make the signatures that no library makes.

var (
	prime     = sub(pow2(255), big.NewInt(19))
	groupSize = add(pow2(252), number("27742317777372353535851937790883648493"))
	curveD    = mul(big.NewInt(-121665), inverse(big.NewInt(121666)))
	base      = point{number("15112221349535400772501151409588531511454012693041857206046113283949847762202"),
		number("46316835694926478169428394003475163141307993866256225615783033603165251855960")}
	identity = point{big.NewInt(0), big.NewInt(1)}
)

func number(s string) *big.Int {
	n, _ := new(big.Int).SetString(s, 10)
	return n
}
func pow2(n uint) *big.Int             { return new(big.Int).Lsh(big.NewInt(1), n) }
func add(a, b *big.Int) *big.Int       { return new(big.Int).Add(a, b) }
func sub(a, b *big.Int) *big.Int       { return new(big.Int).Sub(a, b) }
func mul(a, b *big.Int) *big.Int       { return mod(new(big.Int).Mul(a, b), prime) }
func mod(a, m *big.Int) *big.Int       { return new(big.Int).Mod(a, m) }
func inverse(a *big.Int) *big.Int      { return new(big.Int).ModInverse(a, prime) }
func plus(a, b *big.Int) *big.Int      { return mod(add(a, b), prime) }
func minus(a, b *big.Int) *big.Int     { return mod(sub(a, b), prime) }
func (p point) equal(q point) bool     { return p.x.Cmp(q.x) == 0 && p.y.Cmp(q.y) == 0 }
func (p point) negated() point         { return point{minus(big.NewInt(0), p.x), p.y} }
func little(n *big.Int) []byte         { return reversed(n.FillBytes(make([]byte, 32))) }
func fromLittle(data []byte) *big.Int  { return new(big.Int).SetBytes(reversed(data)) }
func hashed(parts ...[]byte) *big.Int  { return mod(fromLittle(sum512(parts...)), groupSize) }
func scalar(s string, i byte) *big.Int { return hashed([]byte(s), []byte{i}) }

func reversed(in []byte) []byte {
	out := make([]byte, len(in))
	for i, b := range in {
		out[len(in)-1-i] = b
	}
	return out
}

func sum512(parts ...[]byte) []byte {
	h := sha512.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

type point struct{ x, y *big.Int }

func (p point) plus(q point) point {
	xy := mul(mul(p.x, q.x), mul(p.y, q.y))
	t := mul(curveD, xy)
	one := big.NewInt(1)
	return point{
		mul(plus(mul(p.x, q.y), mul(q.x, p.y)), inverse(plus(one, t))),
		mul(plus(mul(p.y, q.y), mul(p.x, q.x)), inverse(minus(one, t))),
	}
}

func (p point) times(n *big.Int) point {
	out := identity
	for i := n.BitLen() - 1; i >= 0; i-- {
		out = out.plus(out)
		if n.Bit(i) == 1 {
			out = out.plus(p)
		}
	}
	return out
}

func (p point) bytes() []byte {
	out := little(p.y)
	out[31] |= byte(p.x.Bit(0)) << 7
	return out
}

// withY returns a point with that y, if there is one.
func withY(y *big.Int) (point, bool) {
	y2 := mul(y, y)
	x2 := mul(minus(y2, big.NewInt(1)), inverse(plus(mul(curveD, y2), big.NewInt(1))))
	x := new(big.Int).ModSqrt(x2, prime)
	return point{x, y}, x != nil
}

// torsion is a point of order 8: what is left of some point when the large
// group is multiplied away.
func torsion() point {
	for y := int64(2); ; y++ {
		if p, ok := withY(big.NewInt(y)); ok {
			if t := p.times(groupSize); !t.times(big.NewInt(4)).equal(identity) {
				return t
			}
		}
	}
}

// An oddKey is a*B + T with a point T of small order, under some encoding.
type oddKey struct {
	a        *big.Int
	t        point
	encoding []byte
}

// sign returns R and S with S*B = R + k*A exactly: the equation of a verifier
// without cofactor. T takes part in R, so it must be guessed which multiple of
// it k will ask for.
func (key oddKey) sign(message []byte) []byte {
	for i := byte(0); ; i++ {
		r := scalar("nonce", i)
		for j := int64(0); j < 8; j++ {
			encoded := base.times(r).plus(key.t.times(big.NewInt(j)).negated()).bytes()
			k := hashed(encoded, key.encoding, message)
			if new(big.Int).And(k, big.NewInt(7)).Int64() == j {
				return append(encoded, little(key.s(r, k))...)
			}
		}
	}
}

func (key oddKey) s(r, k *big.Int) *big.Int {
	return mod(add(r, new(big.Int).Mul(k, key.a)), groupSize)
}

// cofactored returns a signature that holds only after multiplying by 8.
func (key oddKey) cofactored(message []byte) []byte {
	for i := byte(0); ; i++ {
		r := scalar("nonce", i)
		encoded := base.times(r).bytes()
		k := hashed(encoded, key.encoding, message)
		if new(big.Int).And(k, big.NewInt(7)).Sign() != 0 && !key.t.times(k).equal(identity) {
			return append(encoded, little(key.s(r, k))...)
		}
	}
}

// withR signs with a given R, whose discrete logarithm is r.
func (key oddKey) withR(encoded []byte, r *big.Int, message []byte) []byte {
	return append(append([]byte{}, encoded...), little(key.s(r, hashed(encoded, key.encoding, message)))...)
}

// curve holds 3.4: the corners where Ed25519 verifiers differ.
func (s *suite) curve() {
	eight := torsion()
	multiple := func(n int64) point { return eight.times(big.NewInt(n)) }
	a := scalar("secret", 0)
	plain := oddKey{a, identity, base.times(a).bytes()}
	mixed := oddKey{a, eight, base.times(a).plus(eight).bytes()}
	zero := big.NewInt(0)

	someone := func(public []byte, sign func([]byte) []byte) *signer {
		return &signer{"odd@example.org", "individual", "odd-key", public, sign}
	}
	kept := func(name, why string, who *signer) {
		b := newBundle()
		b.signers = append(b.signers, who)
		b.trust = append(b.trust, canon(trusts(who.trusted())))
		b.note(who, name)
		s.ok("ed25519_"+name, why, b)
	}
	refused := func(name, why string, who *signer) {
		b := newBundle()
		b.signers = append(b.signers, who)
		b.trust = append(b.trust, canon(trusts(who.trusted())))
		b.note(who, name)
		s.reject("ed25519_"+name, why, b, "signature", "state")
	}
	kept("made_by_hand", "An ordinary key whose signature the generator computed by itself: its arithmetic is right.", someone(plain.encoding, plain.sign))
	refused("s_plus_l", "S is less than the order of the group (3.4): S + L is the same scalar, and a second signature nobody made.", someone(plain.encoding, func(m []byte) []byte {
		sig := plain.sign(m)
		return append(sig[:32:32], little(add(fromLittle(sig[32:]), groupSize))...)
	}))
	refused("s_top_bits", "S with its top bits set is not canonical either.", someone(plain.encoding, func(m []byte) []byte {
		sig := plain.sign(m)
		sig[63] |= 0xe0
		return sig
	}))
	refused("s_is_l", "S = L stands for 0, and is not canonical.", someone(identity.bytes(), func(m []byte) []byte {
		return append(identity.bytes(), little(groupSize)...)
	}))
	kept("identity_r", "R may be of small order: the equation holds (3.4).", someone(plain.encoding, func(m []byte) []byte {
		return plain.withR(identity.bytes(), zero, m)
	}))
	refused("noncanonical_r", "R is compared as bytes (3.4): y = p + 1 is another spelling of 1.", someone(plain.encoding, func(m []byte) []byte {
		return plain.withR(little(add(prime, big.NewInt(1))), zero, m)
	}))
	refused("r_minus_zero", "x = 0 with a sign is another spelling of the identity.", someone(plain.encoding, func(m []byte) []byte {
		r := identity.bytes()
		r[31] |= 0x80
		return plain.withR(r, zero, m)
	}))
	refused("r_with_torsion", "R with a part of small order holds only for a verifier with cofactor (3.4).", someone(plain.encoding, func(m []byte) []byte {
		r := scalar("nonce", 1)
		return plain.withR(base.times(r).plus(eight).bytes(), r, m)
	}))
	refused("r_of_order_8", "R of order 8 holds only for a verifier with cofactor.", someone(plain.encoding, func(m []byte) []byte {
		return plain.withR(eight.bytes(), zero, m)
	}))
	kept("mixed_key", "A key with a part of small order can sign (3.4): trust is given to fingerprints, not to groups.", someone(mixed.encoding, mixed.sign))
	refused("mixed_key_cofactored", "With such a key a signature may hold with cofactor alone: batch verification would take it (3.4).", someone(mixed.encoding, mixed.cofactored))
	for _, order := range []struct {
		name string
		n    int64
	}{{"1", 0}, {"2", 4}, {"4", 2}, {"8", 1}} {
		key := oddKey{zero, multiple(order.n), multiple(order.n).bytes()}
		kept("key_of_order_"+order.name, "A key of small order: anybody can sign with it, and the equation holds (3.4). Whoever trusts this fingerprint trusts everybody.", someone(key.encoding, key.sign))
	}
	key8 := oddKey{zero, eight, eight.bytes()}
	refused("key_of_order_8_cofactored", "With a key of order 8, too, cofactors are not multiplied in.", someone(key8.encoding, key8.cofactored))
	spelled := oddKey{zero, identity, little(add(prime, big.NewInt(1)))}
	kept("noncanonical_key", "A key is decoded modulo p (3.4): y = p + 1 stands for the identity. Digest and fingerprint are those of the bytes.", someone(spelled.encoding, spelled.sign))
	signed := identity.bytes()
	signed[31] |= 0x80
	minusZero := oddKey{zero, identity, signed}
	kept("key_minus_zero", "A key with x = 0 and a sign is taken for the identity (3.4).", someone(minusZero.encoding, minusZero.sign))
	off := big.NewInt(2)
	for {
		if _, ok := withY(off); !ok {
			break
		}
		off = add(off, big.NewInt(1))
	}
	refused("key_off_curve", "A key that is no point signs nothing.", someone(little(off), func(m []byte) []byte {
		return append(identity.bytes(), little(zero)...)
	}))
	refused("prehashed", "Ed25519ph is another algorithm.", someone(plain.encoding, func(m []byte) []byte {
		sum := sha512.Sum512(m)
		return plain.sign(append([]byte("SigEd25519 no Ed25519 collisions\x01\x00"), sum[:]...))
	}))
	refused("context", "Nor is there a context.", someone(plain.encoding, func(m []byte) []byte {
		return plain.sign(append([]byte("SigEd25519 no Ed25519 collisions\x00\x05event"), m...))
	}))
	refused("twice_digested", "The digest is signed, not its digest.", someone(plain.encoding, func(m []byte) []byte {
		sum := sha256.Sum256(m)
		return plain.sign(sum[:])
	}))
	refused("zeros", "A signature of zeros is none.", someone(plain.encoding, func([]byte) []byte { return make([]byte, 64) }))
	refused("halves_swapped", "S and R in the wrong order.", someone(plain.encoding, func(m []byte) []byte {
		sig := plain.sign(m)
		return append(append([]byte{}, sig[32:]...), sig[:32]...)
	}))

	// The same corner at the bundle's own signature.
	b := newBundle()
	b.after = append(b.after, func(o obj) {
		sig := o["bundle_signature"].(obj)
		data, err := base64.StdEncoding.DecodeString(sig["signature_b64"].(string))
		if err != nil {
			panic(err)
		}
		sig["signature_b64"] = base64.StdEncoding.EncodeToString(append(data[:32:32], little(add(fromLittle(data[32:]), groupSize))...))
	})
	s.reject("ed25519_s_plus_l_of_bundle", "S + L in the signature of the bundle.", b, "signature")
}
