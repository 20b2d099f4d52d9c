package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/resolver/compare"
)

func TestSyncCopiesAll(t *testing.T) {
	a, b := newLab(t, "alpha"), newLab(t, "beta")
	for i := range 20 {
		a.give(another(t, i))
	}
	address := b.knows(a)
	if err := b.sync().Run(context.Background(), []string{address}, false); err != nil {
		t.Fatal(err)
	}
	sameState(t, a, b)
	up, _ := b.Upstream(context.Background(), address)
	if up.Next != 40 || up.Head != 40 || up.Refused != 0 || up.SyncedAt.IsZero() || up.Error != "" || up.Checkpoint != string(a.checkpoint()) {
		t.Errorf("cursor %+v, want 40 of 40 events and the checkpoint", up)
	}
	// Once more: nothing is new, and nothing is asked for but the checkpoint.
	before := a.mirror.Stats.Exports.Load()
	if err := b.sync().Once(context.Background(), address); err != nil {
		t.Fatal(err)
	}
	if n := a.mirror.Stats.Exports.Load(); n != before {
		t.Errorf("%d exports for nothing new", n-before)
	}
	// What comes later comes through.
	a.give(says(t, another(t, 3), testKey("eve"), "a slip", ""))
	if err := b.sync().Once(context.Background(), address); err != nil {
		t.Fatal(err)
	}
	sameState(t, a, b)
}

// TestPartitionAndCrash: three mirrors take different events of the same records
// while they cannot reach each other, are killed at random in the middle of
// copying, and end with the same state of all records, to the byte.
func TestPartitionAndCrash(t *testing.T) {
	base := make([][]byte, 6)
	for i := range base {
		base[i] = another(t, i)
	}
	said := map[string][]byte{}
	variant := func(i int, who string) []byte {
		name := fmt.Sprint(i, who)
		if said[name] == nil {
			said[name] = says(t, base[i], testKey(who), "note of "+who, "")
		}
		return said[name]
	}
	rapid.Check(t, func(rt *rapid.T) {
		labs := []*lab{newLab(t, "alpha"), newLab(t, "beta"), newLab(t, "gamma")}
		for _, l := range labs {
			defer l.server.Close()
			for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(base)-1), 0, 12).Draw(rt, l.name) {
				who := rapid.SampledFrom([]string{"", "ann", "ben", "cyd"}).Draw(rt, "who")
				if who == "" {
					l.give(base[i])
				} else {
					l.give(variant(i, who))
				}
			}
		}
		// Every mirror copies both others, in a random order, with crashes.
		for round := 0; ; round++ {
			for range rapid.IntRange(0, 6).Draw(rt, "steps") {
				from := rapid.IntRange(0, 2).Draw(rt, "from")
				to := (from + rapid.IntRange(1, 2).Draw(rt, "to")) % 3
				labs[to].failAt = labs[to].submits + rapid.IntRange(0, 4).Draw(rt, "crash")
				syncOnce(rt, labs[to], labs[from], true)
			}
			if round == 1 {
				break
			}
		}
		// The net is whole again, and nobody is killed any more: two rounds are enough
		// for everything to reach everybody.
		for range 2 {
			for to := range labs {
				labs[to].failAt = 0
				for from := range labs {
					if from != to {
						syncOnce(rt, labs[to], labs[from], false)
					}
				}
			}
		}
		sameState(t, labs[0], labs[1])
		sameState(t, labs[0], labs[2])
		for _, other := range labs[1:] {
			client, err := NewClient(other.server.URL, Limits{})
			if err != nil {
				rt.Fatal(err)
			}
			if _, err := compare.Diff(context.Background(), labs[0], client, func(d compare.Difference) error {
				rt.Errorf("compare finds %s different", d.Suffix())
				return nil
			}); err != nil {
				rt.Fatal(err)
			}
			client.Close()
		}
	})
}

func syncOnce(rt *rapid.T, to, from *lab, mayDie bool) {
	up, _ := to.Upstream(context.Background(), from.server.URL)
	if up.URL == "" {
		to.knows(from)
	}
	if err := to.sync().Once(context.Background(), from.server.URL); err != nil && !(mayDie && errors.Is(err, errDead)) {
		rt.Fatalf("%s from %s: %v", to.name, from.name, err)
	}
}

