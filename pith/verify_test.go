package pith

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/openpith/evidence/pith/internal/canon"
	"github.com/openpith/evidence/pith/seed"
)

func TestSeedIsValid(t *testing.T) {
	r := Verify(seed.Bundle(), nil)
	if d := cmp.Diff([]string(nil), failing(r)); d != "" || r.Verdict() != Valid {
		t.Fatalf("%v: %s", r.Verdict(), d)
	}
	if notes := r.Notes(); notes != nil {
		t.Errorf("notes: %v", notes)
	}
	want := &Result{
		PithNumber:   "pith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM",
		Title:        "SmoothOut: Smoothing Out Sharp Minima to Improve Generalization in Deep Learning",
		SHA256:       "159f85e476f82c0bfe70ee62d96dc723359589aaf4c6603cb3ca31edfe59916c",
		Source:       "arxiv:1805.07898v3",
		SourceKind:   "arxiv",
		SourceID:     "1805.07898",
		Version:      "3",
		BuiltAt:      "2026-05-26T04:00:15Z",
		Signers:      []SignerSeen{{"pith.science", "pith_registry", "pith-v1-2026-05", "8d4b5ee74e4693bcd1df2446408b0d54", true, "", 2, true}},
		Events:       EventCounts{Total: 2, Valid: 2},
		Completeness: []Presence{{Kind: "timestamps"}, {Kind: "attestations"}, {Kind: "storage"}, {Kind: "citations"}, {Kind: "replications"}},
		StateSHA256:  "fd5c4b2efae9f9d6389411b12acbd3df2794a2d6b050e825113795b9381cf281",
	}
	got := *r
	got.History, got.Checks = nil, nil
	if d := cmp.Diff(want, &got); d != "" {
		t.Error(d)
	}
	// Each thing that must be recomputed was asked about.
	asked := map[Code]int{}
	for _, c := range r.Checks {
		asked[c.Code]++
	}
	for code, n := range map[Code]int{
		CodeRecordDigest: 1, CodeNumber: 1, CodeShortNumber: 1, CodeSource: 1, CodeAlias: 12, CodeKeyForms: 3,
		CodeEventDigest: 2, CodeEventID: 2, CodeReceiptDigest: 1, CodeSignature: 4, CodeGraphTitle: 1, CodeGraphAbstract: 1,
		CodeGraphEmpty: 4, CodeGraphSnapshot: 0, CodeState: 1, CodeStateDigest: 1, CodeBundleDigest: 1, CodeTrustKey: 3,
	} {
		if asked[code] != n {
			t.Errorf("%s was asked %d times, want %d", code, asked[code], n)
		}
	}
}

func TestPublishedRecords(t *testing.T) {
	data, err := os.ReadFile("../spec/vectors/records.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			Comment    string
			Record     json.RawMessage
			Title      *string
			PithNumber string `json:"pith_number"`
			SHA256     string `json:"canonical_sha256"`
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) != 13 {
		t.Fatalf("%d records, want 13", len(file.Cases))
	}
	for _, c := range file.Cases {
		number, sha, err := Number(c.Record)
		if err != nil || number != c.PithNumber || sha != c.SHA256 {
			t.Errorf("%s: %s %s %v, want %s", c.Comment, number, sha, err, c.PithNumber)
		}
		if c.Title != nil && !bytes.Contains(c.Record, []byte(hexOf(lower(*c.Title)))) {
			t.Errorf("%s: the title %q has another digest", c.Comment, *c.Title)
		}
	}
}

// TestNumberTakesTheWholeDigest: the last of the 26 characters has bits that
// the first 16 bytes do not hold. (The seed's happen to be zero.)
func TestNumberTakesTheWholeDigest(t *testing.T) {
	record := `{"metadata":{"abstract_canon_sha256":"AB","cross_cats_sorted":[],"license":"","primary_cat":"cs.LG","submitted_at":"2018-05-21T05:28:22Z","title_canon_sha256":"AB"},"schema_version":"1.0","source":{"id":"N","kind":"arxiv","version":1}}`
	record = strings.ReplaceAll(record, "AB", strings.Repeat("0", 64))
	last := map[byte]bool{}
	for n := range 64 {
		number, _, err := Number([]byte(strings.Replace(record, "N", fmt.Sprint(n), 1)))
		if err != nil {
			t.Fatal(err)
		}
		last[number[len(number)-1]] = true
	}
	if len(last) <= 8 { // 16 bytes leave 3 bits for the last character
		t.Errorf("only %d different last characters", len(last))
	}
}

