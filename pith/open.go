package pith

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openpith/evidence/pith/internal/canon"
)

// A RecordCreated opens a record (spec §4.2). NewRecordCreated makes one.
type RecordCreated struct {
	CanonicalRecord  json.RawMessage `json:"canonical_record"`
	CanonicalSHA256  string          `json:"canonical_sha256"`
	Receipt          Receipt         `json:"receipt"`
	SourceKind       string          `json:"source_kind"`
	SourceID         string          `json:"source_id"`
	SourceVersion    json.Number     `json:"source_version"`
	AttestationState string          `json:"attestation_state"`
}

// A Receipt is a signature over the digest of a canonical record.
type Receipt struct {
	Kind                 string `json:"kind"`
	ReceiptVersion       string `json:"receipt_version"`
	BuilderVersion       string `json:"builder_version"`
	CanonicalSHA256      string `json:"canonical_sha256"`
	FirstComputedAt      string `json:"first_computed_at"`
	LastReissuedAt       string `json:"last_reissued_at"`
	SignatureStatus      string `json:"signature_status"`
	Algorithm            string `json:"algorithm"`
	KeyID                string `json:"key_id"`
	PublicKeyFingerprint string `json:"public_key_fingerprint"`
	SignatureB64         string `json:"signature_b64"`
	SignedMessage        string `json:"signed_message"`
	SignedAt             string `json:"signed_at"`
}

// A GraphSnapshot says what a paper is about (spec §4.3). NewGraphSnapshot makes
// one. What the specification leaves open is kept as it is.
type GraphSnapshot struct {
	Graph     Graph           `json:"graph_snapshot"`
	VerdictID json.RawMessage `json:"verdict_id"`
}

// A Graph is the inner object of a GraphSnapshot.
type Graph struct {
	Paper          Paper           `json:"paper"`
	Claims         json.RawMessage `json:"claims"`
	Source         json.RawMessage `json:"source"`
	Verdict        json.RawMessage `json:"verdict"`
	References     json.RawMessage `json:"references"`
	FormalCanon    json.RawMessage `json:"formal_canon"`
	AuthorClaims   json.RawMessage `json:"author_claims"`
	BuilderVersion string          `json:"builder_version"`
}

// A Paper is what people read of a paper, and what its record says in addition.
type Paper struct {
	Title           string   `json:"title"`
	License         string   `json:"license"`
	Headline        string   `json:"headline"`
	CrossCats       []string `json:"cross_cats"`
	PrimaryCat      string   `json:"primary_cat"`
	AuthorsText     string   `json:"authors_text"` // not in the order of the byline (spec §4.4)
	SubmittedAt     string   `json:"submitted_at"`
	AbstractExcerpt string   `json:"abstract_excerpt"` // at most 600 characters
}

// EventType returns TypeRecordCreated.
func (RecordCreated) EventType() string { return TypeRecordCreated }

// EventType returns TypeGraphSnapshot.
func (GraphSnapshot) EventType() string { return TypeGraphSnapshot }

// builderVersion names the program in receipts and snapshots.
const builderVersion = "openpith-evidence-1"

// readRecord is Number that returns all of the record.
func readRecord(data []byte) (*record, error) {
	doc, err := canon.Parse(data)
	if err != nil {
		return nil, err
	}
	var c checks
	r := c.record(c.root(), doc.Root())
	if r == nil {
		return nil, &CheckError{*c.firstFailure()}
	}
	return r, nil
}

// NewRecordCreated returns the payload by which key opens a record, or joins those
// who did. Errors are those of Number.
func NewRecordCreated(record []byte, key *PrivateKey, at time.Time) (RecordCreated, error) {
	r, err := readRecord(record)
	if err != nil {
		return RecordCreated{}, err
	}
	second := at.UTC().Format(secondsFormat)
	p := RecordCreated{
		CanonicalRecord: r.Canonical(), CanonicalSHA256: r.sha256,
		SourceKind: r.kind.Text(), SourceID: r.id.Text(), SourceVersion: json.Number(r.version.Canonical()),
		AttestationState: "computed",
		Receipt:          Receipt{Kind: "pith_receipt", ReceiptVersion: "0.3", BuilderVersion: builderVersion, CanonicalSHA256: r.sha256, FirstComputedAt: second, LastReissuedAt: second},
	}
	return p, Decode(key.sign(signsRecord, r.digest, at), &p.Receipt)
}

// NewGraphSnapshot returns the payload that gives a record its title, authors and
// abstract in clear, with everything that the record says about the paper. Of the
// abstract it keeps what an excerpt holds. Errors are those of Number; Append asks
// whether title and abstract are those of the record.
func NewGraphSnapshot(record []byte, title, authors, abstract string) (GraphSnapshot, error) {
	r, err := readRecord(record)
	if err != nil {
		return GraphSnapshot{}, err
	}
	excerpt := abstract
	if runes := []rune(abstract); len(runes) > maxExcerpt {
		excerpt = string(runes[:maxExcerpt])
	}
	p := Paper{
		Title: title, AuthorsText: authors, AbstractExcerpt: excerpt,
		License: r.license.Text(), PrimaryCat: r.primaryCat.Text(), SubmittedAt: r.submittedAt.Text(), CrossCats: []string{},
	}
	for v := range r.crossCats.Children() {
		p.CrossCats = append(p.CrossCats, v.Text())
	}
	empty := func(count string) json.RawMessage {
		return canon.Build(canon.Member{Name: count, Value: []byte("0")}, canon.Member{Name: "snapshot_sha256", Value: canon.Quote(emptySnapshot)})
	}
	return GraphSnapshot{VerdictID: json.RawMessage("null"), Graph: Graph{
		Paper: p, Source: r.source.Canonical(), Verdict: json.RawMessage("{}"), BuilderVersion: builderVersion,
		Claims: empty("count"), References: empty("count"), AuthorClaims: empty("count"), FormalCanon: empty("evidence_count"),
	}}, nil
}

