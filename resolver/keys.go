package resolver

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openpith/evidence/pith"
)

// What declares a key: its holder, with the key itself.
const (
	declarationType = "pith_key_declaration"
	signsDocument   = "key_document_sha256_bytes"
)

// A declaration is the key document by which a mirror learns a key: that it
// exists, what its holder is called, and that the holder has it. It is written
// like the documents of spec §8.7. It makes nobody trusted.
type declaration struct {
	Type       string          `json:"document_type"`
	Version    string          `json:"document_version"`
	SignerID   string          `json:"signer_id"`
	SignerType string          `json:"signer_type"`
	Key        json.RawMessage `json:"key"`
	CreatedAt  string          `json:"created_at"`
	SHA256     string          `json:"document_sha256"`
	Signatures []signature     `json:"signatures"`
}

type signature struct {
	Status      string `json:"signature_status"`
	Algorithm   string `json:"algorithm"`
	KeyID       string `json:"key_id"`
	Fingerprint string `json:"public_key_fingerprint"`
	Signature   string `json:"signature_b64"`
	Message     string `json:"signed_message"`
	SignedAt    string `json:"signed_at"`
}

// sign signs a digest as the format does (spec §3.3).
func sign(key *pith.PrivateKey, message string, digest [sha256.Size]byte, at time.Time) signature {
	public := key.Public()
	return signature{
		Status: "signed_v1", Algorithm: "ed25519", KeyID: public.Signer.KeyID, Fingerprint: public.Fingerprint(),
		Signature: base64.StdEncoding.EncodeToString(ed25519.Sign(ed25519.NewKeyFromSeed(key.Seed()), digest[:])),
		Message:   message, SignedAt: at.UTC().Format("2006-01-02T15:04:05.000000Z"),
	}
}

// check reports whether s signs a digest under a key.
func (s signature) check(key pith.PublicKey, message string, digest [sha256.Size]byte) error {
	raw, err := base64.StdEncoding.Strict().DecodeString(s.Signature)
	switch {
	case err != nil || len(raw) != ed25519.SignatureSize:
		return errors.New("signature_b64 is not base64 of 64 bytes")
	case s.Status != "signed_v1" || s.Algorithm != "ed25519" || s.Message != message:
		return fmt.Errorf("not a signed_v1 ed25519 signature over %s", message)
	case s.Fingerprint != key.Fingerprint():
		return fmt.Errorf("signed by the key %q, not by %s", short(s.Fingerprint), key.Fingerprint())
	case !ed25519.Verify(key.Key, digest[:], raw):
		return errors.New("the signature is not one of these bytes")
	}
	return nil
}

// DeclareKey returns the document by which the holder of a key declares it.
func DeclareKey(key *pith.PrivateKey, at time.Time) ([]byte, error) {
	entry, err := key.Public().MarshalJSON()
	if err != nil {
		return nil, err
	}
	signer := key.Public().Signer
	d := declaration{
		Type: declarationType, Version: "1.0", SignerID: signer.ID, SignerType: signer.Type, Key: entry,
		CreatedAt: at.UTC().Format("2006-01-02T15:04:05Z"),
	}
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	content, err := pith.SignedBytes(text) // leaves the empty digest and signatures out
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(content)
	d.SHA256, d.Signatures = hex.EncodeToString(digest[:]), []signature{sign(key, signsDocument, digest, at)}
	if text, err = json.Marshal(d); err != nil {
		return nil, err
	}
	return pith.Canonical(text)
}

// readDeclaration checks a declaration.
func readDeclaration(data []byte) (pith.PublicKey, Key, error) {
	fail := func(format string, args ...any) (pith.PublicKey, Key, error) {
		return pith.PublicKey{}, Key{}, fmt.Errorf("key declaration: "+format, args...)
	}
	var d declaration
	content, err := pith.SignedBytes(data) // strict about everything that JSON can do
	if err == nil {
		err = pith.Decode(data, &d)
	}
	if err != nil {
		return fail("%w", err)
	}
	key, entry, err := pith.ReadKey(d.Key)
	if err != nil {
		return fail("key: %w", err)
	}
	digest := sha256.Sum256(content)
	created, err := time.Parse("2006-01-02T15:04:05Z", d.CreatedAt)
	signer := pith.Signer{ID: d.SignerID, Type: d.SignerType, KeyID: key.Signer.KeyID}
	switch {
	case d.Type != declarationType || d.Version != "1.0":
		return fail("not a %s of version 1.0", declarationType)
	case err != nil:
		return fail("created_at: %w", err)
	case signer.Check() != nil:
		return fail("%w", signer.Check())
	case d.SHA256 != hex.EncodeToString(digest[:]):
		return fail("document_sha256 is %q, the content gives %x", short(d.SHA256), digest)
	case len(d.Signatures) != 1:
		return fail("%d signatures, want one", len(d.Signatures))
	}
	if err := d.Signatures[0].check(key, signsDocument, digest); err != nil {
		return fail("%w", err)
	}
	key.Signer = signer
	return key, Key{Fingerprint: key.Fingerprint(), SignerID: d.SignerID, Entry: entry, DeclaredAt: created}, nil
}

