package compare

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

const (
	// SuffixLen is the number of characters by which a record is known.
	SuffixLen = 26
	// Alphabet holds the characters of a suffix (RFC 4648 base32) in the order
	// of their bytes, in which stores list records.
	Alphabet = "234567ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	// LeafSize is the largest number of records that a range lists one by one.
	LeafSize = 128
	// MaxPrefixes is the largest number of ranges in one question.
	MaxPrefixes = 256
	// MaxRecords is the largest number of records that Diff believes a side to
	// have. It bounds the work that a lying side can cause.
	MaxRecords = 1 << 28
)

// A Digest is a SHA-256, hex in JSON.
type Digest [sha256.Size]byte

// String returns the digest in hex.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText is String for encoding/json.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 64 lower-case hexadecimal characters.
func (d *Digest) UnmarshalText(text []byte) error {
	p, err := ParseDigest(string(text))
	if err == nil {
		*d = p
	}
	return err
}

// ParseDigest reads 64 lower-case hexadecimal characters.
func ParseDigest(text string) (d Digest, err error) {
	if len(text) != 2*len(d) || strings.ToLower(text) != text {
		return d, fmt.Errorf("a digest is 64 characters 0-9a-f, not %q", clip(text))
	}
	_, err = hex.Decode(d[:], []byte(text))
	return d, err
}

// An Entry is one record as far as comparing goes.
type Entry struct {
	Suffix string `json:"suffix"`
	Events Digest `json:"event_set"` // of the set of events (pith.EventSet)
	State  Digest `json:"state"`     // of the state they give (state_sha256)
}

// A Sum says what lies below a prefix, in 40 bytes.
type Sum struct {
	Count  int64  `json:"count"`
	Digest Digest `json:"digest"`
}

// A Range is the answer about one prefix: its entries in order when they are few,
// the sums of its 32 parts when they are many.
type Range struct {
	Prefix  string  `json:"prefix"`
	Sum             // of the whole range
	Entries []Entry `json:"entries,omitempty"`
	Parts   []Sum   `json:"parts,omitempty"` // in the order of Alphabet
}

// A Set answers questions about ranges. Answers come in the order of the
// prefixes, of which there are at most MaxPrefixes.
type Set interface {
	Ranges(ctx context.Context, prefixes []string) ([]Range, error)
}

// A Difference is one record that is not the same on both sides. A side that
// lacks the record has a nil entry.
type Difference struct{ A, B *Entry }

// Suffix names the record.
func (d Difference) Suffix() string {
	if d.A != nil {
		return d.A.Suffix
	}
	return d.B.Suffix
}

// Stats say what a comparison took.
type Stats struct {
	Records [2]int64 // on each side
	Rounds  int      // questions that had to wait for the answer to another
	Ranges  int      // prefixes asked about, on both sides together
}

// ErrAnswer reports an answer that contradicts itself or the question: the side
// is broken or dishonest.
var ErrAnswer = errors.New("the answer about a range contradicts itself")

// A SideError names the side that a comparison failed on.
type SideError struct {
	Side int // 0 for a, 1 for b
	Err  error
}

func (e *SideError) Error() string { return fmt.Sprintf("side %c: %v", 'A'+e.Side, e.Err) }

func (e *SideError) Unwrap() error { return e.Err }

// Diff calls found for every record that a and b do not hold alike, in no
// particular order, and stops at its first error. Both sides are asked at the
// same time. Answers are checked against themselves, so a side can lie about
// what it has, but cannot make Diff loop or fill the memory. Errors of a side are
// *SideError.
func Diff(ctx context.Context, a, b Set, found func(Difference) error) (Stats, error) {
	var stats Stats
	sides := [2]Set{a, b}
	open := []string{""} // prefixes to ask about; the deepest are last
	for len(open) > 0 {
		// The deepest first: a batch leaves at most 32 prefixes for each of its own, and
		// there are 26 levels, so a side that claims to differ everywhere cannot
		// make this list long.
		batch := slices.Clone(open[max(0, len(open)-MaxPrefixes):])
		open = open[:len(open)-len(batch)]
		answers, err := ask(ctx, sides, batch)
		if err != nil {
			return stats, err
		}
		if stats.Rounds == 0 {
			stats.Records = [2]int64{answers[0][0].Count, answers[1][0].Count}
		}
		stats.Rounds++
		stats.Ranges += 2 * len(batch)
		for i := range batch {
			deeper, err := diffRange(answers[0][i], answers[1][i], found)
			if err != nil {
				return stats, err
			}
			open = append(open, deeper...)
		}
	}
	return stats, nil
}

// ask puts one question to both sides at the same time and checks the answers.
func ask(ctx context.Context, sides [2]Set, prefixes []string) (answers [2][]Range, err error) {
	group, ctx := errgroup.WithContext(ctx)
	for i := range sides {
		group.Go(func() (err error) {
			if answers[i], err = sides[i].Ranges(ctx, prefixes); err == nil {
				err = checkAnswers(prefixes, answers[i])
			}
			if err != nil {
				return &SideError{i, err}
			}
			return nil
		})
	}
	return answers, group.Wait()
}

// diffRange reports what can be told from two answers about one prefix, and
// returns the prefixes to ask about next.
func diffRange(a, b Range, found func(Difference) error) (deeper []string, err error) {
	if a.Sum == b.Sum {
		return nil, nil
	}
	if a.Parts == nil && b.Parts == nil {
		return nil, diffEntries(a.Entries, b.Entries, found)
	}
	sumsA, sumsB := a.parts(), b.parts()
	for i := range Alphabet {
		if sumsA[i] != sumsB[i] {
			deeper = append(deeper, a.Prefix+Alphabet[i:i+1])
		}
	}
	return deeper, nil
}

