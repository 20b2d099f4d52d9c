package ed25519x

import (
	"crypto/ed25519"
	"crypto/sha512"

	"filippo.io/edwards25519"
	"filippo.io/edwards25519/field"
)

// A Claim says that Signature is the signature of Digest by Key.
type Claim struct {
	Key       [ed25519.PublicKeySize]byte
	Digest    [32]byte // the message: in Pith always a SHA-256
	Signature [ed25519.SignatureSize]byte

	Good bool // what Verify found
}

// Verify finds out for every claim whether it is good, as crypto/ed25519 does.
// Several goroutines may call it at once.
func Verify(claims []Claim) { shared.verify(claims) }

var shared cache

// batch is how many claims share an inversion at most.
const batch = 16

func (c *cache) verify(claims []Claim) {
	for len(claims) > batch {
		c.verifyBatch(claims[:batch])
		claims = claims[batch:]
	}
	c.verifyBatch(claims)
}

// verifyBatch computes, for the claims whose key has a table, what R must be,
// and compares. crypto/ed25519 answers for all that are not good by then.
func (c *cache) verifyBatch(claims []Claim) {
	var (
		of      [batch]*Claim
		sums    [batch]sum
		points  [batch]point // the sums
		z, room [batch]field.Element
		n       int
	)
	for i := range claims {
		claim := &claims[i]
		claim.Good = false
		if a := c.table(&claim.Key); a != nil && claim.expect(&sums[n], a) {
			of[n] = claim
			n++
		}
	}
	addUp(sums[:n], points[:n])
	for i := range n {
		z[i] = points[i].Z
	}
	invertAll(z[:n], room[:n])
	for i, claim := range of[:n] {
		claim.Good = points[i].encode(&z[i]) == [32]byte(claim.Signature[:32])
	}
	for i := range claims {
		if claim := &claims[i]; !claim.Good {
			claim.Good = ed25519.Verify(claim.Key[:], claim.Digest[:], claim.Signature[:])
		}
	}
}

// A sum is [S]B - [k]A by the tables of B and of A.
type sum [2 * digits]term

// expect sets r to the sum that R, the first half of the signature, must
// encode. S is the other half, and the claim is not good unless S < L. This is
// RFC 8032, section 5.1.7, without cofactor:
//
//	k = SHA-512(R ‖ A ‖ digest) mod L,   R = [S]B - [k]A
func (claim *Claim) expect(r *sum, a *table) bool {
	var S, k edwards25519.Scalar
	if _, err := S.SetCanonicalBytes(claim.Signature[32:]); err != nil {
		return false
	}
	var message [32 + 32 + 32]byte
	copy(message[:], claim.Signature[:32])
	copy(message[32:], claim.Key[:])
	copy(message[64:], claim.Digest[:])
	hash := sha512.Sum512(message[:])
	if _, err := k.SetUniformBytes(hash[:]); err != nil {
		return false
	}
	base().terms(r[:digits], claim.Signature[32:], false)
	a.terms(r[digits:], k.Bytes(), true)
	return true
}

// addUp computes sums.
func addUp(sums []sum, to []point) {
	for vectors && len(sums) > 0 {
		n := min(len(sums), lanes)
		addTogether(sums[:n], to[:n])
		sums, to = sums[n:], to[n:]
	}
	for i := range sums {
		to[i] = identity()
		for _, t := range sums[i] {
			to[i].add(t.point, t.subtract)
		}
	}
}
