package resolver

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/openpith/evidence/pith"
)

const (
	receiptType  = "pith_mirror_receipt"
	signsReceipt = "receipt_sha256_bytes"
)

// receiptText is a receipt as JSON. The signature covers the SHA-256 of the
// canonical form without signature.
type receiptText struct {
	Type      string         `json:"receipt_type"`
	Version   string         `json:"receipt_version"`
	Number    string         `json:"pith_number,omitempty"`
	Digest    string         `json:"bundle_sha256_canonical,omitempty"` // of the whole bundle as served
	Key       string         `json:"declared_key,omitempty"`
	Events    []receiptEvent `json:"events"`
	New       int            `json:"new_events"`
	At        string         `json:"received_at"`
	Signature *signature     `json:"signature,omitempty"`
}

type receiptEvent struct {
	Seq    int64  `json:"seq"`
	ID     string `json:"event_id"`
	SHA256 string `json:"entry_sha256"`
}

// SignReceipt returns a receipt as JSON in canonical form, signed by the
// mirror: a promise that the events have these places in its log.
func (s *Service) SignReceipt(r *Receipt) ([]byte, error) {
	text := receiptText{
		Type: receiptType, Version: "1.0", Number: r.Number, Key: r.Key, Events: []receiptEvent{}, New: r.New,
		At: r.At.UTC().Format("2006-01-02T15:04:05Z"),
	}
	if r.Number != "" {
		text.Digest = hex.EncodeToString(r.Digest[:])
	}
	for _, e := range r.Events {
		text.Events = append(text.Events, receiptEvent{e.Seq, e.ID, hex.EncodeToString(e.SHA256[:])})
	}
	digest, err := text.digest()
	if err != nil {
		return nil, err
	}
	signed := sign(s.key, signsReceipt, digest, s.now())
	text.Signature = &signed
	data, err := json.Marshal(text)
	if err != nil {
		return nil, err
	}
	return pith.Canonical(data)
}

func (t receiptText) digest() ([sha256.Size]byte, error) {
	t.Signature = nil
	data, err := json.Marshal(t)
	if err == nil {
		data, err = pith.Canonical(data)
	}
	return sha256.Sum256(data), err
}

// VerifyReceipt reads a receipt and checks that a mirror's key signed it.
func VerifyReceipt(data []byte, key pith.PublicKey) (*Receipt, error) {
	canonical, err := pith.Canonical(data)
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	var text receiptText
	if err := json.Unmarshal(canonical, &text); err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	if text.Type != receiptType || text.Version != "1.0" || text.Signature == nil {
		return nil, errors.New("receipt: not a signed receipt of version 1.0")
	}
	// What has members that are unknown here gives other bytes, and so fails.
	again, err := json.Marshal(text)
	if err == nil {
		again, err = pith.Canonical(again)
	}
	if err != nil || string(again) != string(canonical) {
		return nil, errors.New("receipt: it has members that receipts of version 1.0 do not have")
	}
	digest, err := text.digest()
	if err != nil {
		return nil, err
	}
	if err := text.Signature.check(key, signsReceipt, digest); err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	r := &Receipt{Number: text.Number, Key: text.Key, New: text.New}
	if r.At, err = time.Parse("2006-01-02T15:04:05Z", text.At); err != nil {
		return nil, fmt.Errorf("receipt: received_at: %w", err)
	}
	if text.Digest != "" {
		if r.Digest, err = ParseDigest(text.Digest); err != nil {
			return nil, fmt.Errorf("receipt: %w", err)
		}
	}
	for _, e := range text.Events {
		sum, err := ParseDigest(e.SHA256)
		if err != nil {
			return nil, fmt.Errorf("receipt: %w", err)
		}
		r.Events = append(r.Events, Event{Seq: e.Seq, ID: e.ID, SHA256: sum})
	}
	return r, nil
}

// ParseDigest reads a digest in lower-case hex.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if raw, err := hex.DecodeString(s); err == nil && len(raw) == len(d) && hex.EncodeToString(raw) == s {
		return Digest(raw), nil
	}
	return d, fmt.Errorf("%q is not a SHA-256 in lower-case hex", short(s))
}

// String gives a digest in lower-case hex.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }
