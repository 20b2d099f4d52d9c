package pith

import (
	"encoding/json"
	"time"

	"github.com/openpith/evidence/pith/internal/canon"
	"github.com/openpith/evidence/pith/ots"
)

// A Result is what a verification found. Its JSON form is described in
// spec §9 and keeps its meaning.
type Result struct {
	PithNumber   string       // recomputed from the record; "" if there is none
	Title        string       // of the newest valid graph_snapshot whose title has the record's digest
	SHA256       string       // canonical_sha256, recomputed
	Source       string       // "arxiv:1805.07898v3"
	SourceKind   string       // these three as the record has them
	SourceID     string       //
	Version      string       // decimal digits, however many
	BuiltAt      string       // as the bundle says
	Signers      []SignerSeen // in order of appearance; the bundle's signer last unless seen before
	Events       EventCounts
	StateSHA256  string     // of the state that the events give
	Completeness []Presence // of five kinds, always in the same order
	History      []Statement
	Checks       []Check
}

// EventCounts counts the events of a bundle.
type EventCounts struct {
	Total         int `json:"total"`
	Valid         int `json:"valid"`
	Invalid       int `json:"invalid"`
	Superseded    int `json:"superseded"`
	Equivocations int `json:"equivocations"`
}

// A SignerSeen is a key that signed something in the bundle, with a good
// signature, under one name.
type SignerSeen struct {
	SignerID    string `json:"signer_id"` // "" for a bundle signer that signed no event: bundles name the key alone
	SignerType  string `json:"signer_type"`
	KeyID       string `json:"key_id"`
	Fingerprint string `json:"fingerprint"`
	Trusted     bool   `json:"trusted"` // for everything it signed here
	Reason      Code   `json:"reason,omitempty"`
	Events      int    `json:"events"`
	Bundle      bool   `json:"bundle"` // signed the bundle
}

// A Statement is one event as a reader wants to see it.
type Statement struct {
	EventID     string
	Type        string
	Target      string
	Signer      Signer
	Fingerprint string
	CreatedAt   time.Time
	Trusted     bool // the policy lets this key sign this; never for invalid events
	Distrust    Code // why the policy does not; "" for trusted and for invalid events
	Superseded  bool
	Invalid     Code            // why the event is invalid, "" if it is valid
	Payload     json.RawMessage // in canonical form
}

// A Presence says whether a record has something besides its opening. What is
// absent makes no record less valid (spec §9.6).
type Presence struct {
	Kind    string // timestamps, attestations, storage, citations or replications
	Valid   int    // valid events of that kind that are not superseded; for timestamps also good entries of timestamp_proofs
	Trusted int    // those of the events that the policy vouches for

	// For timestamps: with a Bitcoin attestation, which only block headers can
	// prove, and with none yet.
	Confirmed, Pending int
}

// MarshalJSON writes the presence as spec §9.6 describes it.
func (p Presence) MarshalJSON() ([]byte, error) {
	type all struct {
		Kind    string `json:"kind"`
		Present bool   `json:"present"`
		Valid   int    `json:"valid"`
		Trusted int    `json:"trusted"`
	}
	common := all{p.Kind, p.Valid > 0, p.Valid, p.Trusted}
	if p.Kind != presenceTimestamps {
		return json.Marshal(common)
	}
	return json.Marshal(struct {
		all
		Confirmed int `json:"confirmed"`
		Pending   int `json:"pending"`
	}{common, p.Confirmed, p.Pending})
}

const presenceTimestamps = "timestamps"

// presences are the kinds of presence and the event types they count.
var presences = []struct{ kind, eventType string }{
	{presenceTimestamps, TypeTimestampAnchor},
	{"attestations", TypeAuthorAttestation},
	{"storage", TypeStorageAttestation},
	{"citations", TypeCitationSignature},
	{"replications", TypeReplicationRecord},
}

// complete counts what the record has. The statements must be judged.
func (r *Result) complete(b *bundle) {
	r.Completeness = make([]Presence, len(presences))
	for i, kind := range presences {
		r.Completeness[i].Kind = kind.kind
	}
	if b == nil || b.history == nil {
		return
	}
	for i, e := range b.history.applied {
		for j, kind := range presences {
			if e.kind != kind.eventType || e.superseded {
				continue
			}
			p := &r.Completeness[j]
			p.Valid++
			if r.History[i].Trusted {
				p.Trusted++
			}
			p.count(e.proof)
		}
	}
	for _, proof := range b.proofs {
		r.Completeness[0].Valid++
		r.Completeness[0].count(proof)
	}
}

// count counts a proof of a timestamp, if there is one.
func (p *Presence) count(proof *ots.Proof) {
	if proof == nil {
		return
	}
	for _, claim := range proof.Claims() {
		if claim.Kind == ots.Bitcoin {
			p.Confirmed++
			return
		}
	}
	p.Pending++
}

// Structure is the answer about structure and cryptography alone: Valid,
// Rejected or Unreadable.
func (r *Result) Structure() Verdict {
	v := Valid
	for _, c := range r.Checks {
		if !c.OK && c.IfFailed != Untrusted {
			v = max(v, c.IfFailed)
		}
	}
	return v
}

// Trust is the answer about the policy alone, Valid or Untrusted: whether it
// vouches for all signers. Where Structure is not Valid it says nothing.
func (r *Result) Trust() Verdict {
	for _, c := range r.Checks {
		if !c.OK && c.IfFailed == Untrusted {
			return Untrusted
		}
	}
	return Valid
}

// Verdict is the gravest consequence of the checks that failed.
func (r *Result) Verdict() Verdict {
	v := Valid
	for _, c := range r.Checks {
		if !c.OK {
			v = max(v, c.IfFailed)
		}
	}
	return v
}

// Failures returns the checks that failed and count, the gravest first.
func (r *Result) Failures() []Check {
	var out []Check
	for _, v := range []Verdict{Unreadable, Rejected, Untrusted} {
		for _, c := range r.Checks {
			if !c.OK && c.IfFailed == v {
				out = append(out, c)
			}
		}
	}
	return out
}

// Unsigned reports whether the bundle lacks nothing but its signature over the
// whole, like the results of Merge and Adopt.
func (r *Result) Unsigned() bool {
	missing := false
	for _, c := range r.Checks {
		if c.OK || c.IfFailed <= Untrusted {
			continue
		}
		if c.Path != "/bundle_signature" && c.Path != "/bundle_signature/bundle_sha256" {
			return false
		}
		missing = missing || c.lacksSignature()
	}
	return missing
}

// lacksSignature reports whether the check failed because nobody signed the
// bundle as a whole.
func (c Check) lacksSignature() bool {
	return c.Code == CodeBundleShape && c.Path == "/bundle_signature" && c.Got == canon.Invalid.String()
}

// Hint says what to do about the gravest failure, "" if there is none.
func (r *Result) Hint() string {
	failures := r.Failures()
	switch {
	case len(failures) == 0:
		return ""
	case r.Unsigned():
		return hintUnsigned
	}
	return codes[failures[0].Code].hint
}

// Notes returns the checks that failed and decide nothing.
func (r *Result) Notes() []Check {
	var out []Check
	for _, c := range r.Checks {
		if !c.OK && c.IfFailed == Valid {
			out = append(out, c)
		}
	}
	return out
}