func TestNumberRefuses(t *testing.T) {
	good := `{"metadata":{"abstract_canon_sha256":"AB","cross_cats_sorted":[],"license":"","primary_cat":"cs.LG","submitted_at":"2018-05-21T05:28:22Z","title_canon_sha256":"AB"},"schema_version":"1.0","source":{"id":"1","kind":"arxiv","version":1}}`
	good = strings.ReplaceAll(good, "AB", strings.Repeat("0", 64))
	if _, _, err := Number([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, e := range [][2]string{
		{`22Z"`, `22+00:00"`}, {`22Z"`, `22.5Z"`}, {`2018-05-21`, `2018-13-21`}, {`"version":1`, `"version":0`}, {`"version":1`, `"version":1.0`},
		{`"version":1`, `"version":"1"`}, {`"cross_cats_sorted":[]`, `"cross_cats_sorted":[1]`}, {`"1.0"`, `"1.1"`}, {`"license":"",`, ``},
		{`"id":"1"`, `"id":""`}, {`"primary_cat":"cs.LG"`, `"primary_cat":null`}, {`:"0000`, `:"A000`},
	} {
		bad := edit(t, []byte(good), e[0], e[1])
		if n, _, err := Number(bad); err == nil {
			t.Errorf("%s got the number %s", bad, n)
		}
	}
}

func TestLowerAgreesWithPython(t *testing.T) {
	for in, want := range map[string]string{ // by Python 3.11
		"ABC Schr\\\"odinger": "abc schr\\\"odinger", "İstanbul": "i̇stanbul", "ΟΔΟΣ ΣΑΣ Σ": "οδος σας σ",
		"ΑΣ.": "ας.", "ΑΣ'Α": "ασ'α", "Straße ẞ": "straße ß", "ǅ": "ǆ", "K": "k", "1Σ": "1σ", "Α\u0301Σ\u0301": "α\u0301ς\u0301",
	} {
		if got := lower(in); got != want {
			t.Errorf("lower(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestTampering changes one thing in the seed and expects the check that is
// meant to find it among the failures.
func TestTampering(t *testing.T) {
	tests := []struct {
		name, old, new string
		verdict        Verdict
		want           Code
	}{
		{"title", `"title":"Smooth`, `"title":"Rough!`, Rejected, CodeEventDigest},
		{"title by its own digest", `"title":"Smooth`, `"title":"Rough!`, Rejected, CodeGraphTitle},
		{"record", `"version":3},"metadata"`, `"version":2},"metadata"`, Rejected, CodeRecordDigest},
		{"record gives another number", `"version":3},"metadata"`, `"version":2},"metadata"`, Rejected, CodeNumber},
		{"year", `"pith_number":"pith:2018:`, `"pith_number":"pith:2019:`, Rejected, CodeNumber},
		{"short number", `"pith:CWPYLZDW"`, `"pith:CWPYLZDX"`, Rejected, CodeShortNumber},
		{"source", `"source":{"kind":"arxiv","id":"1805.07898"`, `"source":{"kind":"arxiv","id":"1805.07899"`, Rejected, CodeSource},
		{"alias value", `"alias_value":"1805.07898"`, `"alias_value":"1805.07899"`, Rejected, CodeAlias},
		{"alias kind", `"alias_kind":"doi"`, `"alias_kind":"DOI"`, Rejected, CodeAlias},
		{"event id", `"event_id":"sha256:34a2`, `"event_id":"sha256:44a2`, Rejected, CodeEventID},
		{"event content digest", `"content_sha256":"34a2`, `"content_sha256":"44a2`, Rejected, CodeEventDigest},
		{"event signature", `"IeRPImsm`, `"IeRPImsn`, Rejected, CodeSignature},
		{"base64 with a line break", `"IeRPImsm`, `"IeRP\nImsm`, Rejected, CodeSignature},
		{"base64 with bits left over", `UJH19Bg=="`, `UJH19Bh=="`, Rejected, CodeSignature},
		{"base64 without padding", `UJH19Bg=="`, `UJH19Bg"`, Rejected, CodeSignature},
		{"receipt signature", `"WxdwGuXL`, `"WxdwGuXM`, Rejected, CodeSignature},
		{"receipt digest", `"receipt_version":"0.3","canonical_sha256":"159f`, `"receipt_version":"0.3","canonical_sha256":"259f`, Rejected, CodeReceiptDigest},
		{"signature label", `"open_graph_event_sha256_bytes"`, `"canonical_sha256_bytes"`, Rejected, CodeSignatureShape},
		{"signature extra member", `"signed_message":"bundle_sha256_bytes"`, `"note":1,"signed_message":"bundle_sha256_bytes"`, Rejected, CodeSignatureShape},
		{"public key", `"stVStoiQ`, `"stVStoiR`, Rejected, CodeKeyForms},
		{"key fingerprint", `"fingerprint_sha256_hex":"8d4b`, `"fingerprint_sha256_hex":"9d4b`, Rejected, CodeKeyForms},
		{"signer name", `"signer_id":"pith.science"`, `"signer_id":"pith.scjence"`, Rejected, CodeEventDigest},
		{"state count", `"valid_event_count":2`, `"valid_event_count":3`, Rejected, CodeState},
		{"state digest", `"state_sha256":"fd5c`, `"state_sha256":"fd5d`, Rejected, CodeStateDigest},
		{"unknown state member", `"equivocation_count":0`, `"equivocation_count":0,"x":1`, Rejected, CodeState},
		{"bundle digest", `"bundle_sha256":"e534`, `"bundle_sha256":"e535`, Rejected, CodeBundleDigest},
		{"bundle signature", `"tXtw5quz`, `"tXtw5qua`, Rejected, CodeSignature},
		{"built at", `"built_at":"2026-05-26T04:00:15Z"`, `"built_at":"2026-05-26T04:00:16Z"`, Rejected, CodeBundleDigest},
		{"mirror hint", `"status":"primary"`, `"status":"Primary"`, Rejected, CodeBundleDigest},
		{"unknown bundle member", `{"bundle_type"`, `{"extra":1,"bundle_type"`, Rejected, CodeBundleDigest},
		{"missing member", `"timestamp_proofs":[],`, ``, Rejected, CodeBundleShape},
		{"bundle version", `"bundle_version":"1.0"`, `"bundle_version":"2.0"`, Unreadable, CodeBundleType},
		{"merge version", `"pith-open-graph-merge-v1","built_at"`, `"pith-open-graph-merge-v2","built_at"`, Unreadable, CodeBundleType},
		{"duplicate name", `{"bundle_type"`, `{"built_at":"x","bundle_type"`, Unreadable, Code(canon.ReasonDuplicateName)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Verify(edit(t, seed.Bundle(), tt.old, tt.new), nil)
			if r.Verdict() != tt.verdict || !slices.Contains(failing(r), string(tt.want)) {
				t.Errorf("%v because of %v; want %v because of %s", r.Verdict(), failing(r), tt.verdict, tt.want)
			}
		})
	}
}

// TestWhatNoSignatureCovers pins the one hole in the format: the time at which
// a bundle claims to have been signed is in no digest (spec §7).
func TestWhatNoSignatureCovers(t *testing.T) {
	forged := edit(t, seed.Bundle(), "2026-05-26T04:00:15.814592Z", "2031-05-26T04:00:15.814592Z")
	if r := Verify(forged, nil); r.Verdict() != Valid {
		t.Errorf("%v: %v", r.Verdict(), failing(r))
	}
}

func TestEquivalentSpellingsAreValid(t *testing.T) {
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, seed.Bundle(), " ", "\t"); err != nil {
		t.Fatal(err)
	}
	canonical, err := Canonical(seed.Bundle())
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"indented":  pretty.Bytes(),
		"canonical": canonical,
		"escaped":   edit(t, seed.Bundle(), `"Pith Resolver"`, `"\u0050ith Resolver"`),
	} {
		if r := Verify(data, nil); r.Verdict() != Valid {
			t.Errorf("%s: %v %v", name, r.Verdict(), failing(r))
		}
	}
}

// TestMutants flips bytes everywhere. A mutant that is another document must
// not be valid; the one exception is the time that nothing covers.
func TestMutants(t *testing.T) {
	good := seed.Bundle()
	want, err := Canonical(good)
	if err != nil {
		t.Fatal(err)
	}
	hole := bytes.LastIndex(good, []byte(`"signed_at":"`)) + len(`"signed_at":"`)
	stride := 5
	if testing.Short() {
		stride = 50
	}
	rng := rand.New(rand.NewPCG(1, 2))
	tried := 0
	for i := rng.IntN(stride); i < len(good); i += stride {
		mutant := bytes.Clone(good)
		mutant[i] ^= 1 << rng.IntN(8)
		tried++
		r := Verify(mutant, nil)
		if r.Verdict() != Valid || hole <= i && i < hole+len("2026-05-26T04:00:15.814592Z") {
			continue
		}
		if got, _ := Canonical(mutant); !bytes.Equal(got, want) {
			t.Errorf("byte %d: %q became %q and is still valid", i, good[i], mutant[i])
		}
	}
	if tried < len(good)/stride {
		t.Errorf("only %d mutants", tried)
	}
}

func TestTruncation(t *testing.T) {
	good := seed.Bundle()
	for n := 0; n < len(good); n += 97 {
		if r := Verify(good[:n], nil); r.Verdict() != Unreadable {
			t.Fatalf("the first %d bytes are %v", n, r.Verdict())
		}
	}
}

func TestStrangers(t *testing.T) {
	bundle, ids, err := Append(seed.Bundle(), ada, day, draft("replication_record", replication, 0))
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) != 1 || !strings.HasPrefix(ids[0], "sha256:") {
		t.Errorf("ids %v", ids)
	}
	only := func(types []string, bundles bool) *Trust {
		trust, err := PinnedTrust().Merge(TrustFor(ada.Public(), types, bundles))
		if err != nil {
			t.Fatal(err)
		}
		return trust
	}
	another := ada.Public()
	another.Signer.ID = "bob"
	renamed, err := PinnedTrust().Merge(TrustFor(another, []string{"*"}, true))
	if err != nil {
		t.Fatal(err)
	}
	namesake := bob.Public()
	namesake.Signer = ada.Public().Signer
	impersonated, err := PinnedTrust().Merge(TrustFor(namesake, []string{"*"}, true))
	if err != nil {
		t.Fatal(err)
	}
	window := func(from, until int) *Trust {
		trust, err := PinnedTrust().Merge(within(t, TrustFor(ada.Public(), []string{"*"}, true), day.AddDate(0, 0, from), day.AddDate(0, 0, until)))
		if err != nil {
			t.Fatal(err)
		}
		return trust
	}
	tests := []struct {
		name  string
		trust *Trust
		want  []string
	}{
		{"nobody said so", nil, []string{"trust_key", "trust_key"}},
		{"trusted", only([]string{"replication_record"}, true), nil},
		{"trusted with everything", only([]string{"*"}, true), nil},
		{"not with bundles", only([]string{"replication_record"}, false), []string{"trust_bundle"}},
		{"not with this type", only([]string{"correction"}, true), []string{"trust_event_type"}},
		{"under another name", renamed, []string{"trust_name"}},
		{"impersonation", impersonated, []string{"trust_impersonation", "trust_key"}},
		{"window, both ends included", window(0, 0), nil},
		{"too early", window(1, 2), []string{"trust_window", "trust_window"}},
		{"too late", window(-2, -1), []string{"trust_window", "trust_window"}},
	}
	var first *Result
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Verify(bundle, tt.trust)
			if d := cmp.Diff(tt.want, failing(r)); d != "" {
				t.Error(d)
			}
			want := Untrusted
			if tt.want == nil {
				want = Valid
			}
			if r.Verdict() != want {
				t.Errorf("%v, want %v", r.Verdict(), want)
			}
			if first == nil {
				first = r
			}
			if r.StateSHA256 != first.StateSHA256 || r.Events != first.Events {
				t.Error("the state depends on trust")
			}
		})
	}
}