// TestCrashAtEveryPoint kills the copying at every submit once, and goes on.
func TestCrashAtEveryPoint(t *testing.T) {
	a := newLab(t, "alpha")
	for i := range 9 {
		a.give(another(t, i))
	}
	for kill := 1; ; kill++ {
		b := newLab(t, "beta")
		b.failAt = kill
		address := b.knows(a)
		err := b.sync().Once(context.Background(), address)
		if err == nil {
			if kill < 4 {
				t.Errorf("only %d submits for nine records in batches of three", kill-1)
			}
			break
		}
		if !errors.Is(err, errDead) {
			t.Fatal(err)
		}
		if err := b.sync().Once(context.Background(), address); err != nil {
			t.Fatal(err)
		}
		sameState(t, a, b)
	}
}

// TestOneUpstreamDoesNotStopAnother, and failures are kept for people to see.
func TestOneUpstreamDoesNotStopAnother(t *testing.T) {
	a, b, dead := newLab(t, "alpha"), newLab(t, "beta"), newLab(t, "dead")
	a.give(another(t, 1))
	good, bad := b.knows(a), b.knows(dead)
	dead.server.Close()
	err := b.sync().Run(context.Background(), []string{bad, good}, false)
	if err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("error %v, want one that names %s", err, bad)
	}
	sameState(t, a, b)
	if up, _ := b.Upstream(context.Background(), bad); up.Error == "" {
		t.Error("the failure was not kept")
	}
}

