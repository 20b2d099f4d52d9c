package pith

import (
	"bytes"
	"cmp"
	"container/heap"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/openpith/evidence/pith/internal/canon"
)

// MergeVersion names the rules by which a set of events becomes a state.
const MergeVersion = "pith-open-graph-merge-v1"

// A history is what a set of events amounts to. It depends on the set alone,
// not on the order or number of copies in which the events arrived (spec §5).
type history struct {
	applied       []*event // the valid events, in the order of application
	invalid       []*event // the others, by digest of what was received
	superseded    int      // how many of the applied are
	gaps          []*event // applied events whose prev_event is not here
	equivocations [][]byte // as they stand in the state

	ready queue // events whose predecessors are applied
}

// replay turns events into a history. It gives events their reason for being
// invalid when only their neighbours can show it.
func replay(events []*event) *history {
	room := make([]*event, 3*len(events)) // for three lists at once
	n := len(events)
	h := &history{ready: room[:0:n], applied: room[n : n : 2*n]}
	h.apply(h.gather(events, room[2*n:2*n]))
	h.equivocations = findEquivocations(h.applied)
	slices.SortFunc(h.invalid, func(a, b *event) int { return cmp.Compare(a.entry(), b.entry()) })
	h.invalid = slices.CompactFunc(h.invalid, func(a, b *event) bool { return a.entry() == b.entry() })
	return h
}

// eventSet holds valid events, ordered by id.
type eventSet []*event

func (s eventSet) find(id string) *event {
	i, found := slices.BinarySearchFunc(s, id, func(e *event, id string) int { return cmp.Compare(e.id, id) })
	if !found {
		return nil
	}
	return s[i]
}

// gather drops copies and sets aside what is invalid by itself. Of one event
// with several good signatures, the earliest signature stays, then the one with
// the smaller digest: a choice that does not depend on who asks.
func (h *history) gather(events []*event, valid eventSet) eventSet {
	for _, e := range events {
		e.waitsFor, e.successors, e.superseded = 0, nil, false
		if e.reason == "" {
			valid = append(valid, e)
		} else {
			h.invalid = append(h.invalid, e)
		}
	}
	slices.SortFunc(valid, func(a, b *event) int {
		if byID := cmp.Compare(a.id, b.id); byID != 0 {
			return byID
		}
		s, _ := parseTime(a.signedAt)
		t, _ := parseTime(b.signedAt)
		return cmp.Or(s.Compare(t), cmp.Compare(a.entry(), b.entry()))
	})
	return slices.CompactFunc(valid, func(a, b *event) bool { return a.id == b.id })
}

// apply puts the events in order: predecessors first; among those that could
// come next, record_created first, then the earliest, then the smallest id.
// Along the way it decides whether each event's links are allowed, when the
// fate of all its predecessors is known.
func (h *history) apply(events eventSet) {
	for _, e := range events {
		for _, id := range e.links() {
			if p := events.find(id); p != nil {
				p.successors = append(p.successors, e)
				e.waitsFor++
			}
		}
		if e.waitsFor == 0 {
			h.ready = append(h.ready, e)
		}
	}
	heap.Init(&h.ready)
	for h.ready.Len() > 0 {
		e := heap.Pop(&h.ready).(*event)
		h.admit(e, events)
		for _, s := range e.successors {
			if s.waitsFor--; s.waitsFor == 0 {
				heap.Push(&h.ready, s)
			}
		}
	}
	// Ids are digests of content that holds the links, so a cycle needs a broken
	// SHA-256. Should that day come, its events are set aside, not looped over.
	for _, e := range events {
		if e.waitsFor > 0 {
			h.reject(e, CodeLinkCycle)
		}
	}
}

// links are the ids of the events that must come before e, each once.
func (e *event) links() []string {
	if len(e.supersedes) == 0 && e.prev == "" {
		return nil
	}
	links := slices.Clone(e.supersedes)
	if e.prev != "" {
		links = append(links, e.prev)
	}
	slices.Sort(links)
	return slices.Compact(links)
}

func (h *history) admit(e *event, events eventSet) {
	for _, id := range e.supersedes {
		target := events.find(id)
		if target == nil || target.reason != "" {
			h.reject(e, CodeSupersedesTarget)
			return
		}
		if target.fingerprint != e.fingerprint {
			h.reject(e, CodeSupersedesSigner)
			return
		}
	}
	if e.prev != "" {
		if p := events.find(e.prev); p == nil || p.reason != "" {
			h.gaps = append(h.gaps, e)
		} else if p.fingerprint != e.fingerprint {
			h.reject(e, CodePrevSigner)
			return
		}
	}
	for _, id := range e.supersedes {
		if target := events.find(id); !target.superseded {
			target.superseded = true
			h.superseded++
		}
	}
	h.applied = append(h.applied, e)
}

