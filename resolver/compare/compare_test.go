package compare

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"iter"
	"math"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// suffixOf is the suffix of the i-th record of a test.
func suffixOf(i int) string {
	sum := sha256.Sum256(binary.AppendVarint(nil, int64(i)))
	return base32.StdEncoding.EncodeToString(sum[:])[:SuffixLen]
}

func entryOf(i, version int) Entry {
	return Entry{suffixOf(i), sha256.Sum256([]byte{byte(version)}), sha256.Sum256([]byte{byte(version), 1})}
}

// A table is a store for tests.
type table map[string]Entry

func (m table) scan(_ context.Context, prefix string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		var list []Entry
		for _, e := range m {
			if strings.HasPrefix(e.Suffix, prefix) {
				list = append(list, e)
			}
		}
		slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.Suffix, b.Suffix) })
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// wire sends every question and answer through JSON, as HTTP does.
type wire struct {
	t     testing.TB
	set   Set
	asked int
}

func (w *wire) Ranges(ctx context.Context, prefixes []string) ([]Range, error) {
	w.asked++
	answers, err := w.set.Ranges(ctx, prefixes)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(answers)
	if err != nil {
		w.t.Fatal(err)
	}
	var back []Range
	if err := json.Unmarshal(data, &back); err != nil {
		w.t.Fatal(err)
	}
	return back, nil
}

func collect(t testing.TB, a, b Set) (map[string]Difference, Stats) {
	t.Helper()
	found := map[string]Difference{}
	stats, err := Diff(context.Background(), a, b, func(d Difference) error {
		if _, twice := found[d.Suffix()]; twice {
			t.Errorf("%s was reported twice", d.Suffix())
		}
		found[d.Suffix()] = d
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, stats
}

// wanted is the difference by brute force.
func wanted(a, b table) map[string]Difference {
	want := map[string]Difference{}
	for s, e := range a {
		if other, ok := b[s]; !ok {
			want[s] = Difference{A: &e}
		} else if other != e {
			want[s] = Difference{A: &e, B: &other}
		}
	}
	for s, e := range b {
		if _, ok := a[s]; !ok {
			want[s] = Difference{B: &e}
		}
	}
	return want
}

// maxRounds is the promise of the package comment.
func maxRounds(n int) int {
	if n <= LeafSize {
		return 1
	}
	return int(math.Ceil(math.Log(float64(n)/LeafSize)/math.Log(32))) + 2
}

func TestDiffFindsExactlyTheDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := table{}, table{}
		shared := rapid.SampledFrom([]int{0, 1, 100, 128, 129, 1500, 5000}).Draw(t, "shared")
		for i := range shared {
			e := entryOf(i, 0)
			a[e.Suffix], b[e.Suffix] = e, e
		}
		for range rapid.IntRange(0, 200).Draw(t, "changes") {
			i := rapid.IntRange(0, shared+100).Draw(t, "record")
			side := rapid.SampledFrom([]table{a, b}).Draw(t, "side")
			if rapid.Bool().Draw(t, "remove") {
				delete(side, suffixOf(i))
			} else {
				e := entryOf(i, rapid.IntRange(0, 2).Draw(t, "version"))
				side[e.Suffix] = e
			}
		}
		got, stats := collectRapid(t, NewTrie(a.scan), NewTrie(b.scan))
		if diff := gocmp.Diff(wanted(a, b), got); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
		if limit := maxRounds(max(len(a), len(b))); stats.Rounds > limit {
			t.Errorf("%d rounds for %d and %d records, want at most %d", stats.Rounds, len(a), len(b), limit)
		}
		if stats.Records != [2]int64{int64(len(a)), int64(len(b))} {
			t.Errorf("counted %v records, there are %d and %d", stats.Records, len(a), len(b))
		}
		if len(got) == 0 && stats.Rounds != 1 {
			t.Errorf("equal sets took %d rounds", stats.Rounds)
		}
	})
}

