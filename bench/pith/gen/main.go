// Command gen writes bundles for benchmarks: the real one, again and again for
// other records, signed with a key that is worth nothing.
//
//	go run ./bench/pith/gen -n 100000 -trust /tmp/trust.json > /tmp/bundles.jsonl
package main

import (
	"bufio"
	"crypto/ed25519"
	"flag"
	"fmt"
	"os"
	"runtime"

	"github.com/openpith/evidence/bench/pith/plain"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
)

func main() {
	n := flag.Int("n", 1000, "how many bundles to write")
	first := flag.Int("first", 0, "number of the first record")
	trust := flag.String("trust", "", "write a trust file that believes them to `FILE`")
	flag.Parse()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	err := run(key, *first, *n)
	if err == nil && *trust != "" {
		err = writeTrust(*trust, key)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(2)
	}
}

func writeTrust(path string, key ed25519.PrivateKey) error {
	public := pith.PublicKey{
		Signer: pith.Signer{ID: "pith.science", Type: plain.SignerType, KeyID: "pith-v1-2026-05"}, // as the bundles say
		Key:    key.Public().(ed25519.PublicKey),
	}
	return os.WriteFile(path, pith.TrustFor(public, []string{"*"}, true).JSON(), 0o644)
}

// run makes the bundles on all cores and writes them in order.
func run(key ed25519.PrivateKey, first, n int) error {
	family, err := plain.NewFamily(seed.Bundle(), key)
	if err != nil {
		return err
	}
	order := make(chan chan []byte, 4*runtime.GOMAXPROCS(0))
	go func() {
		defer close(order)
		for i := range n {
			line := make(chan []byte, 1)
			order <- line // as many at once as the channel holds
			go func() { line <- append(family.Make(first+i), '\n') }()
		}
	}()
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	for line := range order {
		if _, err := out.Write(<-line); err != nil {
			return err
		}
	}
	return out.Flush()
}