// TestFollow copies what comes while it runs.
func TestFollow(t *testing.T) {
	a, b := newLab(t, "alpha"), newLab(t, "beta")
	a.give(another(t, 1))
	address := b.knows(a)
	ctx, cancel := context.WithCancel(context.Background())
	progress := make(chan int64, 100)
	s := b.sync()
	s.Progress = func(u Upstream) { progress <- u.Next }
	done := make(chan error)
	go func() { done <- s.Run(ctx, []string{address}, true) }()
	for want, i := int64(2), 2; i < 5; want, i = want+2, i+1 {
		for got := int64(0); got < want; got = <-progress {
		}
		a.give(another(t, i))
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// tamper is a mirror between two, which changes what the first says.
func tamper(t *testing.T, of *lab, change func(path string, body []byte) []byte) string {
	t.Helper()
	target, err := url.Parse(of.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Header.Del("Accept-Encoding")
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		record := httptest.NewRecorder()
		proxy.ServeHTTP(record, r)
		w.WriteHeader(record.Code)
		w.Write(change(r.URL.Path, record.Body.Bytes()))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestLyingMirror: each lie about the history ends the copying with the reason,
// and nothing that is not signed by its author gets in.
func TestLyingMirror(t *testing.T) {
	lines := func(f func(i int, lines [][]byte) [][]byte) func(string, []byte) []byte {
		return func(path string, body []byte) []byte {
			if path != "/export" {
				return body
			}
			all := bytes.SplitAfter(body, []byte("\n"))
			return bytes.Join(f(len(all)-1, all[:len(all)-1]), nil)
		}
	}
	edit := func(old, new string) func(string, []byte) []byte {
		return lines(func(_ int, l [][]byte) [][]byte {
			for i := range l {
				l[i] = bytes.Replace(l[i], []byte(old), []byte(new), 1)
			}
			return l
		})
	}
	tests := []struct {
		name string
		lie  func(path string, body []byte) []byte
		want error
	}{
		{"it says another digest of an event", edit(`"sha256":"`, `"sha256":"0000000000000000000000000000000000000000000000000000000000000000","x":"`), ErrFork},
		{"it renames an event", edit(`"event_id":"sha256:`, `"event_id":"sha256:00`), ErrOmitted},
		{"it leaves a bundle out", lines(func(n int, l [][]byte) [][]byte {
			if !bytes.HasPrefix(l[n-2], []byte(`{"bundle":`)) {
				return l // asked for events alone
			}
			return append(l[:n-2:n-2], l[n-1]) // the last bundle
		}), ErrOmitted},
		{"it leaves an event out of a bundle", func(path string, body []byte) []byte {
			if path != "/export" {
				return body
			}
			return removeEvent(t, body)
		}, ErrOmitted},
		{"it exports a line twice", lines(func(n int, l [][]byte) [][]byte {
			return append([][]byte{l[0]}, l...)
		}), ErrProtocol},
		{"it skips an event", lines(func(n int, l [][]byte) [][]byte { return l[1:] }), ErrProtocol},
		{"it says where to go on, wrongly", edit(`{"next":`, `{"next":1`), ErrProtocol},
		{"it goes on after the end", lines(func(n int, l [][]byte) [][]byte { return append(l, l[0]) }), ErrProtocol},
		{"it has no end", lines(func(n int, l [][]byte) [][]byte { return l[:n-1] }), ErrProtocol},
		{"it sends a bundle nobody asked for", lines(func(n int, l [][]byte) [][]byte {
			return append([][]byte{fmt.Appendf(nil, `{"bundle":%s}`+"\n", another(t, 99))}, l...)
		}), ErrProtocol},
		{"it gives fewer events than its log has", func(path string, body []byte) []byte {
			if path != "/export" {
				return body
			}
			return []byte(`{"next":0,"head":6}` + "\n")
		}, ErrOmitted},
		{"it talks nonsense", lines(func(n int, l [][]byte) [][]byte { return [][]byte{[]byte("{}\n")} }), ErrProtocol},
		{"it names another record", edit(`"suffix":"`, `"suffix":"a`), ErrProtocol},
		{"its checkpoint is not signed", func(path string, body []byte) []byte {
			if path == "/log/checkpoint" {
				body[len(body)-10] ^= 1
			}
			return body
		}, ErrUnsigned},
		{"its checkpoint is another mirror's", func(path string, body []byte) []byte {
			if path == "/log/checkpoint" {
				return newLab(t, "other").checkpoint()
			}
			return body
		}, ErrUnsigned},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newLab(t, "alpha"), newLab(t, "beta")
			for i := range 3 {
				a.give(another(t, i))
			}
			address := tamper(t, a, tt.lie)
			b.SaveUpstream(context.Background(), Upstream{URL: address, LogKey: a.vkey})
			s := b.sync()
			s.Page = 100
			err := s.Once(context.Background(), address)
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if up, _ := b.Upstream(context.Background(), address); up.Error == "" || up.Next != 0 {
				t.Errorf("cursor %d, kept error %q; want 0 and an error", up.Next, up.Error)
			}
		})
	}
}

// removeEvent takes the graph_snapshot out of the first bundle of an export.
func removeEvent(t *testing.T, body []byte) []byte {
	all := bytes.SplitAfter(body, []byte("\n"))
	for i, line := range all {
		rest, ok := bytes.CutPrefix(line, []byte(`{"bundle":`))
		if !ok {
			continue
		}
		var b map[string]json.RawMessage
		var events []json.RawMessage
		if err := json.Unmarshal(bytes.TrimSuffix(rest, []byte("}\n")), &b); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b["events"], &events); err != nil {
			t.Fatal(err)
		}
		b["events"], _ = json.Marshal(events[:1])
		data, _ := json.Marshal(b)
		all[i] = fmt.Appendf(nil, `{"bundle":%s}`+"\n", data)
		break
	}
	return bytes.Join(all, nil)
}

// TestForgedBundle: a bundle that its signers did not sign is refused, whatever
// the mirror's log says about it.
func TestForgedBundle(t *testing.T) {
	a, b := newLab(t, "alpha"), newLab(t, "beta")
	a.give(another(t, 0), another(t, 1))
	for suffix, data := range a.bundles {
		a.bundles[suffix] = bytes.Replace(data, []byte(`"built_at":"2`), []byte(`"built_at":"1`), 1) // signed by the bundle's signature only
	}
	address := b.knows(a)
	if err := b.sync().Once(context.Background(), address); err != nil {
		t.Fatal(err)
	}
	if up, _ := b.Upstream(context.Background(), address); up.Refused != 2 || len(b.bundles) != 0 {
		t.Errorf("%d refused, %d records taken; want 2 and none", up.Refused, len(b.bundles))
	}
}

// TestRewrittenHistory: a mirror that signed one log and shows another is
// convicted by its own checkpoints.
func TestRewrittenHistory(t *testing.T) {
	tests := []struct {
		name    string
		rewrite func(a *lab)
		proof   bool // both checkpoints are of one size
	}{
		{"an earlier event exchanged", func(a *lab) {
			a.events[1].SHA256[0] ^= 1
			a.give(another(t, 7))
		}, false},
		{"cut off, then grown", func(a *lab) {
			a.events = a.events[:len(a.events)-1]
			a.give(another(t, 7))
		}, false},
		{"cut off", func(a *lab) { a.events = a.events[:4] }, false},
		{"cut off and written anew", func(a *lab) {
			a.events = a.events[:4]
			a.events[3].SHA256[0] ^= 1
		}, false},
		{"shorter and written anew, the old tiles kept", func(a *lab) {
			a.events[1].SHA256[0] ^= 1
			a.logged = 4
		}, false},
		{"the same size, another event", func(a *lab) { a.events[3].ID += "x" }, true},
		{"order changed", func(a *lab) { a.events[0], a.events[2] = a.events[2], a.events[0] }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newLab(t, "alpha"), newLab(t, "beta")
			for i := range 3 {
				a.give(another(t, i))
			}
			address := b.knows(a)
			if err := b.sync().Once(context.Background(), address); err != nil {
				t.Fatal(err)
			}
			kept, _ := b.Upstream(context.Background(), address)
			honest := slices.Clone(a.events)
			tt.rewrite(a)
			lie := string(a.checkpoint())
			for range 2 { // it does not pass by trying again
				err := b.sync().Once(context.Background(), address)
				if !errors.Is(err, ErrFork) || !Convicting(err) {
					t.Fatalf("error %v, want %v", err, ErrFork)
				}
				if !strings.Contains(err.Error(), strings.TrimSpace(kept.Checkpoint)) {
					t.Errorf("error %q does not show what was said before", err)
				}
			}
			if up, _ := b.Upstream(context.Background(), address); up.Checkpoint != kept.Checkpoint || !up.Convicted {
				t.Error("what was right before is not kept")
			}
			// It shows the first history again: the contradiction stays.
			a.events, a.logged = honest, -1
			if err := b.sync().Once(context.Background(), address); err != nil {
				t.Error(err)
			}
			if len(b.evidence) == 0 || b.evidence[0].Before != kept.Checkpoint || b.evidence[0].Now != lie || b.evidence[0].Proof != tt.proof {
				t.Errorf("the evidence is not kept, both checkpoints: %+v", b.evidence)
			}
		})
	}
}

