package pith

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openpith/evidence/pith/internal/canon"
)

// A Trust is a policy: which keys may speak, under which name, in which kinds
// of events, and for how long. It is local. Nothing in a bundle can change it.
type Trust struct {
	written   []trusted     // what the trust files say, ordered by fingerprint
	documents []keyDocument // what the keys themselves say, each once
	signers   []trusted     // what follows from both, ordered by fingerprint
}

// trusted is what the policy says about one key.
type trusted struct {
	fingerprint string
	id, kind    string   // the name and role the key may use
	eventTypes  []string // sorted; anyType alone means every type
	bundles     bool
	from, until time.Time // zero: no limit; until is inclusive
	revoked     time.Time // zero: never; from this second on nothing is believed
}

// anyType in a trust file stands for every event type.
const anyType = "*"

// ErrTrustConflict reports that two policies say different things about a key.
var ErrTrustConflict = errors.New("trust files contradict each other")

// The key of pith.science, as published on its record pages from 2026-05-17 on.
// It is pinned here because a key that travels in a bundle proves nothing.
const (
	pinnedFingerprint = "8d4b5ee74e4693bcd1df2446408b0d54"
	pinnedSigner      = "pith.science"
	pinnedType        = "pith_registry"
)

// PinnedTrust trusts pith.science with everything, and nobody else.
func PinnedTrust() *Trust {
	return policy([]trusted{{
		fingerprint: pinnedFingerprint,
		id:          pinnedSigner,
		kind:        pinnedType,
		eventTypes:  []string{anyType},
		bundles:     true,
	}})
}

// policy is what is written, without key documents.
func policy(written []trusted) *Trust { return &Trust{written: written, signers: written} }

// TrustFor trusts one key under its own name with events of these types, where
// "*" stands for all, and with signing bundles if bundles is true. It sets no
// end; see Within.
func TrustFor(key PublicKey, eventTypes []string, bundles bool) *Trust {
	return policy([]trusted{{
		fingerprint: key.Fingerprint(),
		id:          key.Signer.ID,
		kind:        key.Signer.Type,
		eventTypes:  sortedSet(eventTypes),
		bundles:     bundles,
	}})
}

// Within returns the same policy with a validity window for all keys that it
// names itself: from the first second to the last, both included. A zero time
// sets no limit. Key documents keep their effect; where one was made outside
// the new window the error is a *CheckError.
func (t *Trust) Within(from, until time.Time) (*Trust, error) {
	written := slices.Clone(t.written)
	for i := range written {
		written[i].from, written[i].until = from, until
	}
	return resolve(written, slices.Clone(t.documents))
}

func sortedSet(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}

// Merge trusts what either policy trusts. Where both name one key they must
// agree on its name and window, or the error is ErrTrustConflict; what the key
// may sign is united. Key documents of one policy work on the keys of the other;
// a *CheckError tells which of them cannot stand together.
func (t *Trust) Merge(other *Trust) (*Trust, error) {
	written := slices.Clone(t.written)
	for _, s := range other.written {
		i, found := find(written, s.fingerprint)
		if !found {
			written = slices.Insert(written, i, s)
			continue
		}
		old := &written[i]
		if old.id != s.id || old.kind != s.kind {
			return nil, fmt.Errorf("key %s is %s (%s) and %s (%s): %w", s.fingerprint, old.id, old.kind, s.id, s.kind, ErrTrustConflict)
		}
		if !old.from.Equal(s.from) || !old.until.Equal(s.until) {
			return nil, fmt.Errorf("key %s of %s has two validity windows: %w", s.fingerprint, s.id, ErrTrustConflict)
		}
		old.eventTypes = sortedSet(append(slices.Clone(old.eventTypes), s.eventTypes...))
		old.bundles = old.bundles || s.bundles
	}
	return resolve(written, append(slices.Clone(t.documents), other.documents...))
}

func (t *Trust) find(fingerprint string) (int, bool) { return find(t.signers, fingerprint) }

func find(list []trusted, fingerprint string) (int, bool) {
	return slices.BinarySearchFunc(list, fingerprint, func(s trusted, f string) int { return cmp.Compare(s.fingerprint, f) })
}

