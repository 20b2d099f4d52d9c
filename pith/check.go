package pith

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/openpith/evidence/pith/internal/canon"
	"github.com/openpith/evidence/pith/internal/ed25519x"
	"github.com/openpith/evidence/pith/ots"
)

// A Code names a check and, where the check failed, the reason. Codes are
// stable: spec §9 lists them, states carry them, programs compare them.
type Code string

// The codes of all checks. What a failure means for the verdict stands in the
// table below; what it means for people, and what to do, in Explain.
const (
	CodeBundleType   Code = "bundle_type"
	CodeBundleShape  Code = "bundle_shape"
	CodeListLength   Code = "list_length"
	CodeMember       Code = "unknown_member"
	CodeRecordShape  Code = "record_shape"
	CodeRecordDigest Code = "canonical_sha256"
	CodeNumber       Code = "pith_number"
	CodeShortNumber  Code = "short_pith_number"
	CodeSource       Code = "source"
	CodeAlias        Code = "alias"
	CodeLocator      Code = "locator"
	CodeProofs       Code = "timestamp_proofs"
	CodeProofLimit   Code = "timestamp_limit"

	CodeKeyShape     Code = "key_shape"
	CodeKeyForms     Code = "key_forms"
	CodeKeyDuplicate Code = "key_duplicate"
	CodeKeyName      Code = "key_name"

	CodeSignatureShape  Code = "signature_shape"
	CodeSignatureSigner Code = "signature_signer"
	CodeSignatureKey    Code = "signature_key"
	CodeSignature       Code = "signature"

	CodeEventShape     Code = "event_shape"
	CodeEventVersion   Code = "event_version"
	CodeEventSubject   Code = "event_subject"
	CodeEventDigest    Code = "event_digest"
	CodeEventID        Code = "event_id"
	CodeEventDuplicate Code = "event_duplicate"

	CodePayloadShape   Code = "payload_shape"
	CodePayloadSchema  Code = "payload_schema"
	CodePayloadRecord  Code = "payload_record"
	CodeTimestampProof Code = "timestamp_proof"
	CodeReceiptDigest  Code = "receipt_digest"
	CodeGraphTitle     Code = "graph_title"
	CodeGraphTitleRaw  Code = "graph_title_unicode"
	CodeGraphAbstract  Code = "graph_abstract"
	CodeGraphPaper     Code = "graph_paper"
	CodeGraphEmpty     Code = "graph_empty_snapshot"
	CodeGraphSnapshot  Code = "graph_snapshot_sha256"

	CodeSupersedesTarget Code = "supersedes_target"
	CodeSupersedesSigner Code = "supersedes_signer"
	CodeLinkCycle        Code = "link_cycle"
	CodePrevSigner       Code = "prev_event_signer"
	CodePrevMissing      Code = "prev_event_missing"

	CodeRecordCreated Code = "record_created"
	CodeState         Code = "state"
	CodeStateDigest   Code = "state_sha256"
	CodeBundleDigest  Code = "bundle_sha256"

	CodeTrustKey           Code = "trust_key"
	CodeTrustImpersonation Code = "trust_impersonation"
	CodeTrustName          Code = "trust_name"
	CodeTrustEventType     Code = "trust_event_type"
	CodeTrustBundle        Code = "trust_bundle"
	CodeTrustWindow        Code = "trust_window"
	CodeTrustRevoked       Code = "trust_revoked"
	CodeTrustFile          Code = "trust_file"

	CodeKeyDocument          Code = "key_document"
	CodeKeyDocumentDigest    Code = "key_document_sha256"
	CodeKeyDocumentSignature Code = "key_document_signature"
	CodeKeyRotation          Code = "key_rotation"
)