// TestOldCheckpointConvictsNobody: what a cache shows again stops the copying, and
// contradicts nothing.
func TestOldCheckpointConvictsNobody(t *testing.T) {
	a, b := newLab(t, "alpha"), newLab(t, "beta")
	a.give(another(t, 0))
	address := b.knows(a)
	a.give(another(t, 1))
	if err := b.sync().Once(context.Background(), address); err != nil {
		t.Fatal(err)
	}
	a.logged = 2
	if err := b.sync().Once(context.Background(), address); !errors.Is(err, ErrStale) || Convicting(err) {
		t.Errorf("error %v, want %v", err, ErrStale)
	}
	if up, _ := b.Upstream(context.Background(), address); len(b.evidence) != 0 || up.Convicted || up.Next != 4 {
		t.Errorf("%+v, evidence %v", up, b.evidence)
	}
	a.logged = -1
	a.give(another(t, 2))
	if err := b.sync().Once(context.Background(), address); err != nil {
		t.Error(err)
	}
	sameState(t, a, b)
}

// TestInterruptedThenShorter: of a copy that was interrupted nothing is proven yet,
// so a checkpoint of less than was seen is no older one.
func TestInterruptedThenShorter(t *testing.T) {
	a, b := newLab(t, "alpha"), newLab(t, "beta")
	for i := range 9 {
		a.give(another(t, i))
	}
	address := b.knows(a)
	b.failAt = 5
	if err := b.sync().Once(context.Background(), address); !errors.Is(err, errDead) {
		t.Fatal(err)
	}
	a.logged = 10
	if up, _ := b.Upstream(context.Background(), address); up.Next <= 10 || up.Proven != 0 {
		t.Fatalf("it was interrupted at event %d, of which %d are proven", up.Next, up.Proven)
	}
	if err := b.sync().Once(context.Background(), address); err != nil {
		t.Fatal(err)
	}
	if up, _ := b.Upstream(context.Background(), address); up.Next != 10 || up.Proven != 10 {
		t.Errorf("%d events are proven, %d copied, want 10", up.Proven, up.Next)
	}
}

