package pith

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openpith/evidence/pith/internal/canon"
	"github.com/openpith/evidence/pith/seed"
)

func TestAppendKeepsWhatWasThere(t *testing.T) {
	once, ids, err := Append(seed.Bundle(), ada, day, draft("replication_record", replication, 0), draft("correction", erratum("1"), 1))
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := Append(seed.Bundle(), ada, day, draft("replication_record", replication, 0), draft("correction", erratum("1"), 1))
	if err != nil || !bytes.Equal(once, again) {
		t.Errorf("the same call gave other bytes, or %v", err)
	}
	twice, more, err := Append(once, bob, day.AddDate(0, 0, 1), draft("correction", erratum("2"), 2))
	if err != nil {
		t.Fatal(err)
	}
	third, last, err := Append(twice, ada, day.AddDate(0, 0, 2), draft("correction", erratum("3"), 3))
	if err != nil {
		t.Fatal(err)
	}
	if canonical, err := Canonical(third); err != nil || !bytes.Equal(canonical, third) {
		t.Error("the bundle is not in canonical form")
	}

	events := func(data []byte) (out []string) {
		doc, err := canon.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		for v := range doc.Root().Get("events").Children() {
			out = append(out, string(v.Canonical()))
		}
		return out
	}
	old, all := events(seed.Bundle()), events(third)
	if len(all) != len(old)+4 || !slices.Equal(old, all[:len(old)]) {
		t.Error("the original events have changed")
	}

	prev := map[string]string{}
	doc, _ := canon.Parse(third)
	for v := range doc.Root().Get("events").Children() {
		prev[v.Get("event_id").Text()] = v.Get("prev_event").Text()
	}
	// Each signer has a chain of its own.
	for id, want := range map[string]string{ids[0]: "", ids[1]: ids[0], more[0]: "", last[0]: ids[1]} {
		if prev[id] != want {
			t.Errorf("prev_event of %s is %s, want %s", id, prev[id], want)
		}
	}
	if n := doc.Root().Get("public_keys").Len(); n != 3 {
		t.Errorf("%d public keys, want 3", n)
	}
	r := Verify(third, trusting(t, ada, bob))
	if r.Verdict() != Valid || r.Events.Valid != 6 {
		t.Errorf("%v %+v %v", r.Verdict(), r.Events, failing(r))
	}
}

