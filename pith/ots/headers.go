package ots

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Headers are block headers that somebody chose to believe.
type Headers struct {
	// Source says where they come from and what was checked about them.
	Source string
	blocks map[uint64]block
}

type block struct {
	root [32]byte  // in the order of the header, the reverse of what explorers print
	time time.Time // zero when the source does not say
}

// ErrHeaders reports a header file that does not hold together.
var ErrHeaders = errors.New("not a list of block headers")

const (
	headerSize = 80
	// Of block 0. A chain of headers that claims to start there starts with it.
	genesis = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
)

// ReadHeaders reads a header file (spec §11.6): raw headers of 80 bytes, the
// first of the block at height first; or lines of height, Merkle root and
// perhaps time. name is what Source calls the file. Raw headers must be linked
// and have the work they claim. Errors wrap ErrHeaders.
func ReadHeaders(name string, data []byte, first uint64) (*Headers, error) {
	read := readLines
	if bytes.IndexByte(data[:min(len(data), headerSize)], 0) >= 0 { // no text has it, every header does
		read = readRaw
	}
	h, err := read(name, data, first)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return h, nil
}

func readRaw(name string, data []byte, first uint64) (*Headers, error) {
	if len(data)%headerSize != 0 {
		return nil, fmt.Errorf("%d bytes are no multiple of %d: %w", len(data), headerSize, ErrHeaders)
	}
	count := len(data) / headerSize
	blocks := make(map[uint64]block, count)
	var last [32]byte
	for i := range count {
		height := first + uint64(i)
		header := data[i*headerSize:][:headerSize] // version 4, previous 32, root 32, time 4, bits 4, nonce 4
		if i > 0 && [32]byte(header[4:36]) != last {
			return nil, fmt.Errorf("block %d does not follow block %d: %w", height, height-1, ErrHeaders)
		}
		inner := sha256.Sum256(header)
		last = sha256.Sum256(inner[:])
		if !hasWork(last, binary.LittleEndian.Uint32(header[72:])) {
			return nil, fmt.Errorf("block %d does not have the work it claims: %w", height, ErrHeaders)
		}
		if height == 0 && reversedHex(last[:]) != genesis {
			return nil, fmt.Errorf("block 0 is not that of Bitcoin: %w", ErrHeaders)
		}
		blocks[height] = block{[32]byte(header[36:68]), time.Unix(int64(binary.LittleEndian.Uint32(header[68:])), 0).UTC()}
	}
	return &Headers{
		Source: fmt.Sprintf("%s: headers of blocks %d to %d, linked and with work, the last is %s", name, first, first+uint64(count)-1, reversedHex(last[:])),
		blocks: blocks,
	}, nil
}

// hasWork reports whether a block hash, read as a little-endian number, is at
// most the target that bits stands for: a mantissa of 23 bits and an exponent
// in bytes.
func hasWork(hash [32]byte, bits uint32) bool {
	exponent, mantissa := int(bits>>24), bits&0x007fffff
	if bits&0x00800000 != 0 { // negative
		return false
	}
	var target [32]byte // big-endian
	for i := range 3 {
		at := 32 - exponent + i
		digit := byte(mantissa >> (8 * (2 - i)))
		switch {
		case 0 <= at && at < 32:
			target[at] = digit
		case at < 0 && digit != 0: // more than 256 bits
			return false
		}
	}
	slices.Reverse(hash[:])
	return bytes.Compare(hash[:], target[:]) <= 0
}

func readLines(name string, data []byte, _ uint64) (*Headers, error) {
	blocks := map[uint64]block{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	n := 0
	for lines.Scan() {
		n++
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		height, b, err := parseLine(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %v: %w", n, err, ErrHeaders)
		}
		if old, twice := blocks[height]; twice && old != b {
			return nil, fmt.Errorf("line %d: block %d has another root or time before: %w", n, height, ErrHeaders)
		}
		blocks[height] = b
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %v: %w", n+1, err, ErrHeaders)
	}
	count := fmt.Sprintf("%d blocks", len(blocks))
	if len(blocks) == 1 {
		count = "1 block"
	}
	return &Headers{Source: fmt.Sprintf("%s: the word of its author on %s", name, count), blocks: blocks}, nil
}

func parseLine(fields []string) (height uint64, b block, err error) {
	if len(fields) < 2 || len(fields) > 3 {
		return 0, b, errors.New("want HEIGHT ROOT [TIME]")
	}
	if height, err = strconv.ParseUint(fields[0], 10, 64); err != nil {
		return 0, b, err
	}
	root, err := hex.DecodeString(fields[1])
	if err != nil || len(root) != len(b.root) {
		return 0, b, fmt.Errorf("%q is no Merkle root of 64 hexadecimal digits", fields[1])
	}
	slices.Reverse(root)
	b.root = [32]byte(root)
	if len(fields) == 3 {
		if seconds, err := strconv.ParseInt(fields[2], 10, 64); err == nil {
			b.time = time.Unix(seconds, 0).UTC()
		} else if b.time, err = time.Parse(time.RFC3339, fields[2]); err != nil {
			return 0, b, err
		}
		b.time = b.time.UTC()
	}
	return height, b, nil
}

// A Status is the answer about one attestation.
type Status string

// The answers.
const (
	Confirmed Status = "confirmed" // the block has the message as its Merkle root
	Wrong     Status = "wrong"     // the block has another one
	NoHeader  Status = "no_header" // the headers do not reach there
	Unchecked Status = "unchecked" // pending, or of a kind that cannot be checked here
)

// A Finding is what headers say about one attestation.
type Finding struct {
	Claim
	Status Status
	Time   time.Time // Confirmed: of the block, give or take two hours; zero when the source does not say
	Source string    // Confirmed, Wrong: on whose word
}

// Verify compares the proof's attestations with headers, which may be nil.
func (p *Proof) Verify(h *Headers) []Finding {
	var out []Finding
	for _, c := range p.Claims() {
		f := Finding{Claim: c, Status: Unchecked}
		if c.Kind == Bitcoin {
			f.Status = NoHeader
			if h != nil {
				h.judge(&f)
			}
		}
		out = append(out, f)
	}
	return out
}

func (h *Headers) judge(f *Finding) {
	b, ok := h.blocks[f.Height]
	if !ok {
		return
	}
	f.Source = h.Source
	if f.Status = Wrong; bytes.Equal(f.Message, b.root[:]) {
		f.Status, f.Time = Confirmed, b.time
	}
}
