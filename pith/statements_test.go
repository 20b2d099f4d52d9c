package pith

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openpith/evidence/pith/seed"
)

// otsProof is a pending proof, or one with a Bitcoin attestation, of a digest in hex.
func otsProof(t testing.TB, digest string, bitcoin bool) string {
	t.Helper()
	file := "004f70656e54696d657374616d7073000050726f6f6600bf89e2e884e89294" + "0108" + digest
	if bitcoin {
		file += "000588960d73d71901012a"
	} else {
		file += "0083dfe30d2ef90c8e03026162"
	}
	data, err := hex.DecodeString(file)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(data)
}

// TestProofsTogether: proofs that are good one by one are too much together, for
// Verify, Append and Merge (spec §11.5).
func TestProofsTogether(t *testing.T) {
	l := newLab(t)
	digest := l.b.record.sha256
	raw, err := hex.DecodeString(digest)
	if err != nil {
		t.Fatal(err)
	}
	entry := func(n int) string { // with 262,144 bytes of results
		proof := slices.Concat([]byte("\x00OpenTimestamps\x00\x00Proof\x00\xbf\x89\xe2\xe8\x84\xe8\x92\x94\x01\x08"), raw,
			bytes.Repeat([]byte{0xf3}, 7), bytes.Repeat([]byte{0xf2}, 62), []byte{8, 8, 0, 5, 0x88, 0x96, 0x0d, 0x73, 0xd7, 0x19, 1, 1, byte(n)})
		return `{"schema":"timestamp_anchor/1","method":"opentimestamps","of":"record","digest_sha256":"` + digest + `","proof_b64":"` + base64.StdEncoding.EncodeToString(proof) + `"}`
	}
	with := func(from, to int) []byte {
		var list []string
		for i := from; i < to; i++ {
			list = append(list, entry(i))
		}
		next := labFrom(t, edit(t, l.bundle(), `"timestamp_proofs":[]`, `"timestamp_proofs":[`+strings.Join(list, ",")+`]`))
		next.keys = next.keys[:len(next.keys)-2] // they are in l already
		return next.bundle()
	}
	full := with(0, 64)
	if r := Verify(full, trusting(t, ada)); r.Verdict() != Valid || r.Completeness[0].Confirmed != 64 {
		t.Fatalf("64 proofs: %v %v", r.Verdict(), r.Failures())
	}
	r := Verify(edit(t, full, `"timestamp_proofs":[`, `"timestamp_proofs":[`+entry(64)+`,`), trusting(t, ada)) // nor are signatures asked about
	if d := cmp.Diff([]string{"timestamp_limit"}, failing(r)); d != "" || r.Verdict() != Unreadable || len(r.Signers) > 0 {
		t.Errorf("65 proofs: %v %s", r.Verdict(), d)
	}
	var refused *RefusedError
	if _, _, err := Append(full, ada, day, draft(TypeTimestampAnchor, entry(64), 0)); !errors.As(err, &refused) || refused.Check.Code != CodeProofLimit || !strings.Contains(refused.Hint(), "no room") {
		t.Errorf("one more by Append: %v", err)
	}
	if _, err := Merge(full, with(64, 65)); err == nil || !strings.Contains(err.Error(), "timestamp_limit") {
		t.Errorf("one more by Merge: %v", err)
	}
}