// codes says what each check asks, which verdict a failure leads to (Valid: it
// is worth knowing and decides nothing), and what a person can do about it.
var codes = map[Code]struct {
	ifFailed Verdict
	asks     string
	hint     string
}{
	Code(canon.ReasonSyntax):        {Unreadable, "the input is JSON", hintCopy},
	Code(canon.ReasonTruncated):     {Unreadable, "the input is complete", "the file was cut short; fetch it again"},
	Code(canon.ReasonTrailing):      {Unreadable, "nothing follows the JSON value", "check one bundle per file, or one per line with --lines"},
	Code(canon.ReasonBOM):           {Unreadable, "the input starts without byte-order mark", "remove the first three bytes"},
	Code(canon.ReasonUTF8):          {Unreadable, "the input is UTF-8", hintCopy},
	Code(canon.ReasonSurrogate):     {Unreadable, "escapes form whole characters", hintReader},
	Code(canon.ReasonDuplicateName): {Unreadable, "no object has a name twice", hintReader},
	Code(canon.ReasonNotFinite):     {Unreadable, "numbers fit float64", hintReader},
	Code(canon.ReasonNumberLength):  {Unreadable, "numbers keep to the length limit", "the limits stand in spec/10-limits.md"},
	Code(canon.ReasonDepth):         {Unreadable, "nesting keeps to the depth limit", "the limits stand in spec/10-limits.md"},
	Code(canon.ReasonSize):          {Unreadable, "the input keeps to the size limit", "the limits stand in spec/10-limits.md"},
	Code(canon.ReasonValues):        {Unreadable, "the input keeps to the limit of values", "the limits stand in spec/10-limits.md"},

	CodeBundleType:   {Unreadable, "this is a Pith bundle of a known version", "check that the file is a bundle.json; a newer format needs a newer pith"},
	CodeBundleShape:  {Rejected, "the bundle has its members, each of its type", hintCopy},
	CodeListLength:   {Unreadable, "lists keep to the limit of entries", "the limits stand in spec/10-limits.md"},
	CodeMember:       {Valid, "all members are known", "nothing to do: unknown members are kept and covered by the digests"},
	CodeRecordShape:  {Rejected, "the canonical record has its members, each of its type", hintCopy},
	CodeRecordDigest: {Rejected, "canonical_sha256 is the digest of the canonical record", hintCopy},
	CodeNumber:       {Rejected, "the Pith Number follows from the record", hintCopy},
	CodeShortNumber:  {Rejected, "the short number is the start of the Pith Number", hintCopy},
	CodeSource:       {Rejected, "the source is that of the record", hintCopy},
	CodeAlias:        {Rejected, "the alias follows from the record", hintCopy},
	CodeLocator:      {Valid, "links and mirror hints name this record", "do not rely on that address"},
	CodeProofLimit:   {Unreadable, "the timestamp proofs of the bundle together keep within the limit", "a bundle with this many proofs is an attack or a mistake; ask another mirror"},
	CodeProofs:       {Valid, "timestamp proofs of the bundle are proofs of the digest they name", "do not rely on that proof"},

	CodeKeyShape:     {Rejected, "the public key has its members, each of its type", hintCopy},
	CodeKeyForms:     {Rejected, "the forms of the public key and its fingerprint agree", hintCopy},
	CodeKeyDuplicate: {Rejected, "each fingerprint appears once", hintCopy},

	CodeKeyName:         {Valid, "the key goes by the key_id under which it signs", "nothing to do: the fingerprint names the key"},
	CodeSignatureShape:  {Rejected, "the signature has its members and no others", hintCopy},
	CodeSignatureSigner: {Rejected, "the signature names the key of the signer", hintCopy},
	CodeSignatureKey:    {Rejected, "the signing key is among public_keys", "ask the sender for a bundle that carries the key"},
	CodeSignature:       {Rejected, "the signature is good under the named key", "the content or the signature was changed after signing; fetch the bundle again"},

	CodeEventShape:     {Rejected, "the event has its members, each of its type", hintCopy},
	CodeEventVersion:   {Rejected, "the version of the event is known", "a newer format needs a newer pith"},
	CodeEventSubject:   {Rejected, "the event is about this record", "the event belongs to another record"},
	CodeEventDigest:    {Rejected, "content_sha256 is the digest of the event", "the event was changed after signing; fetch the bundle again"},
	CodeEventID:        {Rejected, "event_id is sha256: and the digest of the event", hintCopy},
	CodeEventDuplicate: {Rejected, "each event appears once", "remove the copy and sign the bundle again"},

	CodePayloadShape:   {Rejected, "the payload has the members of its event type", hintCopy},
	CodePayloadSchema:  {Valid, "the payload follows a schema that this version knows", "what is not known is kept, and not read; spec/04-events.md has the schemas to write"},
	CodePayloadRecord:  {Rejected, "the payload repeats this record", hintCopy},
	CodeTimestampProof: {Rejected, "the proof is an OpenTimestamps proof of the digest it names", "look at the proof with pith ots show"},
	CodeReceiptDigest:  {Rejected, "the receipt is for this record", hintCopy},
	CodeGraphTitle:     {Rejected, "the title has the digest that the record holds", "the title shown is not the title that was hashed; look it up at the source"},
	CodeGraphTitleRaw:  {Valid, "a non-ASCII title has the digest that the record holds", "the rule for non-ASCII titles is not published; compare the title at the source"},
	CodeGraphAbstract:  {Valid, "the abstract excerpt fits the record", "only a whole abstract can be checked by its digest; compare it at the source"},
	CodeGraphPaper:     {Valid, "the paper's metadata repeat the record", "the record decides"},
	CodeGraphEmpty:     {Rejected, "the digest of an empty list is that of an empty list", hintCopy},
	CodeGraphSnapshot:  {Valid, "the digest of a list follows the assumed rule", "the rule for non-empty lists is not published"},

	CodeSupersedesTarget: {Rejected, "superseded events are valid events of this record", "add the missing event, or leave this one out"},
	CodeSupersedesSigner: {Rejected, "only the signer supersedes an event", "leave the event out: it tries to replace another signer's statement"},
	CodeLinkCycle:        {Rejected, "events do not precede themselves", hintCopy},
	CodePrevSigner:       {Rejected, "prev_event is an event of the same signer", "leave the event out: it claims another signer's history"},
	CodePrevMissing:      {Valid, "the event before this one is here", "the signer has said more than this bundle holds; ask another mirror"},

	CodeRecordCreated: {Rejected, "a valid record_created event opens the record", "ask another mirror for a complete bundle"},
	CodeState:         {Rejected, "the state is what the events give", "the state was not made from these events; fetch the bundle again"},
	CodeStateDigest:   {Rejected, "state_sha256 is the digest of the state", hintCopy},
	CodeBundleDigest:  {Rejected, "bundle_sha256 is the digest of the bundle", "something in the bundle was changed after signing; fetch it again"},

	CodeTrustKey:             {Untrusted, "the policy knows the key", "if you trust this signer, name a trust file with --trust FILE"},
	CodeTrustImpersonation:   {Untrusted, "no other key is known under this name", "somebody else's key uses a name that you trust: do not believe it without asking the signer"},
	CodeTrustName:            {Untrusted, "the signer uses the name that the policy knows", "ask the signer which name is right"},
	CodeTrustEventType:       {Untrusted, "the policy lets the signer sign such events", "add the event type to the trust file if you agree"},
	CodeTrustBundle:          {Untrusted, "the policy lets the signer sign bundles", "set bundles to true in the trust file if you agree"},
	CodeTrustWindow:          {Untrusted, "the signing time lies in the validity window of the key", "ask the signer for a statement under a current key"},
	CodeTrustRevoked:         {Untrusted, "the key was not revoked when it signed", "ask the signer to sign again with the new key"},
	CodeKeyDocument:          {Unreadable, "the key document has its members and no others", "make it with pith key rotate or pith key revoke"},
	CodeKeyDocumentDigest:    {Unreadable, "document_sha256 is the digest of the key document", "the document was changed after signing; fetch it again"},
	CodeKeyDocumentSignature: {Unreadable, "the signatures of the key document are good", "the document was changed after signing, or its keys are not those it names"},
	CodeKeyRotation:          {Unreadable, "rotations lead from key to key, one way, by keys that may", "keep the key document that you believe, and ask its signer about the other"},
	CodeTrustFile:            {Unreadable, "the trust file has its members and no others", "pith key show --trust prints one that is right; spec/08-trust.md has the form"},
}

