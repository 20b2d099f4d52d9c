package resolver_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openpith/evidence/bench/pith/plain"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/memstore"
)

const suffix = "CWPYLZDW7AWAX7TQ5ZRNS3OHEM"

var day = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func keyOf(name string) *pith.PrivateKey {
	key, err := pith.NewKey([]byte(strings.Repeat(name, 32))[:32], pith.Signer{ID: name, Type: "individual", KeyID: name + "-1"})
	if err != nil {
		panic(err)
	}
	return key
}

var ada, bob, mirror = keyOf("ada"), keyOf("bob"), keyOf("mirror")

func trusting(t *testing.T, keys ...*pith.PrivateKey) *pith.Trust {
	t.Helper()
	trust := pith.PinnedTrust()
	for _, k := range keys {
		var err error
		if trust, err = trust.Merge(pith.TrustFor(k.Public(), []string{"*"}, true)); err != nil {
			t.Fatal(err)
		}
	}
	return trust
}

func service(t *testing.T, edit ...func(*resolver.Config)) *resolver.Service {
	t.Helper()
	c := resolver.Config{Store: memstore.New(), Key: mirror, Trust: trusting(t, ada), Now: func() time.Time { return day.Add(time.Hour) }}
	for _, f := range edit {
		f(&c)
	}
	s, err := resolver.NewService(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// correction is the seed's bundle with a correction by key.
func correction(t *testing.T, key *pith.PrivateKey, text string) (bundle, event []byte) {
	t.Helper()
	bundle, _, err := pith.Append(seed.Bundle(), key, day, pith.Draft{
		Type: pith.TypeCorrection, Target: "record", CreatedAt: day,
		Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"` + text + `"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	var b struct{ Events []json.RawMessage }
	if err := json.Unmarshal(bundle, &b); err != nil {
		t.Fatal(err)
	}
	return bundle, b.Events[len(b.Events)-1]
}

func submit(t *testing.T, s *resolver.Service, data []byte) *resolver.Receipt {
	t.Helper()
	r, err := s.Submit(t.Context(), resolver.Submission{Data: data, From: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// refused submits what must not get in.
func refused(t *testing.T, s *resolver.Service, data []byte, status resolver.Status, code string) *resolver.Refusal {
	t.Helper()
	_, err := s.Submit(t.Context(), resolver.Submission{Data: data, From: "test"})
	var r *resolver.Refusal
	if !errors.As(err, &r) || r.Status != status || r.Code != code {
		t.Fatalf("got %v, want %s because of %s", err, status, code)
	}
	return r
}

func served(t *testing.T, s *resolver.Service) (resolver.Record, []byte) {
	t.Helper()
	rec, packed, err := s.Store().Bundle(t.Context(), suffix)
	if err != nil {
		t.Fatal(err)
	}
	data, err := resolver.Gunzip(packed)
	if err != nil {
		t.Fatal(err)
	}
	return rec, data
}

// A single bundle is served as its signer made it; united ones as the mirror did.
func TestSubmitUnites(t *testing.T) {
	s := service(t)
	first := submit(t, s, seed.Bundle())
	if len(first.Events) != 2 || first.New != 2 || first.Events[1].Seq != 1 {
		t.Errorf("receipt %+v", first)
	}
	rec, data := served(t, s)
	canonical, _ := pith.Canonical(seed.Bundle())
	if !bytes.Equal(data, canonical) || rec.United {
		t.Error("the only bundle of a record is not served as it came")
	}
	if rec.Authors == "" || rec.Title == "" || len(rec.Aliases) != 3 || rec.Categories[0] != "cs.LG" {
		t.Errorf("record %+v", rec)
	}

	bundle, event := correction(t, ada, "x")
	got := submit(t, s, bundle)
	if got.New != 1 || len(got.Events) != 3 {
		t.Errorf("receipt %+v", got)
	}
	rec, data = served(t, s)
	if r := pith.Verify(data, trusting(t, ada, mirror)); r.Verdict() != pith.Valid || r.Events.Valid != 3 || !rec.United {
		t.Errorf("united: %v %v", r.Verdict(), r.Failures())
	}

	// Whatever comes again is acknowledged and changes nothing.
	for _, again := range [][]byte{seed.Bundle(), bundle, event, data} {
		if r := submit(t, s, again); r.New != 0 || r.Revision != got.Revision {
			t.Errorf("again: %+v", r)
		}
	}
}

// An event alone gives the same state as the bundle that holds it.
func TestEventAlone(t *testing.T) {
	bundle, event := correction(t, ada, "x")
	s := service(t)
	refused(t, s, event, resolver.Refused, resolver.CodeNoRecord)
	submit(t, s, seed.Bundle())
	refused(t, s, event, resolver.Refused, resolver.CodeKeyUnknown)
	declaration, err := resolver.DeclareKey(ada, day)
	if err != nil {
		t.Fatal(err)
	}
	submit(t, s, declaration)
	if r := submit(t, s, event); r.New != 1 || len(r.Events) != 1 || r.Events[0].Seq != 2 {
		t.Errorf("receipt %+v", r)
	}
	_, data := served(t, s)
	got, _ := pith.State(data)
	want, _ := pith.State(bundle)
	if !bytes.Equal(got, want) {
		t.Error("another state")
	}

	broken := bytes.Replace(event, []byte(`"text":"x"`), []byte(`"text":"y"`), 1)
	refused(t, s, broken, resolver.Refused, "event_digest")
}

func TestStrangersWait(t *testing.T) {
	s := service(t)
	submit(t, s, seed.Bundle())
	bundle, _ := correction(t, bob, "spam?")
	r := refused(t, s, bundle, resolver.Queued, "trust_key")
	if again := refused(t, s, bundle, resolver.Queued, "trust_key"); again.ID != r.ID {
		t.Error("the same submission waits twice")
	}
	if got, err := s.Accept(t.Context(), r.ID); err != nil || got.New != 1 {
		t.Fatalf("accept: %+v %v", got, err)
	}
	if _, err := s.Accept(t.Context(), r.ID); !errors.Is(err, resolver.ErrNotFound) {
		t.Errorf("accepted twice: %v", err)
	}
	// What was let in once is no obstacle for those who are trusted.
	_, data := served(t, s)
	more, _, err := pith.Append(data, ada, day.Add(2*time.Hour), pith.Draft{Type: pith.TypeCorrection, Target: "record", CreatedAt: day,
		Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"z"}`)})
	if err != nil {
		t.Fatal(err)
	}
	submit(t, s, more)

	other, _ := correction(t, bob, "more spam")
	r = refused(t, s, other, resolver.Queued, "trust_key")
	if err := s.Reject(t.Context(), r.ID, "spam"); err != nil {
		t.Fatal(err)
	}
	refused(t, s, other, resolver.Refused, resolver.CodeModerated)
}

// What waits already, or was decided about, needs no room in a full queue.
func TestFullQueueKnowsItsOwn(t *testing.T) {
	s := service(t, func(c *resolver.Config) { c.Limits = resolver.Limits{Queued: 1, PerAddress: -1} })
	submit(t, s, seed.Bundle())
	first, _ := correction(t, bob, "first")
	second, _ := correction(t, bob, "second")
	r := refused(t, s, first, resolver.Queued, "trust_key")
	refused(t, s, second, resolver.Refused, resolver.CodeQueueFull)
	if again := refused(t, s, first, resolver.Queued, "trust_key"); again.ID != r.ID {
		t.Errorf("it waits as %d and as %d", r.ID, again.ID)
	}
	if err := s.Reject(t.Context(), r.ID, "spam"); err != nil {
		t.Fatal(err)
	}
	refused(t, s, second, resolver.Queued, "trust_key")
	refused(t, s, first, resolver.Refused, resolver.CodeModerated)
}

// What waits in a bundle waits once, and what was rejected stays out, whatever else the
// bundle brings and whoever packs it, and alone.
func TestWaitsOnce(t *testing.T) {
	s := service(t)
	submit(t, s, seed.Bundle())
	spam, event := correction(t, bob, "spam")
	var changing [][]byte
	for i := range 3 {
		more, _, err := pith.Append(spam, ada, day, pith.Draft{Type: pith.TypeCorrection, Target: "record", CreatedAt: day, Payload: json.RawMessage(fmt.Sprintf(`{"schema":"correction/1","kind":"erratum","text":"%d"}`, i))})
		if err != nil {
			t.Fatal(err)
		}
		changing = append(changing, more)
	}
	declaration, err := resolver.DeclareKey(bob, day)
	if err != nil {
		t.Fatal(err)
	}
	submit(t, s, declaration)
	other, err := pith.Sign(spam, keyOf("carol"), day)
	if err != nil {
		t.Fatal(err)
	}
	first := refused(t, s, spam, resolver.Queued, "trust_key")
	for i, data := range append(changing, event, other) {
		if r := refused(t, s, data, resolver.Queued, "trust_key"); r.ID != first.ID {
			t.Errorf("%d waits as %d, the first as %d", i, r.ID, first.ID)
		}
	}
	if rec, _ := served(t, s); rec.EventCount != 5 {
		t.Errorf("%d events, want ada's three and two", rec.EventCount)
	}
	if err := s.Reject(t.Context(), first.ID, "spam"); err != nil {
		t.Fatal(err)
	}
	for _, data := range append(changing, event, other, spam, repacked(t, spam, `"bundle_url":"https://pith`, `"bundle_url":"https://one`)) {
		refused(t, s, data, resolver.Refused, resolver.CodeModerated)
	}
	another, _ := correction(t, bob, "not spam")
	if r := refused(t, s, another, resolver.Queued, "trust_key"); r.ID == first.ID {
		t.Error("all of bob is rejected")
	}
	if c, err := s.Store().Counts(t.Context()); err != nil || c.Queued != 1 {
		t.Errorf("%+v %v", c, err)
	}
	sound(t, s.Store())
}

// What waits is all that is not here, and each word that only a bundle's signer vouches
// for: what is accepted is what was sent.
func TestWhatWaits(t *testing.T) {
	draft := func(text string, at time.Time, supersedes ...string) pith.Draft {
		return pith.Draft{Type: pith.TypeCorrection, Target: "record", CreatedAt: at, Supersedes: supersedes, Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"` + text + `"}`)}
	}
	early, ids, err := pith.Append(seed.Bundle(), ada, day, draft("old", day.Add(-48*time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	later, _, err := pith.Append(early, ada, day, draft("new", day, ids[0]))
	if err != nil {
		t.Fatal(err)
	}
	since, err := pith.TrustFor(ada.Public(), []string{"*"}, true).Within(day.Add(-time.Hour), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	lately, err := pith.PinnedTrust().Merge(since)
	if err != nil {
		t.Fatal(err)
	}
	mine, _ := correction(t, ada, "mine")
	clean, _ := correction(t, bob, "x")
	const hint = `"bundle_url":"https://pith`
	one, two := `"bundle_url":"https://one`, `"bundle_url":"https://two`
	for _, c := range []struct {
		name          string
		trust         *pith.Trust
		here          bool
		first, second []byte
		code          string
		has, lacks    string // after the second is accepted
		one           bool
	}{
		{"a trusted event behind a stranger's opening", pith.TrustFor(ada.Public(), []string{"*"}, true), false, seed.Bundle(), mine, "trust_key", "mine", "one.science", false},
		{"a trusted event that replaces what is not", lately, true, early, later, "trust_window", `"text":"new"`, "one.science", false},
		{"another's packing of it", trusting(t, ada), true, repacked(t, clean, hint, one), clean, "trust_key", `"text":"x"`, "one.science", true},
		{"another's label of a key beside it", trusting(t, ada), true, repacked(t, clean, `"key_id":"pith-v1-2026-05","notes"`, `"key_id":"!one.science","notes"`), clean, "trust_key", `"text":"x"`, "one.science", true},
		{"another word of one packer", trusting(t, ada), true, repacked(t, seed.Bundle(), hint, one), repacked(t, seed.Bundle(), hint, two), "trust_key", "two.science", "one.science", false},
		{"a member that documents have", trusting(t, ada), true, repacked(t, seed.Bundle(), hint, one), repacked(t, clean, `{"built_at"`, `{"document_type":"x","built_at"`), "trust_key", `"text":"x"`, "document_type", false},
	} {
		s := service(t, func(config *resolver.Config) { config.Trust = c.trust })
		if c.here {
			submit(t, s, seed.Bundle())
		}
		first, second := refused(t, s, c.first, resolver.Queued, c.code), refused(t, s, c.second, resolver.Queued, c.code)
		if (first.ID == second.ID) != c.one {
			t.Errorf("%s: %d and %d", c.name, first.ID, second.ID)
		}
		if _, err := s.Accept(t.Context(), second.ID); err != nil {
			t.Fatal(c.name, err)
		}
		if _, data := served(t, s); !bytes.Contains(data, []byte(c.has)) || bytes.Contains(data, []byte(c.lacks)) {
			t.Errorf("%s: %s", c.name, data)
		}
		if h, err := s.Store().HeldByID(t.Context(), second.ID); err != nil || h.Status != resolver.Accepted || h.Code != c.code {
			t.Errorf("%s: held as %s because of %s, %v", c.name, h.Status, h.Code, err)
		}
		sound(t, s.Store())
	}
}

// What a packer says besides waits by itself, when its bundle comes again, and does not
// ride on an event that came in otherwise.
func TestWordsWaitForThemselves(t *testing.T) {
	s := service(t)
	submit(t, s, seed.Bundle())
	clean, _ := correction(t, bob, "x")
	strange := repacked(t, clean, `"bundle_url":"https://pith`, `"bundle_url":"https://one`)
	more, _, err := pith.Append(clean, bob, day, pith.Draft{Type: pith.TypeCorrection, Target: "record", CreatedAt: day, Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"y"}`)})
	if err != nil {
		t.Fatal(err)
	}
	accept := func(id int64, events int, words bool) {
		t.Helper()
		if _, err := s.Accept(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if rec, data := served(t, s); rec.EventCount != events || bytes.Contains(data, []byte("one.science")) != words {
			t.Errorf("after %d: %d events, want %d; its words: %v", id, rec.EventCount, events, !words)
		}
	}
	first, second := refused(t, s, strange, resolver.Queued, "trust_key"), refused(t, s, more, resolver.Queued, "trust_key")
	accept(second.ID, 4, false)
	accept(first.ID, 4, false)
	again := refused(t, s, strange, resolver.Queued, "trust_key")
	if h, err := s.Store().HeldByID(t.Context(), again.ID); err != nil || h.Status != resolver.Queued {
		t.Fatalf("%+v %v", h, err)
	}
	accept(again.ID, 4, true)
	submit(t, s, strange)
	if c, err := s.Store().Counts(t.Context()); err != nil || c.Queued != 0 {
		t.Errorf("%+v %v", c, err)
	}
	sound(t, s.Store())
}

// Of very much that waits what comes in leaves, too.
func TestLargeQueue(t *testing.T) {
	s := service(t, func(c *resolver.Config) { c.Limits = resolver.Limits{Queued: -1} })
	submit(t, s, seed.Bundle())
	var all []resolver.Submission
	for i := range 1001 {
		data, _ := correction(t, bob, fmt.Sprint(i))
		all = append(all, resolver.Submission{Data: data, From: "a mirror", Unlimited: true})
	}
	queued := func(subs []resolver.Submission, want int64) {
		t.Helper()
		if _, err := s.SubmitAll(t.Context(), subs); err != nil {
			t.Fatal(err)
		}
		if c, err := s.Store().Counts(t.Context()); err != nil || c.Queued != want {
			t.Errorf("%+v %v, want %d that wait", c, err, want)
		}
	}
	queued(all, 1001)
	for i := range all {
		all[i].Trust = trusting(t, ada, bob)
	}
	queued(all[:20], 981) // from more than are listed
	queued(all[20:40], 961)
	queued(all[40:41], 960)
}

// What comes in otherwise leaves the queue, and nobody changes why something waits.
func TestLeavesTheQueue(t *testing.T) {
	ctx := t.Context()
	s := service(t)
	submit(t, s, seed.Bundle())
	large, _, err := pith.Append(seed.Bundle(), bob, day, pith.Draft{Type: pith.TypeCorrection, Target: "record", CreatedAt: day, Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"x"}`)})
	for i := 0; err == nil && len(large) <= resolver.MaxQueued; i++ {
		large, _, err = pith.Append(large, bob, day, pith.Draft{Type: pith.TypeCorrection, Target: "record", CreatedAt: day, Payload: json.RawMessage(fmt.Sprintf(`{"schema":"correction/1","kind":"erratum","text":"%08000d"}`, i))})
	}
	if err != nil {
		t.Fatal(err)
	}
	named := resolver.Submission{Data: large, From: "a mirror", Unlimited: true}
	if _, err := s.Submit(ctx, named); err == nil {
		t.Fatal("it is in")
	}
	small, _ := correction(t, bob, "x") // a part of it comes in, so that something else is missing
	if _, err := s.Accept(ctx, refused(t, s, small, resolver.Queued, "trust_key").ID); err != nil {
		t.Fatal(err)
	}
	refused(t, s, large, resolver.Refused, resolver.CodeSize)
	held, err := s.Store().Held(ctx, resolver.Queued, 0, 9)
	if err != nil || len(held) != 1 || held[0].Code != "trust_key" {
		t.Fatalf("%+v %v", held, err)
	}
	named.Trust = trusting(t, ada, bob)
	if _, err := s.Submit(ctx, named); err != nil {
		t.Fatal(err)
	}
	if h, err := s.Store().HeldByID(ctx, held[0].ID); err != nil || h.Status != resolver.Accepted || h.Code != resolver.CodeCameIn {
		t.Errorf("held as %s because of %s, %v", h.Status, h.Code, err)
	}

	// Copies of what is here are nothing that could wait.
	before, _ := served(t, s)
	_, data := served(t, s)
	s2 := service(t, func(c *resolver.Config) {
		c.Store = s.Store()
		c.Trust = pith.TrustFor(keyOf("carol").Public(), []string{"*"}, true)
	})
	submit(t, s2, repacked(t, data, `"signed_at":"2026-06-01T12:00:00.000000Z"`, `"signed_at":"2000-06-01T12:00:00.000000Z"`))
	if after, _ := served(t, s); after.Revision != before.Revision {
		t.Error("a copy came in that nobody trusts")
	}
}

// Who kept something out may think again, also of a document about keys.
func TestAfterAll(t *testing.T) {
	s := service(t)
	submit(t, s, seed.Bundle())
	rotation, err := pith.Rotate(ada, keyNamed(t, "ada", "new"), day, day, day.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	spam, _ := correction(t, bob, "no spam")
	for want, data := range map[string][]byte{resolver.CodeKeyDocument: rotation, resolver.CodeAfterAll: spam} {
		_, err := s.Submit(t.Context(), resolver.Submission{Data: data, From: "test"})
		var r *resolver.Refusal
		if !errors.As(err, &r) {
			t.Fatal(err)
		}
		if err := s.Reject(t.Context(), r.ID, "not sure"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Accept(t.Context(), r.ID); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if h, err := s.Store().HeldByID(t.Context(), r.ID); err != nil || h.Status != resolver.Accepted || h.Code != want {
			t.Errorf("held as %s because of %s, %v", h.Status, h.Code, err)
		}
		if _, err := s.Accept(t.Context(), r.ID); !errors.Is(err, resolver.ErrNotFound) {
			t.Errorf("accepted twice: %v", err)
		}
	}
	sound(t, s.Store())
}

// A stranger's event keeps a bundle waiting, but not what others signed in it, and
// nobody waits for the word of whoever put a bundle together when all of it is here.
func TestTrustedPartOfABundle(t *testing.T) {
	for _, unknown := range []resolver.Status{resolver.Queued, resolver.Refused} {
		s := service(t, func(c *resolver.Config) { c.Unknown = unknown })
		strangers, _ := correction(t, bob, "spam?")
		both, added, err := pith.Append(strangers, ada, day.Add(time.Hour), pith.Draft{Type: pith.TypeCorrection, Target: "record", CreatedAt: day,
			Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"mine"}`)})
		if err != nil {
			t.Fatal(err)
		}
		submit(t, s, seed.Bundle())
		if r := refused(t, s, both, unknown, "trust_key"); !strings.HasSuffix(r.Detail, "; of its 4 events 3 are here") {
			t.Errorf("told: %s", r.Detail)
		}
		rec, data := served(t, s)
		if got := pith.Verify(data, trusting(t, ada, mirror)); rec.EventCount != 3 || got.Verdict() != pith.Valid {
			t.Errorf("%s: %d events, %v %v", unknown, rec.EventCount, got.Verdict(), got.Failures())
		}
		if e, err := s.Store().Event(t.Context(), added[0]); err != nil || e.Seq != 2 {
			t.Errorf("%s: the event of whom the policy trusts: %+v %v", unknown, e, err)
		}
		// Again it brings nothing, and waits as before.
		if r := refused(t, s, both, unknown, "trust_key"); !strings.HasSuffix(r.Detail, "; of its 4 events 3 are here") {
			t.Errorf("told again: %s", r.Detail)
		}
		if again, _ := served(t, s); again.Revision != rec.Revision {
			t.Error("what comes again changes the record")
		}

		mine, _ := correction(t, ada, "another")
		merged, err := pith.Merge(data, mine)
		if err != nil {
			t.Fatal(err)
		}
		packed, err := pith.Sign(merged, bob, day.Add(2*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if r := submit(t, s, packed); r.New != 1 || len(r.Events) != 4 {
			t.Errorf("%s: put together by a stranger: %+v", unknown, r)
		}
		if unknown == resolver.Queued {
			held, err := s.Store().Held(t.Context(), resolver.Queued, 0, 10)
			if err != nil || len(held) != 1 {
				t.Fatalf("%+v %v", held, err)
			}
			if r, err := s.Accept(t.Context(), held[0].ID); err != nil || r.New != 1 {
				t.Errorf("accepted: %+v %v", r, err)
			}
		}
	}
}

// The same of a record that is not here yet: it begins with what the policy trusts, is
// found by its names, and becomes what the others have when their bundle comes.
func TestTrustedPartOfANewRecord(t *testing.T) {
	ctx := t.Context()
	strangers, _ := correction(t, bob, "spam?")
	stranger, err := pith.Sign(seed.Bundle(), bob, day)
	if err != nil {
		t.Fatal(err)
	}
	for name, bundle := range map[string][]byte{"a stranger's event": strangers, "packed by a stranger": stranger} {
		s := service(t)
		r := refused(t, s, bundle, resolver.Queued, "trust_key")
		if !strings.Contains(r.Detail, "; of its ") || !strings.HasSuffix(r.Detail, " events 2 are here") {
			t.Errorf("%s: told: %s", name, r.Detail)
		}
		rec, data := served(t, s)
		if got := pith.Verify(data, trusting(t, mirror)); rec.EventCount != 2 || !rec.United || got.Verdict() != pith.Valid || len(got.Signers) != 2 {
			t.Errorf("%s: %+v, %v %v", name, rec, got.Verdict(), got.Failures())
		}
		for _, has := range []string{"alias_value", "bundle_url", "well_known"} {
			if bytes.Contains(data, []byte(has)) {
				t.Errorf("%s: it has %s, which nobody trusted said", name, has)
			}
		}
		for _, a := range [][2]string{{"arxiv", "1805.07898"}, {"arxiv_version", "1805.07898v3"}, {"doi", "10.48550/arxiv.1805.07898"}} {
			if found, err := s.Store().ByAlias(ctx, a[0], a[1], 9); err != nil || len(found) != 1 {
				t.Errorf("%s: %s leads to %v %v", name, a, found, err)
			}
		}
		if err := resolver.Fsck(ctx, s.Store(), func(p resolver.Problem) { t.Error(name, p) }, nil); err != nil {
			t.Error(err)
		}

		// With what others have it is what others have.
		submit(t, s, seed.Bundle())
		_, data = served(t, s)
		got, err := pith.State(data)
		want, err2 := pith.State(seed.Bundle())
		if err != nil || err2 != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the state is\n%s\n%s %v %v", name, got, want, err, err2)
		}
	}

	// A row of when names were those that the bundle gives is sound; others are not.
	old := service(t)
	refused(t, old, strangers, resolver.Queued, "trust_key")
	for i, aliases := range [][]resolver.Alias{nil, {{Kind: "arxiv", Value: "1805.07898"}}} {
		rec, packed, err := old.Store().Bundle(ctx, suffix)
		if err != nil {
			t.Fatal(err)
		}
		rec.Aliases = aliases
		if _, err := old.Store().Commit(ctx, []resolver.Update{{Record: rec, Base: rec.Revision, Bundle: packed}}); err != nil {
			t.Fatal(err)
		}
		found := 0
		if err := resolver.Fsck(ctx, old.Store(), func(resolver.Problem) { found++ }, nil); err != nil || (found > 0) != (i > 0) {
			t.Errorf("%v: %d problems, %v", aliases, found, err)
		}
	}

	// Who is trusted to put bundles together is believed, but for what strangers said.
	friend, err := pith.Sign(strangers, ada, day)
	if err != nil {
		t.Fatal(err)
	}
	for _, before := range [][]byte{nil, stranger} {
		s := service(t)
		if before != nil {
			refused(t, s, before, resolver.Queued, "trust_key")
		}
		refused(t, s, friend, resolver.Queued, "trust_key")
		rec, data := served(t, s)
		got, err := pith.State(data)
		want, err2 := pith.State(seed.Bundle())
		if err != nil || err2 != nil || !bytes.Equal(got, want) || rec.EventCount != 2 || !bytes.Contains(data, []byte("bundle_url")) {
			t.Errorf("%d events, the state is\n%s\n%s %v %v", rec.EventCount, got, want, err, err2)
		}
		revision := rec.Revision
		refused(t, s, friend, resolver.Queued, "trust_key")
		if rec, _ := served(t, s); rec.Revision != revision {
			t.Error("what comes again changes the record")
		}
	}

	// Of whom nobody trusts nothing comes in, whatever is beside it.
	s := service(t, func(c *resolver.Config) { c.Trust = pith.TrustFor(ada.Public(), []string{"*"}, true) }) // not who opened the record
	both, _ := correction(t, ada, "mine")
	if r := refused(t, s, both, resolver.Queued, "trust_key"); strings.Contains(r.Detail, "are here") {
		t.Errorf("told: %s", r.Detail)
	}
	if c, err := s.Store().Counts(ctx); err != nil || c.Records != 0 || c.Queued != 1 {
		t.Errorf("%+v %v", c, err)
	}
}

func TestRefusals(t *testing.T) {
	s := service(t)
	bundle := seed.Bundle()
	bad := bytes.Replace(bundle, []byte("SmoothOut: Smoothing"), []byte("SmoothOut: smoothing"), 1)
	for _, tt := range []struct {
		name string
		data []byte
		code string
	}{
		{"not JSON", []byte("{"), "json_truncated"},
		{"nothing", nil, "json_truncated"},
		{"another document", []byte("{}"), "bundle_type"},
		{"half an event", []byte(`{"event_type":"x"}`), "event_shape"},
		{"unknown document", []byte(`{"document_type":"x"}`), resolver.CodeKeyDocument},
		{"a changed event", bad, "event_digest"},
		{"too large", make([]byte, 5<<20), resolver.CodeSize},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.Submit(t.Context(), resolver.Submission{Data: tt.data, From: "test"})
			var r *resolver.Refusal
			if !errors.As(err, &r) || r.Status != resolver.Refused {
				t.Fatalf("got %v", err)
			}
			if r.Code != tt.code || strings.Contains(r.Detail, " :") {
				t.Errorf("code %s, want %s: %v", r.Code, tt.code, err)
			}
			h, err := s.Store().HeldByID(t.Context(), r.ID)
			if err != nil || h.Code != r.Code {
				t.Errorf("kept: %+v %v", h, err)
			}
		})
	}
	if c, _ := s.Store().Counts(t.Context()); c.Events != 0 || c.Records != 0 {
		t.Errorf("something got in: %+v", c)
	}
}

// A storm of one signer is refused and not kept, and others get through.
func TestLimits(t *testing.T) {
	s := service(t, func(c *resolver.Config) {
		c.Limits = resolver.Limits{PerSigner: 1, PerAddress: -1, Burst: 3}
	})
	submit(t, s, seed.Bundle())
	var limited *resolver.Refusal
	for i := range 4 {
		bundle, _ := correction(t, ada, strings.Repeat("x", i+1))
		_, err := s.Submit(t.Context(), resolver.Submission{Data: bundle, From: "1"})
		if i == 3 && !errors.As(err, &limited) || i < 3 && err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
	}
	if limited.Code != resolver.CodeRateSigner || limited.ID != 0 || limited.Retry <= 0 {
		t.Errorf("%+v", limited)
	}
	bundle, _ := correction(t, bob, "y")
	refused(t, s, bundle, resolver.Queued, "trust_key") // another signer's bucket is full
	both, _, err := pith.Append(bundle, ada, day, pith.Draft{Type: pith.TypeCorrection, Target: "record", CreatedAt: day, Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"z"}`)})
	if err != nil {
		t.Fatal(err)
	}
	if r := refused(t, s, both, resolver.Queued, "trust_key"); r.Retry <= 0 || !strings.HasSuffix(r.Detail, "; of its 4 events 2 are here") { // what is trusted in it may come later
		t.Errorf("%+v", r)
	}
}

// However submissions arrive, the state is the same, and the order is dense.
func TestManyAtOnce(t *testing.T) {
	s := service(t, func(c *resolver.Config) { c.Limits = resolver.Limits{PerSigner: -1, PerAddress: -1} })
	var all [][]byte
	for i := range 12 {
		bundle, _ := correction(t, ada, strings.Repeat("x", i+1))
		all = append(all, bundle)
	}
	var group sync.WaitGroup
	for _, data := range all {
		group.Go(func() {
			if _, err := s.Submit(context.Background(), resolver.Submission{Data: data, From: "test"}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	_, data := served(t, s)
	want, err := pith.Merge(all...)
	if err != nil {
		t.Fatal(err)
	}
	wantState, _ := pith.State(want)
	if got, _ := pith.State(data); !bytes.Equal(got, wantState) {
		t.Error("another state than the union's")
	}
	events, err := s.Store().EventsFrom(t.Context(), 0, 100)
	if err != nil || len(events) != 14 {
		t.Errorf("%d events, %v, want 14", len(events), err)
	}
}

// asking counts how often its store is asked for bundles.
type asking struct {
	resolver.Store
	asked int
}

func (a *asking) Bundles(ctx context.Context, suffixes []string) ([]resolver.Stored, error) {
	a.asked++
	return a.Store.Bundles(ctx, suffixes)
}

// While all that is loaded is new the store is not asked for it, and what is not new
// has the same fate as ever.
func TestAllNew(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	family, err := plain.NewFamily(seed.Bundle(), key)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := trusting(t, ada).Merge(pith.TrustFor(pith.PublicKey{
		Signer: pith.Signer{ID: "pith.science", Type: plain.SignerType, KeyID: "pith-v1-2026-05"}, Key: key.Public().(ed25519.PublicKey),
	}, []string{"*"}, true))
	if err != nil {
		t.Fatal(err)
	}
	store := &asking{Store: memstore.New()}
	s := service(t, func(c *resolver.Config) {
		c.Store, c.Trust, c.Limits = store, trust, resolver.Limits{PerSigner: 2, Burst: 2}
	})
	corrected, event := correction(t, ada, "x")
	_, later := correction(t, ada, "later")
	strange, _ := correction(t, bob, "y")
	record := func(i int) []byte { return family.Make(i) }
	loaded := func(data ...[]byte) (subs []resolver.Submission) {
		for _, d := range data {
			subs = append(subs, resolver.Submission{Data: d, From: "test", Unlimited: true})
		}
		return subs
	}
	refused := map[resolver.Status]int{resolver.Queued: -1, resolver.Refused: -2}
	all := func(subs []resolver.Submission) []resolver.Outcome {
		out, err := s.SubmitAll(t.Context(), subs)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	last := 1000
	fresh := func() (asked bool) { // one batch of new records
		before := store.asked
		last += 2
		all(loaded(record(last), record(last+1)))
		return store.asked > before
	}
	all(loaded(seed.Bundle(), record(1)))
	for _, step := range []struct {
		name  string
		subs  []resolver.Submission
		fates []int // new events, or the refusal
		asked bool
	}{
		{"all new", loaded(record(2), record(3)), []int{2, 2}, false},
		{"one is there", loaded(record(6), record(2)), []int{2, 0}, true},
		{"more of a record that is there", loaded(record(9), corrected), []int{2, 1}, true},
		{"an event of a record that is there", loaded(record(12), later), []int{2, 1}, true},
		{"no bundles", loaded(event, []byte("[]")), []int{0, -2}, true},
		{"of a stranger, and there", loaded(record(15), strange, record(1)), []int{2, -1, 0}, true},
		{"not JSON", loaded(record(18), record(19), []byte("{")), []int{2, 2, -2}, false},
		{"one record twice", loaded(record(20), record(21), record(20)), []int{2, 2, 0}, false},
		// All of a known bundle would count, if the store were not asked for it.
		{"under limits", []resolver.Submission{{Data: record(2), From: "test"}, {Data: record(3), From: "test"}}, []int{0, 0}, true},
	} {
		fresh()
		fresh()
		if fresh() {
			t.Errorf("before %s: the store was asked for what is new", step.name)
		}
		before := store.asked
		for i, o := range all(step.subs) {
			var fate int
			if r := new(resolver.Refusal); errors.As(o.Err, &r) {
				fate = refused[r.Status]
			} else {
				fate = o.Receipt.New
			}
			if fate != step.fates[i] {
				t.Errorf("%s: submission %d: %d, want %d (%v)", step.name, i, fate, step.fates[i], o.Err)
			}
		}
		if asked := store.asked > before; asked != step.asked {
			t.Errorf("%s: the store was asked: %v", step.name, asked)
		}
	}
	packed, err := pith.Sign(record(800), bob, day)
	if err != nil {
		t.Fatal(err)
	}
	for _, subs := range [][]resolver.Submission{loaded(record(900), record(2)), loaded(record(901), packed)} { // to try in vain costs twice
		all(subs)
		if first, second, third := fresh(), fresh(), fresh(); !first || !second || third {
			t.Errorf("after what was there the store was asked: %v, %v, %v", first, second, third)
		}
	}
}

func TestKeyDocumentsWait(t *testing.T) {
	s := service(t)
	submit(t, s, seed.Bundle())
	rotation, err := pith.Rotate(ada, keyNamed(t, "ada", "new"), day, day, day.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	r := refused(t, s, rotation, resolver.Queued, resolver.CodeKeyDocument)
	if _, err := s.Accept(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	bundle, _ := correction(t, keyNamed(t, "ada", "new"), "by the new key")
	submit(t, s, bundle)
	// Another service on the same store has the policy, too.
	again := service(t, func(c *resolver.Config) { c.Store = s.Store() })
	if again.Trust().String() != s.Trust().String() {
		t.Error("the accepted document was forgotten")
	}
	// It can be taken back, which every service learns; what came by it stays.
	if err := s.Reject(t.Context(), r.ID, "a thief made it"); err != nil {
		t.Fatal(err)
	}
	if err := again.LoadPolicy(t.Context()); err != nil {
		t.Fatal(err)
	}
	more, _ := correction(t, keyNamed(t, "ada", "new"), "by the new key once more")
	for _, s := range []*resolver.Service{s, again} {
		if s.Trust().String() != trusting(t, ada).String() {
			t.Errorf("the policy is not what it was before: %s", s.Trust())
		}
		refused(t, s, more, resolver.Queued, "trust_impersonation")
		submit(t, s, bundle)
		refused(t, s, rotation, resolver.Refused, resolver.CodeModerated)
	}
	if err := s.Reject(t.Context(), r.ID, "twice"); !errors.Is(err, resolver.ErrNotFound) {
		t.Errorf("taken back twice: %v", err)
	}
	declaration, _ := resolver.DeclareKey(bob, day)
	forged := bytes.Replace(declaration, []byte(`"signer_id":"bob"`), []byte(`"signer_id":"eve"`), 1)
	refused(t, s, forged, resolver.Refused, resolver.CodeKeyDocument)
}

func keyNamed(t *testing.T, id, seedText string) *pith.PrivateKey {
	t.Helper()
	key, err := pith.NewKey([]byte(strings.Repeat(seedText, 32))[:32], pith.Signer{ID: id, Type: "individual", KeyID: seedText})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestHTTP(t *testing.T) {
	s := service(t)
	server := &resolver.Server{Service: s, Moderator: "secret"}
	mux := http.NewServeMux()
	server.Routes(mux)
	do := func(method, path, token string, body []byte) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequest(method, path, bytes.NewReader(body))
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w
	}
	w := do("PUT", "/pith/"+suffix+"/bundle.json", "", seed.Bundle())
	if w.Code != http.StatusCreated {
		t.Fatalf("put: %d %s", w.Code, w.Body)
	}
	receipt, err := resolver.VerifyReceipt(w.Body.Bytes(), s.PublicKey())
	if err != nil || len(receipt.Events) != 2 || receipt.New != 2 {
		t.Errorf("receipt %+v %v", receipt, err)
	}
	if _, err := resolver.VerifyReceipt(bytes.Replace(w.Body.Bytes(), []byte(`"seq":1`), []byte(`"seq":7`), 1), s.PublicKey()); err == nil {
		t.Error("a changed receipt is believed")
	}
	spam, _ := correction(t, bob, "spam?")
	for _, tt := range []struct {
		name, method, path, token string
		body                      []byte
		status                    int
	}{
		{"again", "POST", "/events", "", seed.Bundle(), 200},
		{"wrong address", "PUT", "/pith/AAAAAAAAAAAAAAAAAAAAAAAAAA/bundle.json", "", seed.Bundle(), 409},
		{"stranger", "POST", "/events", "", spam, 202},
		{"nonsense", "POST", "/events", "", []byte("x"), 422},
		{"too large", "POST", "/events", "", make([]byte, 5<<20), 413},
		{"no token", "GET", "/moderation", "", nil, 401},
		{"wrong token", "GET", "/moderation", "guess", nil, 401},
		{"list", "GET", "/moderation", "secret", nil, 200},
		{"no status", "GET", "/moderation?status=pending", "secret", nil, 400},
		{"show", "GET", "/moderation/1", "secret", nil, 200},
		{"absent", "GET", "/moderation/99", "secret", nil, 404},
		{"accept", "POST", "/moderation/1/accept", "secret", nil, 200},
		{"accept twice", "POST", "/moderation/1/accept", "secret", nil, 409},
	} {
		if w := do(tt.method, tt.path, tt.token, tt.body); w.Code != tt.status {
			t.Errorf("%s: %d %s, want %d", tt.name, w.Code, w.Body, tt.status)
		}
	}
	before, _ := s.Store().Counts(t.Context())
	r := httptest.NewRequest("POST", "/events", bytes.NewReader(resolver.Gzip(seed.Bundle())))
	r.Header.Set("Content-Encoding", "gzip")
	w = httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	if after, _ := s.Store().Counts(t.Context()); w.Code != 415 || w.Header().Get("Accept-Encoding") != "identity" || after.Refused != before.Refused {
		t.Errorf("compressed: %d %s, %d kept", w.Code, w.Body, after.Refused-before.Refused)
	}
	closed := &resolver.Server{Service: s}
	mux = http.NewServeMux()
	closed.Routes(mux)
	if w := do("GET", "/moderation", "", nil); w.Code != 401 {
		t.Errorf("moderation without a token is open: %d", w.Code)
	}
}

func TestGunzipRefuses(t *testing.T) {
	packed := resolver.Gzip([]byte(strings.Repeat("a bundle ", 100)))
	if data, err := resolver.Gunzip(packed); err != nil || len(data) != 900 {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "a text": []byte("x"), "half a header": {0x1f, 0x8b, 8, 0}, "cut off": packed[:len(packed)-1],
		"something behind it": append(bytes.Clone(packed), 'x'), "more than a document": resolver.Gzip(make([]byte, pith.MaxSize+1)),
	} {
		if data, err := resolver.Gunzip(bad); err == nil || data != nil {
			t.Errorf("%s was unpacked to %d bytes", name, len(data))
		}
	}
}
