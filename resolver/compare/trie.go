package compare

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
)

// A Trie is the Set of a store that lists its records in order. It remembers the
// sums of ranges that are not listed one by one: about 1.4 kB per thousand
// records, so that after the first question only what changed is read again.
type Trie struct {
	scan func(ctx context.Context, prefix string) iter.Seq2[Entry, error]

	mu    sync.Mutex
	nodes map[string]node // by prefix; only ranges with more than LeafSize records
}

// A node remembers the sums of one range.
type node struct {
	sum   Sum
	parts []Sum
}

// NewTrie returns the set of what scan lists: all records whose suffix begins
// with a prefix, in the order of suffixes.
func NewTrie(scan func(ctx context.Context, prefix string) iter.Seq2[Entry, error]) *Trie {
	return &Trie{scan: scan, nodes: map[string]node{}}
}

// Changed tells that a record is new or different. Call it after the store has
// the change: a range that is read in between is read again.
func (t *Trie) Changed(suffix string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := range min(len(suffix), SuffixLen) + 1 {
		delete(t.nodes, suffix[:n])
	}
}

// Forget drops everything that is remembered.
func (t *Trie) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.nodes)
}

// Ranges answers questions. One is answered at a time: the first one reads the
// whole store, and everybody who asks meanwhile wants its result.
func (t *Trie) Ranges(ctx context.Context, prefixes []string) ([]Range, error) {
	if len(prefixes) > MaxPrefixes {
		return nil, fmt.Errorf("%d prefixes in one question, the limit is %d", len(prefixes), MaxPrefixes)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	answers := make([]Range, len(prefixes))
	for i, prefix := range prefixes {
		if !ValidPrefix(prefix) {
			return nil, fmt.Errorf("no suffix begins with %q", clip(prefix))
		}
		var err error
		if answers[i], err = t.rangeOf(ctx, prefix); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// rangeOf answers about one prefix.
func (t *Trie) rangeOf(ctx context.Context, prefix string) (Range, error) {
	if _, ok := t.nodes[prefix]; !ok && t.split(prefix) {
		// It had many records and something below has changed: only the parts
		// that changed are read.
		parts := make([]Sum, len(Alphabet))
		for i := range Alphabet {
			part, err := t.rangeOf(ctx, prefix+Alphabet[i:i+1])
			if err != nil {
				return Range{}, err
			}
			parts[i] = part.Sum
		}
		if sum := nodeSum(parts); sum.Count > LeafSize {
			t.nodes[prefix] = node{sum, parts}
		}
	}
	if n, ok := t.nodes[prefix]; ok {
		return Range{Prefix: prefix, Sum: n.sum, Parts: n.parts}, nil
	}
	return t.read(ctx, prefix)
}

// split reports whether something below a prefix is remembered.
func (t *Trie) split(prefix string) bool {
	for i := range Alphabet {
		if _, ok := t.nodes[prefix+Alphabet[i:i+1]]; ok {
			return true
		}
	}
	return false
}

// read builds a range from the store, in one pass and with no more than
// LeafSize+1 entries in memory for each level.
func (t *Trie) read(ctx context.Context, prefix string) (Range, error) {
	next, stop := iter.Pull2(t.scan(ctx, prefix))
	defer stop()
	s := &stream{next: next}
	r := t.build(s, prefix)
	if s.err == nil {
		s.err = ctx.Err()
	}
	if s.err != nil {
		// What was built of a stream that broke off is wrong.
		for p := range t.nodes {
			if strings.HasPrefix(p, prefix) {
				delete(t.nodes, p)
			}
		}
		return Range{}, s.err
	}
	return r, nil
}

// build takes from the stream all entries with the prefix.
func (t *Trie) build(s *stream, prefix string) Range {
	if entries, all := s.take(prefix); all {
		return Range{Prefix: prefix, Sum: leafSum(entries), Entries: entries}
	}
	parts := make([]Sum, len(Alphabet))
	for i := range Alphabet {
		parts[i] = t.build(s, prefix+Alphabet[i:i+1]).Sum
	}
	n := node{nodeSum(parts), parts}
	t.nodes[prefix] = n
	return Range{Prefix: prefix, Sum: n.sum, Parts: n.parts}
}

// A stream is a list of entries with a look ahead.
type stream struct {
	next  func() (Entry, error, bool)
	ahead []Entry
	last  string
	done  bool
	err   error
}

// take removes the entries with the prefix from the stream if they are at most
// LeafSize. Otherwise all is false and they stay where they are.
func (s *stream) take(prefix string) (entries []Entry, all bool) {
	n := 0
	for ; n <= LeafSize; n++ {
		if n == len(s.ahead) && !s.read() || !strings.HasPrefix(s.ahead[n].Suffix, prefix) {
			entries = append(entries, s.ahead[:n]...)
			s.ahead = append(s.ahead[:0], s.ahead[n:]...)
			return entries, true
		}
	}
	return nil, false
}

// read appends one entry to the look ahead, if there is one.
func (s *stream) read() bool {
	if s.done || s.err != nil {
		return false
	}
	e, err, ok := s.next()
	switch {
	case !ok:
		s.done = true
		return false
	case err != nil:
		s.err = err
		return false
	case len(e.Suffix) != SuffixLen || !ValidPrefix(e.Suffix) || e.Suffix <= s.last:
		// Entries out of order would be left out silently.
		s.err = fmt.Errorf("the store lists %q after %q", clip(e.Suffix), s.last)
		return false
	}
	s.last = e.Suffix
	s.ahead = append(s.ahead, e)
	return true
}
