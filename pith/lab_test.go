package pith

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/openpith/evidence/pith/internal/canon"
	"github.com/openpith/evidence/pith/seed"
)

// testKey makes the key of a named signer; the same name gives the same key.
func testKey(name string) *PrivateKey {
	key, err := NewKey([]byte(strings.Repeat(name, 32))[:32], Signer{ID: name, Type: "individual", KeyID: name + "-1"})
	if err != nil {
		panic(err)
	}
	return key
}

var (
	ada  = testKey("ada")
	bob  = testKey("bob")
	ada2 = successor(ada, 2)
	day  = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
)

// successor makes the n-th key of a signer.
func successor(k *PrivateKey, n byte) *PrivateKey {
	seed := k.Seed()
	seed[0] = n
	signer := k.signer
	signer.KeyID = signer.ID + "-" + string('0'+rune(n))
	next, err := NewKey(seed, signer)
	if err != nil {
		panic(err)
	}
	return next
}

// trusting is the pinned policy and these signers for everything.
func trusting(t testing.TB, keys ...*PrivateKey) *Trust {
	t.Helper()
	trust := PinnedTrust()
	for _, k := range keys {
		var err error
		if trust, err = trust.Merge(TrustFor(k.Public(), []string{"*"}, true)); err != nil {
			t.Fatal(err)
		}
	}
	return trust
}

// replication is a payload that passes.
const replication = `{"schema":"replication_record/1","claim":{"text":"x"},"outcome":"inconclusive",
 "plan_sha256":"258153158e38e3291e3d48162225fcdb2d5a3ed65a07baac614ab91432fd4f57",
 "results_sha256":"258153158e38e3291e3d48162225fcdb2d5a3ed65a07baac614ab91432fd4f57","more":[1,2.5]}`

// erratum is a payload of a correction that passes.
func erratum(text string) string {
	return `{"schema":"correction/1","kind":"erratum","text":"` + text + `"}`
}

func draft(kind, payload string, hours int) Draft {
	return Draft{Type: kind, Target: "record", Payload: json.RawMessage(payload), CreatedAt: day.Add(time.Duration(hours) * time.Hour)}
}

// A lab makes bundles that Append would refuse to make.
type lab struct {
	t      testing.TB
	b      *bundle
	events [][]byte
	keys   [][]byte
}

func newLab(t testing.TB) *lab {
	t.Helper()
	return labFrom(t, seed.Bundle())
}

// labFrom is a lab on another bundle, whose own signature need not be good.
func labFrom(t testing.TB, bundle []byte) *lab {
	t.Helper()
	doc, err := canon.Parse(bundle)
	if err != nil {
		t.Fatal(err)
	}
	var c checks
	l := &lab{t: t, b: c.bundle(doc.Root())}
	for v := range doc.Root().Get("events").Children() {
		l.events = append(l.events, v.Canonical())
	}
	for v := range doc.Root().Get("public_keys").Children() {
		l.keys = append(l.keys, v.Canonical())
	}
	l.keys = append(l.keys, ada.Public().entry(), bob.Public().entry())
	return l
}

// sign adds an event and returns its id.
func (l *lab) sign(k *PrivateKey, d Draft) string {
	l.t.Helper()
	raw, id, err := k.signEvent(d, l.b.record.number, day)
	if err != nil {
		l.t.Fatal(err)
	}
	l.events = append(l.events, raw)
	return id
}

// bundle signs everything with ada's key.
func (l *lab) bundle() []byte {
	l.t.Helper()
	out, err := ada.assemble(l.b, day, l.events, l.keys)
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

// edit replaces text in a bundle, which must hold it.
func edit(t testing.TB, bundle []byte, old, new string) []byte {
	t.Helper()
	if !bytes.Contains(bundle, []byte(old)) {
		t.Fatalf("the bundle does not hold %s", old)
	}
	return bytes.Replace(bundle, []byte(old), []byte(new), 1)
}

// failing lists the codes of the failures that count.
func failing(r *Result) []string {
	var out []string
	for _, c := range r.Failures() {
		out = append(out, string(c.Code))
	}
	return out
}
