package pith

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openpith/evidence/pith/internal/canon"
)

// What a key document is, and what its signatures say they cover (spec §8.7).
const (
	rotationType   = "pith_key_rotation"
	revocationType = "pith_key_revocation"
	signsDocument  = "key_document_sha256_bytes"
)

// A keyDocument says what becomes of a key: its holder moves to a new one, or
// takes back what it may say from a date on.
type keyDocument struct {
	text       []byte // canonical
	digest     [32]byte
	signer     Signer // without key id
	old        PublicKey
	new        PublicKey // of a rotation; else without key
	createdAt  time.Time
	from       time.Time // rotation: first second of the new key
	until      time.Time // rotation: last second of the old key
	revokedAt  time.Time // revocation
	isRotation bool
}

var (
	documentFields = []field{
		constant("document_version", "1.0"),
		word("signer_id"),
		word("signer_type"),
		second("created_at"),
		hexDigest("document_sha256"),
		array("signatures"),
	}
	rotationFields   = append(slices.Clip(documentFields), constant("document_type", rotationType), object("old_key"), object("new_key"), second("valid_from"), second("old_valid_until"))
	revocationFields = append(slices.Clip(documentFields), constant("document_type", revocationType), object("key"), second("revoked_at"), word("reason"))

	documentSignatureFields = signatureFields(signsDocument)
	outsideDocumentDigest   = []string{"document_sha256", "signatures"}
)

// keyDocument reads a key document and asks everything that can be asked of it
// alone.
func (c *checks) keyDocument(path place, v canon.Value) keyDocument {
	d := keyDocument{text: v.Canonical(), isRotation: v.Get("document_type").Is(rotationType)}
	fields, names := revocationFields, []string{"key"}
	if d.isRotation {
		fields, names = rotationFields, []string{"old_key", "new_key"}
	}
	if !c.closed(CodeKeyDocument, path, v, fields) {
		return d
	}
	d.signer = Signer{ID: v.Get("signer_id").Text(), Type: v.Get("signer_type").Text()}
	d.createdAt, _ = parseTime(v.Get("created_at").Text())
	d.from, _ = parseTime(v.Get("valid_from").Text())
	d.until, _ = parseTime(v.Get("old_valid_until").Text())
	d.revokedAt, _ = parseTime(v.Get("revoked_at").Text())
	var keys []PublicKey
	for _, name := range names {
		var asked checks
		key, ok := asked.publicKey(asked.root(), v.Get(name))
		if !ok {
			c.fail(CodeKeyDocument, path.at(name), (&CheckError{*asked.firstFailure()}).Error())
			return d
		}
		keys = append(keys, key)
	}
	d.old = keys[0]
	if d.isRotation {
		d.new = keys[1]
	}
	digest := v.DigestWithout(outsideDocumentDigest...)
	d.digest = digest
	c.digest(CodeKeyDocumentDigest, path.at("document_sha256"), "", digest, v.Get("document_sha256").Text())
	path = path.at("signatures")
	if n := v.Get("signatures").Len(); n != len(keys) {
		c.fail(CodeKeyDocumentSignature, path, fmt.Sprintf("%d signatures, want %d", n, len(keys)))
		return d
	}
	i := 0
	for s := range v.Get("signatures").Children() {
		c.documentSignature(path.item(i), s, keys[i], digest)
		i++
	}
	return d
}

func (c *checks) documentSignature(path place, v canon.Value, key PublicKey, digest [32]byte) {
	var asked checks
	asked.closed(CodeSignatureShape, asked.root(), v, documentSignatureFields)
	asked.equal(CodeSignatureSigner, asked.at("key_id"), key.Signer.KeyID, v.Get("key_id").Text())
	asked.equal(CodeSignatureSigner, asked.at("public_key_fingerprint"), key.Fingerprint(), v.Get("public_key_fingerprint").Text())
	if asked.firstFailure() == nil {
		asked.signature(asked.root(), v, digest, keyring{key.Fingerprint(): key})
		asked.settle()
	}
	if failure := asked.firstFailure(); failure != nil {
		c.fail(CodeKeyDocumentSignature, path, (&CheckError{*failure}).Error())
		return
	}
	c.pass(CodeKeyDocumentSignature, path)
}

