package plain

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A Family makes the bundles that Another makes, several times as fast: it knows
// where in the text they differ. It is safe for use by many goroutines.
type Family struct {
	key    ed25519.PrivateKey
	title  string // up to the number of the record
	record template
	events []template
	state  template
	bundle template
	whole  template
}

// A template is a text with holes: pieces[i] stands before the value with the
// number holes[i], the last piece at the end.
type template struct {
	pieces []string
	holes  []int
}

// Values that stand in the holes. Those of events follow: the digest and the
// signature of each.
const (
	holePart = iota // number of the record, in its title
	holeID
	holeTitleSum
	holeRecordSum
	holeSuffix
	holeSuffix16
	holeSuffix12
	holeSuffix8
	holeReceipt
	holeState
	holeBundleSum
	holeBundleSignature
	holeEvents
)

// NewFamily returns the family that Another makes of the same bundle and key.
func NewFamily(data []byte, key ed25519.PrivateKey) (*Family, error) {
	const sample = 1199999 // nothing else in the bundle looks like its digits
	like, err := Another(data, key, sample)
	if err != nil {
		return nil, err
	}
	b, err := Parse(like)
	if err != nil {
		return nil, err
	}
	record := object(b["canonical_record"])
	suffix := text(b["pith_number"])[10:]
	values := []string{", part " + strconv.Itoa(sample), textOf(record["source"], "id"), textOf(record["metadata"], "title_canon_sha256"), textOf(b, "canonical_sha256"),
		suffix, suffix[:16], suffix[:12], suffix[:8], "", textOf(b["state"], "state_sha256"), textOf(b["bundle_signature"], "bundle_sha256"), textOf(b["bundle_signature"], "signature_b64")}
	f := &Family{key: key}
	for _, e := range list(b["events"]) {
		event := object(e)
		values = append(values, textOf(event, "content_sha256"), textOf(event["signature"], "signature_b64"))
		payload := object(event["payload"])
		if receipt := payload["receipt"]; receipt != nil {
			values[holeReceipt] = textOf(receipt, "signature_b64")
		}
		if graph := object(payload["graph_snapshot"]); graph != nil {
			f.title = strings.TrimSuffix(textOf(graph["paper"], "title"), values[holePart])
		}
	}
	if values[holeReceipt] == "" || f.title == "" {
		return nil, errors.New("the bundle is not one of a record that was registered and described")
	}
	cut := func(v any, without ...string) template {
		members := map[string]any{}
		for name, m := range object(v) {
			members[name] = m
		}
		for _, name := range without {
			delete(members, name)
		}
		return cutTemplate(string(Canonical(members)), values)
	}
	f.record = cut(record)
	for _, e := range list(b["events"]) {
		f.events = append(f.events, cut(e, outsideEvent...))
	}
	f.state, f.bundle, f.whole = cut(b["state"], "state_sha256"), cut(b, "bundle_signature"), cut(b)
	return f, nil
}

func textOf(v any, name string) string { return text(object(v)[name]) }

// cutTemplate makes holes where the values stand; longer ones come first, since
// a short number is the beginning of a long one.
func cutTemplate(s string, values []string) template {
	var t template
	from := 0
	for at := 0; at < len(s); {
		hole := -1
		for i, v := range values {
			if strings.HasPrefix(s[at:], v) && (hole < 0 || len(v) > len(values[hole])) {
				hole = i
			}
		}
		if hole < 0 {
			at++
			continue
		}
		t.pieces, t.holes = append(t.pieces, s[from:at]), append(t.holes, hole)
		at += len(values[hole])
		from = at
	}
	t.pieces = append(t.pieces, s[from:])
	return t
}

func (t template) fill(out []byte, values []string) []byte {
	for i, hole := range t.holes {
		out = append(append(out, t.pieces[i]...), values[hole]...)
	}
	return append(out, t.pieces[len(t.holes)]...)
}

// Make returns the bundle of the n-th record.
func (f *Family) Make(n int) []byte {
	scratch := make([]byte, 0, 16<<10)
	values := make([]string, holeEvents+2*len(f.events))
	sum := func(t template) [32]byte {
		scratch = t.fill(scratch[:0], values)
		return sha256.Sum256(scratch)
	}
	sign := func(sum [32]byte) string { return base64.StdEncoding.EncodeToString(ed25519.Sign(f.key, sum[:])) }
	values[holePart] = ", part " + strconv.Itoa(n)
	values[holeID] = idOf(n)
	values[holeTitleSum] = hexOf(sha256.Sum256(bytes.ToLower([]byte(f.title + values[holePart]))))
	record := sum(f.record)
	suffix := suffixOf(record)
	values[holeRecordSum], values[holeReceipt] = hexOf(record), sign(record)
	values[holeSuffix], values[holeSuffix16], values[holeSuffix12], values[holeSuffix8] = suffix, suffix[:16], suffix[:12], suffix[:8]
	for i, t := range f.events {
		event := sum(t)
		values[holeEvents+2*i], values[holeEvents+2*i+1] = hexOf(event), sign(event)
	}
	values[holeState] = hexOf(sum(f.state))
	whole := sum(f.bundle)
	values[holeBundleSum], values[holeBundleSignature] = hexOf(whole), sign(whole)
	return f.whole.fill(make([]byte, 0, len(scratch)+512), values)
}

// idOf is the arXiv id of the n-th record.
func idOf(n int) string { return fmt.Sprintf("%04d.%05d", 2401+n/100000%12, n%100000) }
