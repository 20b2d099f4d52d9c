package pith

import (
	"encoding/hex"
	"time"

	"github.com/openpith/evidence/pith/internal/canon"
	"github.com/openpith/evidence/pith/ots"
)

// An event is one signed statement about a record, as it was received.
type event struct {
	value       canon.Value
	path        place // where it stands in its bundle
	id          string
	kind        string
	signer      Signer
	fingerprint string
	createdAt   time.Time
	signedAt    string
	supersedes  []string
	prev        string     // "" for null: the first of its chain
	proof       *ots.Proof // of a timestamp_anchor whose proof is good
	title       string     // of a graph_snapshot whose title has the record's digest

	reason Code // why the event is invalid, "" if it is valid

	from, to int // the answers about the event alone

	// What replay finds out.
	waitsFor   int      // predecessors that are not applied yet
	successors []*event // those who wait for this one
	superseded bool     // by an applied event
	entryHex   string   // see entry
}

var eventFields = []field{
	word("event_type"),
	text("subject_pith_number"),
	word("target"),
	object("payload"),
	object("signer"),
	instant("created_at"),
	strs("supersedes"),
	nullOr(word("prev_event")),
	text("schema_version"),
	text("content_sha256"),
	text("event_id"),
	object("signature"),
}

var signerFields = []field{
	word("signer_id"),
	word("signer_type"),
	word("key_id"),
	text("public_key_fingerprint"),
}

// What an event's digest leaves out: the digest itself, its repetition in the
// id, and the signature over it.
var outsideEventDigest = []string{"content_sha256", "event_id", "signature"}

// readEvents reads events and asks everything that can be asked of each alone.
func (c *checks) readEvents(path place, list canon.Value, rec *record, keys keyring) []*event {
	room := make([]event, list.Len())
	events := make([]*event, 0, len(room))
	for v := range list.Children() {
		e := &room[len(events)]
		*e = event{value: v, path: path.item(len(events))}
		c.event(e, rec, keys)
		events = append(events, e)
	}
	return events
}

// reasons gives events their reasons for being invalid alone: the first failure
// that counts. The signatures must be settled.
func (c *checks) reasons(events []*event) {
	for _, e := range events {
		if failure := firstFailure(c.answers[e.from:e.to]); failure != nil {
			e.reason = failure.code
		}
	}
}

// event is readEvents for one, which has its value and its place.
func (c *checks) event(e *event, rec *record, keys keyring) {
	v, path := e.value, e.path
	e.from = len(c.answers)
	if c.shape(CodeEventShape, path, v, eventFields) &&
		c.shape(CodeEventShape, path.at("signer"), v.Get("signer"), signerFields) {
		e.read()
		if name, found := unknown(v, eventFields); found {
			c.is(CodeMember, path.at(name), false, "not a member of events of version 1.0")
		}
		c.equal(CodeEventVersion, path.at("schema_version"), "1.0", v.Get("schema_version").Text())
		c.equal(CodeEventSubject, path.at("subject_pith_number"), rec.number, v.Get("subject_pith_number").Text())

		digest := v.DigestWithout(outsideEventDigest...)
		c.digest(CodeEventDigest, path.at("content_sha256"), "", digest, v.Get("content_sha256").Text())
		c.digest(CodeEventID, path.at("event_id"), "sha256:", digest, e.id)

		signature := v.Get("signature")
		if c.closed(CodeSignatureShape, path.at("signature"), signature, eventSignatureFields) {
			c.signedBy(path.at("signature"), signature, e)
			c.signature(path.at("signature"), signature, digest, keys)
		}
		c.payload(path.at("payload"), e, rec, keys)
	}
	e.to = len(c.answers)
}

func (e *event) read() {
	v, signer := e.value, e.value.Get("signer")
	e.id = v.Get("event_id").Text()
	e.kind = v.Get("event_type").Text()
	e.signer = Signer{signer.Get("signer_id").Text(), signer.Get("signer_type").Text(), signer.Get("key_id").Text()}
	e.fingerprint = signer.Get("public_key_fingerprint").Text()
	e.createdAt, _ = parseTime(v.Get("created_at").Text())
	e.signedAt = v.Get("signature").Get("signed_at").Text()
	e.prev = v.Get("prev_event").Text()
	for s := range v.Get("supersedes").Children() {
		e.supersedes = append(e.supersedes, s.Text())
	}
}

// signedBy asks whether a signature names the key that the event's signer names.
func (c *checks) signedBy(path place, signature canon.Value, e *event) {
	c.equal(CodeSignatureSigner, path.at("key_id"), e.signer.KeyID, signature.Get("key_id").Text())
	c.equal(CodeSignatureSigner, path.at("public_key_fingerprint"), e.fingerprint, signature.Get("public_key_fingerprint").Text())
}

// entry returns the SHA-256 in hex of everything received, signature included.
// Only invalid events and copies need it.
func (e *event) entry() string {
	if e.entryHex == "" {
		digest := e.value.Digest()
		e.entryHex = hex.EncodeToString(digest[:])
	}
	return e.entryHex
}

// project writes the event as it appears in a list of the state.
func (e *event) project(w *canon.Writer) {
	w.Open('{')
	for _, name := range [...]string{"created_at", "event_id", "payload", "signer", "target"} {
		w.Name(name).Raw(e.value.Get(name).Canonical())
	}
	w.Close('}')
}