// payloads pass; the edits behind each make it fail with a code.
func payloads(t testing.TB) map[string]struct {
	good  string
	edits [][3]string
} {
	l := newLab(t)
	digest := l.b.record.sha256
	return map[string]struct {
		good  string
		edits [][3]string
	}{
		TypeAuthorAttestation: {
			`{"schema":"author_attestation/1","name":"Ada","identity":{"scheme":"orcid","value":"0000-0002-1825-0097"},"position":2,"statement":"I wrote section 2."}`,
			[][3]string{
				{`"name":"Ada"`, `"name":""`, "payload_shape"},
				{`0097"`, `0098"`, "payload_shape"},
				{`"orcid"`, `"email"`, "payload_shape"},
				{`"orcid"`, `"phone"`, "payload_shape"},
				{`"position":2`, `"position":0`, "payload_shape"},
				{`"position":2`, `"position":1.5`, "payload_shape"},
				{`"I wrote section 2."`, `""`, "payload_shape"},
				{`author_attestation/1`, `author_attestation/2`, "payload_schema"},
			}},
		TypeTimestampAnchor: {
			`{"schema":"timestamp_anchor/1","method":"opentimestamps","of":"record","digest_sha256":"` + digest + `","proof_b64":"` + otsProof(t, digest, true) + `"}`,
			[][3]string{
				{`"of":"record"`, `"of":"bundle"`, "payload_shape"},
				{`"of":"record"`, `"of":"sha256:` + strings.Repeat("0", 64) + `"`, "payload_record"},
				{`"opentimestamps"`, `"rfc3161"`, "payload_shape"},
				{otsProof(t, digest, true), otsProof(t, strings.Repeat("0", 64), true), "timestamp_proof"},
				{otsProof(t, digest, true), "AAAA", "timestamp_proof"},
				{otsProof(t, digest, true), "A", "timestamp_proof"},
			}},
		TypeStorageAttestation: {
			`{"schema":"storage_attestation/1","archive":"internet_archive","url":"https://web.archive.org/web/20260601120000/https://arxiv.org/abs/1805.07898v3","stored_at":"2026-06-01T12:00:00Z","content_sha256":"` + digest + `"}`,
			[][3]string{
				{`20260601120000`, `20260601120001`, "payload_shape"},
				{`https://web`, `http://web`, "payload_shape"},
				{`abs/1805`, `abs 1805`, "payload_shape"},
				{`"stored_at":"2026-06-01T12:00:00Z"`, `"stored_at":"2026-06-01"`, "payload_shape"},
				{`"content_sha256":"`, `"content_sha256":"0`, "payload_shape"},
			}},
		TypeCitationSignature: {
			`{"schema":"citation_signature/1","relation":"extends","citing":{"kind":"arxiv","id":"2601.00001","title":"On it"},"claim":"C1"}`,
			[][3]string{
				{`"extends"`, `"likes"`, "payload_shape"},
				{`"arxiv"`, `"isbn"`, "payload_shape"},
				{`"arxiv"`, `"pith"`, "payload_shape"},
				{`"arxiv"`, `"url"`, "payload_shape"},
				{`2601.00001`, `1805.07898`, "payload_record"},
				{`2601.00001`, `1805.07898v3`, "payload_record"},
				{`"arxiv","id":"2601.00001"`, `"doi","id":"10.48550/arXiv.1805.07898"`, "payload_record"},
				{`"arxiv","id":"2601.00001"`, `"pith","id":"` + l.b.record.number + `"`, "payload_record"},
				{`"id":"2601.00001",`, ``, "payload_shape"},
			}},
		TypeCorrection: {
			`{"schema":"correction/1","kind":"erratum","text":"x","about":"sha256:` + digest + `","url":"https://example.org/e"}`,
			[][3]string{
				{`"erratum"`, `"oops"`, "payload_shape"},
				{`"text":"x"`, `"text":"` + strings.Repeat("x", 16385) + `"`, "payload_shape"},
				{`sha256:`, `sha1:`, "payload_shape"},
				{`https://example.org/e`, `https://`, "payload_shape"},
			}},
		TypeMirrorHint: {
			`{"schema":"mirror_hint/1","name":"M","mirror_type":"https","bundle_url":"https://m.example/CWPYLZDW7AWAX7TQ5ZRNS3OHEM.json","status":"mirror"}`,
			[][3]string{
				{`CWPYLZDW7AWAX7TQ5ZRNS3OHEM`, `AAPYLZDW7AWAX7TQ5ZRNS3OHEM`, "payload_record"},
				{`"status":"mirror"`, `"state_url":"ftp://x"`, "payload_shape"},
				{`"name":"M",`, ``, "payload_shape"},
			}},
	}
}