// readDocument judges a key document. A declaration is believed at once: it
// gives no rights. A rotation or revocation changes the policy, so it waits for
// who keeps the policy.
func (s *Service) readDocument(ctx context.Context, j *job) {
	if bytesKind(j.Data) == declarationType {
		_, key, err := readDeclaration(j.Data)
		if err != nil {
			j.refuse(CodeKeyDocument, "%v", err)
			return
		}
		key.DeclaredAt = s.now().UTC().Truncate(time.Second)
		known, err := s.store.Key(ctx, key.Fingerprint)
		switch {
		case err != nil && !errors.Is(err, ErrNotFound):
			j.err = err
			return
		case err == nil && key.DeclaredAt.Sub(known.DeclaredAt) < keyRest:
			j.receipt = &Receipt{Key: key.Fingerprint, At: known.DeclaredAt}
			return
		case !j.Unlimited && !s.mayDeclare(j):
			return
		}
		if j.err = s.store.PutKey(ctx, key, key.DeclaredAt.Add(-keyLife)); j.err == nil {
			j.receipt = &Receipt{Key: key.Fingerprint, At: key.DeclaredAt}
		}
		return
	}
	more, err := pith.ParseTrust(j.Data)
	if err != nil {
		j.refuseError(err)
		return
	}
	if _, err := s.Trust().Merge(more); err != nil {
		j.refuseError(err)
		return
	}
	j.refusal = &Refusal{Status: Queued, Code: CodeKeyDocument, Detail: "a key document changes who is believed: it waits for a moderator"}
}

// New keys cost whoever declares them nothing: so many per second come in of one
// sender, and of all, and those are forgotten of which nothing comes in a week. To
// declare one again, which keeps it for another week, is a declaration like the
// first, within a day nothing.
const (
	declaredBySender = 1.0 / 60
	declaredByAll    = 1.0
	keyLife          = 7 * 24 * time.Hour
	keyRest          = 24 * time.Hour
)

// mayDeclare asks whether a sender may declare a key now.
func (s *Service) mayDeclare(j *job) bool {
	if s.limits.PerAddress < 0 {
		return true
	}
	wait, ok := s.limits.take("keys from "+j.From, declaredBySender, 1)
	of := "from " + j.From
	if ok {
		wait, ok = s.limits.take("keys", declaredByAll, 1)
		of = "in all"
	}
	if !ok {
		j.refuse(CodeRateAddress, "too many new keys %s; a bundle brings its keys with it", of)
		j.refusal.Retry = wait
	}
	return ok
}

func bytesKind(data []byte) string {
	var d struct {
		Type string `json:"document_type"`
	}
	_ = pith.Decode(data, &d) // of another type it is no declaration
	return d.Type
}

// policyPrefix is where key documents that a moderator accepted are kept.
const policyPrefix = "policy/key-document/"

func policyKey(digest Digest) string { return policyPrefix + digest.String() }

// acceptDocument makes a key document part of the policy, as the only one who
// does so at the time. Errors: a *Refusal when it does not fit the policy.
func (s *Service) acceptDocument(ctx context.Context, data []byte) error {
	if err := s.LoadPolicy(ctx); err != nil { // what others have accepted counts
		return err
	}
	more, err := pith.ParseTrust(data)
	if err == nil {
		_, err = s.Trust().Merge(more)
	}
	if err != nil {
		return &Refusal{Status: Refused, Code: CodeKeyDocument, Detail: "it does not fit what is believed now: " + err.Error()}
	}
	if err := s.store.SetMeta(ctx, policyKey(sha256.Sum256(data)), data); err != nil {
		return err
	}
	return s.LoadPolicy(ctx)
}

// LoadPolicy makes the policy anew, of the trust files and of the key documents
// that moderators accepted and did not take back. A service on a store that others
// write to calls it from time to time. What does not fit, because the trust files
// are others now, is left out, and the log says so: a mirror that does not start
// helps nobody.
func (s *Service) LoadPolicy(ctx context.Context) error {
	s.loading.Lock() // so that what is older never replaces what is newer
	defer s.loading.Unlock()
	keys, err := s.store.MetaKeys(ctx, policyPrefix)
	if err != nil {
		return err
	}
	s.mu.Lock()
	same := slices.Equal(keys, s.accepted)
	s.mu.Unlock()
	if same { // a key is the digest of its document
		return nil
	}
	trust := s.files
	for _, key := range keys {
		data, err := s.store.Meta(ctx, key)
		if errors.Is(err, ErrNotFound) { // taken back meanwhile: the next load sees it
			continue
		}
		if err != nil {
			return err
		}
		more, err := pith.ParseTrust(data)
		if err == nil {
			more, err = trust.Merge(more)
		}
		if err != nil {
			s.log.Error("an accepted key document does not fit the policy and is left out", "document", strings.TrimPrefix(key, policyPrefix), "error", err, "hint", "compare it with the trust files, or take it back: reject it")
			continue
		}
		trust = more
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trust, s.accepted = trust, keys
	return nil
}