const (
	hintCopy   = "the copy is damaged or was changed; fetch it again from its source"
	hintReader = "two readers could see this differently, so no signature can cover it; ask the author to fix it"
)

// Explain says what the check asks and what to do when it fails; ok is false
// for a code that does not exist.
func Explain(code Code) (asks, hint string, ok bool) {
	info, ok := codes[code]
	return info.asks, info.hint, ok
}

// Codes lists the codes of all checks, sorted.
func Codes() []Code { return slices.Sorted(maps.Keys(codes)) }

// IfFailed returns the verdict that a failure of the check leads to: Valid for
// a note.
func (c Code) IfFailed() Verdict { return codes[c].ifFailed }

// A Check is one question that was asked of a bundle, and its answer.
type Check struct {
	Code     Code    `json:"code"`               // which question
	Path     string  `json:"path"`               // JSON Pointer (RFC 6901) to what was asked about; very long names in it are cut
	OK       bool    `json:"ok"`                 //
	IfFailed Verdict `json:"if_failed"`          // the best verdict that a failure leaves; "valid" for a note
	Expected string  `json:"expected,omitempty"` // failures: what was recomputed or required
	Got      string  `json:"got,omitempty"`      // failures: what stands in the bundle
	Detail   string  `json:"detail,omitempty"`   // words for people; not stable
}

