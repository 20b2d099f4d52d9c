package pith

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/openpith/evidence/pith/internal/canon"
	"github.com/openpith/evidence/pith/ots"
)

// Event types whose payloads carry a schema of their own (spec §4.5).
const (
	TypeAuthorAttestation  = "author_attestation"
	TypeTimestampAnchor    = "timestamp_anchor"
	TypeStorageAttestation = "storage_attestation"
	TypeCitationSignature  = "citation_signature"
	TypeCorrection         = "correction"
	TypeMirrorHint         = "mirror_hint"
)

// Relations are what a citing work can do with the cited one, as published.
var Relations = []string{"supports", "refutes", "extends", "uses_method", "depends_on", "replaces", "compares", "cites"}

// CorrectionKinds are the kinds of correction.
var CorrectionKinds = []string{"erratum", "clarification", "metadata", "withdrawal", "retraction"}

// A Payload is what one event says, in the version of its schema that this
// package knows. The JSON of a payload type has the members of spec §4; NewDraft
// adds schema where it is missing.
type Payload interface {
	// EventType returns the type of event that carries the payload.
	EventType() string
}

// An AuthorAttestation says that its signer is an author (spec §4.7).
type AuthorAttestation struct {
	Name      string   `json:"name"`
	Identity  Identity `json:"identity"`
	Position  int      `json:"position,omitempty"` // in the byline, from 1 to 1,000,000; 0: not said
	Statement string   `json:"statement,omitempty"`
}

// An Identity is a name that some register gives to a person.
type Identity struct {
	Scheme string `json:"scheme"` // orcid, email, x or apple
	Value  string `json:"value"`
}

// A TimestampAnchor proves that something existed at a time (spec §4.8). It is
// also what stands in timestamp_proofs of a bundle.
type TimestampAnchor struct {
	Method       string `json:"method"` // opentimestamps
	Of           string `json:"of"`     // record, or an event id
	DigestSHA256 string `json:"digest_sha256"`
	Proof        []byte `json:"proof_b64"` // the .ots file
}

// A StorageAttestation says where a copy lies (spec §4.9).
type StorageAttestation struct {
	Archive       string `json:"archive"`
	URL           string `json:"url"`
	StoredAt      string `json:"stored_at"`
	ContentSHA256 string `json:"content_sha256,omitempty"`
	MediaType     string `json:"media_type,omitempty"`
}

// A CitationSignature says that another work cites this one (spec §4.10).
type CitationSignature struct {
	Relation  string `json:"relation"` // one of Relations
	Citing    Work   `json:"citing"`
	Claim     string `json:"claim,omitempty"`
	Statement string `json:"statement,omitempty"`
}

// A Work is a work somewhere else.
type Work struct {
	Kind  string `json:"kind"` // pith, arxiv, doi or url
	ID    string `json:"id"`
	Title string `json:"title,omitempty"`
}

// A Correction says what is not as it should be (spec §4.11).
type Correction struct {
	Kind  string `json:"kind"` // one of CorrectionKinds
	Text  string `json:"text"`
	Claim string `json:"claim,omitempty"`
	About string `json:"about,omitempty"` // the id of the event that is meant
	URL   string `json:"url,omitempty"`
}

// A MirrorHint says where else the bundle can be had (spec §4.12).
type MirrorHint struct {
	Name               string `json:"name"`
	MirrorType         string `json:"mirror_type"`
	BundleURL          string `json:"bundle_url"`
	BaseURL            string `json:"base_url,omitempty"`
	StateURL           string `json:"state_url,omitempty"`
	WellKnownBundleURL string `json:"well_known_bundle_url,omitempty"`
	Status             string `json:"status,omitempty"`
}

// A ReplicationRecord is what every replication says (spec §4.6). The payloads of
// package replicate say more.
type ReplicationRecord struct {
	Claim         Claim  `json:"claim"`
	Outcome       string `json:"outcome"` // one of Outcomes
	Statement     string `json:"statement,omitempty"`
	PlanSHA256    string `json:"plan_sha256"`
	ResultsSHA256 string `json:"results_sha256"`
}

// A Claim is what was put to the test.
type Claim struct {
	ID     string `json:"id"`
	Text   string `json:"text"`
	Source string `json:"source"` // where in the paper it stands
}

// EventType returns TypeAuthorAttestation.
func (AuthorAttestation) EventType() string { return TypeAuthorAttestation }

// EventType returns TypeTimestampAnchor.
func (TimestampAnchor) EventType() string { return TypeTimestampAnchor }

// EventType returns TypeStorageAttestation.
func (StorageAttestation) EventType() string { return TypeStorageAttestation }

