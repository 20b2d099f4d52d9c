package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Benchmarks of the handler alone, on the store in memory: what reading costs
// beside the store and the network. bench/mirror measures the whole.

// discard is a ResponseWriter that throws away.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

func benchmark(b *testing.B, path string, headers ...string) {
	l := newLab(b)
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := &discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		l.ServeHTTP(w, r)
	}
}

func BenchmarkBundleGzip(b *testing.B) {
	benchmark(b, "/pith/"+seedSuffix+"/bundle.json", "Accept-Encoding", "gzip")
}

func BenchmarkBundleIdentity(b *testing.B) { benchmark(b, "/pith/"+seedSuffix+"/bundle.json") }

func BenchmarkNotModified(b *testing.B) {
	l := newLab(b)
	tag := get(b, l, "/pith/"+seedSuffix+"/bundle.json").Header.Get("Etag")
	benchmark(b, "/pith/"+seedSuffix+"/bundle.json", "If-None-Match", tag)
}

func BenchmarkPage(b *testing.B)   { benchmark(b, "/pith/"+seedSuffix, "Accept-Encoding", "gzip") }
func BenchmarkSearch(b *testing.B) { benchmark(b, "/search?q=batch") }

// BenchmarkStore is the baseline: reading the store and nothing else.
func BenchmarkStore(b *testing.B) {
	l := newLab(b)
	b.ReportAllocs()
	for b.Loop() {
		_, packed, err := l.store.Bundle(b.Context(), seedSuffix)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Discard.Write(packed)
	}
}
