package pith

import (
	"bytes"
	"cmp"
	"container/heap"
	"slices"
	"strconv"

	"github.com/openpith/evidence/pith/internal/canon"
)

// MergeVersion names the rules by which a set of events becomes a state.
const MergeVersion = "pith-open-graph-merge-v1"

// A history is what a set of events amounts to. It depends on the set alone,
// not on the order or number of copies in which the events arrived (spec §5).
type history struct {
	applied    []*event // the valid events, in the order of application
	invalid    []*event // the others, by digest of what was received
	superseded map[string]bool
	gaps       []*event // applied events whose prev_event is not here
}

// replay turns events into a history. It gives events their reason for being
// invalid when only their neighbours can show it.
func replay(events []*event) *history {
	h := &history{superseded: map[string]bool{}}
	byID := h.gather(events)
	h.apply(byID)
	slices.SortFunc(h.invalid, func(a, b *event) int { return cmp.Compare(a.entry, b.entry) })
	return h
}

// gather drops copies and sets aside what is invalid by itself. Of one event
// with several good signatures, the earliest signature stays, then the one with
// the smaller digest: a choice that does not depend on who asks.
func (h *history) gather(events []*event) map[string]*event {
	byID := map[string]*event{}
	seen := map[string]bool{}
	for _, e := range events {
		if seen[e.entry] {
			continue
		}
		seen[e.entry] = true
		if e.reason != "" {
			h.invalid = append(h.invalid, e)
			continue
		}
		if other, ok := byID[e.id]; ok {
			a, _ := parseTime(e.signedAt)
			b, _ := parseTime(other.signedAt)
			if cmp.Or(a.Compare(b), cmp.Compare(e.entry, other.entry)) > 0 {
				continue
			}
		}
		byID[e.id] = e
	}
	return byID
}

// apply puts the events in order: predecessors first; among those that could
// come next, record_created first, then the earliest, then the smallest id.
// Along the way it decides whether each event's links are allowed, when the
// fate of all its predecessors is known.
func (h *history) apply(byID map[string]*event) {
	waiting := make(map[*event]int, len(byID)) // predecessors still to come
	successors := map[*event][]*event{}
	var ready queue
	for _, e := range byID {
		for _, id := range e.links() {
			if p, ok := byID[id]; ok {
				successors[p] = append(successors[p], e)
				waiting[e]++
			}
		}
		if waiting[e] == 0 {
			ready = append(ready, e)
		}
	}
	heap.Init(&ready)
	decided := 0
	for ready.Len() > 0 {
		e := heap.Pop(&ready).(*event)
		decided++
		h.admit(e, byID)
		for _, s := range successors[e] {
			if waiting[s]--; waiting[s] == 0 {
				heap.Push(&ready, s)
			}
		}
	}
	if decided == len(byID) {
		return
	}
	// Ids are digests of content that holds the links, so a cycle needs a broken
	// SHA-256. Should that day come, its events are set aside, not looped over.
	for _, e := range byID {
		if waiting[e] > 0 {
			h.reject(e, CodeLinkCycle)
		}
	}
}

// links are the ids of the events that must come before e, each once.
func (e *event) links() []string {
	links := slices.Clone(e.supersedes)
	if e.prev != "" {
		links = append(links, e.prev)
	}
	slices.Sort(links)
	return slices.Compact(links)
}