// String gives the check in one line, as in "event_digest /events/0/content_sha256".
func (c Check) String() string { return strings.TrimRight(string(c.Code)+" "+c.Path, " ") }

// A CheckError reports the check that stopped an operation.
type CheckError struct{ Check Check }

func (e *CheckError) Error() string {
	s := e.Check.String()
	if e.Check.Detail != "" {
		s += ": " + e.Check.Detail
	}
	if e.Check.Expected != "" {
		s += fmt.Sprintf(": expected %s, got %s", e.Check.Expected, e.Check.Got)
	}
	return s
}

// checks collects answers in the order of asking. Nearly all of them are yes,
// and nobody reads those one by one: so an answer stays small, and its path a
// number, until list spells both out.
type checks struct {
	answers []answer
	steps   []step

	// Signatures that settle will check, and the numbers of the answers that
	// depend on them.
	claims  []ed25519x.Claim
	claimed []int

	proofs ots.Budget // what reading timestamp proofs may still cost

	shorts map[span]string // see shortened

	// Where list lays out the paths.
	text []byte
	ends []int
}

type answer struct {
	code                  Code
	at                    int32 // the place, see place.at
	ok                    bool
	ifFailed              Verdict // for failures alone
	expected, got, detail string
}

// A place is what a check asks about: the path to it through the input.
type place struct {
	c      *checks
	number int32 // of the last step, counted from 1; 0 is the whole input
}

// A step leads from one place to a place inside it.
type step struct {
	from int32  // the number of the step before
	item int32  // which element of an array
	name string // which member of an object, when item is -1
}

// idle holds checks whose room can be used again.
var idle = sync.Pool{New: func() any { return new(checks) }}

// release gives the room of c to others. What list returned stays.
func (c *checks) release() {
	const common = 1 << 12 // answers; the room of larger bundles is given up
	if cap(c.answers) > common || cap(c.steps) > common {
		return
	}
	clear(c.answers) // which hold on to texts of the bundle
	clear(c.steps)
	c.answers, c.steps = c.answers[:0], c.steps[:0]
	c.claims, c.claimed, c.shorts = c.claims[:0], c.claimed[:0], nil
	idle.Put(c)
}

// root is the whole input.
func (c *checks) root() place { return place{c, 0} }

