package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/export"
	"github.com/openpith/evidence/resolver"
)

// serveBundle is the shortest way from the store to the reader: for those who
// have the bundle a look at its digest, for those who take gzip the stored bytes,
// and for the others the same unpacked.
func (s *Site) serveBundle(w http.ResponseWriter, r *http.Request, suffix string) error {
	zip := takesGzip(r)
	h := w.Header()
	if r.Header["If-None-Match"] != nil {
		tag, err := s.quick.Tag(r.Context(), suffix)
		if err != nil {
			return s.missing(err, suffix)
		}
		if digest := hex.EncodeToString(tag[:]); matches(r, digest) {
			h["Vary"], h["Cache-Control"] = varyEncoding, cacheMinute
			setETag(h, digest, zip)
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	tag, packed, err := s.quick.Packed(r.Context(), suffix)
	if err != nil {
		return s.missing(err, suffix)
	}
	h["Vary"], h["Cache-Control"], h["Content-Type"] = varyEncoding, cacheMinute, typeJSON
	h["Link"] = []string{s.collection(r, suffix)}
	if zip {
		setETag(h, hex.EncodeToString(tag[:]), true)
		h["Content-Encoding"] = encodingGzip
		h["Content-Length"] = []string{strconv.Itoa(len(packed))}
		if r.Method != http.MethodHead {
			_, _ = w.Write(packed)
		}
		return nil
	}
	size := resolver.UnpackedSize(packed)
	var body []byte
	if size <= maxHeld {
		body, err = unpack(suffix, tag, packed)
	} else {
		err = check(suffix, tag, packed)
	}
	if err != nil {
		return err
	}
	setETag(h, hex.EncodeToString(tag[:]), false)
	h["Content-Length"] = []string{strconv.FormatInt(size, 10)}
	switch {
	case r.Method == http.MethodHead:
	case body != nil:
		_, _ = w.Write(body)
	default:
		_ = resolver.GunzipTo(w, packed) // nobody is left to tell
	}
	return nil
}

// maxHeld is how many bytes of a bundle are unpacked into memory for a reader, who may
// take them slowly, and thousands beside. Larger ones are unpacked twice: to be checked,
// and then as they are taken.
const maxHeld = 256 << 10

// check is unpack without what it gives.
func check(suffix string, tag resolver.Digest, packed []byte) error {
	sum := sha256.New()
	if err := resolver.GunzipTo(sum, packed); err != nil {
		return fmt.Errorf("%w: %s: %w", errRejected, suffix, err)
	}
	if resolver.Digest(sum.Sum(nil)) != tag {
		return fmt.Errorf("%w: %s: %s", errRejected, suffix, otherBytes)
	}
	return nil
}

const otherBytes = "the bytes do not have the digest they were stored under"

// unpack gives the bundle that was stored. A store that holds something else is
// damaged, and what is damaged is not passed on.
func unpack(suffix string, tag resolver.Digest, packed []byte) ([]byte, error) {
	body, err := resolver.Gunzip(packed)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errRejected, suffix, err)
	}
	if sha256.Sum256(body) != tag {
		return nil, fmt.Errorf("%w: %s: %s", errRejected, suffix, otherBytes)
	}
	return body, nil
}

// missing turns the store's answer for a record that is not there into ours.
func (s *Site) missing(err error, suffix string) error {
	if errors.Is(err, resolver.ErrNotFound) {
		return s.absent(name{"pith", suffix})
	}
	return err
}

func hitOf(r resolver.Record) hit {
	h := hit{Suffix: r.Suffix, Number: r.Number, Title: firstNonEmpty(plainTitle(r.Title), r.Source, r.Number), Authors: clip(export.Plain(r.Authors), 200), Source: r.Source,
		Categories: strings.Join(r.Categories, ", "), Submitted: r.Submitted, Events: r.EventCount, Replications: r.Replications}
	if id, ok := strings.CutPrefix(r.Source, "arxiv:"); ok {
		h.Source = "arXiv:" + id
	}
	return h
}

