package web

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/openpith/evidence/bench/pith/plain"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/memstore"
)

const seedSuffix = "CWPYLZDW7AWAX7TQ5ZRNS3OHEM"

var day = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// testKey makes the key of a named signer; the same name gives the same key.
func testKey(name string) *pith.PrivateKey {
	key, err := pith.NewKey([]byte(strings.Repeat(name, 32))[:32], pith.Signer{ID: name, Type: "individual", KeyID: name + "-1"})
	if err != nil {
		panic(err)
	}
	return key
}

var (
	ada      = testKey("ada@example.org")
	stranger = testKey("stranger")
	registry = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) // of generated records
)

// policy trusts pith.science, ada, and who made the generated records.
func labPolicy(t testing.TB) *pith.Trust {
	t.Helper()
	maker := pith.PublicKey{Signer: pith.Signer{ID: "pith.science", Type: plain.SignerType, KeyID: "pith-v1-2026-05"}, Key: registry.Public().(ed25519.PublicKey)}
	trust := pith.PinnedTrust()
	for _, more := range []*pith.Trust{pith.TrustFor(ada.Public(), []string{"*"}, true), pith.TrustFor(maker, []string{"*"}, true)} {
		var err error
		if trust, err = trust.Merge(more); err != nil {
			t.Fatal(err)
		}
	}
	return trust
}

// another makes the n-th generated record, after its title and authors were set.
func another(t testing.TB, n int, title, authors string) []byte {
	t.Helper()
	text := string(seed.Bundle())
	quote := func(s string) string { b, _ := json.Marshal(s); return strings.Trim(string(b), `"`) }
	text = strings.ReplaceAll(text, "SmoothOut: Smoothing Out Sharp Minima to Improve Generalization in Deep Learning", quote(title))
	text = strings.ReplaceAll(text, "Chunpeng Wu, Cong Xu, Feng Yan, Hai Li, Wei Wen, Yandan Wang, Yiran Chen", quote(authors))
	b, err := plain.Another([]byte(text), registry, n)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// say appends what a signer says.
func say(t testing.TB, bundle []byte, by *pith.PrivateKey, minute int, payloads ...any) []byte {
	t.Helper()
	at := day.Add(time.Duration(minute) * time.Minute)
	var drafts []pith.Draft
	for _, p := range payloads {
		d, ok := p.(pith.Draft)
		if !ok {
			var err error
			if d, err = pith.NewDraft(p.(pith.Payload), at); err != nil {
				t.Fatal(err)
			}
		}
		d.CreatedAt = at
		drafts = append(drafts, d)
	}
	out, _, err := pith.Append(bundle, by, at, drafts...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func numberOf(t testing.TB, bundle []byte) string {
	t.Helper()
	res := pith.Verify(bundle, nil)
	if res.Structure() != pith.Valid {
		t.Fatal(res.Failures())
	}
	return res.PithNumber
}

func suffixOf(t testing.TB, bundle []byte) string {
	number := numberOf(t, bundle)
	return number[strings.LastIndexByte(number, ':')+1:]
}

const hostile = `</style></title><script>alert("x")</script> & "quotes' <img src=x onerror=alert(1)> {{.}} javascript:alert(1)`

// rich is the real bundle with everything that a record can have.
func rich(t testing.TB) []byte {
	t.Helper()
	b := seed.Bundle()
	var replicated struct {
		Events []struct {
			Type    string          `json:"event_type"`
			Target  string          `json:"target"`
			Payload json.RawMessage `json:"payload"`
		} `json:"events"`
	}
	data, err := os.ReadFile("testdata/replicated.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &replicated); err != nil {
		t.Fatal(err)
	}
	last := replicated.Events[len(replicated.Events)-1]
	var described json.RawMessage
	for _, e := range replicated.Events {
		if e.Type == pith.TypeGraphSnapshot {
			described = e.Payload
		}
	}
	claims := strings.Replace(string(described), `"items":[],"snapshot_sha256":"258153158e38e3291e3d48162225fcdb2d5a3ed65a07baac614ab91432fd4f57"`,
		`"items":[{"attestation":"unclaimed","claim_id":"C1","kind":"strongest_claim","source":"verdict.strongest_claim","status":"machine_extracted","text":"Perturbing the weights with uniform noise during training closes the generalization gap of large-batch SGD."},`+
			`{"attestation":"unclaimed","claim_id":"C2","kind":"weakest_assumption","source":"verdict.weakest_assumption","status":"machine_extracted","text":"Flat minima, as measured in weight space, generalize better."}],`+
			`"snapshot_sha256":"258153158e38e3291e3d48162225fcdb2d5a3ed65a07baac614ab91432fd4f57"`, 1)
	claims = strings.Replace(claims, `"claims":{"count":0`, `"claims":{"count":2`, 1)
	claims = strings.Replace(claims, `"references":{"count":0,"internal_anchors":0,"resolved_work":0`, `"references":{"count":57,"internal_anchors":32,"resolved_work":55`, 1)
	b = say(t, b, ada, 0, pith.Draft{Type: pith.TypeGraphSnapshot, Target: "graph", Payload: json.RawMessage(claims)})
	b = say(t, b, ada, 1, pith.Draft{Type: last.Type, Target: last.Target, Payload: last.Payload})
	b = say(t, b, ada, 2,
		pith.AuthorAttestation{Name: "Ada Lovelace", Identity: pith.Identity{Scheme: "orcid", Value: "0000-0002-1825-0097"}, Position: 2, Statement: "I wrote section 2."},
		pith.StorageAttestation{Archive: "internet_archive", URL: "https://web.archive.org/web/20260601120000/https://arxiv.org/abs/1805.07898v3", StoredAt: "2026-06-01T12:00:00Z"},
		pith.CitationSignature{Relation: "extends", Citing: pith.Work{Kind: "arxiv", ID: "2010.01412", Title: "Sharpness-Aware Minimization for Efficiently Improving Generalization"}, Claim: "C1"},
		pith.MirrorHint{Name: "A second mirror", MirrorType: "https", BundleURL: "https://second.example/pith/" + seedSuffix + "/bundle.json"},
	)
	b = say(t, b, ada, 3, pith.Correction{Kind: "erratum", Text: "Table 2: the second row is for a batch of 1024.", URL: "https://example.org/erratum"})
	return say(t, b, stranger, 4,
		pith.CitationSignature{Relation: "refutes", Citing: pith.Work{Kind: "url", ID: "https://example.org/why-not", Title: hostile}, Statement: hostile},
		pith.Draft{Type: "future_type", Target: "record", Payload: json.RawMessage(`{"anything":"goes"}`)},
	)
}

// fill makes a store that a service has let bundles into.
func fill(t testing.TB, bundles ...[]byte) resolver.Store {
	t.Helper()
	service, err := resolver.NewService(resolver.Config{Store: memstore.New(), Key: ada, Trust: labPolicy(t), Unknown: resolver.Accepted, Now: func() time.Time { return day }})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bundles {
		if _, err := service.Submit(context.Background(), resolver.Submission{Data: b, From: "test", Unlimited: true}); err != nil {
			t.Fatal(err)
		}
	}
	return service.Store()
}

// get asks a handler.
func get(t testing.TB, h http.Handler, path string, headers ...string) *http.Response {
	t.Helper()
	return do(t, h, http.MethodGet, path, headers...)
}

func do(t testing.TB, h http.Handler, method, path string, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}