// MarshalJSON writes the result as spec §9 describes it. The history is left
// out: it repeats the bundle.
func (r *Result) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type         string       `json:"result_type"`
		Version      string       `json:"result_version"`
		Verdict      Verdict      `json:"verdict"`
		PithNumber   string       `json:"pith_number"`
		Title        string       `json:"title"`
		Source       string       `json:"source"`
		BuiltAt      string       `json:"built_at"`
		Signers      []SignerSeen `json:"signers"`
		Events       EventCounts  `json:"events"`
		StateSHA256  string       `json:"state_sha256"`
		Structure    Verdict      `json:"structure"`
		Trust        Verdict      `json:"trust"`
		Completeness []Presence   `json:"completeness"`
		Checks       []Check      `json:"checks"`
	}{"pith_verification_result", "1.0", r.Verdict(), r.PithNumber, r.Title, r.Source, r.BuiltAt, r.Signers, r.Events, r.StateSHA256, r.Structure(), r.Trust(), r.Completeness, r.Checks})
}

// describe fills in what the bundle says, as far as it was recomputed.
func (r *Result) describe(b *bundle) {
	rec, h := b.record, b.history
	if rec == nil {
		return
	}
	r.PithNumber, r.SHA256 = rec.number, rec.sha256
	r.SourceKind, r.SourceID, r.Version = rec.kind.Text(), rec.id.Text(), string(rec.version.Canonical())
	r.Source = r.SourceKind + ":" + r.SourceID + "v" + r.Version
	r.BuiltAt = b.root.Get("built_at").Text()
	r.Events = EventCounts{
		Total:         len(h.applied) + len(h.invalid),
		Valid:         len(h.applied),
		Invalid:       len(h.invalid),
		Superseded:    h.superseded,
		Equivocations: len(h.equivocations),
	}
	r.StateSHA256 = b.stateSHA256
	r.History = make([]Statement, 0, r.Events.Total)
	for _, e := range h.applied {
		if e.title != "" && !e.superseded {
			r.Title = e.title
		}
		r.History = append(r.History, e.statement())
	}
	for _, e := range h.invalid {
		r.History = append(r.History, e.statement())
	}
}

func (e *event) statement() Statement {
	return Statement{
		EventID:     e.id,
		Type:        e.kind,
		Target:      e.value.Get("target").Text(),
		Signer:      e.signer,
		Fingerprint: e.fingerprint,
		CreatedAt:   e.createdAt,
		Superseded:  e.superseded,
		Invalid:     e.reason,
		Payload:     e.value.Get("payload").Canonical(),
	}
}

// judge asks the policy about every valid event and about the bundle.
func (r *Result) judge(c *checks, b *bundle, trust *Trust) {
	index := map[SignerSeen]int{} // by names and key alone
	seen := func(s Signer, fingerprint string) *SignerSeen {
		id := SignerSeen{SignerID: s.ID, SignerType: s.Type, KeyID: s.KeyID, Fingerprint: fingerprint}
		i, ok := index[id]
		if !ok {
			i = len(r.Signers)
			index[id] = i
			id.Trusted = true
			r.Signers = append(r.Signers, id)
		}
		return &r.Signers[i]
	}
	note := func(s *SignerSeen, from int) Code { // what was asked from there on
		failure := firstFailure(c.answers[from:])
		if failure == nil {
			return ""
		}
		if s.Trusted {
			s.Trusted, s.Reason = false, failure.code
		}
		return failure.code
	}
	if b.history != nil {
		for i, e := range b.history.applied {
			s := seen(e.signer, e.fingerprint)
			s.Events++
			from := len(c.answers)
			c.trustEvent(trust, e)
			reason := note(s, from)
			r.History[i].Trusted, r.History[i].Distrust = reason == "", reason
		}
	}
	if b.signer == "" {
		return
	}
	var s *SignerSeen
	for i := range r.Signers {
		if r.Signers[i].Fingerprint == b.signer {
			s = &r.Signers[i]
			break
		}
	}
	if s == nil {
		s = seen(trust.nameOf(b.signer, b.keys[b.signer].Signer.KeyID), b.signer)
	}
	s.Bundle = true
	from := len(c.answers)
	c.trustBundle(trust, b.signer, b.root.Get("built_at").Text())
	note(s, from)
}