// Signer returns the name by which the policy knows a key, with "" for its key id, and
// whether the key may sign bundles; ok is false for a key that it does not know.
func (t *Trust) Signer(fingerprint string) (signer Signer, bundles, ok bool) {
	i, found := t.find(fingerprint)
	if !found {
		return Signer{}, false, false
	}
	return Signer{ID: t.signers[i].id, Type: t.signers[i].kind}, t.signers[i].bundles, true
}

// nameOf returns the name the policy knows for a key, or none.
func (t *Trust) nameOf(fingerprint, keyID string) Signer {
	if i, found := t.find(fingerprint); found {
		return Signer{t.signers[i].id, t.signers[i].kind, keyID}
	}
	return Signer{KeyID: keyID}
}

// key asks whether the policy knows a key that speaks under a name; "" when no
// name is given. An unknown key under a known name is called impersonation. It
// could also be the signer's next key, so it is not rejected, but nobody should
// believe it before the policy says so.
func (c *checks) key(t *Trust, path place, fingerprint, name string) *trusted {
	i, found := t.find(fingerprint)
	if !found {
		for _, s := range t.signers {
			if s.id == name {
				c.failure(answer{code: CodeTrustImpersonation, at: path.number, expected: s.fingerprint, got: fingerprint,
					detail: "a key that the policy does not know signs as " + short(name)})
				return nil
			}
		}
		c.fail(CodeTrustKey, path, "the policy does not know the key "+fingerprint)
		return nil
	}
	c.pass(CodeTrustKey, path)
	return &t.signers[i]
}

func (c *checks) trustEvent(t *Trust, e *event) {
	path := e.path.at("signer")
	s := c.key(t, path, e.fingerprint, e.signer.ID)
	if s == nil {
		return
	}
	c.equal(CodeTrustName, path.at("signer_id"), s.id, e.signer.ID)
	c.equal(CodeTrustName, path.at("signer_type"), s.kind, e.signer.Type)
	_, may := slices.BinarySearch(s.eventTypes, e.kind)
	_, any := slices.BinarySearch(s.eventTypes, anyType)
	if may || any {
		c.pass(CodeTrustEventType, e.path.at("event_type"))
	} else {
		c.fail(CodeTrustEventType, e.path.at("event_type"), s.id+" may not sign "+short(e.kind))
	}
	c.window(s, e.path.at("created_at"), e.createdAt)
}

func (c *checks) trustBundle(t *Trust, fingerprint, builtAt string) {
	s := c.key(t, c.at("bundle_signature"), fingerprint, "")
	if s == nil {
		return
	}
	if s.bundles {
		c.pass(CodeTrustBundle, c.at("bundle_signature"))
	} else {
		c.fail(CodeTrustBundle, c.at("bundle_signature"), s.id+" may not sign bundles")
	}
	if at, ok := parseTime(builtAt); ok { // else bundle_shape has said so
		c.window(s, c.at("built_at"), at)
	}
}

func (c *checks) window(s *trusted, path place, at time.Time) {
	early := !s.from.IsZero() && at.Before(s.from)
	late := !s.until.IsZero() && at.After(s.until)
	if !s.revoked.IsZero() {
		if at.Before(s.revoked) {
			c.pass(CodeTrustRevoked, path)
		} else {
			c.fail(CodeTrustRevoked, path, fmt.Sprintf("signed at %s, the key was revoked at %s", at.Format(time.RFC3339), orOpen(s.revoked)))
		}
	}
	if early || late {
		c.fail(CodeTrustWindow, path, fmt.Sprintf("signed at %s, the key is valid from %s to %s", at.Format(time.RFC3339), orOpen(s.from), orOpen(s.until)))
		return
	}
	c.pass(CodeTrustWindow, path)
}

func orOpen(t time.Time) string {
	if t.IsZero() {
		return "ever"
	}
	return t.UTC().Format(secondsFormat)
}

const (
	trustType    = "pith_trust"
	trustVersion = "1.0"
)

var trustFields = []field{
	constant("trust_type", trustType),
	constant("trust_version", trustVersion),
	array("signers"),
}

var trustedFields = []field{
	field{"fingerprint", "32 lower-case hexadecimal digits", func(v canon.Value) bool { return isHex(v.Text(), 32) }},
	word("signer_id"),
	word("signer_type"),
	strs("event_types"),
	kindField("bundles", canon.Bool),
	nullOr(second("valid_from")),
	nullOr(second("valid_until")),
}