// A Publication is a paper as a record names it, with title and abstract in clear,
// of which the record holds the digests (spec §2.1).
type Publication struct {
	Kind, ID        string    // where it is, like "arxiv" and "1805.07898"
	Version         int       // from 1
	SubmittedAt     time.Time // of version 1
	Categories      []string  // the primary one first
	License         string    // an address, or ""
	Title, Abstract string
}

// Record returns the canonical record of the publication. The error is a
// *CheckError that says what the record must have, or ErrIdentifier for an id of
// arXiv or a DOI that does not look like one.
func (p Publication) Record() ([]byte, error) {
	id := Work{Kind: p.Kind, ID: p.ID}
	if p.Kind == "arxiv" {
		id.ID += "v1" // so that an id with a version has two, which is no id
	}
	if err := id.check(); err != nil {
		return nil, fmt.Errorf("source.id: %w", err)
	}
	primary, others := "", []string{}
	if len(p.Categories) > 0 {
		primary, others = p.Categories[0], append(others, p.Categories[1:]...)
		slices.Sort(others)
	}
	abstract := strings.TrimSpace(strings.ReplaceAll(p.Abstract, "\n", " "))
	text, err := json.Marshal(map[string]any{
		"schema_version": "1.0",
		"source":         map[string]any{"kind": p.Kind, "id": p.ID, "version": p.Version},
		"metadata": map[string]any{
			"submitted_at": p.SubmittedAt.UTC().Format(secondsFormat), "primary_cat": primary, "cross_cats_sorted": others, "license": p.License,
			"title_canon_sha256": hexOf(lower(p.Title)), "abstract_canon_sha256": hexOf(lower(abstract)),
		},
	})
	if err != nil {
		return nil, err
	}
	r, err := readRecord(text)
	if err != nil {
		return nil, err
	}
	return r.Canonical(), nil
}

// Open returns the first bundle of a record: the event by which key opens it, the
// drafts behind that, and the signature over the whole. Everything else that a
// bundle holds follows from the record. Errors are those of Number and Append.
func Open(record []byte, key *PrivateKey, at time.Time, drafts ...Draft) (newBundle []byte, eventIDs []string, err error) {
	r, err := readRecord(record)
	if err != nil {
		return nil, nil, err
	}
	opening, err := NewRecordCreated(record, key, at)
	if err != nil {
		return nil, nil, err
	}
	draft, err := NewDraft(opening, at)
	if err != nil {
		return nil, nil, err
	}
	event, id, err := key.signEvent(draft, r.number, at)
	if err != nil {
		return nil, nil, err
	}
	aliases, err := canon.Parse(r.aliases(at))
	if err != nil {
		return nil, nil, err
	}
	u := r.union()
	u.aliases = append(u.aliases, aliases.Root())
	newBundle, err = u.adopt([][]byte{event}, [][]byte{key.Public().entry()})
	if err == nil {
		newBundle, err = Sign(newBundle, key, at)
	}
	var refused *RefusedError
	var syntax *SyntaxError
	switch {
	case errors.As(err, &refused):
		return nil, nil, &RefusedError{"the new bundle", refused.Check, true}
	case errors.As(err, &syntax):
		return nil, nil, &RefusedError{"the new bundle", Check{Code: Code(syntax.Reason), IfFailed: Unreadable, Detail: syntax.Detail}, true}
	case err != nil:
		return nil, nil, err
	}
	if len(drafts) == 0 {
		return newBundle, []string{id}, nil
	}
	newBundle, eventIDs, err = Append(newBundle, key, at, drafts...)
	if err != nil {
		return nil, nil, err
	}
	return newBundle, append([]string{id}, eventIDs...), nil
}

// union is what follows from the record, and no event.
func (r *record) union() *union {
	u := newUnion()
	u.record = r
	u.builtAt = "0001-01-01T00:00:00Z" // no bundle can be older
	u.members = map[string][]byte{
		"bundle_type":       canon.Quote(bundleType),
		"bundle_version":    canon.Quote(bundleVersion),
		"merge_version":     canon.Quote(MergeVersion),
		"pith_number":       canon.Quote(r.number),
		"short_pith_number": canon.Quote("pith:" + r.suffix[:8]),
		"canonical_record":  r.Canonical(),
		"canonical_sha256":  canon.Quote(r.sha256),
		"source":            r.source.Canonical(),
		"links":             canon.Build(),
	}
	return u
}

// aliasKinds are the kinds that can follow from a record, sorted.
var aliasKinds = []string{"arxiv", "arxiv_version", "doi", "pith_short_12", "pith_short_16", "pith_short_8"}

// names are all aliases that follow from the record.
func (r *record) names() (list []Alias) {
	for _, kind := range aliasKinds {
		if parts, ok := r.alias(kind); ok {
			list = append(list, Alias{kind, strings.Join(parts[:], "")})
		}
	}
	return list
}

// aliases are the names as a bundle has them, as of a time.
func (r *record) aliases(at time.Time) []byte {
	var list [][]byte
	for _, a := range r.names() {
		list = append(list, canon.Build(
			canon.Member{Name: "alias_kind", Value: canon.Quote(a.Kind)},
			canon.Member{Name: "alias_value", Value: canon.Quote(a.Value)},
			canon.Member{Name: "created_at", Value: canon.Quote(at.UTC().Format(secondsFormat))},
		))
	}
	return canon.BuildArray(list...)
}