func (h *history) reject(e *event, reason Code) {
	e.reason = reason
	h.invalid = append(h.invalid, e)
}

// A queue is a heap of events, the next to apply at its root.
type queue []*event

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*event)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func (q queue) Less(i, j int) bool {
	a, b := q[i], q[j]
	if first := a.kind == TypeRecordCreated; first != (b.kind == TypeRecordCreated) {
		return first
	}
	return cmp.Or(a.createdAt.Compare(b.createdAt), cmp.Compare(a.id, b.id)) < 0
}

// last returns the id of the newest event of a key, "" if there is none.
func (h *history) last(fingerprint string) string {
	for _, e := range slices.Backward(h.applied) {
		if e.fingerprint == fingerprint {
			return e.id
		}
	}
	return ""
}

// projections names the list of the state that shows the events of a type.
// Events of other types are applied and shown nowhere.
var projections = map[string]string{
	"author_attestation":  "author_attestations",
	"timestamp_anchor":    "timestamp_anchors",
	"storage_attestation": "storage_attestations",
	"citation_signature":  "citation_signatures",
	"replication_record":  "replication_records",
	"correction":          "corrections",
	"mirror_hint":         "mirror_hints",
	"graph_snapshot":      "graph_snapshots",
}

// state returns the canonical state of the record (spec §6) and its digest,
// which the state holds in hex. aliases is a canonical array, see joinAliases. The
// members are written in canonical order, by name.
func (h *history) state(rec *record, aliases []byte) (state []byte, digest [sha256.Size]byte) {
	var w canon.Writer
	w.Grow(len(rec.Canonical()) + len(aliases) + h.size())
	w.Open('{')
	w.Name("applied_event_ids").Open('[')
	for _, e := range h.applied {
		w.String(e.id)
	}
	w.Close(']')
	h.writeCurrent(w.Name("current"), rec, aliases)
	w.Name("equivocation_count").Int(len(h.equivocations))
	w.Name("equivocations").Array(h.equivocations)
	w.Name("event_count").Int(len(h.applied) + len(h.invalid))
	w.Name("invalid_event_count").Int(len(h.invalid))
	w.Name("invalid_events").Open('[')
	for _, e := range h.invalid {
		w.Raw(e.invalidEntry())
	}
	w.Close(']')
	w.Name("merge_version").String(MergeVersion)
	w.Name("pith_number").String(rec.number)
	digestAt := w.Len()
	w.Name("state_type").String("pith_open_graph_state")
	w.Name("state_version").String("1.0")
	w.Name("valid_event_count").Int(len(h.applied))
	w.Close('}')

	digest = sha256.Sum256(w.Bytes())
	var room [96]byte
	member := hex.AppendEncode(append(room[:0], `,"state_sha256":"`...), digest[:])
	return slices.Insert(w.Bytes(), digestAt, append(member, '"')...), digest
}

// size estimates the bytes that the events take in the state.
func (h *history) size() int {
	n := 4 << 10
	for _, e := range h.applied {
		n += len(e.value.Canonical())
	}
	return n
}

// invalidEntry names an invalid event. Its claimed id may be another event's,
// so the digest of all that was received is what identifies it.
func (e *event) invalidEntry() []byte {
	id := []byte("null")
	if v := e.value.Get("event_id"); v.Kind() == canon.String {
		id = v.Canonical()
	}
	return canon.Build(
		canon.Member{Name: "entry_sha256", Value: canon.Quote(e.entry())},
		canon.Member{Name: "event_id", Value: id},
		canon.Member{Name: "reason", Value: canon.Quote(string(e.reason))},
	)
}

// currentMembers are the members of state.current in canonical order: the lists
// of projections and four more.
var currentMembers = slices.Sorted(func(yield func(string) bool) {
	for _, name := range projections {
		if !yield(name) {
			return
		}
	}
	for _, name := range []string{"canonical_record", "record_created", "record_reissues", "source_aliases"} {
		if !yield(name) {
			return
		}
	}
})

