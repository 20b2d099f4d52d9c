package resolver

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/openpith/evidence/pith"
)

// Fsck derives everything that a store holds again from its bundles: that they
// verify, that rows of records and events are what the bundles say, that
// look-ups find them, that keys and held submissions are whole. It reports what
// differs and changes nothing. What the mirror alone can know it cannot check: the
// times at which something arrived, whether it united a bundle itself, what a key's
// holder declared to be called, and why, from whom and as what a submission was held.
// progress may be nil.
func Fsck(ctx context.Context, s Store, report func(Problem), progress func(records int)) error {
	f := &fsck{ctx: ctx, store: s, out: report, documents: map[string]Status{}}
	if err := s.Check(ctx, f.report); err != nil {
		return err
	}
	const page = 256
	done := 0
	for after := ""; ; {
		records, err := s.Records(ctx, "", after, page)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			break
		}
		suffixes := make([]string, len(records))
		for i, r := range records {
			suffixes[i] = r.Suffix
		}
		stored, err := s.Bundles(ctx, suffixes)
		if err != nil {
			return err
		}
		if len(stored) != len(records) {
			f.problem("records after "+after, "bundle_missing", "%d records, %d bundles", len(records), len(stored))
		}
		if err := parallel(len(stored), func(i int) error { return f.record(stored[i]) }); err != nil {
			return err
		}
		after = records[len(records)-1].Suffix
		if done += len(records); progress != nil {
			progress(done)
		}
	}
	return cmp.Or(f.events(), f.keys(), f.held(), f.policy())
}

type fsck struct {
	ctx   context.Context
	store Store
	mu    sync.Mutex
	out   func(Problem)

	documents map[string]Status // key documents that wait or were accepted, by where the policy has them
}

func (f *fsck) report(p Problem) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.out(p)
}

func (f *fsck) problem(where, code, format string, args ...any) {
	f.report(Problem{Where: where, Code: code, Detail: fmt.Sprintf(format, args...)})
}

func (f *fsck) record(s Stored) error {
	where := "record " + s.Record.Suffix
	data, err := Gunzip(s.Bundle)
	if err != nil {
		f.problem(where, "bundle_damaged", "%v", err)
		return nil
	}
	result, contents := pith.Inspect(data, nil)
	if contents == nil {
		f.problem(where, "bundle_invalid", "%v", result.Failures()[0])
		return nil
	}
	if string(contents.Canonical) != string(data) {
		f.problem(where, "bundle_form", "the bundle is not in canonical form")
	}
	want := recordOf(result, contents, s.Record.United)
	want.Revision = s.Record.Revision
	if given := aliasesOf(contents); slices.Equal(s.Record.Aliases, given) {
		want.Aliases = given // a row of when names were those that the bundle gives
	}
	if differs := differing(s.Record, want); len(differs) > 0 {
		f.problem(where, "record_row", "%s", strings.Join(differs, "; "))
	}
	for _, a := range want.Aliases {
		folded := FoldAlias(a.Kind, a.Value)
		found, err := f.store.ByAlias(f.ctx, folded.Kind, folded.Value, 1<<20)
		if err != nil {
			return err
		}
		if !slices.Contains(found, want.Suffix) {
			f.problem(where, "alias_missing", "%s %s does not lead here", a.Kind, a.Value)
		}
	}
	for _, k := range contents.Keys {
		if _, err := f.store.Key(f.ctx, k.Fingerprint); errors.Is(err, ErrNotFound) {
			f.problem(where, "key_missing", "the key %s of the bundle is not declared", k.Fingerprint)
		} else if err != nil {
			return err
		}
	}
	return f.recordEvents(where, result, contents)
}