// at is a member of the whole input.
func (c *checks) at(name string) place { return c.root().at(name) }

// at is the member of that name.
func (p place) at(name string) place { return p.step(step{p.number, -1, name}) }

// item is the element of that index.
func (p place) item(i int) place { return p.step(step{p.number, int32(i), ""}) }

func (p place) step(s step) place {
	p.c.steps = append(p.c.steps, s)
	return place{p.c, int32(len(p.c.steps))}
}

// String gives the place as a JSON Pointer (RFC 6901).
func (p place) String() string { return string(p.appendTo(nil)) }

func (p place) appendTo(dst []byte) []byte {
	if p.number == 0 {
		return dst
	}
	s := &p.c.steps[p.number-1]
	return s.appendTo(place{p.c, s.from}.appendTo(dst))
}

// maxPathName is how many bytes of a member's name a path holds in full. Names
// have no other limit than that of the document (spec §9.2).
const maxPathName = 256

func (s *step) appendTo(dst []byte) []byte {
	dst = append(dst, '/')
	if s.item >= 0 {
		return strconv.AppendInt(dst, int64(s.item), 10)
	}
	name := s.name
	if len(name) > maxPathName {
		name = short(name)
	}
	if strings.IndexByte(name, '~') >= 0 || strings.IndexByte(name, '/') >= 0 {
		name = strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
	}
	return append(dst, name...)
}

// pass notes that the answer is yes.
func (c *checks) pass(code Code, path place) bool {
	c.answers = append(c.answers, answer{code: code, at: path.number, ok: true})
	return true
}

// fail notes that the answer is no, and says why in words.
func (c *checks) fail(code Code, path place, detail string) bool {
	return c.failure(answer{code: code, at: path.number, detail: detail})
}

func (c *checks) failure(a answer) bool {
	a.ifFailed = codes[a.code].ifFailed
	c.answers = append(c.answers, a)
	return false
}

// is asks whether ok holds, which detail denies in words.
func (c *checks) is(code Code, path place, ok bool, detail string) bool {
	if ok {
		return c.pass(code, path)
	}
	return c.fail(code, path, detail)
}

// equal asks whether got, which stands in the bundle, is what we expect.
func (c *checks) equal(code Code, path place, expected, got string) bool {
	if expected == got {
		return c.pass(code, path)
	}
	return c.failure(answer{code: code, at: path.number, expected: short(expected), got: short(got)})
}

// equals is equal for an expectation that consists of parts.
func (c *checks) equals(code Code, path place, got string, parts ...string) bool {
	rest, ok := got, true
	for _, part := range parts {
		if rest, ok = strings.CutPrefix(rest, part); !ok {
			break
		}
	}
	if ok && rest == "" {
		return c.pass(code, path)
	}
	return c.equal(code, path, strings.Join(parts, ""), got)
}

// same is equal for values.
func (c *checks) same(code Code, path place, expected, got canon.Value) bool {
	if bytes.Equal(expected.Canonical(), got.Canonical()) {
		return c.pass(code, path)
	}
	return c.failure(answer{code: code, at: path.number, expected: c.shortened(expected.Canonical()), got: short(string(got.Canonical()))})
}

// A span is a piece of the input, wherever it is.
type span struct {
	first *byte
	size  int
}

// shortened is short for what many checks may expect. Thousands of events can
// each be told that they do not repeat a record of megabytes: it is summed up
// once.
func (c *checks) shortened(text []byte) string {
	if len(text) <= shortLimit {
		return string(text)
	}
	key := span{&text[0], len(text)}
	s, known := c.shorts[key]
	if !known {
		if c.shorts == nil {
			c.shorts = map[span]string{}
		}
		s = short(string(text))
		c.shorts[key] = s
	}
	return s
}

// digest is equal for a SHA-256, which bundles hold in hex behind a prefix.
func (c *checks) digest(code Code, path place, prefix string, expected [sha256.Size]byte, got string) bool {
	if digits, ok := strings.CutPrefix(got, prefix); ok && isHexOf(expected, digits) {
		return c.pass(code, path)
	}
	return c.equal(code, path, prefix+hex.EncodeToString(expected[:]), got)
}

