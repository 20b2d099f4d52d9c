package storetest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/openpith/evidence/bench/pith/plain"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/resolver"
)

// Sample are submissions that leave something in every table of a store: a real
// record with a citation, by a signer whom no policy knows, and what is held.
func Sample(t testing.TB) []resolver.Submission {
	t.Helper()
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	bundle, _, err := pith.Append(seed.Bundle(), sampleKey(t, "ann"), at, draft(t, at, pith.CitationSignature{Relation: "extends", Citing: pith.Work{Kind: "arxiv", ID: "2601.00001"}}))
	if err != nil {
		t.Fatal(err)
	}
	return []resolver.Submission{{Data: seed.Bundle(), From: "test"}, {Data: bundle, From: "test"}, {Data: []byte("x"), From: "test"}}
}

func sampleKey(t testing.TB, who string) *pith.PrivateKey {
	t.Helper()
	key, err := pith.NewKey(bytes.Repeat([]byte(who[:1]), 32), pith.Signer{ID: who, Type: "individual", KeyID: who + "-1"})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func draft(t testing.TB, at time.Time, payload pith.Payload) pith.Draft {
	t.Helper()
	d, err := pith.NewDraft(payload, at)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Another is the bundle of the i-th of many records, with something that the n-th
// of many signers says about it. Each has three events, of which two are the
// record's own.
func Another(t testing.TB, i, n int) []byte {
	t.Helper()
	bundle, err := plain.Another(seed.Bundle(), ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), i)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 6, 1, 12, 0, n, 0, time.UTC)
	bundle, _, err = pith.Append(bundle, sampleKey(t, string(rune('a'+n))), at, draft(t, at, pith.Correction{Kind: "erratum", Text: "more"}))
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

// Service is one on a store that lets everything valid in.
func Service(t testing.TB, s resolver.Store) *resolver.Service {
	t.Helper()
	key, err := pith.NewKey(make([]byte, 32), pith.Signer{ID: "m", Type: "mirror", KeyID: "m-1"})
	if err != nil {
		t.Fatal(err)
	}
	service, err := resolver.NewService(resolver.Config{
		Store: s, Key: key, Unknown: resolver.Accepted, Now: func() time.Time { return time.Date(2026, 6, 2, 0, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return service
}

// Fill puts the sample into a store, and a small value.
func Fill(t testing.TB, s resolver.Store) {
	t.Helper()
	out, err := Service(t, s).SubmitAll(context.Background(), Sample(t))
	if err != nil || out[0].Err != nil || out[1].Err != nil || out[2].Err == nil {
		t.Fatal(out, err)
	}
	if err := s.SetMeta(context.Background(), "sample", []byte("value")); err != nil {
		t.Fatal(err)
	}
}

// Filled asks that a store holds what Fill put into it, finds it, and goes on to
// take more.
func Filled(t testing.TB, s resolver.Store) {
	t.Helper()
	ctx := context.Background()
	Sound(t, s)
	const suffix = "CWPYLZDW7AWAX7TQ5ZRNS3OHEM"
	counts, err := s.Counts(ctx)
	if err != nil || counts.Records != 1 || counts.Events != 3 || counts.Refused != 1 || counts.Queued != 0 || counts.Keys < 2 {
		t.Errorf("it holds %+v, %v", counts, err)
	}
	for _, query := range []string{"smoothout", "sharp minima", "weí wèn"} {
		if found, total, err := s.Search(ctx, query, 10, 0); err != nil || total != 1 || len(found) != 1 || found[0].Suffix != suffix {
			t.Errorf("search %q finds %d, %v", query, total, err)
		}
	}
	if cites, err := s.Citations(ctx, "arxiv", "2601.00001", 10); err != nil || len(cites) != 1 || cites[0].Seq != 2 {
		t.Errorf("citations %+v, %v", cites, err)
	}
	if held, err := s.Held(ctx, resolver.Refused, 0, 10); err != nil || len(held) != 1 {
		t.Errorf("%d are held, %v", len(held), err)
	}
	if value, err := s.Meta(ctx, "sample"); err != nil || string(value) != "value" {
		t.Errorf("the small value is %q, %v", value, err)
	}
	at := time.Date(2026, 6, 3, 0, 0, 0, 0, time.UTC)
	bundle, _, err := pith.Append(seed.Bundle(), sampleKey(t, "ben"), at, draft(t, at, pith.Correction{Kind: "erratum", Text: "more"}))
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := Service(t, s).Submit(ctx, resolver.Submission{Data: bundle, From: "test"})
	if err != nil || receipt.New != 1 {
		t.Errorf("something new: %+v, %v", receipt, err)
	}
	Sound(t, s)
}

// Sound asks that fsck finds nothing.
func Sound(t testing.TB, s resolver.Store) {
	t.Helper()
	if found := Problems(t, s); len(found) > 0 {
		t.Errorf("fsck finds\n%s", strings.Join(found, "\n"))
	}
}

// Problems are what fsck finds.
func Problems(t testing.TB, s resolver.Store) (found []string) {
	t.Helper()
	err := resolver.Fsck(context.Background(), s, func(p resolver.Problem) { found = append(found, p.String()) }, nil)
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return found
}
