package pith

import (
	"bytes"
	"encoding/hex"
	"errors"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/openpith/evidence/pith/internal/canon"
)

var (
	ada3 = successor(ada, 3)
	may  = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
)

func rotation(t testing.TB, old, new *PrivateKey, created, from, until time.Time) []byte {
	t.Helper()
	d, err := Rotate(old, new, created, from, until)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func revocation(t testing.TB, k *PrivateKey, created, at time.Time) []byte {
	t.Helper()
	d, err := Revoke(k, created, at, "compromised")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func days(n int) time.Time { return may.AddDate(0, 0, n) }

// signedAt returns the code for which an event of a key at a time is not
// trusted, or "".
func signedAt(t *Trust, k *PrivateKey, at time.Time) Code {
	var c checks
	c.trustEvent(t, &event{path: c.root(), kind: "correction", signer: k.signer, fingerprint: k.Public().Fingerprint(), createdAt: at})
	if failure := c.firstFailure(); failure != nil {
		return failure.Code
	}
	return ""
}

func TestRotation(t *testing.T) {
	first := rotation(t, ada, ada2, days(0), days(10), days(12))
	second := rotation(t, ada2, ada3, days(15), days(20), days(19))
	revoked := revocation(t, ada, days(9), days(5))
	late := revocation(t, ada, days(9), days(8))
	type ask struct {
		key  *PrivateKey
		at   time.Time
		want Code
	}
	tests := []struct {
		name      string
		documents [][]byte
		asks      []ask
		fails     bool
	}{
		{"none", nil, []ask{{ada, days(99), ""}, {ada2, days(11), CodeTrustImpersonation}}, false},
		{"one", [][]byte{first}, []ask{
			{ada, days(12), ""}, {ada, days(12).Add(time.Second), CodeTrustWindow},
			{ada2, days(10), ""}, {ada2, days(10).Add(-time.Second), CodeTrustWindow}, {ada2, days(999), ""},
			{ada3, days(10), CodeTrustImpersonation},
		}, false},
		{"chain with a gap", [][]byte{second, first}, []ask{
			{ada2, days(19), ""}, {ada2, days(19).Add(time.Second), CodeTrustWindow}, {ada3, days(20), ""}, {ada3, days(19), CodeTrustWindow},
		}, false},
		{"of an unknown key", [][]byte{second}, []ask{{ada, days(1), ""}, {ada3, days(30), CodeTrustImpersonation}}, false},
		{"twice the same", [][]byte{first, first}, []ask{{ada2, days(10), ""}}, false},
		{"twice, signed_at differs", [][]byte{first, regexp.MustCompile(`"signed_at":"\d{4}`).ReplaceAll(first, []byte(`"signed_at":"2031`))}, []ask{{ada2, days(10), ""}}, false},
		{"revoked", [][]byte{late, revoked}, []ask{{ada, days(5).Add(-time.Second), ""}, {ada, days(5), CodeTrustRevoked}}, false},
		{"revoked after rotation", [][]byte{revoked, first}, []ask{{ada, days(6), CodeTrustRevoked}, {ada2, days(11), ""}}, false},
		{"rotated after revocation", [][]byte{revocation(t, ada, days(-3), days(-1)), first}, nil, true},
		{"two heirs", [][]byte{first, rotation(t, ada, ada3, days(0), days(10), days(12))}, nil, true},
		{"two parents", [][]byte{rotation(t, ada, ada3, days(0), days(10), days(12)), second}, nil, true},
		{"circle", [][]byte{first, rotation(t, ada2, ada, days(15), days(20), days(19))}, nil, true},
		{"made after the window", [][]byte{first, rotation(t, ada2, ada3, days(9), days(20), days(19))}, nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, documents := range [][][]byte{tt.documents, reversed(tt.documents)} {
				trust := TrustFor(ada.Public(), []string{"correction"}, true)
				var err error
				for _, d := range documents {
					var more *Trust
					if more, err = ParseTrust(d); err != nil {
						t.Fatal(err)
					}
					if trust, err = trust.Merge(more); err != nil {
						break
					}
				}
				var check *CheckError
				if tt.fails {
					if !errors.As(err, &check) || check.Check.Code != CodeKeyRotation {
						t.Errorf("%v, want %s", err, CodeKeyRotation)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				again, err := ParseTrust(trust.JSON())
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range tt.asks {
					if got := signedAt(again, a.key, a.at); got != a.want {
						t.Errorf("%s at %s: %q, want %q", a.key.signer.KeyID, a.at, got, a.want)
					}
				}
			}
		})
	}
}

func within(t testing.TB, trust *Trust, from, until time.Time) *Trust {
	t.Helper()
	trust, err := trust.Within(from, until)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// TestWithinKeepsDocuments: a window opens no door that a key document closed.
func TestWithinKeepsDocuments(t *testing.T) {
	gone, err := Revoke(ada, day, days(5), "compromised")
	if err != nil {
		t.Fatal(err)
	}
	d, err := ParseTrust(gone)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := TrustFor(ada.Public(), []string{"correction"}, true).Merge(d)
	if err != nil {
		t.Fatal(err)
	}
	trust = within(t, trust, days(0), days(30))
	if got := signedAt(trust, ada, days(6)); got != CodeTrustRevoked {
		t.Errorf("after the revocation: %q", got)
	}
	if got := signedAt(trust, ada, days(4)); got != "" {
		t.Errorf("before it: %q", got)
	}
	d, err = ParseTrust(rotation(t, ada, ada2, days(0), days(10), days(12)))
	if err != nil {
		t.Fatal(err)
	}
	if trust, err = TrustFor(ada.Public(), []string{"correction"}, true).Merge(d); err != nil {
		t.Fatal(err)
	}
	var check *CheckError
	if _, err := trust.Within(days(1), days(30)); !errors.As(err, &check) || check.Check.Code != CodeKeyRotation {
		t.Errorf("a rotation made before the window: %v", err)
	}
}

// TestPolicyEndsFirst: a rotation does not make the old key last longer than the
// policy says.
func TestPolicyEndsFirst(t *testing.T) {
	d, err := ParseTrust(rotation(t, ada, ada2, days(0), days(10), days(12)))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := within(t, TrustFor(ada.Public(), []string{"correction"}, true), time.Time{}, days(11)).Merge(d)
	if err != nil {
		t.Fatal(err)
	}
	if got := signedAt(trust, ada, days(12)); got != CodeTrustWindow {
		t.Errorf("the old key on the day after: %q", got)
	}
	if got := signedAt(trust, ada2, days(12)); got != "" {
		t.Errorf("the new key: %q", got)
	}
}

func reversed(list [][]byte) [][]byte {
	r := slices.Clone(list)
	slices.Reverse(r)
	return r
}

// TestHeirOfAnotherName: a key that the policy knows as somebody else inherits nothing,
// and the old key's window is not ended.
func TestHeirOfAnotherName(t *testing.T) {
	impostor := *bob
	impostor.signer.ID, impostor.signer.Type = ada.signer.ID, ada.signer.Type
	d, err := ParseTrust(rotation(t, ada, &impostor, days(0), days(10), days(12)))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := TrustFor(ada.Public(), []string{"correction"}, true).Merge(TrustFor(bob.Public(), []string{"correction"}, true))
	if err != nil {
		t.Fatal(err)
	}
	var check *CheckError
	if _, err := trust.Merge(d); !errors.As(err, &check) || check.Check.Code != CodeKeyRotation {
		t.Errorf("ada's rotation to bob's key: %v, want %s", err, CodeKeyRotation)
	}
}

func TestRotationOfAnotherName(t *testing.T) {
	if _, err := Rotate(ada, bob, may, may, may); err == nil {
		t.Error("ada became bob")
	}
	if _, err := Rotate(ada, ada, may, may, may); err == nil {
		t.Error("ada became herself")
	}
	if _, err := Revoke(ada, may, may, ""); err == nil {
		t.Error("revoked without a reason")
	}
	key := ada.Public()
	key.Signer.ID = "eve"
	d, err := ParseTrust(rotation(t, ada, ada2, may, may, may))
	if err != nil {
		t.Fatal(err)
	}
	var check *CheckError
	if _, err := TrustFor(key, nil, true).Merge(d); !errors.As(err, &check) || check.Check.Code != CodeKeyRotation {
		t.Errorf("the policy knows the key as eve: %v", err)
	}
}

func TestKeyDocumentsAreChecked(t *testing.T) {
	good := rotation(t, ada, ada2, days(0), days(10), days(12))
	if _, err := ParseTrust(good); err != nil {
		t.Fatal(err)
	}
	// signed anew by the wrong key
	forged := rotation(t, successor(ada, 9), ada2, days(0), days(10), days(12))
	forged = edit(t, forged, `"old_key":`+string(successor(ada, 9).Public().entry()), `"old_key":`+string(ada.Public().entry()))
	doc, err := canon.Parse(forged)
	if err != nil {
		t.Fatal(err)
	}
	digest := doc.Root().DigestWithout(outsideDocumentDigest...)
	forged = edit(t, forged, doc.Root().Get("document_sha256").Text(), hex.EncodeToString(digest[:]))
	for _, tt := range []struct {
		name string
		text []byte
		want Code
	}{
		{"unknown member", edit(t, good, `{"created_at"`, `{"a":1,"created_at"`), CodeKeyDocument},
		{"type", edit(t, good, rotationType, "pith_key_wish"), CodeKeyDocument},
		{"version", edit(t, good, `"document_version":"1.0"`, `"document_version":"2.0"`), CodeKeyDocument},
		{"key", edit(t, good, `"algorithm":"ed25519"`, `"algorithm":"rsa"`), CodeKeyDocument},
		{"time", edit(t, good, `"valid_from":"2026-05-11`, `"valid_from":"2026-05-10`), CodeKeyDocumentDigest},
		{"signature", edit(t, good, `"signed_message":"key_document_sha256_bytes"`, `"signed_message":"bundle_sha256_bytes"`), CodeKeyDocumentSignature},
		{"not by the old key", forged, CodeKeyDocumentSignature},
	} {
		var check *CheckError
		if _, err := ParseTrust(tt.text); !errors.As(err, &check) || check.Check.Code != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
		inFile := []byte(`{"trust_type":"pith_trust","trust_version":"1.0","signers":[],"key_documents":[` + string(tt.text) + `]}`)
		if _, err := ParseTrust(inFile); !errors.As(err, &check) || check.Check.Code != tt.want {
			t.Errorf("%s in a trust file: %v, want %s", tt.name, err, tt.want)
		}
	}
}

// TestLongChains: the work on key documents is in proportion to their number.
// Allocations stand for it, as nobody can assert a time.
func TestLongChains(t *testing.T) {
	const n = 200
	keys := []*PrivateKey{ada}
	var documents []keyDocument
	for i := range n {
		next, err := NewKey(bytes.Repeat([]byte{1, byte(i)}, 16), ada.signer)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, next)
		for _, text := range [][]byte{rotation(t, keys[i], keys[i+1], days(0), days(0), days(9)), revocation(t, keys[i], days(5), days(8))} {
			trust, err := ParseTrust(text)
			if err != nil {
				t.Fatal(err)
			}
			documents = append(documents, trust.documents...)
		}
	}
	written := TrustFor(ada.Public(), []string{anyType}, true).written
	var trust *Trust
	allocs := testing.AllocsPerRun(1, func() {
		var err error
		if trust, err = resolve(written, slices.Clone(documents)); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 50*n {
		t.Errorf("%.0f allocations for %d documents", allocs, len(documents))
	}
	if code := signedAt(trust, keys[n], days(20)); code != "" || len(trust.signers) != n+1 {
		t.Errorf("the last of %d keys: %q", len(trust.signers), code)
	}
}