func TestTooManyEvents(t *testing.T) {
	many := edit(t, seed.Bundle(), `"events":[`, `"events":[`+strings.Repeat("1,", MaxEntries))
	r := Verify(many, nil)
	if d := cmp.Diff([]string{"list_length"}, failing(r)); d != "" || r.Verdict() != Unreadable {
		t.Errorf("%v: %s", r.Verdict(), d)
	}
}

// FuzzVerify: no bytes make Verify panic, and nothing but the seed's own
// content, or a claim that nothing covers, is valid.
func FuzzVerify(f *testing.F) {
	f.Add(seed.Bundle())
	bundle, _, err := Append(seed.Bundle(), ada, day, draft("replication_record", replication, 0), draft("correction", erratum("x"), 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bundle)
	f.Add([]byte(`{"bundle_type":"pith_open_graph_bundle","bundle_version":"1.0","merge_version":"pith-open-graph-merge-v1","events":[{"signature":1}],"state":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := Verify(data, nil)
		if len(r.Checks) == 0 {
			t.Fatal("nothing was checked")
		}
		if _, err := json.Marshal(r); err != nil {
			t.Fatal(err)
		}
		for _, c := range r.Checks {
			if _, known := codes[c.Code]; !known {
				t.Fatalf("unknown code %s", c.Code)
			}
		}
		if r.Verdict() == Valid && r.PithNumber != "pith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM" {
			t.Fatalf("a forged bundle is valid: %s", data)
		}
	})
}

// TestOrderOfArrival: any permutation of the events gives the same state.
func TestOrderOfArrival(t *testing.T) {
	l := crowded(t)
	want := Verify(l.bundle(), nil)
	if got := failing(want); slices.ContainsFunc(got, func(c string) bool { return !strings.HasPrefix(c, "trust_") }) {
		t.Fatalf("%v", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		shuffled := *l
		shuffled.events = rapid.Permutation(l.events).Draw(t, "order")
		got := Verify(shuffled.bundle(), nil)
		if got.Verdict() != Untrusted || got.StateSHA256 != want.StateSHA256 {
			t.Fatalf("%v, state %s, want %s: %v", got.Verdict(), got.StateSHA256, want.StateSHA256, failing(got))
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	data, trust := seed.Bundle(), PinnedTrust()
	b.ReportAllocs()
	for b.Loop() {
		if Verify(data, trust).Verdict() != Valid {
			b.Fatal("not valid")
		}
	}
}