func collectRapid(t *rapid.T, a, b Set) (map[string]Difference, Stats) {
	found := map[string]Difference{}
	stats, err := Diff(context.Background(), a, b, func(d Difference) error {
		found[d.Suffix()] = d
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, stats
}

// TestRounds counts the questions that really cross the wire.
func TestRounds(t *testing.T) {
	a, b := table{}, table{}
	const n = 40_000
	for i := range n {
		e := entryOf(i, 0)
		a[e.Suffix] = e
		if i != 17 {
			b[e.Suffix] = e
		}
	}
	left, right := &wire{t: t, set: NewTrie(a.scan)}, &wire{t: t, set: NewTrie(b.scan)}
	found, stats := collect(t, left, right)
	if len(found) != 1 || found[suffixOf(17)].B != nil || found[suffixOf(17)].A == nil {
		t.Errorf("found %v, want that B lacks %s", found, suffixOf(17))
	}
	if stats.Rounds != 3 || left.asked != 3 || right.asked != 3 {
		t.Errorf("%d rounds, %d and %d questions for one difference among %d, want 3", stats.Rounds, left.asked, right.asked, n)
	}
	if found, stats = collect(t, left, left); len(found) != 0 || stats.Rounds != 1 {
		t.Errorf("a set differs from itself in %d records after %d rounds", len(found), stats.Rounds)
	}
}

// TestTrieFollowsChanges holds a trie that is told of changes to a fresh one.
func TestTrieFollowsChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := table{}
		for i := range rapid.SampledFrom([]int{0, 127, 4200}).Draw(t, "records") {
			e := entryOf(i, 0)
			m[e.Suffix] = e
		}
		old := NewTrie(m.scan)
		for range 5 {
			for range rapid.IntRange(0, 40).Draw(t, "changes") {
				e := entryOf(rapid.IntRange(0, 4300).Draw(t, "record"), rapid.IntRange(0, 3).Draw(t, "version"))
				if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
					delete(m, e.Suffix)
				} else {
					m[e.Suffix] = e
				}
				old.Changed(e.Suffix)
			}
			fresh := NewTrie(m.scan)
			for _, prefix := range []string{"", "A", "7", suffixOf(1)[:2], suffixOf(2)} {
				want, err := fresh.Ranges(context.Background(), []string{prefix})
				if err != nil {
					t.Fatal(err)
				}
				got, err := old.Ranges(context.Background(), []string{prefix})
				if err != nil {
					t.Fatal(err)
				}
				if err := checkAnswers([]string{prefix}, got); err != nil {
					t.Fatal(err)
				}
				if diff := gocmp.Diff(want, got); diff != "" {
					t.Fatalf("prefix %q (-fresh +followed)\n%s", prefix, diff)
				}
			}
		}
	})
}

func TestTrieReadsOnlyWhatChanged(t *testing.T) {
	m := table{}
	for i := range 9000 {
		e := entryOf(i, 0)
		m[e.Suffix] = e
	}
	read := 0
	trie := NewTrie(func(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
		return func(yield func(Entry, error) bool) {
			m.scan(ctx, prefix)(func(e Entry, err error) bool { read++; return yield(e, err) })
		}
	})
	ask := func() int {
		read = 0
		if _, err := trie.Ranges(context.Background(), []string{""}); err != nil {
			t.Fatal(err)
		}
		return read
	}
	if n := ask(); n != len(m) {
		t.Errorf("the first question read %d records of %d", n, len(m))
	}
	if n := ask(); n != 0 {
		t.Errorf("the second question read %d records", n)
	}
	e := entryOf(3, 1)
	m[e.Suffix] = e
	trie.Changed(e.Suffix)
	if n := ask(); n == 0 || n > 600 {
		t.Errorf("after one change %d records were read, want those of one part of 32", n)
	}
}

func TestTrieRefuses(t *testing.T) {
	boom := errors.New("disk is gone")
	broken := NewTrie(func(context.Context, string) iter.Seq2[Entry, error] {
		return func(yield func(Entry, error) bool) {
			for i := range 300 { // unordered, and then an error
				if !yield(Entry{Suffix: strings.Repeat("A", 24) + string([]byte{Alphabet[i/32], Alphabet[i%32]})}, nil) {
					return
				}
			}
			yield(Entry{}, boom)
		}
	})
	if _, err := broken.Ranges(context.Background(), []string{""}); !errors.Is(err, boom) {
		t.Errorf("error %v, want that of the store", err)
	}
	if len(broken.nodes) != 0 {
		t.Errorf("%d ranges of a failed reading are remembered", len(broken.nodes))
	}
	unordered := NewTrie(func(context.Context, string) iter.Seq2[Entry, error] {
		return func(yield func(Entry, error) bool) {
			_ = yield(Entry{Suffix: strings.Repeat("B", SuffixLen)}, nil) && yield(Entry{Suffix: strings.Repeat("A", SuffixLen)}, nil)
		}
	})
	if _, err := unordered.Ranges(context.Background(), []string{""}); err == nil {
		t.Error("a store that lists out of order was believed")
	}
	if _, err := NewTrie(table{}.scan).Ranges(context.Background(), []string{"a1"}); err == nil {
		t.Error("a prefix of wrong characters was taken")
	}
	if _, err := NewTrie(table{}.scan).Ranges(context.Background(), make([]string, MaxPrefixes+1)); err == nil {
		t.Error("too many prefixes were taken")
	}
}

// setFunc is a Set that answers as a function says.
type setFunc func(prefixes []string) ([]Range, error)

func (f setFunc) Ranges(_ context.Context, prefixes []string) ([]Range, error) { return f(prefixes) }