// EventType returns TypeCitationSignature.
func (CitationSignature) EventType() string { return TypeCitationSignature }

// EventType returns TypeCorrection.
func (Correction) EventType() string { return TypeCorrection }

// EventType returns TypeMirrorHint.
func (MirrorHint) EventType() string { return TypeMirrorHint }

// EventType returns TypeReplicationRecord.
func (ReplicationRecord) EventType() string { return TypeReplicationRecord }

// payloadTypes has a zero value of each payload type.
var payloadTypes = map[string]Payload{
	TypeAuthorAttestation:  AuthorAttestation{},
	TypeTimestampAnchor:    TimestampAnchor{},
	TypeStorageAttestation: StorageAttestation{},
	TypeCitationSignature:  CitationSignature{},
	TypeCorrection:         Correction{},
	TypeMirrorHint:         MirrorHint{},
	TypeReplicationRecord:  ReplicationRecord{},
	TypeRecordCreated:      RecordCreated{},
	TypeGraphSnapshot:      GraphSnapshot{},
}

// TargetOf returns what events of a type are about where nothing else is said: the
// whole record, for nearly all of them.
func TargetOf(eventType string) string {
	switch eventType {
	case TypeGraphSnapshot:
		return "graph"
	case TypeReplicationRecord:
		return "replication"
	}
	return "record"
}

// NewPayload returns a pointer to a zero payload for events of a type, to be
// filled from JSON. ok is false for types whose payload this package does not
// construct.
func NewPayload(eventType string) (p Payload, ok bool) {
	zero, ok := payloadTypes[eventType]
	if !ok {
		return nil, false
	}
	return reflect.New(reflect.TypeOf(zero)).Interface().(Payload), true
}

// How identifiers of arXiv, new and old, and DOIs look. Readers do not ask: what
// is no identifier today may be one tomorrow. Authors are asked, because most of
// what looks otherwise is a slip.
var (
	arxivForm = regexp.MustCompile(`^(?:[0-9]{4}\.[0-9]{4,5}|[a-z-]+(?:\.[A-Z]{2})?/[0-9]{7})(?:v[1-9][0-9]*)?$`)
	doiForm   = regexp.MustCompile(`^10\.[0-9]{4,9}(?:\.[0-9]+)*/\S+$`)
)

// ErrIdentifier reports a text that does not look like what it should identify.
var ErrIdentifier = errors.New("not an identifier of that kind")

func (w Work) check() error {
	form, example := arxivForm, "1805.07898 or hep-th/9901001"
	switch w.Kind {
	case "doi":
		form, example = doiForm, "10.48550/arXiv.1805.07898"
	case "arxiv":
	default:
		return nil // a reader asks about the others
	}
	if form.MatchString(w.ID) {
		return nil
	}
	return fmt.Errorf("%q does not look like %s: %w", w.ID, example, ErrIdentifier)
}

// NewDraft returns an event that says p, about the target that the specification
// gives to its type. Append asks whether p may be said. The error is ErrIdentifier for a cited work whose arXiv
// id or DOI does not look like one.
func NewDraft(p Payload, createdAt time.Time) (Draft, error) {
	var err error
	switch p := p.(type) {
	case CitationSignature:
		err = p.Citing.check()
	case *CitationSignature:
		err = p.Citing.check()
	}
	if err != nil {
		return Draft{}, fmt.Errorf("citing.id: %w", err)
	}
	text, err := json.Marshal(p)
	if err != nil {
		return Draft{}, fmt.Errorf("payload of %s: %w", p.EventType(), err)
	}
	doc, err := canon.Parse(text)
	if err != nil {
		return Draft{}, fmt.Errorf("payload of %s: %w", p.EventType(), err)
	}
	var members []canon.Member
	for v := range doc.Root().Children() {
		members = append(members, canon.Member{Name: v.Name(), Value: v.Canonical()})
	}
	if schema := schemaOf(p.EventType()); schema != "" && !doc.Root().Get("schema").Exists() {
		members = append(members, canon.Member{Name: "schema", Value: canon.Quote(schema)})
	}
	return Draft{Type: p.EventType(), Target: TargetOf(p.EventType()), Payload: canon.Build(members...), CreatedAt: createdAt}, nil
}

