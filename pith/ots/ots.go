package ots

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// Limits on what is read and written (spec §10). All but the first three
// are those of python-opentimestamps.
const (
	MaxSize    = 1 << 16 // bytes of a proof
	MaxNodes   = 1 << 12 // operations and attestations of a proof
	MaxHeld    = 1 << 18 // bytes of all results of a proof together
	maxDepth   = 255     // operations between the digest and an attestation
	maxMessage = 4096    // bytes of a message, a result or an argument
	maxPayload = 8192    // bytes of an attestation
	maxURI     = 1000    // bytes of a calendar's address
)

// ErrFormat reports bytes that are not a proof. Errors of this package that say
// more wrap it.
var ErrFormat = errors.New("not an OpenTimestamps proof")

// ErrLimit reports a proof, or a union of proofs, that is larger than the limits.
var ErrLimit = errors.New("the proof breaks a limit")

// ErrBudget reports that a Budget is spent: the proofs together are too much,
// whatever this one is worth.
var ErrBudget = errors.New("the proofs together are larger than the limit")

// ErrDigest reports proofs that are not about the same digest.
var ErrDigest = errors.New("the proof is about another digest")

const (
	magic        = "\x00OpenTimestamps\x00\x00Proof\x00\xbf\x89\xe2\xe8\x84\xe8\x92\x94"
	majorVersion = 1

	tagAttestation = 0x00
	tagFork        = 0xff
)

// A Proof is a timestamp of a digest, and how that digest was made.
type Proof struct {
	Hash      Op         // Sha256, or another hash
	Timestamp *Timestamp // of the digest
}

// A Timestamp says who attests a message, and what follows from the message.
// Attestations and Branches are sorted and hold no value twice.
type Timestamp struct {
	Message      []byte
	Attestations []Attestation
	Branches     []Branch
}

// A Branch leads from a message to the result of an operation on it.
type Branch struct {
	Op   Op
	Then *Timestamp // of the result
}

// New returns a proof of a SHA-256 digest from the answer of a calendar that was
// asked to stamp it: the bytes of a timestamp, without file header.
func New(digest [32]byte, answer []byte) (*Proof, error) {
	t, err := parseTimestamp(digest[:], answer)
	if err != nil {
		return nil, err
	}
	return &Proof{Hash: Op{Tag: Sha256}, Timestamp: t}, nil
}

// Digest returns what the proof is about.
func (p *Proof) Digest() []byte { return p.Timestamp.Message }

// A Claim is an attestation together with the message that it attests.
type Claim struct {
	Message []byte
	Attestation
}

// Claims returns all attestations of the proof, in the order of the file.
func (p *Proof) Claims() []Claim {
	var claims []Claim
	var walk func(*Timestamp)
	walk = func(t *Timestamp) {
		for _, a := range t.Attestations {
			claims = append(claims, Claim{t.Message, a})
		}
		for _, b := range t.Branches {
			walk(b.Then)
		}
	}
	walk(p.Timestamp)
	return claims
}

// Merge unites two proofs of one digest. It is commutative, associative and
// idempotent. Errors are ErrDigest and ErrLimit.
func Merge(a, b *Proof) (*Proof, error) {
	if a.Hash.Tag != b.Hash.Tag || !bytes.Equal(a.Digest(), b.Digest()) {
		return nil, fmt.Errorf("%s %x and %s %x: %w", a.Hash, a.Digest(), b.Hash, b.Digest(), ErrDigest)
	}
	union := &Proof{a.Hash, a.Timestamp.clone()}
	union.Timestamp.add(b.Timestamp.clone())
	union.Timestamp.tidy()
	return union, union.checkLimits()
}

// Attach returns the proof with the answer of a calendar that was asked about a
// commitment: one of the messages of the proof. Errors are ErrFormat, ErrDigest
// when no message of the proof is the commitment, and ErrLimit.
func (p *Proof) Attach(commitment, answer []byte) (*Proof, error) {
	more, err := parseTimestamp(commitment, answer)
	if err != nil {
		return nil, err
	}
	out := &Proof{p.Hash, p.Timestamp.clone()}
	// Many branches can lead to one message, and the answer goes to each of them:
	// so they are counted before anything grows.
	var places []*Timestamp
	var walk func(*Timestamp)
	walk = func(t *Timestamp) {
		if bytes.Equal(t.Message, commitment) {
			places = append(places, t)
			return // below, the answer would be attached to itself
		}
		for _, b := range t.Branches {
			walk(b.Then)
		}
	}
	walk(out.Timestamp)
	switch {
	case len(places) == 0:
		return nil, fmt.Errorf("no message of the proof is %x: %w", commitment, ErrDigest)
	case len(places)*more.nodes() > MaxNodes:
		return nil, fmt.Errorf("the commitment is there %d times: %w", len(places), ErrLimit)
	}
	for _, t := range places {
		t.add(more.clone())
	}
	out.Timestamp.tidy()
	return out, out.checkLimits()
}