// TestOnlyWhatIsSignedIsCopied: events that the checkpoint does not cover yet
// come with the next one.
func TestOnlyWhatIsSignedIsCopied(t *testing.T) {
	a, b := newLab(t, "alpha"), newLab(t, "beta")
	a.give(another(t, 0), another(t, 1), another(t, 2))
	a.logged = 4
	address := b.knows(a)
	if err := b.sync().Once(context.Background(), address); err != nil {
		t.Fatal(err)
	}
	if up, _ := b.Upstream(context.Background(), address); up.Next != 4 || len(b.bundles) != 2 {
		t.Errorf("cursor %d, %d records; want 4 and 2", up.Next, len(b.bundles))
	}
	a.logged = -1
	if err := b.sync().Once(context.Background(), address); err != nil {
		t.Fatal(err)
	}
	sameState(t, a, b)
}

// TestEquivocationIsSurfaced: one signer says two things after the same event, to
// two mirrors. Both are kept, and whoever has both is told.
func TestEquivocationIsSurfaced(t *testing.T) {
	eve := testKey("eve")
	first := says(t, another(t, 0), eve, "one", "")
	_, entries, err := contents(first)
	if err != nil {
		t.Fatal(err)
	}
	var prev string
	for _, e := range entries {
		if bytes.Contains(e.data, []byte(`"correction"`)) {
			prev = e.id
		}
	}
	a, b := newLab(t, "alpha"), newLab(t, "beta")
	a.give(says(t, first, eve, "yes", prev))
	b.give(says(t, first, eve, "no", prev))
	address := b.knows(a)
	if err := b.sync().Once(context.Background(), address); err != nil {
		t.Fatal(err)
	}
	if up, _ := b.Upstream(context.Background(), address); up.Conflicts != 1 {
		t.Errorf("%d conflicts counted, want 1", up.Conflicts)
	}
	for _, bundle := range b.bundles {
		if r := pith.Verify(bundle, nil); r.Events.Equivocations != 1 || r.Events.Total != 5 {
			t.Errorf("%+v, want five events and one equivocation", r.Events)
		}
	}
}

func TestWithoutLog(t *testing.T) {
	a, b := newLab(t, "alpha"), newLab(t, "beta")
	for i := range 10 {
		a.give(another(t, i))
	}
	address := b.knows(a)
	b.SaveUpstream(context.Background(), Upstream{URL: address})
	if err := b.sync().Once(context.Background(), address); err != nil {
		t.Fatal(err)
	}
	sameState(t, a, b)
}

// TestInterruptIsNoFault: an end that the operator wants is not the mirror's.
func TestInterruptIsNoFault(t *testing.T) {
	a, b := newLab(t, "alpha"), newLab(t, "beta")
	a.give(another(t, 0))
	ctx, cancel := context.WithCancel(context.Background())
	var asked atomic.Bool
	address := tamper(t, a, func(path string, body []byte) []byte {
		asked.Store(true)
		cancel()
		return body
	})
	b.SaveUpstream(context.Background(), Upstream{URL: address, LogKey: a.vkey})
	if err := b.sync().Once(ctx, address); !errors.Is(err, context.Canceled) || !asked.Load() {
		t.Errorf("error %v, want the cancellation", err)
	}
	if up, _ := b.Upstream(context.Background(), address); up.Error != "" {
		t.Errorf("kept error %q", up.Error)
	}
}