// hits loads up to limit records for a list; more tells that there are others.
func (s *Site) hits(ctx context.Context, suffixes []string, limit int) (list []hit, more bool, err error) {
	for i, suffix := range suffixes {
		if i == limit {
			return list, true, nil
		}
		rec, err := s.store.Record(ctx, suffix)
		if errors.Is(err, resolver.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		list = append(list, hitOf(rec))
	}
	return list, false, nil
}

// find lists the records that go by a name. The name of a paper without version
// stands for all its versions.
func (s *Site) find(ctx context.Context, n name, limit int) ([]hit, bool, error) {
	var suffixes []string
	var err error
	if n.kind == "pith" {
		suffixes, err = s.store.Resolve(ctx, n.value, limit+1)
	} else {
		a := resolver.FoldAlias(n.kind, n.value)
		suffixes, err = s.store.ByAlias(ctx, a.Kind, a.Value, limit+1)
	}
	if err != nil {
		return nil, false, err
	}
	return s.hits(ctx, suffixes, limit)
}

// A search reads at the will of strangers: sixteen single letters among a million
// records take half a minute. So it ends after searchTime, waiting included, and half
// of the cores search at once at most: all else that readers ask for has the rest.
const searchTime = 3 * time.Second

func newSearching() *semaphore.Weighted {
	return semaphore.NewWeighted(int64(max(1, runtime.GOMAXPROCS(0)/2)))
}

func (s *Site) searchText(ctx context.Context, query string, limit, offset int) (list []hit, total int, err error) {
	timed, cancel := context.WithTimeout(ctx, s.searchTime)
	defer cancel()
	var found []resolver.Record
	if err = s.searching.Acquire(timed, 1); err == nil {
		found, total, err = s.store.Search(timed, query, limit, offset)
		s.searching.Release(1)
	}
	if err != nil {
		if timed.Err() != nil && ctx.Err() == nil {
			err = &problem{status: http.StatusServiceUnavailable, heading: "That search takes too long", text: "This mirror gave up. Longer and rarer words are found faster; or many are searching, and it works in a moment."}
		}
		return nil, 0, err
	}
	for _, r := range found {
		list = append(list, hitOf(r))
	}
	return list, total, nil
}

func (s *Site) recentEvents(ctx context.Context, before int64, limit int) ([]recentEvent, error) {
	events, err := s.store.RecentEvents(ctx, before, limit)
	if err != nil {
		return nil, err
	}
	titles, replaced := map[string]string{}, map[string]bool{}
	var list []recentEvent
	for _, e := range events {
		title, known := titles[e.Suffix]
		if !known {
			rec, err := s.store.Record(ctx, e.Suffix)
			if err == nil {
				err = s.superseded(ctx, e.Suffix, replaced)
			}
			if err != nil && !errors.Is(err, resolver.ErrNotFound) { // for a store that is damaged, its own page says so
				return nil, err
			}
			title = firstNonEmpty(hitOf(rec).Title, e.Suffix)
			titles[e.Suffix] = title
		}
		list = append(list, recentEvent{e.Suffix, title, eventLabel(e.Type), e.SignerID, e.Seq, e.ReceivedAt, pith.Code(e.Invalid), replaced[e.ID]})
	}
	return list, nil
}

// superseded adds the events of a record that were replaced since, which are the
// same as long as its bundle is. Most records have none, which is seen without
// verifying them.
func (s *Site) superseded(ctx context.Context, suffix string, replaced map[string]bool) error {
	tag, packed, err := s.quick.Packed(ctx, suffix)
	if err != nil {
		return err
	}
	ids, known := s.replaced.Get(tag)
	if !known {
		bundle, err := unpack(suffix, tag, packed)
		if err == nil && bytes.Contains(bundle, []byte(`"supersedes":["`)) {
			var v *recordView
			if v, err = s.verified(ctx, suffix); err == nil {
				for _, st := range v.result.History {
					if st.Superseded {
						ids = append(ids, st.EventID)
					}
				}
			}
		}
		if errors.Is(err, errRejected) { // its own page says so; the list is about others, too
			return nil
		}
		if err != nil {
			return err
		}
		s.replaced.Put(tag, ids, int64(1+len(ids)), nil)
	}
	for _, id := range ids {
		replaced[id] = true
	}
	return nil
}

// surroundings adds what other records say: where this work speaks about others,
// which versions have records of their own, and the numbers of the events in
// this mirror.
func (s *Site) surroundings(ctx context.Context, v *recordView) error {
	events, err := s.store.RecordEvents(ctx, v.Suffix)
	if err != nil {
		return err
	}
	// An event that is not valid may claim the id of one that is. One that was not
	// when it came may be by now.
	type claim struct {
		id    string
		valid bool
	}
	seq := map[claim]int64{}
	for _, e := range events {
		seq[claim{e.ID, e.Invalid == ""}] = e.Seq
	}
	for i := range v.History {
		h := &v.History[i]
		n, ok := seq[claim{h.EventID, h.Invalid == ""}]
		if !ok {
			n, ok = seq[claim{h.EventID, h.Invalid != ""}]
		}
		if ok {
			h.Seq = strconv.FormatInt(n, 10)
		}
	}
	cites, err := s.citations(ctx, v)
	if err != nil {
		return err
	}
	v.Cites = cites
	for _, n := range v.names() {
		if n.kind != "arxiv" {
			continue
		}
		versions, _, err := s.find(ctx, n, maxCandidates)
		if err != nil {
			return err
		}
		for _, h := range versions {
			if h.Suffix != v.Suffix {
				v.Versions = append(v.Versions, link{h.Source, "/pith/" + h.Suffix})
			}
		}
	}
	return nil
}

// maxCites is how many records a page looks into for what this work says about
// them: each is verified, because what is shown has a signer who is trusted or
// not.
const maxCites = 20

// citations finds what signers say, in other records, that this work does with
// those.
func (s *Site) citations(ctx context.Context, v *recordView) ([]citationView, error) {
	var out []citationView
	others := map[string]*recordView{}
	seen := map[string]bool{}
	for _, n := range append([]name{{"pith", v.Suffix}}, v.names()...) {
		a := resolver.FoldAlias(n.kind, n.value)
		found, err := s.store.Citations(ctx, a.Kind, a.Value, maxListed)
		if err != nil {
			return nil, err
		}
		for _, c := range found {
			other := others[c.Suffix]
			if seen[c.EventID] || c.Suffix == v.Suffix || other == nil && len(others) == maxCites {
				continue
			}
			seen[c.EventID] = true
			if other == nil {
				other, err = s.verified(ctx, c.Suffix)
				if errors.Is(err, errRejected) { // its own page says so; it speaks for nobody
					other, err = &recordView{}, nil
				}
				if err != nil {
					return nil, err
				}
				others[c.Suffix] = other
			}
			for _, said := range other.CitedBy { // superseded and invalid ones are not among them
				if said.EventID == c.EventID {
					said.Work = link{other.Title, "/pith/" + c.Suffix}
					out = append(out, said)
				}
			}
		}
	}
	return out, nil
}