// Typed returns what the event says, when it is valid and its payload follows a
// schema that this package knows.
func (s Statement) Typed() (p Payload, ok bool) {
	p, ok = NewPayload(s.Type)
	if !ok || s.Invalid != "" {
		return nil, false
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if want := schemaOf(s.Type); want != "" && (Decode(s.Payload, &head) != nil || head.Schema != want) {
		return nil, false
	}
	if Decode(s.Payload, p) != nil {
		return nil, false
	}
	return p, true
}

// A Withdrawal is an event by which somebody takes the paper back.
type Withdrawal struct {
	Statement
	Correction // of kind withdrawal or retraction
}

// Withdrawals returns the events that take back the paper or a claim of it, in
// the order of History: what a reader must not miss. Whoever signed them may lie,
// which Trusted tells. Corrections about another event are not among them.
func (r *Result) Withdrawals() []Withdrawal {
	var out []Withdrawal
	for _, s := range r.History {
		if s.Type != TypeCorrection || s.Superseded {
			continue
		}
		p, _ := s.Typed()
		if c, ok := p.(*Correction); ok && (c.Kind == "withdrawal" || c.Kind == "retraction") && c.About == "" {
			out = append(out, Withdrawal{s, *c})
		}
	}
	return out
}

// schemaOf is the schema of payloads of a type (spec §4.5); the two types whose
// payloads are Pith's have none.
func schemaOf(eventType string) string {
	if eventType == TypeRecordCreated || eventType == TypeGraphSnapshot {
		return ""
	}
	return eventType + "/1"
}

// statementFields has what a payload of the known schema must hold.
var statementFields = map[string][]field{
	TypeReplicationRecord: {
		object("claim"),
		oneOf("outcome", Outcomes...),
		hexDigest("plan_sha256"),
		hexDigest("results_sha256"),
	},
	TypeAuthorAttestation: {word("name"), object("identity"), optional(byline("position")), optional(prose("statement"))},
	TypeTimestampAnchor: {
		constant("method", "opentimestamps"),
		{"of", "record or an event id", func(v canon.Value) bool { return v.Is("record") || isEventID(v.Text()) }},
		hexDigest("digest_sha256"),
		text("proof_b64"),
	},
	TypeStorageAttestation: {word("archive"), address("url"), instant("stored_at"), optional(hexDigest("content_sha256")), optional(word("media_type"))},
	TypeCitationSignature:  {oneOf("relation", Relations...), object("citing"), optional(word("claim")), optional(prose("statement"))},
	TypeCorrection: {
		oneOf("kind", CorrectionKinds...),
		prose("text"),
		optional(word("claim")),
		optional(field{"about", "an event id", func(v canon.Value) bool { return isEventID(v.Text()) }}),
		optional(address("url")),
	},
	TypeMirrorHint: {
		word("name"),
		word("mirror_type"),
		address("bundle_url"),
		optional(address("base_url")),
		optional(address("state_url")),
		optional(address("well_known_bundle_url")),
		optional(word("status")),
	},
}

var identityFields = []field{oneOf("scheme", "orcid", "email", "x", "apple"), word("value")}

var citingFields = []field{oneOf("kind", "pith", "arxiv", "doi", "url"), word("id"), optional(prose("title"))}

// statement asks what the schema of a payload promises. Payloads of other
// schemas are left to those who know them.
func (c *checks) statement(path place, fields []field, e *event, rec *record) {
	payload := e.value.Get("payload")
	if !payload.Get("schema").Is(schemaOf(e.kind)) {
		c.failure(answer{code: CodePayloadSchema, at: path.at("schema").number, expected: schemaOf(e.kind), got: describe(payload.Get("schema"))})
		return
	}
	if !c.shape(CodePayloadShape, path, payload, fields) {
		return
	}
	switch e.kind {
	case TypeAuthorAttestation:
		c.identityOf(path.at("identity"), payload.Get("identity"))
	case TypeTimestampAnchor:
		e.proof = c.anchor(path, payload, rec, &c.proofs)
	case TypeStorageAttestation:
		c.storage(path, payload)
	case TypeCitationSignature:
		c.citing(path.at("citing"), payload.Get("citing"), rec)
	case TypeMirrorHint:
		if !strings.Contains(payload.Get("bundle_url").Text(), rec.suffix) {
			c.fail(CodePayloadRecord, path.at("bundle_url"), "not an address of "+rec.suffix)
		}
	}
}

func (c *checks) identityOf(path place, v canon.Value) {
	if !c.shape(CodePayloadShape, path, v, identityFields) {
		return
	}
	value := v.Get("value").Text()
	switch {
	case v.Get("scheme").Is("orcid") && !isORCID(value):
		c.failure(answer{code: CodePayloadShape, at: path.at("value").number, expected: "an ORCID iD like 0000-0002-1825-0097", got: short(value)})
	case v.Get("scheme").Is("email") && !isEmail(value):
		c.failure(answer{code: CodePayloadShape, at: path.at("value").number, expected: "an e-mail address", got: short(value)})
	}
}

var orcidForm = regexp.MustCompile(`^[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{3}[0-9X]$`)

// isORCID checks form and check digit, ISO 7064 MOD 11-2.
func isORCID(s string) bool {
	if !orcidForm.MatchString(s) {
		return false
	}
	total := 0
	digits := strings.ReplaceAll(s, "-", "")
	for _, d := range digits[:15] {
		total = (total + int(d-'0')) * 2
	}
	return "0123456789X"[(12-total%11)%11] == digits[15]
}

func isEmail(s string) bool {
	name, host, found := strings.Cut(s, "@")
	return found && name != "" && host != "" && !strings.Contains(host, "@") && !hasBlank(s)
}

// anchor reads the proof of a timestamp; nil if it is none of this record. When
// the budget is spent, the bundle is not judged at all.
func (c *checks) anchor(path place, v canon.Value, rec *record, budget *ots.Budget) *ots.Proof {
	want := rec.sha256
	if of := v.Get("of").Text(); of != "record" {
		want = strings.TrimPrefix(of, eventIDPrefix)
	}
	digest := v.Get("digest_sha256").Text()
	if !c.equal(CodePayloadRecord, path.at("digest_sha256"), want, digest) {
		return nil
	}
	path = path.at("proof_b64")
	file, err := decodeStrict(v.Get("proof_b64").Text())
	if err != nil {
		c.fail(CodeTimestampProof, path, err.Error())
		return nil
	}
	proof, err := budget.Parse(file)
	if err != nil {
		c.fail(CodeTimestampProof, path, err.Error())
		return nil
	}
	got := fmt.Sprintf("%s %x", proof.Hash, proof.Digest())
	if !c.equal(CodeTimestampProof, path, "sha256 "+digest, got) {
		return nil
	}
	return proof
}

func (c *checks) storage(path place, v canon.Value) {
	if !v.Get("archive").Is("internet_archive") {
		return
	}
	at, _ := parseTime(v.Get("stored_at").Text())
	want := "https://web.archive.org/web/" + at.Format("20060102150405") + "/"
	if url := v.Get("url").Text(); !strings.HasPrefix(url, want) || url == want {
		c.failure(answer{code: CodePayloadShape, at: path.at("url").number, expected: want + "…", got: short(url)})
	}
}

var numberForm = regexp.MustCompile(`^pith:[0-9]{4}:[A-Z2-7]{26}$`)

func (c *checks) citing(path place, v canon.Value, rec *record) {
	if !c.shape(CodePayloadShape, path, v, citingFields) {
		return
	}
	id, self := v.Get("id").Text(), false
	same := func(kind string) bool {
		want, ok := rec.alias(kind)
		return ok && strings.Join(want[:], "") == id
	}
	switch v.Get("kind").Text() {
	case "pith":
		if !numberForm.MatchString(id) {
			c.failure(answer{code: CodePayloadShape, at: path.at("id").number, expected: "a Pith Number like pith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM", got: short(id)})
		}
		self = id == rec.number
	case "arxiv":
		self = same("arxiv") || same("arxiv_version")
	case "doi":
		id = lower(id)
		self = same("doi")
	case "url":
		if !isAddress(id) {
			c.failure(answer{code: CodePayloadShape, at: path.at("id").number, expected: "an https address", got: short(id)})
		}
	}
	if self {
		c.fail(CodePayloadRecord, path.at("id"), "a record does not cite itself")
	}
}

// timestampProofs asks about the proofs of a bundle (spec §7.8) and returns the
// good ones.
func (c *checks) timestampProofs(list canon.Value, rec *record) []*ots.Proof {
	var proofs []*ots.Proof
	i := 0
	for v := range list.Children() {
		path := c.at("timestamp_proofs").item(i)
		i++
		var asked checks
		var proof *ots.Proof
		switch {
		case !v.Get("schema").Is(schemaOf(TypeTimestampAnchor)):
			c.fail(CodeProofs, path, "not of the schema "+schemaOf(TypeTimestampAnchor))
			continue
		case asked.shape(CodePayloadShape, asked.root(), v, statementFields[TypeTimestampAnchor]):
			proof = asked.anchor(asked.root(), v, rec, &c.proofs)
		}
		if failure := asked.firstFailure(); failure != nil {
			c.fail(CodeProofs, path, (&CheckError{*failure}).Error())
			continue
		}
		c.pass(CodeProofs, path)
		proofs = append(proofs, proof)
	}
	return proofs
}

const eventIDPrefix = "sha256:"

func isEventID(s string) bool {
	digest, ok := strings.CutPrefix(s, eventIDPrefix)
	return ok && isHex(digest, 64)
}