func TestAppendRefuses(t *testing.T) {
	tests := []struct {
		name   string
		bundle []byte
		draft  Draft
		want   Code
	}{
		{"a rejected bundle", edit(t, seed.Bundle(), "Smoothing", "smoothing"), draft("correction", erratum("x"), 0), CodeEventDigest},
		{"another format", []byte(`{"a":1}`), draft("correction", erratum("x"), 0), CodeBundleType},
		{"a bad payload", seed.Bundle(), draft("replication_record", `{"schema":"replication_record/1","outcome":"great"}`, 0), CodePayloadShape},
		{"a payload that is no object", seed.Bundle(), draft("correction", `[]`, 0), CodeEventShape},
		{"no type", seed.Bundle(), draft("", `{}`, 0), CodeEventShape},
		{"replacing an unknown event", seed.Bundle(), Draft{Type: "correction", Target: "record", Payload: []byte(erratum("x")), CreatedAt: day, Supersedes: []string{"sha256:00"}}, CodeSupersedesTarget},
		{"replacing the registry's event", seed.Bundle(), Draft{Type: "correction", Target: "record", Payload: []byte(erratum("x")), CreatedAt: day,
			Supersedes: []string{"sha256:4cc9344b7ef09146e3f7e3499ce80d9d1d589e3d1b1e7405bccd202191772a59"}}, CodeSupersedesSigner},
		{"another signer's chain", seed.Bundle(), Draft{Type: "correction", Target: "record", Payload: []byte(erratum("x")), CreatedAt: day,
			PrevEvent: "sha256:4cc9344b7ef09146e3f7e3499ce80d9d1d589e3d1b1e7405bccd202191772a59"}, CodePrevSigner},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, _, err := Append(tt.bundle, ada, day, tt.draft)
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.Check.Code != tt.want || out != nil {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	var syntax *SyntaxError
	if _, _, err := Append(seed.Bundle(), ada, day, draft("correction", `{"a":1,"a":2}`, 0)); !errors.As(err, &syntax) || syntax.Reason != canon.ReasonDuplicateName {
		t.Errorf("duplicate name in the payload: %v", err)
	}
	if _, _, err := Append(seed.Bundle(), ada, day); !errors.Is(err, ErrNoDraft) {
		t.Errorf("no draft: %v", err)
	}
}

func TestReplicationPayload(t *testing.T) {
	for _, e := range [][2]string{
		{`"claim":{"text":"x"},`, ``}, {`"claim":{"text":"x"}`, `"claim":"x"`}, {`inconclusive`, `Inconclusive`},
		{`"plan_sha256":"2581`, `"plan_sha256":"X581`}, {`"results_sha256"`, `"result_sha256"`}, {`"schema":"replication_record/1",`, ``},
	} {
		bad := edit(t, []byte(replication), e[0], e[1])
		_, _, err := Append(seed.Bundle(), ada, day, draft("replication_record", string(bad), 0))
		var refused *RefusedError
		if !errors.As(err, &refused) {
			t.Errorf("%q instead of %q was signed: %v", e[1], e[0], err)
		} else if refused.What != "the new event" || !strings.Contains(refused.Hint(), "payload") {
			t.Errorf("an author is told %v, and to do: %s", err, refused.Hint())
		}
	}
	damaged := edit(t, seed.Bundle(), "Smoothing", "smoothing")
	var received *RefusedError
	if _, _, err := Append(damaged, ada, day, draft("replication_record", replication, 0)); !errors.As(err, &received) || !strings.Contains(received.Hint(), "fetch") {
		t.Errorf("a damaged bundle: %v", err)
	}
	merged, err := Merge(seed.Bundle())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Append(merged, ada, day, draft("replication_record", replication, 0)); !errors.As(err, &received) || !strings.Contains(received.Hint(), "pith sign") {
		t.Errorf("an unsigned bundle: %v", err)
	}
	other := edit(t, []byte(`{"schema":"replication_record/1"}`), "/1", "/2")
	var refused *RefusedError
	if _, _, err := Append(seed.Bundle(), ada, day, draft("replication_record", string(other), 0)); !errors.As(err, &refused) || refused.Check.Code != CodePayloadSchema {
		t.Errorf("another schema was signed: %v", err)
	}
}

func TestTrustFiles(t *testing.T) {
	trust, err := PinnedTrust().Merge(within(t, TrustFor(ada.Public(), []string{"correction", "replication_record", "correction"}, false), day, day.AddDate(1, 0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseTrust(trust.JSON())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(trust.JSON()), string(back.JSON())); d != "" {
		t.Error(d)
	}
	same, err := trust.Merge(back)
	if err != nil || !bytes.Equal(same.JSON(), trust.JSON()) {
		t.Errorf("merging with itself: %v", err)
	}
	other := ada.Public()
	other.Signer.ID = "eve"
	for name, conflict := range map[string]*Trust{
		"name":   within(t, TrustFor(other, nil, false), day, day.AddDate(1, 0, 0)),
		"window": TrustFor(ada.Public(), nil, false),
	} {
		if _, err := trust.Merge(conflict); !errors.Is(err, ErrTrustConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, e := range [][2]string{
		{`"bundles"`, `"note":1,"bundles"`}, {`"signers"`, `"more":[],"signers"`}, {`"trust_version":"1.0"`, `"trust_version":"1.1"`},
		{`"fingerprint":"8d4b`, `"fingerprint":"8D4B`}, {`"valid_from":null`, `"valid_from":"yesterday"`}, {`"bundles":true`, `"bundles":"true"`},
		{`"event_types":["*"]`, `"event_types":["*"],"event_types":["*"]`}, {`"event_types":["*"]`, `"event_types":"*"`},
	} {
		if _, err := ParseTrust(edit(t, trust.JSON(), e[0], e[1])); err == nil {
			t.Errorf("%q instead of %q was accepted", e[1], e[0])
		}
	}
}

func TestSignerNames(t *testing.T) {
	for _, s := range []Signer{{"", "a", "b"}, {"a", "", "b"}, {"a", "b", ""}, {" a", "b", "c"}, {"a\n", "b", "c"}, {"\xff", "b", "c"}, {string(make([]byte, 257)), "b", "c"}} {
		if _, err := NewKey(make([]byte, 32), s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func TestPublicKeyEntry(t *testing.T) {
	text, err := ada.Public().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := canon.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var c checks
	key, ok := c.publicKey(c.root(), doc.Root())
	if !ok || !key.Key.Equal(ada.Public().Key) || key.Fingerprint() != ada.Public().Fingerprint() {
		t.Errorf("%+v %v", key, c)
	}
	if _, err := (PublicKey{}).MarshalJSON(); err == nil {
		t.Error("a key without bytes was written")
	}
}

// One signature has one spelling.
func TestStrictBase64(t *testing.T) {
	for in, ok := range map[string]bool{
		"AAEC": true, "AAE=": false, "AAEC\n": false, "AA\nEC": false, "AA\r\nEC": false, " AAEC": false, "AAEC=": false, "AAE": false, "AA-C": false, "": false,
	} {
		if _, err := decodeBase64(in, 3); (err == nil) != ok {
			t.Errorf("%q: %v", in, err)
		}
	}
	for in, ok := range map[string]bool{"AAE=": true, "AAF=": false, "AAE": false} { // trailing bits, padding
		if _, err := decodeBase64(in, 2); (err == nil) != ok {
			t.Errorf("%q: %v", in, err)
		}
	}
}