// TestDiffRefusesLies gives answers that an honest side cannot give.
func TestDiffRefusesLies(t *testing.T) {
	honest := table{}
	for i := range 1000 {
		e := entryOf(i, 0)
		honest[e.Suffix] = e
	}
	tests := []struct {
		name string
		lie  func([]Range)
	}{
		{"another prefix", func(r []Range) { r[0].Prefix = "A" }},
		{"a digest of nothing", func(r []Range) { r[0].Digest[0] ^= 1 }},
		{"a count that is too low", func(r []Range) { r[0].Count-- }},
		{"a part more", func(r []Range) { r[0].Parts = append(r[0].Parts, Sum{}) }},
		{"a negative part", func(r []Range) { r[0].Parts[3].Count = -1; r[0].Sum = nodeSum(r[0].Parts) }},
		{"an empty part with a digest", func(r []Range) {
			r[0].Parts[3] = Sum{Digest: Digest{1}}
			r[0].Sum = nodeSum(r[0].Parts)
		}},
		{"counts that wrap", func(r []Range) {
			for i := range r[0].Parts {
				r[0].Parts[i].Count = math.MaxInt64 / 4
			}
			r[0].Sum = nodeSum(r[0].Parts)
		}},
		{"parts of a small range", func(r []Range) {
			for i := range r[0].Parts {
				r[0].Parts[i].Count = 1
			}
			r[0].Sum = nodeSum(r[0].Parts)
		}},
		{"parts and records", func(r []Range) { r[0].Entries = []Entry{entryOf(1, 1)} }},
		{"records of another range", func(r []Range) {
			if r[0].Prefix != "" {
				r[0] = Range{Prefix: r[0].Prefix, Entries: []Entry{{Suffix: strings.Repeat(otherThan(r[0].Prefix), SuffixLen)}}}
				r[0].Sum = leafSum(r[0].Entries)
			} else {
				r[0].Parts[0].Count++
				r[0].Sum = nodeSum(r[0].Parts)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			liar := setFunc(func(prefixes []string) ([]Range, error) {
				got, err := NewTrie(honest.scan).Ranges(context.Background(), prefixes)
				if err == nil {
					tt.lie(got)
				}
				return got, err
			})
			_, err := Diff(context.Background(), NewTrie(honest.scan), liar, func(Difference) error { return nil })
			var side *SideError
			if !errors.Is(err, ErrAnswer) || !errors.As(err, &side) || side.Side != 1 {
				t.Errorf("error %v, want ErrAnswer of side B", err)
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		silent := setFunc(func([]string) ([]Range, error) { return nil, nil })
		if _, err := Diff(context.Background(), silent, silent, nil); !errors.Is(err, ErrAnswer) {
			t.Errorf("error %v, want ErrAnswer", err)
		}
	})
}

// otherThan is a character that a prefix does not begin with.
func otherThan(prefix string) string {
	if prefix[0] == 'A' {
		return "B"
	}
	return "A"
}

// TestDiffEndsAgainstEndlessDepth: a side that invents parts for ever runs into
// the length of a suffix.
func TestDiffEndsAgainstEndlessDepth(t *testing.T) {
	endless := func(seed byte) Set {
		return setFunc(func(prefixes []string) ([]Range, error) {
			out := make([]Range, len(prefixes))
			for i, p := range prefixes {
				parts := slices.Repeat([]Sum{leafSum(nil)}, len(Alphabet))
				parts[0] = Sum{LeafSize + 1, Digest{seed, byte(len(p))}}
				out[i] = Range{Prefix: p, Parts: parts, Sum: nodeSum(parts)}
			}
			return out, nil
		})
	}
	stats, err := Diff(context.Background(), endless(1), endless(2), func(Difference) error { return nil })
	if !errors.Is(err, ErrAnswer) || stats.Rounds > SuffixLen+1 {
		t.Errorf("%d rounds, error %v, want ErrAnswer after at most %d", stats.Rounds, err, SuffixLen+1)
	}
}

func FuzzRangeFromJSON(f *testing.F) {
	m := table{}
	for i := range 200 {
		e := entryOf(i, 0)
		m[e.Suffix] = e
	}
	ranges, err := NewTrie(m.scan).Ranges(context.Background(), []string{"", "A"})
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range ranges {
		data, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Range
		if json.Unmarshal(data, &r) != nil || r.check(r.Prefix) != nil {
			return
		}
		// What passes the check can be compared with anything.
		if _, err := diffRange(r, Range{Prefix: r.Prefix, Sum: leafSum(nil)}, func(Difference) error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkTrie(b *testing.B) {
	var list []Entry
	for i := range 100_000 {
		list = append(list, entryOf(i, 0))
	}
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.Suffix, b.Suffix) })
	for b.Loop() {
		trie := NewTrie(func(context.Context, string) iter.Seq2[Entry, error] {
			return func(yield func(Entry, error) bool) {
				for _, e := range list {
					if !yield(e, nil) {
						return
					}
				}
			}
		})
		if _, err := trie.Ranges(context.Background(), []string{""}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(list))*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
