package pith

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/openpith/evidence/pith/internal/canon"
	"github.com/openpith/evidence/pith/internal/ed25519x"
)

// What a signature says it covers. The label itself is not signed, so a
// signature alone does not tell a receipt from an event: the object that is
// signed must be checked to be of its type (spec §3).
const (
	signsRecord = "canonical_sha256_bytes"
	signsEvent  = "open_graph_event_sha256_bytes"
	signsBundle = "bundle_sha256_bytes"
)

func signatureFields(signs string) []field {
	return []field{
		constant("signature_status", "signed_v1"),
		constant("algorithm", "ed25519"),
		word("key_id"),
		field{"public_key_fingerprint", "32 lower-case hexadecimal digits", func(v canon.Value) bool { return isHex(v.Text(), 32) }},
		text("signature_b64"),
		constant("signed_message", signs),
		instant("signed_at"),
	}
}

var (
	eventSignatureFields  = signatureFields(signsEvent)
	bundleSignatureFields = append(signatureFields(signsBundle), hexDigest("bundle_sha256"))
)

// signature asks whether v signs digest under a key of the keyring. Its members
// were checked before. The mathematics waits for settle: until then the answer
// is yes.
func (c *checks) signature(path place, v canon.Value, digest [32]byte, keys keyring) {
	fingerprint := v.Get("public_key_fingerprint").Text()
	key, found := keys[fingerprint]
	if !found {
		c.fail(CodeSignatureKey, path.at("public_key_fingerprint"), "no key with the fingerprint "+fingerprint+" is in public_keys")
		return
	}
	c.pass(CodeSignatureKey, path.at("public_key_fingerprint"))
	if id := v.Get("key_id").Text(); id != key.Signer.KeyID { // a label, which proves nothing (spec §5.10)
		c.equal(CodeKeyName, path.at("key_id"), key.Signer.KeyID, id)
	}
	var room [ed25519.SignatureSize + 2]byte
	sig, err := appendBase64(room[:0], v.Get("signature_b64").Text())
	if err == nil && len(sig) != ed25519.SignatureSize {
		err = fmt.Errorf("%d bytes, want %d", len(sig), ed25519.SignatureSize)
	}
	path = path.at("signature_b64")
	if err != nil {
		c.fail(CodeSignature, path, err.Error())
		return
	}
	c.claimed = append(c.claimed, len(c.answers))
	c.claims = append(c.claims, ed25519x.Claim{
		Key:       [ed25519.PublicKeySize]byte(key.Key),
		Digest:    digest,
		Signature: [ed25519.SignatureSize]byte(sig),
	})
	c.pass(CodeSignature, path)
}

// settle checks the signatures that were asked about, all at once because that
// is faster, and corrects the answers.
func (c *checks) settle() {
	ed25519x.Verify(c.claims)
	for i, claim := range c.claims {
		if !claim.Good {
			a := &c.answers[c.claimed[i]]
			fingerprint := sha256.Sum256(claim.Key[:])
			a.ok, a.ifFailed = false, codes[a.code].ifFailed
			a.detail = fmt.Sprintf("not a signature by %x of the digest %x", fingerprint[:16], claim.Digest)
		}
	}
	c.claims, c.claimed = c.claims[:0], c.claimed[:0]
}

// sign returns a signature object for digest, with more members if any.
func (k *PrivateKey) sign(signs string, digest [32]byte, at time.Time, more ...canon.Member) []byte {
	members := append(more,
		canon.Member{Name: "signature_status", Value: canon.Quote("signed_v1")},
		canon.Member{Name: "algorithm", Value: canon.Quote("ed25519")},
		canon.Member{Name: "key_id", Value: canon.Quote(k.signer.KeyID)},
		canon.Member{Name: "public_key_fingerprint", Value: canon.Quote(k.Public().Fingerprint())},
		canon.Member{Name: "signature_b64", Value: canon.Quote(base64.StdEncoding.EncodeToString(ed25519.Sign(k.key, digest[:])))},
		canon.Member{Name: "signed_message", Value: canon.Quote(signs)},
		canon.Member{Name: "signed_at", Value: canon.Quote(at.UTC().Format(microsFormat))},
	)
	return canon.Build(members...)
}