func TestContents(t *testing.T) {
	for _, data := range [][]byte{another(t, 0), mustCanonical(t, seed.Bundle())} {
		number, events, err := contents(data)
		if err != nil || number != pith.Verify(data, nil).PithNumber || len(events) != 2 {
			t.Fatalf("%q, %d events, %v", number, len(events), err)
		}
		for _, e := range events {
			signed, err := pith.SignedBytes(e.data)
			if err != nil || "sha256:"+digestOf(signed).String() != e.id {
				t.Errorf("event %s: %v", e.id, err)
			}
		}
	}
	for _, bad := range []string{"", "{", "[]", `{"a":1`, `{"a":1,}`, `{"a" :1}`, `{"a":1}x`, `{"events":{}}`, `{"pith_number":3}`, `{"events":[1}`, `{"a":}`, `{"a":"`, `{"a":[}`} {
		if _, _, err := contents([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}

	// Of a large bundle of nothing no list of millions is made.
	full := `{"events":[` + strings.Repeat("0,", pith.MaxEntries-1) + "0"
	if _, events, err := contents([]byte(full + "]}")); err != nil || len(events) != pith.MaxEntries {
		t.Errorf("as many events as there may be: %d, %v", len(events), err)
	}
	if _, events, err := contents([]byte(full + ",0]}")); !errors.Is(err, errEntries) || len(events) > pith.MaxEntries {
		t.Errorf("one event too many: %d, %v", len(events), err)
	}
}

func mustCanonical(t testing.TB, data []byte) []byte {
	t.Helper()
	out, err := pith.Canonical(data)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestContentsOfAnyShape: what a bundle may hold as an invalid event is looked
// over, not at.
func TestContentsOfAnyShape(t *testing.T) {
	_, events, err := contents([]byte(`{"events":[1,"x",[],{},{"event_id":5},{"event_id":{}},{"event_id":"y"}]}`))
	if err != nil || len(events) != 7 || events[6].id != "y" {
		t.Fatalf("%+v, %v", events, err)
	}
	for _, e := range events[:6] {
		if e.id != "" || len(e.data) == 0 {
			t.Errorf("%+v, want no id", e)
		}
	}
}

// FuzzContents holds contents to encoding/json on everything that is canonical.
func FuzzContents(f *testing.F) {
	f.Add(mustCanonical(f, seed.Bundle()))
	f.Add([]byte(`{"events":[{"event_id":"a\"}]","x":[[],{}]}],"pith_number":"p"}`))
	f.Add([]byte(`{"events":[],"pith_number":"\\"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		number, events, err := contents(data)
		canonical, bad := pith.Canonical(data)
		if bad != nil || !bytes.Equal(canonical, data) {
			return
		}
		var want struct {
			Number string            `json:"pith_number"`
			Events []json.RawMessage `json:"events"`
		}
		// Not json.Unmarshal into a struct alone: it takes names in any case.
		var members map[string]json.RawMessage
		if json.Unmarshal(data, &members) != nil {
			if err == nil {
				t.Fatalf("%q has no members", data)
			}
			return
		}
		if members["pith_number"] != nil && json.Unmarshal(members["pith_number"], &want.Number) != nil ||
			members["events"] != nil && json.Unmarshal(members["events"], &want.Events) != nil {
			return
		}
		if err != nil {
			return // an event that is no object, or null where a list should be
		}
		if number != want.Number || len(events) != len(want.Events) {
			t.Fatalf("%q with %d events, want %q with %d", number, len(events), want.Number, len(want.Events))
		}
		for i, e := range events {
			if !bytes.Equal(e.data, want.Events[i]) {
				t.Fatalf("event %d is %q, want %q", i, e.data, want.Events[i])
			}
		}
	})
}

// TestKnownIsNotFetched: what is here already, from an archive, say, is held to
// the log of the mirror but not fetched again; what is missing is.
func TestKnownIsNotFetched(t *testing.T) {
	a, b := newLab(t, "a"), newLab(t, "b")
	var all [][]byte
	for i := range 40 {
		all = append(all, another(t, i))
	}
	a.give(all...)
	const missing = 25
	for i := len(all) - 1; i >= 0; i-- { // in another order than there
		if i != missing {
			b.give(all[i])
		}
	}
	url := b.knows(a)
	if err := b.sync().Once(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	sameState(t, a, b)
	up, _ := b.Upstream(t.Context(), url)
	if up.Proven != int64(len(a.events)) || up.Checkpoint == "" || up.Refused > 0 {
		t.Errorf("held to its log up to %d of %d, %d refused", up.Proven, len(a.events), up.Refused)
	}
	if a.given == 0 || a.given > 10 { // two pages of seven events
		t.Errorf("%d bundles were fetched for one that was missing", a.given)
	}

	// A mirror that signs another history is found out, though nothing was missing.
	c, liar := newLab(t, "c"), newLab(t, "liar")
	c.give(all...)
	liar.give(all...)
	liar.events[3], liar.events[9] = liar.events[9], liar.events[3] // the log is of these, the export numbers them anew
	url = c.knows(liar)
	liar.mirror.Source = renumbered{liar}
	if err := c.sync().Once(t.Context(), url); !Convicting(err) {
		t.Errorf("another history: %v", err)
	}
}

// renumbered exports events in the right order, whatever was logged.
type renumbered struct{ *lab }

func (r renumbered) Events(ctx context.Context, from int64, limit int) ([]Event, error) {
	events, err := r.lab.Events(ctx, 0, 1<<20)
	events[3], events[9] = events[9], events[3]
	for i := range events {
		events[i].Seq = int64(i)
	}
	from = min(from, int64(len(events)))
	return events[from:min(int(from)+limit, len(events))], err
}

// TestOmitted: what is looked for in a bundle and how, and that a bundle which is full
// of something else, with what is wanted at its end, takes no hours.
func TestOmitted(t *testing.T) {
	_, events, err := contents(another(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	own, id := events[0], events[0].id
	claims := entry{id, bytes.Replace(own.data, []byte(`"created_at":"2`), []byte(`"created_at":"1`), 1)}
	if bytes.Equal(own.data, claims.data) {
		t.Fatal("nothing was changed")
	}
	other := entry{"", []byte(`0`)}
	for _, tt := range []struct {
		name    string
		id      string
		digest  compare.Digest
		entries []entry
		missing bool
	}{
		{"its bytes", id, digestOf(own.data), []entry{other, own}, false},
		{"its bytes, by no id", "", digestOf(own.data), []entry{own}, false},
		{"its bytes, by another id", "x", digestOf(own.data), []entry{own}, true},
		{"its content", id, digestOf(other.data), []entry{claims, own, claims}, false},
		{"its id on other content", id, digestOf(own.data), []entry{claims}, true},
		{"nothing", "", digestOf(own.data), []entry{other}, true},
	} {
		event := Event{Seq: 7, ID: tt.id, SHA256: tt.digest}
		if got, missing := omitted([]Event{event}, tt.entries); missing != tt.missing || missing && got != event {
			t.Errorf("%s: %v, %v", tt.name, got, missing)
		}
	}

	entries, wanted := slices.Repeat([]entry{other}, 200_000), []Event{}
	for i := range 2000 {
		x := entry{strconv.Itoa(i), fmt.Appendf(nil, `{"event_id":"%d"}`, i)}
		entries = append(entries, x)
		wanted = append(wanted, Event{Seq: int64(i), ID: x.id, SHA256: digestOf(x.data)})
	}
	if e, missing := omitted(wanted, entries); missing {
		t.Errorf("event %d is missing", e.Seq)
	}
	wanted = append(wanted, Event{Seq: 2000, ID: id, SHA256: digestOf(own.data)})
	if e, missing := omitted(wanted, entries); !missing || e.Seq != 2000 {
		t.Errorf("event %d is missing, %v", e.Seq, missing)
	}
}