// writeCurrent writes what holds now: every list without what was superseded.
func (h *history) writeCurrent(w *canon.Writer, rec *record, aliases []byte) {
	var created *event // the earliest; later ones are reissues
	reissued := false
	for _, e := range h.applied {
		if e.kind == TypeRecordCreated && !e.superseded {
			reissued = created != nil
			created = cmp.Or(created, e)
		}
	}
	w.Open('{')
	for _, name := range currentMembers {
		switch name {
		case "canonical_record":
			w.Name(name).Raw(rec.Canonical())
		case "source_aliases":
			w.Name(name).Raw(aliases)
		case "record_created":
			w.Name(name)
			if created == nil {
				w.Raw([]byte("null"))
			} else {
				created.project(w)
			}
		case "record_reissues":
			if reissued { // absent otherwise: published states do not have it
				h.writeList(w.Name(name), func(e *event) bool { return e.kind == TypeRecordCreated && e != created })
			}
		default:
			h.writeList(w.Name(name), func(e *event) bool { return projections[e.kind] == name })
		}
	}
	w.Close('}')
}

func (h *history) writeList(w *canon.Writer, in func(*event) bool) {
	w.Open('[')
	for _, e := range h.applied {
		if !e.superseded && in(e) {
			e.project(w)
		}
	}
	w.Close(']')
}

// findEquivocations lists where a signer has said two things at once: two events
// after the same one, or two openings of the record that differ in more than
// their receipt. Both sides stay; readers are told.
func findEquivocations(applied []*event) [][]byte {
	type place struct{ fingerprint, prev string }
	var after, openings map[place][]*event
	for _, e := range applied {
		if e.prev != "" {
			if after == nil {
				after = map[place][]*event{}
			}
			p := place{e.fingerprint, e.prev}
			after[p] = append(after[p], e)
		}
	}
	if created := count(applied, TypeRecordCreated); created > 1 {
		openings = map[place][]*event{}
		for _, e := range applied {
			if e.kind == TypeRecordCreated {
				p := place{fingerprint: e.fingerprint}
				openings[p] = append(openings[p], e)
			}
		}
	}
	var found [][]byte
	for p, events := range after {
		if len(events) > 1 {
			found = append(found, equivocation("prev_event", p.fingerprint, canon.Quote(p.prev), events))
		}
	}
	for p, events := range openings {
		if differ(events) {
			found = append(found, equivocation("record_created", p.fingerprint, []byte("null"), events))
		}
	}
	slices.SortFunc(found, bytes.Compare)
	return found
}

func count(events []*event, kind string) int {
	n := 0
	for _, e := range events {
		if e.kind == kind {
			n++
		}
	}
	return n
}

func differ(openings []*event) bool {
	first := openings[0].value.Get("payload").Without("receipt")
	for _, e := range openings[1:] {
		if !bytes.Equal(first, e.value.Get("payload").Without("receipt")) {
			return true
		}
	}
	return false
}

func equivocation(kind, fingerprint string, prev []byte, events []*event) []byte {
	var ids [][]byte
	for _, e := range events {
		ids = append(ids, canon.Quote(e.id))
	}
	slices.SortFunc(ids, bytes.Compare)
	return canon.Build(
		canon.Member{Name: "kind", Value: canon.Quote(kind)},
		canon.Member{Name: "public_key_fingerprint", Value: canon.Quote(fingerprint)},
		canon.Member{Name: "prev_event", Value: prev},
		canon.Member{Name: "event_ids", Value: canon.BuildArray(ids...)},
	)
}

// joinAliases unites alias lists: one alias for each kind and value, the
// earliest, ordered by kind and value (spec §6). It takes checked aliases.
func joinAliases(lists ...canon.Value) []byte {
	var room [16]alias
	aliases, size := room[:0], 2
	for _, list := range lists {
		size += len(list.Canonical())
		for v := range list.Children() {
			aliases = append(aliases, alias{v, v.Get("alias_kind").Text(), v.Get("alias_value").Text(), v.Get("created_at").Text()})
		}
	}
	slices.SortFunc(aliases, func(a, b alias) int {
		// Times to the second are ordered as their text is.
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.value, b.value), cmp.Compare(a.createdAt, b.createdAt))
	})
	var w canon.Writer
	w.Grow(size)
	w.Open('[')
	for i, a := range aliases {
		if i == 0 || a.kind != aliases[i-1].kind || a.value != aliases[i-1].value {
			w.Raw(a.json.Canonical())
		}
	}
	w.Close(']')
	return w.Bytes()
}

type alias struct {
	json                   canon.Value
	kind, value, createdAt string
}
