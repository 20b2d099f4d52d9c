package plain_test

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"github.com/openpith/evidence/bench/pith/plain"
	"github.com/openpith/evidence/pith/seed"
)

// TestFamily: the fast way gives the bytes of the slow one.
func TestFamily(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	f, err := plain.NewFamily(seed.Bundle(), key)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 7, 99_999, 100_000, 123_456, 999_999} {
		want, err := plain.Another(seed.Bundle(), key, n)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Make(n); !bytes.Equal(got, want) {
			t.Errorf("record %d differs", n)
		}
	}
}

func BenchmarkAnother(b *testing.B) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	for n := 0; b.Loop(); n++ {
		if _, err := plain.Another(seed.Bundle(), key, n); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFamily(b *testing.B) {
	f, err := plain.NewFamily(seed.Bundle(), ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		b.Fatal(err)
	}
	for n := 0; b.Loop(); n++ {
		f.Make(n)
	}
}