// differing tells in which members a row differs from what it should be.
func differing(got, want Record) (texts []string) {
	text := func(v reflect.Value) string {
		if t, ok := v.Interface().(time.Time); ok {
			return t.UTC().String()
		}
		text, err := json.Marshal(v.Interface())
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
	row, expected := reflect.ValueOf(got), reflect.ValueOf(want)
	for i := range row.NumField() {
		if a, b := text(row.Field(i)), text(expected.Field(i)); a != b {
			texts = append(texts, fmt.Sprintf("%s: the row says %s, the bundle %s", row.Type().Field(i).Name, a, b))
		}
	}
	return texts
}

// recordEvents compares the rows of events with the bundle.
func (f *fsck) recordEvents(where string, result *pith.Result, contents *pith.Contents) error {
	rows, err := f.store.RecordEvents(f.ctx, contents.Suffix)
	if err != nil {
		return err
	}
	bySum := map[Digest]Event{}
	for _, e := range rows {
		bySum[e.SHA256] = e
	}
	valid, cited := map[string]bool{}, map[Alias]map[Citation]bool{}
	for i := range result.History {
		st := &result.History[i]
		valid[st.EventID] = valid[st.EventID] || st.Invalid == ""
		e, ok := bySum[contents.Entries[i]]
		if !ok {
			f.problem(where, "event_missing", "the event %s of the bundle has no row", st.EventID)
			continue
		}
		delete(bySum, e.SHA256)
		want := eventOf(st, contents, i)
		if !mayBecome(e.Invalid, want.Invalid) {
			f.problem(where, "event_row", "event %d: the row says that it was %s when it came, it is %s", e.Seq, cmp.Or(e.Invalid, "valid"), cmp.Or(want.Invalid, "valid"))
		}
		want.Invalid, want.Seq, want.ReceivedAt = e.Invalid, e.Seq, e.ReceivedAt
		if want.CreatedAt, e.CreatedAt = want.CreatedAt.UTC(), e.CreatedAt.UTC(); e != want {
			f.problem(where, "event_row", "event %d: the row says %+v, the bundle %+v", e.Seq, e, want)
		}
		if c, ok := citationOf(st, contents.Suffix); ok {
			work := Alias{c.Kind, c.ID}
			if cited[work] == nil { // once: there may be thousands by one work
				rows, err := f.store.Citations(f.ctx, c.Kind, c.ID, 1<<20)
				if err != nil {
					return err
				}
				cited[work] = map[Citation]bool{}
				for _, row := range rows {
					cited[work][row] = true
				}
			}
			c.Seq = e.Seq
			if !cited[work][c] {
				f.problem(where, "citation_missing", "the citation %s has no row", c.EventID)
			}
		}
	}
	for _, e := range bySum { // another copy of an event that is there (spec §5.1)
		if !valid[e.ID] {
			f.problem(where, "event_lost", "the bundle lacks the event %d, %s", e.Seq, e.ID)
		}
	}
	return nil
}

// mayBecome reports whether an event that was not valid for a reason, "" for a valid
// one, when it came can be what it is now: its links depend on its neighbours, all
// else on the event alone, once its key is there.
func mayBecome(then, now string) bool {
	linked := []pith.Code{"", pith.CodeEventDuplicate, pith.CodeSupersedesTarget, pith.CodeSupersedesSigner, pith.CodePrevSigner, pith.CodeLinkCycle}
	return then == now || pith.Code(then) == pith.CodeSignatureKey || slices.Contains(linked, pith.Code(then)) && slices.Contains(linked, pith.Code(now))
}

// events asks whether the order of events is without gaps, and their number is
// the one that was counted.
func (f *fsck) events() error {
	next := int64(0)
	for {
		page, err := f.store.EventsFrom(f.ctx, next, 4096)
		if err != nil {
			return err
		}
		for _, e := range page {
			if e.Seq != next {
				f.problem(fmt.Sprintf("event %d", next), "event_gap", "the next event is %d", e.Seq)
			}
			next = e.Seq + 1
		}
		if len(page) == 0 {
			break
		}
	}
	counts, err := f.store.Counts(f.ctx)
	if err == nil && counts.Events != next {
		f.problem("counters", "counter", "%d events were counted, there are %d", counts.Events, next)
	}
	return err
}

func (f *fsck) keys() error {
	for after := ""; ; {
		keys, err := f.store.Keys(f.ctx, after, 256)
		if err != nil || len(keys) == 0 {
			return err
		}
		for _, k := range keys {
			key, canonical, err := pith.ReadKey(k.Entry)
			switch {
			case err != nil:
				f.problem("key "+k.Fingerprint, "key_damaged", "%v", err)
			case key.Fingerprint() != k.Fingerprint || string(canonical) != string(k.Entry):
				f.problem("key "+k.Fingerprint, "key_damaged", "the entry is of the key %s", key.Fingerprint())
			}
		}
		after = keys[len(keys)-1].Fingerprint
	}
}

func (f *fsck) held() error {
	for _, status := range []Status{Refused, Queued, Accepted, Rejected} {
		for after := int64(0); ; {
			held, err := f.store.Held(f.ctx, status, after, 64)
			if err != nil {
				return err
			}
			if len(held) == 0 {
				break
			}
			for _, h := range held {
				whole, err := f.store.HeldByID(f.ctx, h.ID)
				if errors.Is(err, ErrNotFound) {
					continue
				}
				if err != nil {
					return err
				}
				f.heldOne(whole)
			}
			after = held[len(held)-1].ID
		}
	}
	return nil
}

func (f *fsck) heldOne(h Held) {
	if h.Code == CodeKeyDocument && (h.Status == Queued || h.Status == Accepted) {
		f.documents[policyKey(h.Digest)] = h.Status
	}
	where := fmt.Sprintf("held submission %d", h.ID)
	data, err := Gunzip(h.Data)
	switch {
	case err != nil:
		f.problem(where, "held_damaged", "%v", err)
	case h.Truncated && (h.Status != Refused || len(data) != MaxHeld):
		f.problem(where, "held_damaged", "%d bytes are left of what is %s", len(data), h.Status)
	case !h.Truncated && sha256.Sum256(data) != h.SHA256:
		f.problem(where, "held_damaged", "its data has another digest")
	case h.Status != Rejected && h.Status != Refused && (h.Code == CodeKeyDocument) != (kindOf(data) == "document_type"):
		f.problem(where, "held_row", "it is held as %s, which its data is not", h.Code)
	case h.Suffix != "" && !h.Truncated && subjectOf(data) != h.Suffix:
		f.problem(where, "held_row", "its data is not about the record %s", short(h.Suffix))
	}
}

// subjectOf returns the suffix of the record that a submission is about: that of
// its canonical record, which the number is made of, else the one that an event
// names.
func subjectOf(data []byte) string {
	result, _ := pith.Inspect(data, nil)
	number := result.PithNumber
	if event, err := pith.ReadEvent(data); err == nil {
		number = event.Number
	}
	_, suffix, _ := CutNumber(number)
	return suffix
}

// policy asks whether the key documents that moderators accepted are whole, and
// whether they are those that were accepted: a revocation that is gone would let a
// thief speak again.
func (f *fsck) policy() error {
	keys, err := f.store.MetaKeys(f.ctx, policyPrefix)
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(f.documents)) {
		if f.documents[key] == Accepted && !slices.Contains(keys, key) {
			f.problem("policy "+key, "policy_missing", "a moderator accepted this key document, and it is not part of the policy: reject it if it was taken back, else name its text with --trust")
		}
	}
	together := pith.PinnedTrust()
	for _, key := range keys {
		data, err := f.store.Meta(f.ctx, key)
		if err != nil {
			return err
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != strings.TrimPrefix(key, policyPrefix) {
			f.problem("policy "+key, "policy_damaged", "the key document has another digest")
		} else if f.documents[key] == "" { // a crash may leave it waiting and part of the policy
			f.problem("policy "+key, "policy_unknown", "no moderator let this document in")
		} else if document, err := pith.ParseTrust(data); err != nil {
			f.problem("policy "+key, "policy_damaged", "%v", err)
		} else if all, err := together.Merge(document); err != nil {
			f.problem("policy "+key, "policy_conflict", "it cannot stand beside the others, so it is left out: %v", err)
		} else {
			together = all
		}
	}
	return nil
}