// ParseTrust reads a trust file or a key document (spec §8). It refuses members
// it does not know: a policy that is only half understood is no policy. Errors
// are *SyntaxError or *CheckError.
func ParseTrust(data []byte) (*Trust, error) {
	doc, err := canon.Parse(data)
	if err != nil {
		return nil, err
	}
	var c checks
	root := doc.Root()
	if root.Get("document_type").Exists() {
		d := c.keyDocument(c.root(), root)
		if failure := c.firstFailure(); failure != nil {
			return nil, &CheckError{*failure}
		}
		return resolve(nil, []keyDocument{d})
	}
	fields := trustFields
	if root.Get("key_documents").Exists() {
		fields = append(slices.Clone(fields), array("key_documents"))
	}
	c.closed(CodeTrustFile, c.root(), root, fields)
	var written []trusted
	seen := map[string]bool{}
	i := 0
	for v := range root.Get("signers").Children() {
		path := c.at("signers").item(i)
		i++
		s, ok := c.trusted(path, v)
		if ok && c.is(CodeTrustFile, path, !seen[s.fingerprint], "the fingerprint appears before") {
			seen[s.fingerprint] = true
			written = append(written, s)
		}
	}
	slices.SortFunc(written, func(a, b trusted) int { return cmp.Compare(a.fingerprint, b.fingerprint) })
	var documents []keyDocument
	for v := range root.Get("key_documents").Children() {
		documents = append(documents, c.keyDocument(c.at("key_documents").item(len(documents)), v))
	}
	if failure := c.firstFailure(); failure != nil {
		return nil, &CheckError{*failure}
	}
	return resolve(written, documents)
}

// trusted reads an entry of a trust file.
func (c *checks) trusted(path place, v canon.Value) (s trusted, ok bool) {
	if !c.closed(CodeTrustFile, path, v, trustedFields) {
		return s, false
	}
	s = trusted{
		fingerprint: v.Get("fingerprint").Text(),
		id:          v.Get("signer_id").Text(),
		kind:        v.Get("signer_type").Text(),
		bundles:     string(v.Get("bundles").Canonical()) == "true",
	}
	for e := range v.Get("event_types").Children() {
		s.eventTypes = append(s.eventTypes, e.Text())
	}
	s.eventTypes = sortedSet(s.eventTypes)
	s.from, _ = parseTime(v.Get("valid_from").Text())
	s.until, _ = parseTime(v.Get("valid_until").Text())
	return s, true
}

// JSON returns the policy as a trust file in canonical form: what was written,
// and the key documents as they were.
func (t *Trust) JSON() []byte {
	var signers [][]byte
	for _, s := range t.written {
		var types [][]byte
		for _, e := range s.eventTypes {
			types = append(types, canon.Quote(e))
		}
		bundles := "false"
		if s.bundles {
			bundles = "true"
		}
		signers = append(signers, canon.Build(
			canon.Member{Name: "fingerprint", Value: canon.Quote(s.fingerprint)},
			canon.Member{Name: "signer_id", Value: canon.Quote(s.id)},
			canon.Member{Name: "signer_type", Value: canon.Quote(s.kind)},
			canon.Member{Name: "event_types", Value: canon.BuildArray(types...)},
			canon.Member{Name: "bundles", Value: []byte(bundles)},
			canon.Member{Name: "valid_from", Value: timeOrNull(s.from)},
			canon.Member{Name: "valid_until", Value: timeOrNull(s.until)},
		))
	}
	members := []canon.Member{
		{Name: "trust_type", Value: canon.Quote(trustType)},
		{Name: "trust_version", Value: canon.Quote(trustVersion)},
		{Name: "signers", Value: canon.BuildArray(signers...)},
	}
	if len(t.documents) > 0 {
		var documents [][]byte
		for _, d := range t.documents {
			documents = append(documents, d.text)
		}
		members = append(members, canon.Member{Name: "key_documents", Value: canon.BuildArray(documents...)})
	}
	return canon.Build(members...)
}

func timeOrNull(t time.Time) []byte {
	if t.IsZero() {
		return []byte("null")
	}
	return canon.Quote(t.UTC().Format(secondsFormat))
}

// String lists the signers of the policy, for messages.
func (t *Trust) String() string {
	var names []string
	for _, s := range t.signers {
		names = append(names, s.id+" ("+s.fingerprint+")")
	}
	return strings.Join(names, ", ")
}