func (h *history) admit(e *event, byID map[string]*event) {
	for _, id := range e.supersedes {
		target, ok := byID[id]
		if !ok || target.reason != "" {
			h.reject(e, CodeSupersedesTarget)
			return
		}
		if target.fingerprint != e.fingerprint {
			h.reject(e, CodeSupersedesSigner)
			return
		}
	}
	if e.prev != "" {
		if p, ok := byID[e.prev]; !ok || p.reason != "" {
			h.gaps = append(h.gaps, e)
		} else if p.fingerprint != e.fingerprint {
			h.reject(e, CodePrevSigner)
			return
		}
	}
	for _, id := range e.supersedes {
		h.superseded[id] = true
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

// state returns the canonical state of the record (spec §6) and its digest in
// hex, which the state holds. aliases is a canonical array, see joinAliases.
func (h *history) state(rec *record, aliases []byte) (state []byte, sha256hex string) {
	members := h.stateMembers(rec, aliases)
	sha256hex = hexOf(string(canon.Build(members...)))
	return canon.Build(append(members, canon.Member{Name: "state_sha256", Value: canon.Quote(sha256hex)})...), sha256hex
}

func (h *history) stateMembers(rec *record, aliases []byte) []canon.Member {
	equivocations := h.equivocations()
	return []canon.Member{
		{Name: "state_type", Value: canon.Quote("pith_open_graph_state")},
		{Name: "state_version", Value: canon.Quote("1.0")},
		{Name: "pith_number", Value: canon.Quote(rec.number)},
		{Name: "merge_version", Value: canon.Quote(MergeVersion)},
		{Name: "event_count", Value: count(len(h.applied) + len(h.invalid))},
		{Name: "valid_event_count", Value: count(len(h.applied))},
		{Name: "invalid_event_count", Value: count(len(h.invalid))},
		{Name: "equivocation_count", Value: count(len(equivocations))},
		{Name: "current", Value: h.current(rec, aliases)},
		{Name: "equivocations", Value: canon.BuildArray(equivocations...)},
		{Name: "invalid_events", Value: h.invalidEntries()},
		{Name: "applied_event_ids", Value: h.appliedIDs()},
	}
}

func count(n int) []byte { return strconv.AppendInt(nil, int64(n), 10) }

func (h *history) appliedIDs() []byte {
	ids := make([][]byte, len(h.applied))
	for i, e := range h.applied {
		ids[i] = canon.Quote(e.id)
	}
	return canon.BuildArray(ids...)
}

func (h *history) invalidEntries() []byte {
	var entries [][]byte
	for _, e := range h.invalid {
		entries = append(entries, e.invalidEntry())
	}
	return canon.BuildArray(entries...)
}

// invalidEntry names an invalid event. Its claimed id may be another event's,
// so the digest of all that was received is what identifies it.
func (e *event) invalidEntry() []byte {
	id := []byte("null")
	if v := e.value.Get("event_id"); v.Kind() == canon.String {
		id = v.Canonical()
	}
	return canon.Build(
		canon.Member{Name: "entry_sha256", Value: canon.Quote(e.entry)},
		canon.Member{Name: "event_id", Value: id},
		canon.Member{Name: "reason", Value: canon.Quote(string(e.reason))},
	)
}

// current is what holds now: every list without what was superseded.
func (h *history) current(rec *record, aliases []byte) []byte {
	lists := map[string][][]byte{}
	for _, name := range projections {
		lists[name] = nil
	}
	created := []byte("null")
	var reissues [][]byte
	for _, e := range h.applied {
		if h.superseded[e.id] {
			continue
		}
		switch name, listed := projections[e.kind]; {
		case listed:
			lists[name] = append(lists[name], e.projection())
		case e.kind != TypeRecordCreated:
		case string(created) == "null":
			created = e.projection()
		default:
			reissues = append(reissues, e.projection())
		}
	}
	members := []canon.Member{
		{Name: "canonical_record", Value: rec.Canonical()},
		{Name: "source_aliases", Value: aliases},
		{Name: "record_created", Value: created},
	}
	for name, list := range lists {
		members = append(members, canon.Member{Name: name, Value: canon.BuildArray(list...)})
	}
	if reissues != nil { // absent otherwise: published states do not have it
		members = append(members, canon.Member{Name: "record_reissues", Value: canon.BuildArray(reissues...)})
	}
	return canon.Build(members...)
}

// equivocations lists where a signer has said two things at once: two events
// after the same one, or two openings of the record that differ in more than
// their receipt. Both sides stay; readers are told.
func (h *history) equivocations() [][]byte {
	type place struct{ fingerprint, prev string }
	after := map[place][]*event{}
	openings := map[place][]*event{}
	for _, e := range h.applied {
		if e.prev != "" {
			p := place{e.fingerprint, e.prev}
			after[p] = append(after[p], e)
		}
		if e.kind == TypeRecordCreated {
			p := place{fingerprint: e.fingerprint}
			openings[p] = append(openings[p], e)
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
	type key struct{ kind, value string }
	earliest := map[key]canon.Value{}
	for _, list := range lists {
		for v := range list.Children() {
			k := key{v.Get("alias_kind").Text(), v.Get("alias_value").Text()}
			// Times to the second are ordered as their text is.
			if old, ok := earliest[k]; !ok || v.Get("created_at").Text() < old.Get("created_at").Text() {
				earliest[k] = v
			}
		}
	}
	keys := make([]key, 0, len(earliest))
	for k := range earliest {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.value, b.value))
	})
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i] = earliest[k].Canonical()
	}
	return canon.BuildArray(out...)
}
