// Package ed25519x verifies Ed25519 signatures under keys that come up again
// and again, four times as fast as crypto/ed25519 and with the same answers, and a
// dozen times as fast on processors that multiply eight numbers of 52 bits at once.
//
// A registry signs a million records with one key. For such a key the multiples
// that verification needs are computed once and kept ([table]); a signature then
// costs some 60 additions on the curve instead of 250 doublings and 80 additions,
// and the signatures of one bundle share the one inversion at the end. Additions for
// several signatures, or for parts of one, are made eight at a time where there is
// AVX-512 IFMA (lanes.go). A key that was seen a few times only is left to
// crypto/ed25519.
//
// "The same answers" is a promise with three parts. Every signature is judged
// alone by the equation of RFC 8032 without cofactor, never by a random
// combination of several, which would accept others. What the tables accept
// follows from exact arithmetic. And what they reject is asked of crypto/ed25519
// again, which decides.
package ed25519x
