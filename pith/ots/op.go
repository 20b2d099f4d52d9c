package ots

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	//lint:ignore SA1019 OpenTimestamps has it, and old proofs stay
	"golang.org/x/crypto/ripemd160"
	"golang.org/x/crypto/sha3"
)

// Tags of operations.
const (
	Sha1      = 0x02
	Ripemd160 = 0x03
	Sha256    = 0x08
	Keccak256 = 0x67 // Ethereum's, not SHA-3
	Append    = 0xf0
	Prepend   = 0xf1
	Reverse   = 0xf2
	Hexlify   = 0xf3
)

// An Op is an operation on a message.
type Op struct {
	Tag byte
	Arg []byte // of Append and Prepend
}

var opNames = map[byte]string{
	Sha1: "sha1", Ripemd160: "ripemd160", Sha256: "sha256", Keccak256: "keccak256",
	Append: "append", Prepend: "prepend", Reverse: "reverse", Hexlify: "hexlify",
}

// digestLengths has the operations that may hash a file.
var digestLengths = map[byte]int{Sha1: 20, Ripemd160: 20, Sha256: 32, Keccak256: 32}

// String gives the operation as in "append 0b57".
func (o Op) String() string {
	if o.Arg != nil {
		return fmt.Sprintf("%s %x", opNames[o.Tag], o.Arg)
	}
	return opNames[o.Tag]
}

func (o Op) compare(p Op) int { return cmp.Or(cmp.Compare(o.Tag, p.Tag), bytes.Compare(o.Arg, p.Arg)) }

func (o Op) append(out []byte) []byte {
	out = append(out, o.Tag)
	if o.Tag == Append || o.Tag == Prepend {
		out = binary.AppendUvarint(out, uint64(len(o.Arg)))
		out = append(out, o.Arg...)
	}
	return out
}

// apply returns the result of a known operation on a message that is not empty.
func (o Op) apply(message []byte) ([]byte, error) {
	size := len(message)
	switch o.Tag {
	case Append, Prepend:
		size += len(o.Arg)
	case Hexlify:
		size *= 2
	}
	if size > maxMessage {
		return nil, fmt.Errorf("%s gives %d bytes, the limit is %d: %w", opNames[o.Tag], size, maxMessage, ErrFormat)
	}
	switch o.Tag {
	case Sha1:
		sum := sha1.Sum(message)
		return sum[:], nil
	case Ripemd160:
		h := ripemd160.New()
		h.Write(message)
		return h.Sum(nil), nil
	case Sha256:
		sum := sha256.Sum256(message)
		return sum[:], nil
	case Keccak256:
		h := sha3.NewLegacyKeccak256()
		h.Write(message)
		return h.Sum(nil), nil
	case Append:
		return slices.Concat(message, o.Arg), nil
	case Prepend:
		return slices.Concat(o.Arg, message), nil
	case Reverse:
		r := bytes.Clone(message)
		slices.Reverse(r)
		return r, nil
	case Hexlify:
		return []byte(hex.EncodeToString(message)), nil
	}
	return nil, fmt.Errorf("operation %#02x is not known: %w", o.Tag, ErrFormat)
}