// parts are the sums of the 32 parts, also of a range that lists its entries.
func (r Range) parts() []Sum {
	if r.Parts != nil {
		return r.Parts
	}
	parts := make([]Sum, len(Alphabet))
	rest := r.Entries
	for i := range Alphabet {
		n := 0
		for n < len(rest) && rest[n].Suffix[len(r.Prefix)] == Alphabet[i] {
			n++
		}
		parts[i] = leafSum(rest[:n])
		rest = rest[n:]
	}
	return parts
}

// diffEntries walks two ordered lists side by side.
func diffEntries(a, b []Entry, found func(Difference) error) error {
	for len(a) > 0 || len(b) > 0 {
		var d Difference
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		default:
			order = strings.Compare(a[0].Suffix, b[0].Suffix)
		}
		if order <= 0 {
			d.A, a = &a[0], a[1:]
		}
		if order >= 0 {
			d.B, b = &b[0], b[1:]
		}
		if order == 0 && *d.A == *d.B {
			continue
		}
		if err := found(d); err != nil {
			return err
		}
	}
	return nil
}

// checkAnswers holds the answers of one side to the questions and to
// themselves.
func checkAnswers(prefixes []string, answers []Range) error {
	if len(answers) != len(prefixes) {
		return fmt.Errorf("%w: %d ranges for %d prefixes", ErrAnswer, len(answers), len(prefixes))
	}
	for i, r := range answers {
		if err := r.check(prefixes[i]); err != nil {
			return fmt.Errorf("%w: prefix %q: %v", ErrAnswer, prefixes[i], err)
		}
	}
	return nil
}

// check recomputes the sum of a range from what it says below it.
func (r Range) check(prefix string) error {
	if r.Prefix != prefix {
		return fmt.Errorf("it is about %q", clip(r.Prefix))
	}
	if r.Parts == nil {
		if len(r.Entries) > LeafSize {
			return fmt.Errorf("it lists %d records, the limit is %d", len(r.Entries), LeafSize)
		}
		last := ""
		for _, e := range r.Entries {
			if !ValidPrefix(e.Suffix) || len(e.Suffix) != SuffixLen || !strings.HasPrefix(e.Suffix, prefix) || e.Suffix <= last {
				return fmt.Errorf("record %q has no place after %q", clip(e.Suffix), last)
			}
			last = e.Suffix
		}
		if r.Sum != leafSum(r.Entries) {
			return errors.New("its digest is not that of its records")
		}
		return nil
	}
	if len(r.Parts) != len(Alphabet) || r.Entries != nil || len(prefix) >= SuffixLen {
		return fmt.Errorf("it has %d parts and %d records", len(r.Parts), len(r.Entries))
	}
	var count int64
	for _, part := range r.Parts {
		// Each count is bounded before it is added, so the sum cannot wrap.
		if part.Count < 0 || part.Count > MaxRecords || part.Count == 0 && part != leafSum(nil) {
			return fmt.Errorf("it counts %d records with the digest %s", part.Count, part.Digest)
		}
		count += part.Count
	}
	if count <= LeafSize || count > MaxRecords || r.Sum != nodeSum(r.Parts) {
		return errors.New("its digest is not that of its parts")
	}
	return nil
}

// ValidPrefix reports whether text is the beginning of a suffix: at most 26
// characters of Alphabet.
func ValidPrefix(text string) bool {
	return len(text) <= SuffixLen && strings.Trim(text, Alphabet) == ""
}

// leafSum is the sum of a range that lists its entries.
func leafSum(entries []Entry) Sum {
	h := sha256.New()
	h.Write([]byte("pith-range-leaf-v1\n"))
	line := make([]byte, 0, SuffixLen+2*(1+2*sha256.Size)+1)
	for _, e := range entries {
		line = append(append(line[:0], e.Suffix...), ' ')
		line = append(hex.AppendEncode(line, e.Events[:]), ' ')
		line = append(hex.AppendEncode(line, e.State[:]), '\n')
		h.Write(line)
	}
	return Sum{int64(len(entries)), Digest(h.Sum(nil))}
}

// nodeSum is the sum of a range that has parts.
func nodeSum(parts []Sum) Sum {
	h := sha256.New()
	h.Write([]byte("pith-range-node-v1\n"))
	var count int64
	for _, part := range parts {
		fmt.Fprintf(h, "%d %s\n", part.Count, part.Digest)
		count += part.Count
	}
	return Sum{count, Digest(h.Sum(nil))}
}

// clip shortens what a stranger sent before it goes into a message.
func clip(text string) string {
	if len(text) > 40 {
		return text[:40] + "…"
	}
	return text
}

// MarshalJSON always writes one of entries and parts, so that an empty range
// says that it lists nothing.
func (r Range) MarshalJSON() ([]byte, error) {
	if r.Parts != nil {
		return json.Marshal(struct {
			Prefix string `json:"prefix"`
			Sum
			Parts []Sum `json:"parts"`
		}{r.Prefix, r.Sum, r.Parts})
	}
	if r.Entries == nil {
		r.Entries = []Entry{}
	}
	return json.Marshal(struct {
		Prefix string `json:"prefix"`
		Sum
		Entries []Entry `json:"entries"`
	}{r.Prefix, r.Sum, r.Entries})
}