// resolve works out what follows from a written policy and key documents (spec
// §8.9 to §8.11). It does not depend on their order.
func resolve(written []trusted, documents []keyDocument) (*Trust, error) {
	// Copies of one document may differ in what no signature covers, such as signed_at.
	slices.SortFunc(documents, func(a, b keyDocument) int {
		return cmp.Or(bytes.Compare(a.digest[:], b.digest[:]), bytes.Compare(a.text, b.text))
	})
	documents = slices.CompactFunc(documents, func(a, b keyDocument) bool { return a.digest == b.digest })
	t := &Trust{written: written, documents: documents, signers: slices.Clone(written)}

	about := fates{map[string]*keyDocument{}, map[string]*keyDocument{}, map[string][]*keyDocument{}}
	for i := range documents {
		d := &documents[i]
		from := d.old.Fingerprint()
		if !d.isRotation {
			about.revoking[from] = append(about.revoking[from], d)
			continue
		}
		to := d.new.Fingerprint()
		switch {
		case from == to:
			return nil, badRotation(d, "a key that becomes itself")
		case about.leaving[from] != nil:
			return nil, badRotation(d, "two rotations leave this key")
		case about.arriving[to] != nil:
			return nil, badRotation(d, "two rotations lead to "+to)
		}
		about.leaving[from], about.arriving[to] = d, d
	}
	// So rotations form chains and circles, and no chain reaches a circle.
	inChain := map[*keyDocument]bool{}
	for from, d := range about.leaving {
		if about.arriving[from] != nil {
			continue
		}
		for ; d != nil; d = about.leaving[d.new.Fingerprint()] {
			inChain[d] = true
		}
	}
	for i := range documents {
		if d := &documents[i]; d.isRotation && !inChain[d] {
			return nil, badRotation(d, "rotations form a circle")
		}
	}
	for i := range written {
		if err := t.follow(written[i].fingerprint, about); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// fates are what becomes of keys, by fingerprint: the rotations that leave and
// lead to each, and its revocations.
type fates struct {
	leaving, arriving map[string]*keyDocument
	revoking          map[string][]*keyDocument
}

// follow applies the documents of a key, then those of the key it became.
// Chains are begun at their first known key.
func (t *Trust) follow(fingerprint string, about fates) error {
	for d := about.arriving[fingerprint]; d != nil; d = about.arriving[d.old.Fingerprint()] {
		if _, known := find(t.written, d.old.Fingerprint()); known {
			return nil // followed from there
		}
	}
	for {
		i, _ := t.find(fingerprint)
		if err := t.signers[i].revoke(about.revoking[fingerprint]); err != nil {
			return err
		}
		d := about.leaving[fingerprint]
		if d == nil {
			return nil
		}
		heir, err := t.signers[i].rotate(d)
		if err != nil {
			return err
		}
		fingerprint = heir.fingerprint
		switch at, known := t.find(fingerprint); {
		case !known:
			t.signers = slices.Insert(t.signers, at, heir)
		case t.signers[at].id != d.signer.ID || t.signers[at].kind != d.signer.Type:
			return badRotation(d, fmt.Sprintf("the policy knows the new key as %s (%s)", t.signers[at].id, t.signers[at].kind))
		}
	}
}

// revoke applies the earliest revocation of a key.
func (s *trusted) revoke(revocations []*keyDocument) error {
	for _, d := range revocations {
		if d.signer.ID != s.id || d.signer.Type != s.kind {
			return badRotation(d, fmt.Sprintf("the policy knows the key as %s (%s)", s.id, s.kind))
		}
		if s.revoked.IsZero() || d.revokedAt.Before(s.revoked) {
			s.revoked = d.revokedAt
		}
	}
	return nil
}

// rotate ends a key's window and returns what its successor may do.
func (s *trusted) rotate(d *keyDocument) (heir trusted, err error) {
	switch {
	case d.signer.ID != s.id || d.signer.Type != s.kind:
		return heir, badRotation(d, fmt.Sprintf("the policy knows the key as %s (%s)", s.id, s.kind))
	case !s.from.IsZero() && d.createdAt.Before(s.from), !s.until.IsZero() && d.createdAt.After(s.until):
		return heir, badRotation(d, fmt.Sprintf("made at %s, the old key is valid from %s to %s", orOpen(d.createdAt), orOpen(s.from), orOpen(s.until)))
	case !s.revoked.IsZero() && !d.createdAt.Before(s.revoked):
		return heir, badRotation(d, fmt.Sprintf("the rotation was made at %s, and from %s on the old key is believed nothing: a thief could have made it", orOpen(d.createdAt), orOpen(s.revoked)))
	}
	heir = *s
	heir.fingerprint, heir.from, heir.until, heir.revoked = d.new.Fingerprint(), d.from, time.Time{}, time.Time{}
	if s.until.IsZero() || d.until.Before(s.until) {
		s.until = d.until
	}
	return heir, nil
}

func badRotation(d *keyDocument, why string) error {
	return &CheckError{Check{Code: CodeKeyRotation, IfFailed: CodeKeyRotation.IfFailed(),
		Detail: fmt.Sprintf("key %s of %s: %s", d.old.Fingerprint(), short(d.signer.ID), why)}}
}

// ErrSameKey reports that a key should go over to itself.
var ErrSameKey = errors.New("old and new key are the same")

// Rotate returns a key document, signed by both keys, by which the signer of old
// goes over to new: new is valid from the first second on, old until the last,
// both included. The names of both keys must be the same.
func Rotate(old, new *PrivateKey, createdAt, from, until time.Time) ([]byte, error) {
	if old.signer.ID != new.signer.ID || old.signer.Type != new.signer.Type {
		return nil, fmt.Errorf("the old key is of %s (%s), the new one of %s (%s)", old.signer.ID, old.signer.Type, new.signer.ID, new.signer.Type)
	}
	if bytes.Equal(old.key, new.key) {
		return nil, fmt.Errorf("%s: %w", old.Public().Fingerprint(), ErrSameKey)
	}
	return document([]*PrivateKey{old, new}, createdAt,
		canon.Member{Name: "document_type", Value: canon.Quote(rotationType)},
		canon.Member{Name: "old_key", Value: old.Public().entry()},
		canon.Member{Name: "new_key", Value: new.Public().entry()},
		canon.Member{Name: "valid_from", Value: timeOrNull(from)},
		canon.Member{Name: "old_valid_until", Value: timeOrNull(until)},
	)
}

// Revoke returns a key document, signed by the key itself, by which nothing that
// is dated at or after a second is to be believed. reason is a word such as
// "compromised" or "retired".
func Revoke(key *PrivateKey, createdAt, at time.Time, reason string) ([]byte, error) {
	return document([]*PrivateKey{key}, createdAt,
		canon.Member{Name: "document_type", Value: canon.Quote(revocationType)},
		canon.Member{Name: "key", Value: key.Public().entry()},
		canon.Member{Name: "revoked_at", Value: timeOrNull(at)},
		canon.Member{Name: "reason", Value: canon.Quote(strings.TrimSpace(reason))},
	)
}

// document signs a key document and refuses what ParseTrust would.
func document(keys []*PrivateKey, createdAt time.Time, members ...canon.Member) ([]byte, error) {
	members = append(members,
		canon.Member{Name: "document_version", Value: canon.Quote("1.0")},
		canon.Member{Name: "signer_id", Value: canon.Quote(keys[0].signer.ID)},
		canon.Member{Name: "signer_type", Value: canon.Quote(keys[0].signer.Type)},
		canon.Member{Name: "created_at", Value: timeOrNull(createdAt)},
	)
	digest := sha256.Sum256(canon.Build(members...))
	var signatures [][]byte
	for _, k := range keys {
		signatures = append(signatures, k.sign(signsDocument, digest, createdAt))
	}
	out := canon.Build(append(members,
		canon.Member{Name: "document_sha256", Value: canon.Quote(hex.EncodeToString(digest[:]))},
		canon.Member{Name: "signatures", Value: canon.BuildArray(signatures...)})...)
	if _, err := ParseTrust(out); err != nil {
		return nil, fmt.Errorf("the key document would be refused: %w", err)
	}
	return out, nil
}
