//go:build unix

// Package bench measures package pith against two baselines in one run: the same
// checks as one would write them with the standard library (package plain), and
// in Python.
//
//	go test ./bench/pith -run '^$' -bench . -benchmem -cpu 1,2
package bench

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/openpith/evidence/bench/pith/plain"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
)

// family returns bundles of n records, and the policy that trusts their signer.
func family(tb testing.TB, n int) ([][]byte, *pith.Trust) {
	tb.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	bundles := make([][]byte, n)
	for i := range bundles {
		var err error
		if bundles[i], err = plain.Another(seed.Bundle(), key, i); err != nil {
			tb.Fatal(err)
		}
	}
	public := pith.PublicKey{
		Signer: pith.Signer{ID: "pith.science", Type: plain.SignerType, KeyID: "pith-v1-2026-05"},
		Key:    key.Public().(ed25519.PublicKey),
	}
	return bundles, pith.TrustFor(public, []string{"*"}, true)
}

// TestAgree: the baselines are no straw men, they accept and refuse what package
// pith does.
func TestAgree(t *testing.T) {
	if err := plain.Verify(seed.Bundle()); err != nil {
		t.Errorf("the real bundle: %v", err)
	}
	bundles, trust := family(t, 20)
	for i, data := range bundles {
		if err := plain.Verify(data); err != nil {
			t.Errorf("bundle %d: %v", i, err)
		}
		if r := pith.Verify(data, trust); r.Verdict() != pith.Valid {
			t.Errorf("bundle %d: %v %v", i, r.Verdict(), r.Failures())
		}
		at := 3 + 601*i
		changed := bytes.Clone(data)
		changed[at] ^= 1
		if err := plain.Verify(changed); err == nil || pith.Verify(changed, trust).Verdict() <= pith.Untrusted {
			t.Errorf("bundle %d, byte %d changed: %v", i, at, err)
		}
	}
}

func TestPython(t *testing.T) {
	if _, err := python("0.01"); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && !bytes.Contains(exit.Stderr, []byte("ModuleNotFoundError")) {
			t.Fatalf("%v: %s", err, exit.Stderr)
		}
		t.Skipf("python3 with the package cryptography: %v", err)
	}
}

// python runs the baseline in Python and returns bundles per second.
func python(seconds string) (float64, error) {
	dir, err := os.MkdirTemp("", "pith-bench")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "bundle.json")
	if err := os.WriteFile(path, seed.Bundle(), 0o644); err != nil {
		return 0, err
	}
	out, err := exec.Command("python3", "verify.py", path, seconds).Output()
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}

// measure reports bundles per second of the clock and, what neighbours on the
// machine disturb less, processor time for each.
func measure(b *testing.B) (report func()) {
	before := processorTime(b)
	return func() {
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "bundles/s")
		b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/bundle")
	}
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSeed verifies the real bundle, on as many cores as -cpu says.
func BenchmarkSeed(b *testing.B) {
	data, trust := seed.Bundle(), pith.PinnedTrust()
	b.Run("pith", func(b *testing.B) {
		b.ReportAllocs()
		defer measure(b)()
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if pith.Verify(data, trust).Verdict() != pith.Valid {
					b.Error("not valid")
					return
				}
			}
		})
	})
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		defer measure(b)()
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if plain.Verify(data) != nil {
					b.Error("not valid")
					return
				}
			}
		})
	})
	b.Run("python", func(b *testing.B) {
		rate, err := python("1")
		if err != nil {
			b.Skipf("python3 with the package cryptography: %v", err)
		}
		for b.Loop() { // it has run already
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(rate, "bundles/s")
	})
}

// BenchmarkFamily verifies bundles of a thousand records, so that no cache can
// have seen them before.
func BenchmarkFamily(b *testing.B) {
	bundles, trust := family(b, 1000)
	var next atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	defer measure(b)()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			data := bundles[int(next.Add(1))%len(bundles)]
			if pith.Verify(data, trust).Verdict() != pith.Valid {
				b.Error("not valid")
				return
			}
		}
	})
}
