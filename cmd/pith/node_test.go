package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/memstore"
	"github.com/openpith/evidence/resolver/mirror"
)

func testNodeKey(t *testing.T) *pith.PrivateKey {
	t.Helper()
	key, err := pith.NewKey(bytes.Repeat([]byte("m"), 32), pith.Signer{ID: "mirror", Type: "individual", KeyID: "m"})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// testNode is what pith serve wires, on a store in memory.
func testNode(t *testing.T, s *serving, limits resolver.Limits) *node {
	t.Helper()
	s.db = "memory:"
	clientIP, err := trustedProxies(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := resolver.Config{Store: memstore.New(), Key: testNodeKey(t), Limits: limits, Log: slog.New(slog.DiscardHandler)}
	n, err := s.newNode(t.Context(), c, clientIP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	return n
}

// TestOneCustomerOneBucket: whoever has a network of 64 bits of IPv6 is one
// sender, as whoever has one address of IPv4.
func TestOneCustomerOneBucket(t *testing.T) {
	n := testNode(t, &serving{}, resolver.Limits{PerAddress: 0.001, Burst: 2})
	post := func(from string) int {
		r := httptest.NewRequest(http.MethodPost, "/events", strings.NewReader("nonsense"))
		r.RemoteAddr = from
		w := httptest.NewRecorder()
		n.handler.ServeHTTP(w, r)
		return w.Code
	}
	for i := range 3 {
		if code := post(fmt.Sprintf("[2001:db8::%d]:9", i+1)); (code == http.StatusTooManyRequests) != (i == 2) {
			t.Errorf("POST %d of one network: %d", i, code)
		}
	}
	if code := post("[2001:db8:0:1::1]:9"); code == http.StatusTooManyRequests {
		t.Error("the next network has no bucket of its own")
	}
	if code := post("[::ffff:192.0.2.1]:9"); code == http.StatusTooManyRequests {
		t.Error("IPv4 has no bucket of its own")
	}
}

// TestUpstreamTroubleIsPublicOnlyInWords: /_health and the page about the mirror
// say what kind of trouble there is, and no addresses; an idle mirror that was
// copied has no lag.
func TestUpstreamTroubleIsPublicOnlyInWords(t *testing.T) {
	n := testNode(t, &serving{}, resolver.Limits{})
	ctx := context.Background()
	u := mirror.Upstream{URL: "https://up.example", Next: 5, Head: 5, SyncedAt: time.Now().Add(-time.Minute)}
	if err := mirror.AddUpstream(ctx, n.store, u); err != nil {
		t.Fatal(err)
	}
	if list := n.upstreams(ctx); len(list) != 1 || list[0].Lag != 0 {
		t.Errorf("%+v, want no lag", list)
	}
	if err := mirror.AddUpstream(ctx, n.store, mirror.Upstream{URL: "http://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	if err := (&mirror.Sync{Target: mirror.NewTarget(n.service, n.service), Leaf: leafOf}).Once(ctx, "http://127.0.0.1:1"); err == nil {
		t.Fatal("nobody answers there")
	}
	for _, path := range []string{"/_health", "/about"} {
		w := httptest.NewRecorder()
		n.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if body := w.Body.String(); w.Code != 200 || strings.Contains(body, "dial tcp") || !strings.Contains(body, "cannot be reached") {
			t.Errorf("%s: %d, it should say that a mirror cannot be reached, and no more: %s", path, w.Code, body)
		}
	}
}

// TestEvidenceStays: mirror list ends with 1 as long as there is a proof, however
// honest the mirror is now, and has both checkpoints.
func TestEvidenceStays(t *testing.T) {
	dir := t.TempDir()
	must(t, 0, dir, "mirror", "add", "https://up.example", "--no-log")
	must(t, 0, dir, "mirror", "list")
	store, err := openStore(t.Context(), "sqlite:"+dir+"/pith.db")
	if err != nil {
		t.Fatal(err)
	}
	known, err := resolver.NewService(resolver.Config{Store: store, Key: testNodeKey(t)})
	if err != nil {
		t.Fatal(err)
	}
	e := mirror.Evidence{URL: "https://up.example", At: time.Now().UTC(), Proof: true, Before: "one", Now: "another"}
	for range 2 {
		if err := mirror.NewTarget(known, known).Convict(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	var list []struct{ Evidence []mirror.Evidence }
	out := must(t, 1, dir, "mirror", "list", "--json")
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || len(list[0].Evidence) != 1 || list[0].Evidence[0].Now != "another" {
		t.Errorf("%s %v", out, err)
	}
	if out := must(t, 1, dir, "mirror", "list"); !strings.Contains(out, "has contradicted") {
		t.Errorf("list does not say it: %s", out)
	}
}

// TestOneCopies: pith mirror sync does not copy beside pith serve.
func TestOneCopies(t *testing.T) {
	dir := t.TempDir()
	must(t, 0, dir, "mirror", "add", "http://127.0.0.1:1", "--no-log")
	d := startServe(t, dir)
	d.logged(t)
	if _, errs, code := done(t, dir, "mirror", "sync"); code != 2 || !strings.Contains(errs, "another process copies") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
