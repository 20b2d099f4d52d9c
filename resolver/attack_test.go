package resolver_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
)

// stuffed is the seed's bundle with more events, whatever they are, put together
// by key.
func stuffed(t *testing.T, key *pith.PrivateKey, events ...[]byte) []byte {
	t.Helper()
	bundle := seed.Bundle()
	var err error
	for _, e := range events {
		if bundle, err = pith.Adopt(bundle, [][]byte{e}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if bundle, err = pith.Sign(bundle, key, day); err != nil {
		t.Fatal(err)
	}
	return bundle
}

// send submits as somebody at an address.
func send(t *testing.T, s *resolver.Service, from string, data []byte) error {
	t.Helper()
	_, err := s.Submit(t.Context(), resolver.Submission{Data: data, From: from})
	return err
}

// TestNobodySilencesASigner: neither forgeries in a signer's name nor what the
// signer signed, sent by others and turned away, count against the signer.
func TestNobodySilencesASigner(t *testing.T) {
	genuine, event := correction(t, ada, "XX")
	var forged, real [][]byte
	for i := range 60 {
		forged = append(forged, bytes.Replace(event, []byte("XX"), fmt.Appendf(nil, "%02d", i), 1))
		_, e := correction(t, ada, fmt.Sprint("real ", i))
		real = append(real, e)
	}
	_, strangers := correction(t, bob, "bob's own")
	for name, evil := range map[string][]byte{
		"forged":             stuffed(t, bob, forged...),
		"real, with another": stuffed(t, bob, append(real, strangers)...),
	} {
		for _, unknown := range []resolver.Status{resolver.Queued, resolver.Accepted} {
			if name != "forged" && unknown == resolver.Accepted {
				continue // they come in, and once
			}
			t.Run(name+" "+string(unknown), func(t *testing.T) {
				s := service(t, func(c *resolver.Config) { c.Unknown = unknown })
				submit(t, s, seed.Bundle())
				for range 3 {
					_ = send(t, s, "198.51.100.1", evil) // whatever becomes of it
				}
				if err := send(t, s, "203.0.113.1", genuine); err != nil {
					t.Errorf("the signer's own bundle: %v", err)
				}
			})
		}
	}
}

// TestLimitsTakeAllOrNothing: what one bucket refuses is not taken out of
// another.
func TestLimitsTakeAllOrNothing(t *testing.T) {
	carol := keyOf("carol")
	s := service(t, func(c *resolver.Config) {
		c.Trust = trusting(t, ada, bob, carol)
		c.Limits = resolver.Limits{PerSigner: 1, PerAddress: -1, Burst: 3}
	})
	submit(t, s, seed.Bundle())
	bundles := func(key *pith.PrivateKey, n int, text string) (out [][]byte) {
		for i := range n {
			b, _ := correction(t, key, fmt.Sprint(text, i))
			out = append(out, b)
		}
		return out
	}
	union := func(list ...[]byte) []byte {
		united, err := pith.Merge(list...)
		if err == nil {
			united, err = pith.Sign(united, carol, day)
		}
		if err != nil {
			t.Fatal(err)
		}
		return united
	}
	submit(t, s, union(bundles(ada, 3, "first ")...)) // ada's bucket is empty now
	for i := range 4 {
		mixed := union(append(bundles(ada, 1, fmt.Sprint("more ", i)), bundles(bob, 1, fmt.Sprint("more ", i))...)...)
		if err := send(t, s, "1", mixed); err == nil {
			t.Fatal("it is not refused")
		}
	}
	if err := send(t, s, "1", union(bundles(bob, 3, "own ")...)); err != nil {
		t.Errorf("bob's three events: %v", err)
	}
}

// TestFsckReadsAsInspectDoes: a sound database stays sound however strangers
// spell what is refused.
func TestFsckReadsAsInspectDoes(t *testing.T) {
	s := service(t)
	data := bytes.ReplaceAll(seed.Bundle(), []byte(suffix), []byte(`\u0043`+suffix[1:]))
	data = bytes.Replace(data, []byte("SmoothOut"), []byte("SmoothIn"), 1)
	if err := send(t, s, "x", data); err == nil {
		t.Fatal("it is let in")
	}
	sound(t, s.Store())
}

func sound(t *testing.T, s resolver.Store) {
	t.Helper()
	if err := resolver.Fsck(t.Context(), s, func(p resolver.Problem) { t.Errorf("fsck: %v", p) }, nil); err != nil {
		t.Error(err)
	}
}

// TestKeyDocumentsThatExcludeEachOther: two processes cannot let in both, the
// moderator is told why, and what does not fit keeps no mirror from starting.
func TestKeyDocumentsThatExcludeEachOther(t *testing.T) {
	store := service(t).Store()
	one := service(t, func(c *resolver.Config) { c.Store = store })
	two := service(t, func(c *resolver.Config) { c.Store = store })
	var ids []int64
	var documents [][]byte
	for i, s := range []*resolver.Service{one, two} {
		d, err := pith.Rotate(ada, keyNamed(t, "ada", []string{"new", "oth"}[i]), day, day, day.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, d)
		ids = append(ids, refused(t, s, d, resolver.Queued, resolver.CodeKeyDocument).ID)
	}
	if _, err := one.Accept(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	var r *resolver.Refusal
	if _, err := two.Accept(t.Context(), ids[1]); !errors.As(err, &r) || r.Code != resolver.CodeKeyDocument {
		t.Errorf("the second one: %v", err)
	}
	service(t, func(c *resolver.Config) { c.Store = store })
	sound(t, store)

	// What an operator's new trust file contradicts, here the name of the old key, is
	// left out.
	other, err := pith.ParseTrust(bytes.Replace(trusting(t, ada).JSON(), []byte(`"signer_id":"`+ada.Public().Signer.ID), []byte(`"signer_id":"not `+ada.Public().Signer.ID), 1))
	if err != nil {
		t.Fatal(err)
	}
	if document, err := pith.ParseTrust(documents[0]); err != nil {
		t.Fatal(err)
	} else if _, err := other.Merge(document); err == nil {
		t.Fatal("the file does not contradict the document")
	}
	late := service(t, func(c *resolver.Config) {
		c.Store = store
		c.Trust = other
	})
	if err := late.LoadPolicy(t.Context()); err != nil {
		t.Error(err)
	}

	// Sent again, the accepted one does not wait.
	if err := send(t, one, "test", documents[0]); err != nil {
		t.Errorf("the accepted document again: %v", err)
	}
}

// TestPolicyIsThatOfModerators: a document that is taken out of the policy, or put
// into it, behind the back of moderators, is found.
func TestPolicyIsThatOfModerators(t *testing.T) {
	s := service(t)
	revocation, err := pith.Revoke(ada, day, day, "lost")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Accept(t.Context(), refused(t, s, revocation, resolver.Queued, resolver.CodeKeyDocument).ID); err != nil {
		t.Fatal(err)
	}
	sound(t, s.Store())
	set := func(document, value []byte) {
		if err := s.Store().SetMeta(t.Context(), fmt.Sprintf("policy/key-document/%x", sha256.Sum256(document)), value); err != nil {
			t.Fatal(err)
		}
	}
	set(revocation, nil)
	eves := pith.TrustFor(keyOf("eve").Public(), []string{"*"}, true).JSON()
	set(eves, eves)
	var codes []string
	if err := resolver.Fsck(t.Context(), s.Store(), func(p resolver.Problem) { codes = append(codes, p.Code) }, nil); err != nil || fmt.Sprint(codes) != "[policy_missing policy_unknown]" {
		t.Errorf("found %v, %v", codes, err)
	}
}

// TestModeratorsDecideOnce: what one rejects while another lets it in is in, or
// out, and not both.
func TestModeratorsDecideOnce(t *testing.T) {
	s := service(t)
	submit(t, s, seed.Bundle())
	for i := range 8 {
		bundle, _ := correction(t, bob, fmt.Sprint("text ", i))
		id := refused(t, s, bundle, resolver.Queued, "trust_key").ID
		done := make(chan error)
		go func() { done <- s.Reject(t.Context(), id, "spam") }()
		receipt, accepted := s.Accept(t.Context(), id)
		rejected := <-done
		h, err := s.Store().HeldByID(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if (accepted == nil) == (rejected == nil) || (accepted == nil) != (h.Status == resolver.Accepted) || (accepted == nil) != (receipt != nil) {
			t.Errorf("accepted %v, rejected %v, now %s", accepted, rejected, h.Status)
		}
	}
}

// TestCitationThatBecomesValid: look-ups do not depend on the order of arrival.
func TestCitationThatBecomesValid(t *testing.T) {
	cite := func(relation string, supersedes ...string) pith.Draft {
		d, err := pith.NewDraft(pith.CitationSignature{Citing: pith.Work{Kind: "arxiv", ID: "2601.00001"}, Relation: relation}, day)
		if err != nil {
			t.Fatal(err)
		}
		d.Supersedes = supersedes
		return d
	}
	first, ids, err := pith.Append(seed.Bundle(), bob, day, cite("supports"))
	if err != nil {
		t.Fatal(err)
	}
	both, _, err := pith.Append(first, bob, day, cite("extends", ids...))
	if err != nil {
		t.Fatal(err)
	}
	var b struct{ Events []json.RawMessage }
	if err := json.Unmarshal(both, &b); err != nil {
		t.Fatal(err)
	}
	more, _ := correction(t, ada, "more")
	early := stuffed(t, bob, b.Events[len(b.Events)-1]) // invalid without the event that it supersedes
	for name, batches := range map[string][][][]byte{
		"one after the other": {{early}, {both}, {more}},
		"in one batch":        {{early, both}, {more}},
		"in order":            {{first}, {both}, {more}},
	} {
		t.Run(name, func(t *testing.T) {
			s := service(t, func(c *resolver.Config) { c.Unknown = resolver.Accepted })
			for _, batch := range batches {
				var subs []resolver.Submission
				for _, data := range batch {
					subs = append(subs, resolver.Submission{Data: data, From: "x"})
				}
				outcomes, err := s.SubmitAll(t.Context(), subs)
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range outcomes {
					if o.Err != nil {
						t.Fatal(o.Err)
					}
				}
			}
			cites, err := s.Store().Citations(t.Context(), "arxiv", "2601.00001", 10)
			if err != nil || len(cites) != 2 || cites[0].Relation == cites[1].Relation {
				t.Errorf("%+v %v, want both citations once", cites, err)
			}
			sound(t, s.Store())
		})
	}
}

// TestQueueIsSmall: what strangers queue takes little room, however much they send.
func TestQueueIsSmall(t *testing.T) {
	s := service(t)
	submit(t, s, seed.Bundle())
	large, _, err := pith.Append(seed.Bundle(), bob, day, pith.Draft{Type: "some_type", Target: "record", CreatedAt: day, Payload: json.RawMessage(`{"x":"` + strings.Repeat("x", resolver.MaxQueued) + `"}`)})
	if err != nil {
		t.Fatal(err)
	}
	small, _ := correction(t, bob, strings.Repeat("x", 1000))
	r := refused(t, s, large, resolver.Refused, resolver.CodeSize)
	if h, err := s.Store().HeldByID(t.Context(), r.ID); err != nil || !h.Truncated || h.Status != resolver.Refused {
		t.Errorf("it is kept as %s, truncated %t, %v", h.Status, h.Truncated, err)
	}
	refused(t, s, small, resolver.Queued, "trust_key")
	// A mirror that the operator named is no stranger.
	_, err = s.Submit(t.Context(), resolver.Submission{Data: large, From: "mirror", Unlimited: true})
	if errors.As(err, &r); r.Status != resolver.Queued {
		t.Errorf("from a mirror: %v", err)
	}
	sound(t, s.Store())
}

// askedCitations counts the rows of citations that were read.
type askedCitations struct {
	resolver.Store
	rows int
}

func (a *askedCitations) Citations(ctx context.Context, kind, id string, limit int) ([]resolver.Citation, error) {
	rows, err := a.Store.Citations(ctx, kind, id, limit)
	a.rows += len(rows)
	return rows, err
}

// TestManyCitationsByOneWork: who fills a record with citations that become valid
// later does not make each event about it cost the square of their number.
func TestManyCitationsByOneWork(t *testing.T) {
	const n = 40
	cite := func(statement string, supersedes ...string) pith.Draft {
		d, err := pith.NewDraft(pith.CitationSignature{Citing: pith.Work{Kind: "arxiv", ID: "2601.00001"}, Relation: "supports", Statement: statement}, day)
		if err != nil {
			t.Fatal(err)
		}
		d.Supersedes = supersedes
		return d
	}
	first, ids, err := pith.Append(seed.Bundle(), bob, day, cite("first"))
	if err != nil {
		t.Fatal(err)
	}
	var drafts []pith.Draft
	for i := range n {
		drafts = append(drafts, cite(fmt.Sprint(i), ids...))
	}
	all, _, err := pith.Append(first, bob, day, drafts...)
	if err != nil {
		t.Fatal(err)
	}
	var b struct{ Events []json.RawMessage }
	if err := json.Unmarshal(all, &b); err != nil {
		t.Fatal(err)
	}
	var early [][]byte
	for _, e := range b.Events[len(b.Events)-n:] {
		early = append(early, e)
	}
	store := &askedCitations{Store: service(t).Store()}
	s := service(t, func(c *resolver.Config) { c.Store, c.Unknown = store, resolver.Accepted })
	more, _ := correction(t, ada, "more")
	for _, data := range [][]byte{stuffed(t, bob, early...), first, more} {
		submit(t, s, data)
	}
	if store.rows > 2*n {
		t.Errorf("%d rows were read for one event", store.rows)
	}
	sound(t, store)
	if store.rows > 4*n {
		t.Errorf("%d rows were read by fsck", store.rows)
	}
}

// TestAnotherCopyChangesNothing: the same event under another signature of its
// author leaves the record as it is, and its receipt names the copy that stays.
func TestAnotherCopyChangesNothing(t *testing.T) {
	now := day.Add(time.Hour)
	s := service(t, func(c *resolver.Config) {
		c.Now = func() time.Time { now = now.Add(time.Minute); return now }
	})
	bundle, _ := correction(t, ada, "x")
	later, _, err := pith.Append(seed.Bundle(), ada, day.Add(time.Minute), pith.Draft{
		Type: pith.TypeCorrection, Target: "record", CreatedAt: day,
		Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"x"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	var b struct{ Events []json.RawMessage }
	if err := json.Unmarshal(later, &b); err != nil {
		t.Fatal(err)
	}
	submit(t, s, bundle)
	rest := []struct {
		data   []byte
		events int
	}{{b.Events[len(b.Events)-1], 1}, {b.Events[len(b.Events)-1], 1}, {later, 3}, {later, 3}}
	var revision int64
	for i, again := range rest {
		r := submit(t, s, again.data)
		if len(r.Events) != again.events {
			t.Errorf("submission %d: the receipt names %d events, want %d", i, len(r.Events), again.events)
		}
		if i > 0 && r.Revision != revision {
			t.Errorf("submission %d: revision %d after %d", i, r.Revision, revision)
		}
		revision = r.Revision
	}
	sound(t, s.Store())
}

// TestCopiesAmongStrangers: nor does a copy that comes with what a stranger signed.
func TestCopiesAmongStrangers(t *testing.T) {
	now := day.Add(time.Hour)
	s := service(t, func(c *resolver.Config) {
		c.Now = func() time.Time { now = now.Add(time.Minute); return now }
	})
	mine, _ := correction(t, ada, "x")
	before := submit(t, s, mine)
	strangers, _ := correction(t, bob, "y")
	both, _, err := pith.Append(strangers, ada, day.Add(time.Minute), pith.Draft{
		Type: pith.TypeCorrection, Target: "record", CreatedAt: day,
		Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"x"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	refused(t, s, both, resolver.Queued, "trust_key")
	if after, _ := served(t, s); after.Revision != before.Revision {
		t.Errorf("revision %d after %d", after.Revision, before.Revision)
	}
}

// TestStuffedKeys: what a stranger writes beside the keys of others does not come in
// with what those signed.
func TestStuffedKeys(t *testing.T) {
	s := service(t)
	submit(t, s, seed.Bundle())
	mine, _ := correction(t, ada, "x")
	bundle, err := pith.Merge(mine)
	if err != nil {
		t.Fatal(err)
	}
	bundle = bytes.ReplaceAll(bundle, []byte(`{"algorithm":"ed25519","fingerprint`), []byte(`{"aaa":"spam","algorithm":"ed25519","fingerprint`))
	if bundle, err = pith.Sign(bundle, bob, day); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(bundle, []byte("spam")); n < 2 {
		t.Fatalf("%d keys are stuffed", n)
	}
	if r := submit(t, s, bundle); r.New != 1 {
		t.Errorf("the receipt says %+v", r)
	}
	if _, data := served(t, s); bytes.Contains(data, []byte("spam")) {
		t.Error("it has come in")
	}
	sound(t, s.Store())
}

// repacked is a bundle after an edit, signed by bob, whom nobody trusts.
func repacked(t *testing.T, bundle []byte, from, to string) []byte {
	t.Helper()
	merged, err := pith.Merge(bundle)
	if err != nil {
		t.Fatal(err)
	}
	edited := bytes.Replace(merged, []byte(from), []byte(to), 1)
	if bytes.Equal(edited, merged) {
		t.Fatalf("there is no %s", from)
	}
	if edited, err = pith.Sign(edited, bob, day); err != nil {
		t.Fatal(err)
	}
	return edited
}

// TestNothingOfWhoPackedIt: a record that begins with what others signed has no word of
// the stranger who brought it, not even the label of a key, nor the keys of strangers.
func TestNothingOfWhoPackedIt(t *testing.T) {
	const label = `"key_id":"pith-v1-2026-05","notes"`
	s := service(t)
	refused(t, s, repacked(t, seed.Bundle(), label, `"key_id":"!spam","notes"`), resolver.Queued, "trust_key")
	for range 2 {
		rec, data := served(t, s)
		if rec.EventCount != 2 || bytes.Contains(data, []byte("spam")) || bytes.Contains(data, []byte(bob.Public().Fingerprint())) {
			t.Errorf("%d events: %s", rec.EventCount, data)
		}
		sound(t, s.Store())
		submit(t, s, seed.Bundle())
	}
	if keys, err := s.Store().Keys(t.Context(), "", 9); err != nil || len(keys) > 2 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

// TestFoldedMembers: a member that a lax reader would take for the events is none, and
// does not keep others of its batch out.
func TestFoldedMembers(t *testing.T) {
	for _, member := range []string{`"event\u017f":1`, `"EVENTS":1`, `"Events":{}`, `"CANONICAL_RECORD":7`} {
		for _, here := range []bool{false, true} {
			s := service(t)
			if here {
				submit(t, s, seed.Bundle())
			}
			mine, _ := correction(t, ada, "mine")
			strange := repacked(t, mine, `{"built_at"`, `{`+member+`,"built_at"`)
			out, err := s.SubmitAll(t.Context(), []resolver.Submission{{Data: strange, Unlimited: true}, {Data: seed.Bundle(), Unlimited: true}})
			if err != nil || out[1].Err != nil {
				t.Fatalf("%s: %v %v", member, err, out)
			}
			if rec, data := served(t, s); rec.EventCount != 3 || bytes.Contains(data, []byte(member)) {
				t.Errorf("%s: %d events", member, rec.EventCount)
			}
		}
	}
}

// TestPackersComeBack: a stranger who is first does not take its own signer's signature
// off a record.
func TestPackersComeBack(t *testing.T) {
	s := service(t)
	stranger, err := pith.Sign(seed.Bundle(), bob, day)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, s, stranger, resolver.Queued, "trust_key")
	submit(t, s, seed.Bundle())
	rec, data := served(t, s)
	if r := pith.Verify(data, nil); r.Verdict() != pith.Valid || rec.United {
		t.Errorf("readers get what is %v: %v", r.Verdict(), r.Failures())
	}
	submit(t, s, stranger) // it brings nothing
	// Who lets strangers in does not put a stranger's signature in the place of its own.
	open := service(t, func(c *resolver.Config) { c.Unknown = resolver.Accepted })
	submit(t, open, stranger)
	mine, _ := correction(t, ada, "mine")
	submit(t, open, mine)
	spam, _, err := pith.Append(mine, bob, day, pith.Draft{Type: pith.TypeCorrection, Target: "record", CreatedAt: day, Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"spam"}`)})
	if err != nil {
		t.Fatal(err)
	}
	submit(t, open, spam)
	if rec, _ := served(t, open); !rec.United || rec.EventCount != 4 {
		t.Errorf("%+v", rec)
	}
	if now, _ := served(t, s); now.Revision != rec.Revision {
		t.Error("and comes first again")
	}
	sound(t, s.Store())
}

// TestReplacedAmongStrangers: an event that replaces one that nobody trusts waits with
// it, and keeps nothing else out.
func TestReplacedAmongStrangers(t *testing.T) {
	draft := func(text string, at time.Time, supersedes ...string) pith.Draft {
		return pith.Draft{Type: pith.TypeCorrection, Target: "record", CreatedAt: at, Supersedes: supersedes, Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"` + text + `"}`)}
	}
	carol := keyOf("carol")
	bundle, ids, err := pith.Append(seed.Bundle(), ada, day, draft("before she was trusted", day.Add(-48*time.Hour)))
	for _, text := range []string{"better", "best"} {
		if err == nil {
			bundle, ids, err = pith.Append(bundle, ada, day, draft(text, day, ids[0]))
		}
	}
	if err == nil {
		bundle, _, err = pith.Append(bundle, carol, day, draft("carol's", day))
	}
	if err != nil {
		t.Fatal(err)
	}
	since, err := pith.TrustFor(ada.Public(), []string{"*"}, true).Within(day.Add(-time.Hour), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	trust, err := trusting(t, carol).Merge(since)
	if err != nil {
		t.Fatal(err)
	}
	for _, here := range []bool{false, true} {
		s := service(t, func(c *resolver.Config) { c.Trust = trust })
		if here {
			submit(t, s, seed.Bundle())
		}
		if r := refused(t, s, bundle, resolver.Queued, "trust_window"); !strings.HasSuffix(r.Detail, "; of its 6 events 3 are here") {
			t.Errorf("told: %s", r.Detail)
		}
		sound(t, s.Store())
	}
}

// TestForgedSigner: who is named by an event that is not valid has signed nothing, and
// the name takes no room.
func TestForgedSigner(t *testing.T) {
	s := service(t)
	_, event := correction(t, bob, "x")
	for _, claimed := range []string{"8d4b5ee74e4693bcd1df2446408b0d54", strings.Repeat("A", 1<<20)} {
		forged := bytes.ReplaceAll(event, []byte(bob.Public().Fingerprint()), []byte(claimed))
		bundle, err := pith.Adopt(seed.Bundle(), [][]byte{forged}, nil)
		if err == nil {
			bundle, err = pith.Sign(bundle, bob, day)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Submit(t.Context(), resolver.Submission{Data: bundle, From: "test"})
		var r *resolver.Refusal
		if !errors.As(err, &r) {
			t.Fatal(err)
		}
		if h, err := s.Store().HeldByID(t.Context(), r.ID); err != nil || h.Signer != "" {
			t.Errorf("held as signed by %.40q, %v", h.Signer, err)
		}
	}
}

// TestForgedKey: an event that is not valid brings no key, though a moderator lets it in.
func TestForgedKey(t *testing.T) {
	s := service(t)
	submit(t, s, seed.Bundle())
	carol := keyOf("carol").Public()
	entry, err := carol.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	_, event := correction(t, bob, "x")
	bundle, err := pith.Adopt(seed.Bundle(), [][]byte{bytes.ReplaceAll(event, []byte(bob.Public().Fingerprint()), []byte(carol.Fingerprint()))}, [][]byte{entry})
	if err == nil {
		bundle, err = pith.Sign(bundle, bob, day)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Submit(t.Context(), resolver.Submission{Data: bundle, From: "test"})
	var r *resolver.Refusal
	if !errors.As(err, &r) {
		t.Fatal(err)
	}
	if _, err := s.Accept(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	if rec, data := served(t, s); rec.EventCount != 3 || bytes.Contains(data, []byte(`"fingerprint_sha256_hex":"`+carol.Fingerprint())) {
		t.Errorf("%d events: %s", rec.EventCount, data)
	}
	sound(t, s.Store())
}

// TestCountedOnce: of a batch each new event counts for who brought it first.
func TestCountedOnce(t *testing.T) {
	s := service(t)
	a, _ := correction(t, bob, "a")
	b, _ := correction(t, bob, "b")
	mine, _ := correction(t, ada, "mine")
	var subs []resolver.Submission
	for _, data := range [][]byte{a, b, seed.Bundle(), mine} {
		subs = append(subs, resolver.Submission{Data: data, Unlimited: true})
	}
	out, err := s.SubmitAll(t.Context(), subs)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		fresh, here int
		refused     bool
	}{{2, 2, true}, {0, 2, true}, {0, 2, false}, {1, 3, false}} {
		if r := out[i].Receipt; r == nil || r.New != want.fresh || len(r.Events) != want.here || (out[i].Err != nil) != want.refused {
			t.Errorf("submission %d: %+v %v", i, r, out[i].Err)
		}
	}
}

// TestCopiesCostTheirSender: another copy of what is here, of which anybody can make
// thousands, is charged to who sends it and not to who signed it.
func TestCopiesCostTheirSender(t *testing.T) {
	s := service(t, func(c *resolver.Config) { c.Limits = resolver.Limits{PerSigner: 0.001, PerAddress: -1, Burst: 3} })
	submit(t, s, seed.Bundle())
	mine, _ := correction(t, ada, "x")
	submit(t, s, mine)
	changes := 0
	for i := range 9 {
		before, _ := served(t, s)
		_, _ = s.Submit(t.Context(), resolver.Submission{Data: repacked(t, mine, `"signed_at":"2026-06-01T12:00:00.000000Z"`, fmt.Sprintf(`"signed_at":"2000-06-01T12:00:0%d.000000Z"`, 9-i)), From: "bob"})
		if after, _ := served(t, s); after.Revision != before.Revision {
			changes++
		}
	}
	if changes > 3 {
		t.Errorf("copies changed it %d times", changes)
	}
	for _, text := range []string{"y", "z"} { // ada has two of three left
		more, _ := correction(t, ada, text)
		submit(t, s, more)
	}
}

// TestRoomToUniteNew: a new record of which only a part gets in takes room like others
// that are united.
func TestRoomToUniteNew(t *testing.T) {
	s := service(t)
	release := s.Unite()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	bundle, _ := correction(t, bob, "x")
	if _, err := s.Submit(ctx, resolver.Submission{Data: bundle, From: "test"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("beside all that is united it comes to %v", err)
	}
	release()
	refused(t, s, bundle, resolver.Queued, "trust_key")
	s.Unite()() // nothing was kept
}

// TestKeyInAPayload: a text that looks like the declaration of a key is none.
func TestKeyInAPayload(t *testing.T) {
	carol := keyOf("carol")
	s := service(t, func(c *resolver.Config) { c.Trust = trusting(t, ada, carol) })
	bundle, _, err := pith.Append(seed.Bundle(), ada, day, pith.Draft{
		Type: pith.TypeCorrection, Target: "record", CreatedAt: day,
		Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"x","fingerprint_sha256_hex":"` + carol.Public().Fingerprint() + `"}`),
	})
	if err != nil {
		t.Skip("payloads have no members of their own: ", err)
	}
	submit(t, s, bundle)
	declaration, err := resolver.DeclareKey(carol, day)
	if err != nil {
		t.Fatal(err)
	}
	submit(t, s, declaration)
	_, event := correction(t, carol, "by carol")
	submit(t, s, event)
}

// A slow request sends its body when it is told to.
type slow struct {
	parts chan []byte
	rest  []byte
	read  chan struct{} // closed when all that was sent so far is read
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		var ok bool
		if s.rest, ok = <-s.parts; !ok {
			return 0, io.EOF
		}
		if len(s.rest) == 0 {
			close(s.read)
			return 0, nil
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// TestBodiesAreBounded: who sends too often is told so before anything is read,
// and all that is being read together has a limit.
func TestBodiesAreBounded(t *testing.T) {
	at := func(c *resolver.Config) { c.Limits = resolver.Limits{PerAddress: 0.001, Burst: 1} }
	serve := func(s *resolver.Server, from string, body io.Reader) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/events", body)
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		mux := http.NewServeMux()
		s.Routes(mux)
		mux.ServeHTTP(w, r)
		return w
	}
	server := &resolver.Server{Service: service(t, at), Memory: 1 << 20}
	if w := serve(server, "192.0.2.1:1", strings.NewReader("nonsense")); w.Code != http.StatusUnprocessableEntity {
		t.Fatalf("first: %d", w.Code)
	}
	unread := &slow{parts: make(chan []byte)} // nothing ever comes
	if w := serve(server, "192.0.2.1:1", unread); w.Code != http.StatusTooManyRequests {
		t.Errorf("second: %d", w.Code)
	}
	big := &slow{parts: make(chan []byte), read: make(chan struct{})}
	done := make(chan int)
	go func() { done <- serve(server, "192.0.2.2:1", big).Code }()
	big.parts <- bytes.Repeat([]byte(" "), 700<<10)
	big.parts <- nil
	<-big.read
	w := serve(server, "192.0.2.3:1", strings.NewReader(strings.Repeat(" ", 700<<10)))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("one too many: %d %v", w.Code, w.Header())
	}
	close(big.parts)
	if code := <-done; code != http.StatusUnprocessableEntity {
		t.Errorf("the slow one: %d", code)
	}
	if w := serve(server, "192.0.2.4:1", strings.NewReader(strings.Repeat(" ", 700<<10))); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("when there is room again: %d", w.Code)
	}
}

// TestDeclaredKeysAreBounded: nobody fills a mirror with keys, and a known key
// can be declared as often as one likes.
func TestDeclaredKeysAreBounded(t *testing.T) {
	now := day.Add(time.Hour)
	s := service(t, func(c *resolver.Config) {
		c.Limits = resolver.Limits{PerAddress: 1e6, Burst: 5} // submissions themselves are free
		c.Now = func() time.Time { now = now.Add(time.Millisecond); return now }
	})
	declare := func(name, from string) error {
		d, err := resolver.DeclareKey(keyOf(name), day)
		if err != nil {
			t.Fatal(err)
		}
		return send(t, s, from, d)
	}
	for i := range 5 {
		if err := declare(fmt.Sprint("key", i), "192.0.2.1"); err != nil {
			t.Fatal(err)
		}
	}
	var r *resolver.Refusal
	if err := declare("key6", "192.0.2.1"); !errors.As(err, &r) || r.Code != resolver.CodeRateAddress || r.Retry <= 0 || !strings.Contains(r.Detail, "from 192.0.2.1") {
		t.Errorf("one too many: %v", err)
	}
	if err := declare("key0", "192.0.2.1"); err != nil {
		t.Errorf("a known one: %v", err)
	}
	if err := declare("other", "192.0.2.2"); !errors.As(err, &r) || !strings.Contains(r.Detail, "in all") {
		t.Errorf("more than all may: %v", err)
	}
	if c, err := s.Store().Counts(t.Context()); err != nil || c.Keys != 5 {
		t.Errorf("%+v %v", c, err)
	}
	// To declare keys again, so that they stay, is no cheaper than to declare them.
	now = now.Add(6 * 24 * time.Hour)
	for i := range 5 {
		if err := declare(fmt.Sprint("key", i%3), "192.0.2.3"); err != nil {
			t.Errorf("again: %v", err)
		}
	}
	for i := range 5 {
		err := declare(fmt.Sprint("key", i), "192.0.2.3")
		if i < 3 && err != nil {
			t.Errorf("a second time within a day: %v", err)
		}
		if i == 4 && err != nil {
			t.Errorf("the fifth of five: %v", err)
		}
	}
	if err := declare("key8", "192.0.2.3"); !errors.As(err, &r) || r.Code != resolver.CodeRateAddress {
		t.Errorf("after five again: %v", err)
	}
	now = now.Add(8 * 24 * time.Hour) // nothing came of them
	if err := declare("key7", "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Store().Counts(t.Context()); err != nil || c.Keys != 1 {
		t.Errorf("a week later: %+v %v", c, err)
	}
}

// TestSmallEventOfALargeRecord: what an event costs goes by the record that it is
// about, of which many are not united at once, however small the events are.
func TestSmallEventOfALargeRecord(t *testing.T) {
	s := service(t)
	submit(t, s, seed.Bundle())
	release := s.Unite()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	bundle, _ := correction(t, bob, "x")
	_, err := s.Submit(ctx, resolver.Submission{Data: bundle, From: "test"})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("beside all that is united it comes to %v", err)
	}
	// What is new has nothing to be united with, and waits for nobody who waits.
	var group sync.WaitGroup
	group.Go(func() { _, err = s.Submit(context.Background(), resolver.Submission{Data: bundle, From: "test"}) })
	for !s.Waiting() {
		time.Sleep(time.Millisecond)
	}
	another, failed := plain.Another(seed.Bundle(), ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), 0)
	if failed != nil {
		t.Fatal(failed)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var refusal *resolver.Refusal
	if _, failed := s.Submit(ctx, resolver.Submission{Data: another, From: "test"}); !errors.As(failed, &refusal) {
		t.Errorf("a new record beside what waits: %v", failed)
	}
	release()
	group.Wait()
	if !errors.As(err, &refusal) || refusal.Code != "trust_key" {
		t.Errorf("when there is room: %v", err)
	}
	s.Unite()() // nothing was kept
}
