package ots

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// A Kind says who attests.
type Kind string

// The kinds of attestation. Only Bitcoin's can be checked here.
const (
	Pending Kind = "pending" // a calendar, at an address
	Bitcoin Kind = "bitcoin" // a block, at a height
	Unknown Kind = "unknown" // any other, kept as it is (spec 11.3)
)

// An Attestation says that somebody had a message at some time.
type Attestation struct {
	Kind    Kind
	URI     string // Pending: of the calendar
	Height  uint64 // Bitcoin: of the block
	tag     [8]byte
	payload string // Unknown
}

var kinds = map[[8]byte]Kind{
	{0x83, 0xdf, 0xe3, 0x0d, 0x2e, 0xf9, 0x0c, 0x8e}: Pending,
	{0x05, 0x88, 0x96, 0x0d, 0x73, 0xd7, 0x19, 0x01}: Bitcoin,
}

// String gives the attestation as in "bitcoin block 358391".
func (a Attestation) String() string {
	switch a.Kind {
	case Pending:
		return "pending at " + a.URI
	case Unknown:
		return fmt.Sprintf("unknown attestation %x, %d bytes", a.tag, len(a.payload))
	}
	return fmt.Sprintf("%s block %d", a.Kind, a.Height)
}

func (a Attestation) compare(b Attestation) int {
	return cmp.Or(bytes.Compare(a.tag[:], b.tag[:]), cmp.Compare(a.URI, b.URI), cmp.Compare(a.Height, b.Height), cmp.Compare(a.payload, b.payload))
}

func (a Attestation) append(out []byte) []byte {
	out = append(append(out, tagAttestation), a.tag[:]...)
	var payload []byte
	switch a.Kind {
	case Pending:
		payload = append(binary.AppendUvarint(nil, uint64(len(a.URI))), a.URI...)
	case Unknown:
		payload = []byte(a.payload)
	default:
		payload = binary.AppendUvarint(nil, a.Height)
	}
	out = binary.AppendUvarint(out, uint64(len(payload)))
	return append(out, payload...)
}

const uriCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._/:"

// attestation reads an attestation behind its tagAttestation.
func (r *reader) attestation() (a Attestation, err error) {
	tag, err := r.bytes(8)
	if err != nil {
		return a, err
	}
	payload, err := r.varbytes(0, maxPayload)
	if err != nil {
		return a, err
	}
	a.tag = [8]byte(tag)
	inner := &reader{data: payload}
	switch a.Kind = kinds[a.tag]; a.Kind {
	case "":
		a.Kind, a.payload = Unknown, string(payload)
		return a, nil
	case Pending:
		uri, err := inner.varbytes(0, maxURI)
		if err != nil {
			return a, err
		}
		if strings.Trim(string(uri), uriCharacters) != "" {
			return a, r.fail("the address of a calendar has other characters than %s", uriCharacters)
		}
		a.URI = string(uri)
	default:
		if a.Height, err = inner.varuint(); err != nil {
			return a, err
		}
	}
	if len(inner.data) > inner.at {
		return a, r.fail("%d bytes too many in the attestation %s", len(inner.data)-inner.at, hex.EncodeToString(tag))
	}
	return a, nil
}