func TestPayloads(t *testing.T) {
	for kind, tt := range payloads(t) {
		t.Run(kind, func(t *testing.T) {
			bundle, _, err := Append(seed.Bundle(), ada, day, draft(kind, tt.good, 0))
			if err != nil {
				t.Fatal(err)
			}
			r := Verify(bundle, trusting(t, ada))
			if r.Verdict() != Valid || len(r.Notes()) != 0 {
				t.Fatalf("%v %v", failing(r), r.Notes())
			}
			for _, e := range tt.edits {
				bad := string(edit(t, []byte(tt.good), e[0], e[1]))
				_, _, err := Append(seed.Bundle(), ada, day, draft(kind, bad, 0))
				var refused *RefusedError
				if !errors.As(err, &refused) || string(refused.Check.Code) != e[2] {
					t.Errorf("%.60q instead of %.60q: %v, want %s", e[1], e[0], err, e[2])
				}
			}
			// What the typed form writes is what it reads.
			typed, ok := r.History[2].Typed()
			if !ok {
				t.Fatal("the payload has no typed form")
			}
			again, err := NewDraft(typed, day)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(r.History[2].Payload), string(again.Payload)); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestForeignPayloads: Pith published the types, not the payloads. What is not
// ours is valid, kept, shown, and noted.
func TestForeignPayloads(t *testing.T) {
	for kind := range statementFields {
		for _, payload := range []string{`{}`, `{"schema":"other/9"}`, `{"schema":7}`} {
			l := newLab(t)
			l.sign(ada, draft(kind, payload, 0))
			r := Verify(l.bundle(), trusting(t, ada))
			notes := r.Notes()
			if r.Verdict() != Valid || len(notes) != 1 || notes[0].Code != CodePayloadSchema {
				t.Errorf("%s %s: %v %v", kind, payload, failing(r), notes)
			}
			if _, ok := r.History[2].Typed(); ok {
				t.Errorf("%s %s has a typed form", kind, payload)
			}
		}
	}
	l := newLab(t)
	l.sign(ada, draft("something_new", `{"schema":"something_new/1"}`, 0))
	if r := Verify(l.bundle(), trusting(t, ada)); r.Verdict() != Valid || len(r.Notes()) != 0 {
		t.Errorf("an unknown type: %v %v", failing(r), r.Notes())
	}
}

func TestThreeAnswers(t *testing.T) {
	all := payloads(t)
	l := newLab(t)
	digest := l.b.record.sha256
	for kind, tt := range all {
		l.sign(ada, draft(kind, tt.good, 0))
	}
	l.sign(bob, draft("replication_record", replication, 1))
	proof := func(bitcoin bool) string {
		return `{"schema":"timestamp_anchor/1","method":"opentimestamps","of":"record","digest_sha256":"` + digest + `","proof_b64":"` + otsProof(t, digest, bitcoin) + `"}`
	}
	with := labFrom(t, edit(t, l.bundle(), `"timestamp_proofs":[]`, `"timestamp_proofs":[`+proof(false)+`,{"x":1},`+strings.Replace(proof(true), "AE9w", "AE9x", 1)+`]`))
	with.events, with.keys = l.events, l.keys
	r := Verify(with.bundle(), trusting(t, ada))
	if r.Structure() != Valid || r.Trust() != Untrusted || r.Verdict() != Untrusted {
		t.Errorf("%v %v %v: %v", r.Structure(), r.Trust(), r.Verdict(), failing(r))
	}
	want := []Presence{{"timestamps", 2, 1, 1, 1}, {"attestations", 1, 1, 0, 0}, {"storage", 1, 1, 0, 0}, {"citations", 1, 1, 0, 0}, {"replications", 1, 0, 0, 0}}
	if d := cmp.Diff(want, r.Completeness); d != "" {
		t.Error(d)
	}
	var notes []string
	for _, n := range r.Notes() {
		notes = append(notes, n.String())
	}
	if d := cmp.Diff([]string{"timestamp_proofs /timestamp_proofs/1", "timestamp_proofs /timestamp_proofs/2"}, notes); d != "" {
		t.Error(d)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"structure":"valid"`, `"trust":"untrusted"`,
		`"completeness":[{"kind":"timestamps","present":true,"valid":2,"trusted":1,"confirmed":1,"pending":1},{"kind":"attestations","present":true,"valid":1,"trusted":1}`} {
		if !strings.Contains(string(text), part) {
			t.Errorf("%s is not in %.400s", part, text)
		}
	}
	if r := Verify(edit(t, seed.Bundle(), "Smoothing", "smoothing"), nil); r.Structure() != Rejected || r.Trust() != Valid {
		t.Errorf("%v %v", r.Structure(), r.Trust())
	}
	if r := Verify(nil, nil); r.Structure() != Unreadable || len(r.Completeness) != 5 {
		t.Errorf("%v %v", r.Structure(), r.Completeness)
	}
}

// TestSpecExamples: the examples of spec §4 are what it says they are.
func TestSpecExamples(t *testing.T) {
	text, err := os.ReadFile("../spec/04-events.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, block := range strings.Split(string(text), "```json\n")[1:] {
		payload, _, _ := strings.Cut(block, "```")
		var head struct{ Schema string }
		if err := json.Unmarshal([]byte(payload), &head); err != nil {
			t.Fatalf("%s: %v", payload, err)
		}
		kind := strings.TrimSuffix(head.Schema, "/1")
		n++
		if strings.Contains(payload, "…") { // shortened
			continue
		}
		if _, _, err := Append(seed.Bundle(), ada, day, draft(kind, payload, 0)); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if n != 10 { // the envelope, and nine types
		t.Errorf("%d examples, want 10", n)
	}
}