// nodes counts operations and attestations.
func (t *Timestamp) nodes() int {
	n := len(t.Attestations) + len(t.Branches)
	for _, b := range t.Branches {
		n += b.Then.nodes()
	}
	return n
}

func (t *Timestamp) clone() *Timestamp {
	c := &Timestamp{Message: t.Message, Attestations: slices.Clone(t.Attestations)}
	for _, b := range t.Branches {
		c.Branches = append(c.Branches, Branch{b.Op, b.Then.clone()})
	}
	return c
}

// add puts what other says, a timestamp of the same message, to what t says.
// Until tidy is called t may say things twice and in any order.
func (t *Timestamp) add(other *Timestamp) {
	t.Attestations = append(t.Attestations, other.Attestations...)
	t.Branches = append(t.Branches, other.Branches...)
}

// tidy sorts what t says and says it once. It works from the root on, so that
// each attestation and each branch is sorted once, however often a stranger's
// proof repeats the way to it.
func (t *Timestamp) tidy() {
	slices.SortFunc(t.Attestations, Attestation.compare)
	t.Attestations = slices.CompactFunc(t.Attestations, func(a, b Attestation) bool { return a.compare(b) == 0 })
	slices.SortFunc(t.Branches, func(a, b Branch) int { return a.Op.compare(b.Op) })
	kept := t.Branches[:0]
	for _, b := range t.Branches {
		if n := len(kept); n > 0 && kept[n-1].Op.compare(b.Op) == 0 {
			kept[n-1].Then.add(b.Then)
		} else {
			kept = append(kept, b)
		}
	}
	clear(t.Branches[len(kept):])
	t.Branches = kept
	for _, b := range t.Branches {
		b.Then.tidy()
	}
}

// checkLimits asks whether the proof can be read again.
func (p *Proof) checkLimits() error {
	_, err := Parse(p.Bytes())
	return err
}

// Bytes returns the proof as a file: equal proofs, equal bytes.
func (p *Proof) Bytes() []byte {
	out := append([]byte(magic), majorVersion, p.Hash.Tag)
	out = append(out, p.Digest()...)
	return p.Timestamp.append(out)
}

func (t *Timestamp) append(out []byte) []byte {
	left := len(t.Attestations) + len(t.Branches)
	fork := func() {
		if left--; left > 0 {
			out = append(out, tagFork)
		}
	}
	for _, a := range t.Attestations {
		fork()
		out = a.append(out)
	}
	for _, b := range t.Branches {
		fork()
		out = b.Then.append(b.Op.append(out))
	}
	return out
}

// String prints the proof as a tree, one operation or attestation per line.
func (p *Proof) String() string {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %x\n", p.Hash, p.Digest())
	p.Timestamp.print(&out, "")
	return out.String()
}

func (t *Timestamp) print(out *bytes.Buffer, indent string) {
	for _, a := range t.Attestations {
		fmt.Fprintf(out, "%s%s\n", indent, a)
		switch a.Kind {
		case Pending:
			fmt.Fprintf(out, "%s  commitment %x\n", indent, t.Message)
		case Bitcoin:
			fmt.Fprintf(out, "%s  Merkle root %s\n", indent, reversedHex(t.Message))
		}
	}
	for i, b := range t.Branches {
		inner := indent
		if len(t.Branches) > 1 {
			fmt.Fprintf(out, "%sbranch %d\n", indent, i+1)
			inner += "  "
		}
		fmt.Fprintf(out, "%s%s\n", inner, b.Op)
		b.Then.print(out, inner)
	}
}

// reversedHex is how Bitcoin prints digests.
func reversedHex(b []byte) string {
	r := bytes.Clone(b)
	slices.Reverse(r)
	return hex.EncodeToString(r)
}
