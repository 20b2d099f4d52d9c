package pith

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"time"

	"github.com/openpith/evidence/pith/internal/canon"
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

// signature asks whether v signs digest under a key of the keyring, and returns
// that key. Its members were checked before.
func (c *checks) signature(path place, v canon.Value, digest [32]byte, keys keyring) (PublicKey, bool) {
	fingerprint := v.Get("public_key_fingerprint").Text()
	key, found := keys[fingerprint]
	if !found {
		return key, c.fail(CodeSignatureKey, path.at("public_key_fingerprint"), "no key with the fingerprint "+fingerprint+" is in public_keys")
	}
	if !c.equal(CodeSignatureKey, path.at("key_id"), key.Signer.KeyID, v.Get("key_id").Text()) {
		return key, false
	}
	sig, err := decodeBase64(v.Get("signature_b64").Text(), ed25519.SignatureSize)
	path = path.at("signature_b64")
	if err != nil {
		return key, c.fail(CodeSignature, path, err.Error())
	}
	if !ed25519.Verify(key.Key, digest[:], sig) {
		return key, c.fail(CodeSignature, path, "not a signature by "+fingerprint+" of the digest "+hex.EncodeToString(digest[:]))
	}
	return key, c.pass(CodeSignature, path)
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