// textDigest asks whether the SHA-256 of text is the one that is expected.
func (c *checks) textDigest(code Code, path place, expected, text string) bool {
	var room [1 << 10]byte
	if isHexOf(sha256.Sum256(append(room[:0], text...)), expected) {
		return c.pass(code, path)
	}
	return c.equal(code, path, expected, hexOf(text))
}

// isHexOf reports whether text is the digest in lower-case hexadecimal digits.
func isHexOf(digest [sha256.Size]byte, text string) bool {
	var digits [2 * sha256.Size]byte
	hex.Encode(digits[:], digest[:])
	return string(digits[:]) == text
}

// firstFailure returns the first failure that counts, or nil.
func (c *checks) firstFailure() *Check {
	a := firstFailure(c.answers)
	if a == nil {
		return nil
	}
	check := a.spell(place{c, a.at}.String())
	return &check
}

func firstFailure(answers []answer) *answer {
	for i := range answers {
		if a := &answers[i]; !a.ok && a.ifFailed != Valid {
			return a
		}
	}
	return nil
}

func (a *answer) spell(path string) Check {
	check := Check{Code: a.code, Path: path, OK: a.ok, IfFailed: a.ifFailed, Expected: a.expected, Got: a.got, Detail: a.detail}
	if a.ok {
		check.IfFailed = codes[a.code].ifFailed
	}
	return check
}

// MaxFailures is how many failures of one code and consequence a result lists
// (spec §9.2). A
// stranger's bundle of 200 kB can fail 780,000 times.
const MaxFailures = 1000

// list spells out the answers, all but the failures beyond MaxFailures: the last
// of its code that is listed says how many follow. Their paths are pieces of one
// string, in which every step follows the step before it.
func (c *checks) list() []Check {
	text, ends := c.text[:0], append(c.ends[:0], 0) // of the path to each place; the root's is empty
	path := func(number int32) (from, to int) { return ends[max(number-1, 0)], ends[number] }
	for i := range c.steps {
		s := &c.steps[i]
		from, to := path(s.from)
		text = s.appendTo(append(text, text[from:to]...))
		ends = append(ends, len(text))
	}
	c.text, c.ends = text, ends
	paths := string(text)
	// What a failure leads to is counted apart: a thousand forgiven ones must not
	// hide one that decides. So every verdict follows from the list.
	type kind struct {
		code     Code
		ifFailed Verdict
	}
	var failures map[kind]int
	listed := len(c.answers)
	for i := range c.answers {
		if a := &c.answers[i]; !a.ok {
			if failures == nil {
				failures = map[kind]int{}
			}
			k := kind{a.code, a.ifFailed}
			if failures[k]++; failures[k] > MaxFailures {
				listed--
			}
		}
	}
	list := make([]Check, 0, listed)
	seen := map[kind]int{}
	for i := range c.answers {
		a := &c.answers[i]
		from, to := path(a.at)
		if a.ok {
			list = append(list, a.spell(paths[from:to]))
			continue
		}
		k := kind{a.code, a.ifFailed}
		if seen[k]++; seen[k] > MaxFailures {
			continue
		}
		check := a.spell(paths[from:to])
		if more := failures[k] - MaxFailures; more > 0 && seen[k] == MaxFailures {
			check.Detail = strings.TrimSpace(fmt.Sprintf("%s (and %d more of this code, which are not listed)", check.Detail, more))
		}
		list = append(list, check)
	}
	return list
}

// shortLimit is how many bytes of a text are displayed.
const shortLimit = 200

// short cuts a text for display: strangers decide how long it is. The digest
// keeps two long texts apart that begin alike.
func short(s string) string {
	if len(s) <= shortLimit {
		return s
	}
	cut := shortLimit
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s… (%d bytes, sha256 %s…)", s[:cut], len(s), hexOf(s)[:16])
}
