package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/openpith/evidence/resolver"
)

const quickSuffix = "CWPYLZDW7AWAX7TQ5ZRNS3OHEM"

func quickStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(context.Background(), filepath.Join(t.TempDir(), "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	packed := bytes.Repeat([]byte("compressed "), 500)
	_, err = s.Commit(context.Background(), []resolver.Update{{Bundle: packed, Record: resolver.Record{
		Suffix: quickSuffix, Number: "pith:2018:" + quickSuffix, Digest: sha256.Sum256([]byte("bundle")), Title: "SmoothOut", Categories: []string{"cs.LG", "stat.ML"},
		Aliases: []resolver.Alias{{Kind: "arxiv", Value: "1805.07898"}, {Kind: "doi", Value: "10.48550/arxiv.1805.07898"}}, Abstract: string(bytes.Repeat([]byte("words "), 100)),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestQuick: the short ways say what the long ones do.
func TestQuick(t *testing.T) {
	s := quickStore(t)
	ctx := context.Background()
	rec, bundle, err := s.Bundle(ctx, quickSuffix)
	if err != nil {
		t.Fatal(err)
	}
	for name, q := range map[string]resolver.Quick{"short": resolver.QuickOf(s), "long": resolver.QuickOf(struct{ resolver.Store }{s})} {
		tag, err := q.Tag(ctx, quickSuffix)
		if err != nil || tag != rec.Digest {
			t.Errorf("%s: tag %x, %v", name, tag, err)
		}
		tag, packed, err := q.Packed(ctx, quickSuffix)
		if err != nil || tag != rec.Digest || !bytes.Equal(packed, bundle) || len(packed) != 5500 {
			t.Errorf("%s: packed %x, %d bytes, %v", name, tag, len(packed), err)
		}
		if _, err := q.Tag(ctx, quickSuffix[:25]+"A"); !errors.Is(err, resolver.ErrNotFound) {
			t.Errorf("%s: the tag of nothing: %v", name, err)
		}
		if _, _, err := q.Packed(ctx, quickSuffix[:25]+"A"); !errors.Is(err, resolver.ErrNotFound) {
			t.Errorf("%s: the bytes of nothing: %v", name, err)
		}
	}
}

// BenchmarkQuick compares the short ways with the long ones, also in processor
// time, which busy neighbours disturb less.
func BenchmarkQuick(b *testing.B) {
	s := quickStore(b)
	ctx, cancel := context.WithCancel(context.Background()) // as that of a request, it can end
	defer cancel()
	for _, c := range []struct {
		name string
		read func() error
	}{
		{"Tag", func() error { _, err := s.Tag(ctx, quickSuffix); return err }},
		{"Record", func() error { _, err := s.Record(ctx, quickSuffix); return err }},
		{"Packed", func() error { _, _, err := s.Packed(ctx, quickSuffix); return err }},
		{"Bundle", func() error { _, _, err := s.Bundle(ctx, quickSuffix); return err }},
	} {
		b.Run(c.name, func(b *testing.B) {
			before, n := processor(b), 0
			for b.Loop() {
				if err := c.read(); err != nil {
					b.Fatal(err)
				}
				n++
			}
			b.ReportMetric(float64(processor(b)-before)/float64(n), "processor-ns/op")
		})
	}
}

func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
