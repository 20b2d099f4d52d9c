package mirror

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/openpith/evidence/internal/httpserve"
	"github.com/openpith/evidence/resolver/compare"
)

// fetch gets a path of a lab.
func fetch(t testing.TB, l *lab, path string, header ...string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequest("GET", l.server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

// exported reads an export into its parts.
func exported(t testing.TB, body []byte) (seqs []int64, bundles [][]byte, next, head int64) {
	t.Helper()
	due := map[string]bool{}
	for line := range bytes.Lines(body) {
		var l Line
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		switch {
		case l.Seq != nil:
			seqs = append(seqs, *l.Seq)
			due[l.Suffix] = true
		case l.Bundle != nil:
			number, _, err := contents(l.Bundle)
			if err != nil || !due[suffixOf(number)] {
				t.Fatalf("a bundle of %q that is not due: %v", number, err)
			}
			delete(due, suffixOf(number))
			bundles = append(bundles, bytes.Clone(l.Bundle))
		default:
			next, head = *l.Next, *l.Head
		}
	}
	if len(due) > 0 {
		t.Errorf("%d bundles are missing", len(due))
	}
	return seqs, bundles, next, head
}

func TestExport(t *testing.T) {
	l := newLab(t, "alpha")
	l.give(another(t, 0), another(t, 1), another(t, 2)) // events 0 to 5
	l.give(says(t, another(t, 0), testKey("eve"), "a slip", ""))
	tests := []struct {
		query         string
		first, events int64
		bundles       int
	}{
		{"", 0, 7, 3}, // the bundle of record 0 comes once
		{"?after=1", 2, 5, 3},
		{"?after=5", 6, 1, 1},
		{"?after=6", 7, 0, 0},
		{"?limit=1", 0, 1, 1},
		{"?after=2&limit=2", 3, 2, 2},
		{"?limit=99999999", 0, 7, 3},
	}
	for _, tt := range tests {
		for _, encoding := range []string{"identity", "gzip, zstd;q=0.5", "gzip, zstd; q=0.000"} {
			resp, body := fetch(t, l, "/export"+tt.query, "Accept-Encoding", encoding)
			if resp.StatusCode != 200 {
				t.Fatalf("%s: status %d %s", tt.query, resp.StatusCode, body)
			}
			if want := strings.HasSuffix(encoding, "q=0.5"); want != (resp.Header.Get("Content-Encoding") == "zstd") {
				t.Errorf("%s: encoding %q for %q", tt.query, resp.Header.Get("Content-Encoding"), encoding)
			} else if want {
				z, err := zstd.NewReader(nil)
				if err != nil {
					t.Fatal(err)
				}
				if body, err = z.DecodeAll(body, nil); err != nil {
					t.Fatal(err)
				}
				z.Close()
			}
			seqs, bundles, next, head := exported(t, body)
			if int64(len(seqs)) != tt.events || len(bundles) != tt.bundles || next != tt.first+tt.events || head != 7 || tt.events > 0 && seqs[0] != tt.first {
				t.Errorf("%s: events %v, %d bundles, next %d, head %d; want %d from %d, %d bundles", tt.query, seqs, len(bundles), next, head, tt.events, tt.first, tt.bundles)
			}
		}
	}
	for query, status := range map[string]int{"?after=x": 400, "?after=-1": 400, "?limit=0": 400, "?limit=x": 400, "?after=7": 409, "?after=99999999999999999999": 400} {
		if resp, body := fetch(t, l, "/export"+query); resp.StatusCode != status || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: status %d %q, want %d", query, resp.StatusCode, body, status)
		}
	}
}

func TestExportIsBounded(t *testing.T) {
	l := newLab(t, "alpha")
	for i := range 5 {
		l.give(another(t, i))
	}
	l.mirror.PageBytes = 1
	_, body := fetch(t, l, "/export")
	if seqs, bundles, next, _ := exported(t, body); len(bundles) != 1 || next != int64(len(seqs)) || next != 2 {
		t.Errorf("%d events, %d bundles, next %d; want one record", len(seqs), len(bundles), next)
	}
	if n := l.mirror.Stats.ExportedEvents.Load(); n != 2 {
		t.Errorf("%d events are counted as exported, 2 were", n)
	}
	l.mirror.PageBytes, l.mirror.ExportLife = 64<<20, 1
	_, body = fetch(t, l, "/export")
	if _, bundles, next, _ := exported(t, body); len(bundles) != 1 || next != 2 {
		t.Errorf("%d bundles, next %d after its time was over; want one record", len(bundles), next)
	}
}

// TestExportOfRecordsThatComeAgain: an export that ends has few bundles left to
// send, also where the events of many records take turns.
func TestExportOfRecordsThatComeAgain(t *testing.T) {
	const records = maxOpen + 8
	l := newLab(t, "alpha")
	for i := range records {
		l.give(another(t, i)) // two events
	}
	for i := range records {
		l.give(says(t, another(t, i), testKey("eve"), "a slip", ""))
	}
	l.mirror.PageBytes = 1
	for _, tt := range []struct {
		query         string
		bundles, next int
	}{
		{"", maxOpen, 2 * maxOpen},
		{"?after=70", 1 + (records - 35), 2*records + 1}, // from the second event of record 35 on, until the bundle of record 0
		{"?bundles=no", 0, 3 * records},
	} {
		_, body := fetch(t, l, "/export"+tt.query)
		if tt.bundles == 0 {
			if !bytes.Contains(body, fmt.Appendf(nil, `{"next":%d,`, tt.next)) {
				t.Errorf("%s does not go to event %d", tt.query, tt.next)
			}
			continue
		}
		if _, bundles, next, _ := exported(t, body); len(bundles) != tt.bundles || next != int64(tt.next) {
			t.Errorf("%q: %d bundles, next %d; want %d, %d", tt.query, len(bundles), next, tt.bundles, tt.next)
		}
	}
	// Small ones fit into one export, and come once.
	l.mirror.PageBytes = 64 << 20
	_, body := fetch(t, l, "/export")
	lines := bytes.Count(body, []byte("\n{\"bundle\":"))
	if _, bundles, next, _ := exported(t, body); len(bundles) != records || lines != records || next != 3*records {
		t.Errorf("%d bundles of %d records, next %d", lines, records, next)
	}
}

// TestExportsAtOnce: one too many is refused with a hint to come back.
func TestExportsAtOnce(t *testing.T) {
	l := newLab(t, "alpha")
	client := netip.MustParseAddr("127.0.0.1")
	for range 2 { // all that one client has; others have their own
		l.mirror.exports.Take(client)
	}
	if _, ok := l.mirror.exports.Take(netip.MustParseAddr("192.0.2.1")); !ok {
		t.Error("one client closes exports to another")
	}
	if resp, body := fetch(t, l, "/export"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.HasPrefix(string(body), "limit: ") {
		t.Errorf("status %d %q, want 503 with Retry-After", resp.StatusCode, body)
	}
	for range 8 {
		l.mirror.streams.Take(client)
	}
	if _, ok := l.mirror.streams.Take(netip.MustParseAddr("192.0.2.1")); !ok {
		t.Error("one client closes streams to another")
	}
	if resp, _ := fetch(t, l, "/stream"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, want 503 with Retry-After", resp.StatusCode)
	}
}

// listening is a stream that a test reads.
type listening struct {
	t    testing.TB
	body io.Closer
	scan *bufio.Scanner
}

func listen(t testing.TB, address, query string, header ...string) *listening {
	t.Helper()
	r, err := http.NewRequest("GET", address+"/stream"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("status %d, type %q", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	return &listening{t, resp.Body, bufio.NewScanner(resp.Body)}
}

// next returns the next message: its lines joined by "|", comments left out
// unless asked for.
func (l *listening) next(comments bool) string {
	var lines []string
	for l.scan.Scan() {
		text := l.scan.Text()
		switch {
		case text == "" && len(lines) > 0:
			return strings.Join(lines, "|")
		case text == "" || strings.HasPrefix(text, ":") && !comments:
		default:
			lines = append(lines, text)
		}
	}
	return "end"
}

func TestStream(t *testing.T) {
	l := newLab(t, "alpha")
	l.give(another(t, 0))
	all := listen(t, l.server.URL, "?after=0")
	fresh := listen(t, l.server.URL, "")
	again := listen(t, l.server.URL, "?after=0", "Last-Event-ID", "1")
	if got := all.next(false); !strings.HasPrefix(got, `id: 1|event: event|data: {"seq":1,"event_id":"sha256:`) {
		t.Errorf("first message %q", got)
	}
	l.give(another(t, 1))
	for _, s := range []*listening{all, fresh, again} {
		for seq := 2; seq < 4; seq++ {
			want := fmt.Sprintf(`id: %d|event: event|data: {"seq":%d,"event_id":"%s","suffix":"%s","sha256":"%s"}`,
				seq, seq, l.events[seq].ID, l.events[seq].Suffix, l.events[seq].SHA256)
			if got := s.next(false); got != want {
				t.Errorf("message %q, want %q", got, want)
			}
		}
	}
	l.mirror.Drain()
	for _, s := range []*listening{all, fresh, again} {
		if got := s.next(false); got != `event: close|data: {"reason":"shutdown"}` {
			t.Errorf("last message %q", got)
		}
		if got := s.next(false); got != "end" {
			t.Errorf("after the last message %q", got)
		}
	}
	for _, after := range []string{"4", "9223372036854775807"} {
		if resp, _ := fetch(t, l, "/stream?after="+after); resp.StatusCode != 409 {
			t.Errorf("status %d after event %s, which does not exist, want 409", resp.StatusCode, after)
		}
	}
}

// serveLab serves a source with its own limits, on the real server.
func serveLab(t testing.TB, s *Server, o httpserve.Options) (address string, end func()) {
	t.Helper()
	mux := http.NewServeMux()
	s.Routes(mux)
	o.Listen, o.Draining = "127.0.0.1:0", s.Drain
	l, err := httpserve.Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- httpserve.Serve(ctx, l, mux, o) }()
	ended := false
	end = func() {
		if cancel(); !ended {
			if err := <-done; err != nil {
				t.Error(err)
			}
			ended = true
		}
	}
	t.Cleanup(end)
	return "http://" + l.Addr().String(), end
}

// TestStreamOutlivesTimeouts: the limits of ordinary answers do not end a
// stream, heartbeats come, and the stream has a limit of its own.
func TestStreamOutlivesTimeouts(t *testing.T) {
	l := newLab(t, "alpha")
	s := &Server{Source: l, Heartbeat: 40 * time.Millisecond, StreamLife: time.Hour}
	address, end := serveLab(t, s, httpserve.Options{ReadTimeout: 20 * time.Millisecond, WriteTimeout: 20 * time.Millisecond})
	stream := listen(t, address, "")
	for i := range 4 { // the last heartbeat comes long after the timeouts
		want := ": alive"
		if i == 0 {
			want = ": from 0"
		}
		if got := stream.next(true); got != want {
			t.Fatalf("message %d is %q, want %q", i, got, want)
		}
	}
	l.give(another(t, 0))
	if got := stream.next(false); !strings.HasPrefix(got, "id: 0|") {
		t.Errorf("message %q, want event 0", got)
	}
	end()
	for got := ""; got != `event: close|data: {"reason":"shutdown"}`; {
		if got = stream.next(false); got == "end" {
			t.Fatal("the stream ended without a reason")
		}
	}
	short := &Server{Source: l, StreamLife: time.Millisecond}
	address, _ = serveLab(t, short, httpserve.Options{})
	if got := listen(t, address, "").next(false); got != `event: close|data: {"reason":"limit"}` {
		t.Errorf("last message %q, want the reason limit", got)
	}
}

// flood is a source with more events than any buffer holds.
type flood struct{ *lab }

func (flood) Head(context.Context) (int64, error) { return 1 << 40, nil }

func (flood) Events(_ context.Context, from int64, limit int) ([]Event, error) {
	events := make([]Event, limit)
	for i := range events {
		events[i] = Event{Seq: from + int64(i), ID: strings.Repeat("x", 1000)}
	}
	return events, nil
}

// TestSlowClient: a client that takes nothing is let go, counted, and costs no
// other client anything.
func TestSlowClient(t *testing.T) {
	s := &Server{Source: flood{newLab(t, "alpha")}, WriteWait: time.Second}
	address, _ := serveLab(t, s, httpserve.Options{})
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /stream?after=0 HTTP/1.1\r\nHost: x\r\n\r\n")
	good := listen(t, address, "?after=0")
	for i := 1; i < 2000; i++ {
		if got := good.next(false); !strings.HasPrefix(got, fmt.Sprintf("id: %d|", i)) {
			t.Fatalf("message %d is %.40q", i, got)
		}
	}
	for s.Stats.SlowClients.Load() == 0 { // it comes, or the test does not end
		good.next(false)
	}
}

// TestShutdownDuringExport: an export that is under way ends with a last line
// that says where to go on, and what it brought is whole.
func TestShutdownDuringExport(t *testing.T) {
	l := newLab(t, "alpha")
	for i := range 30 {
		l.give(another(t, i))
	}
	slow := &slowBundles{lab: l, asked: make(chan bool), goOn: make(chan bool)}
	s := &Server{Source: slow}
	address, end := serveLab(t, s, httpserve.Options{})
	got := make(chan []byte)
	go func() {
		resp, err := http.Get(address + "/export")
		if err != nil {
			t.Error(err)
			got <- nil
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		got <- body
	}()
	<-slow.asked // the second bundle is being read
	ended := make(chan bool)
	go func() { end(); close(ended) }()
	<-s.closing
	slow.goOn <- true
	seqs, bundles, next, _ := exported(t, <-got)
	if len(bundles) != 2 || len(seqs) != 4 || next != 4 {
		t.Errorf("%d events, %d bundles, next %d; want the two records that were begun", len(seqs), len(bundles), next)
	}
	<-ended
}

// slowBundles stops at the second bundle until told to go on.
type slowBundles struct {
	*lab
	n           int
	asked, goOn chan bool
}

func (s *slowBundles) Bundle(ctx context.Context, suffix string) ([]byte, error) {
	if s.n++; s.n == 2 {
		s.asked <- true
		<-s.goOn
	}
	return s.lab.Bundle(ctx, suffix)
}

// broken is a store that fails in the middle.
type broken struct{ *lab }

var errDisk = errors.New("disk full at /secret/place")

func (broken) Bundle(context.Context, string) ([]byte, error) { return nil, errDisk }
func (broken) Ranges(context.Context, []string) ([]compare.Range, error) {
	return nil, errDisk
}
func (broken) Object(context.Context, compare.Digest) ([]byte, error) { return nil, errDisk }

// TestStoreFails: the reader sees that something is missing, and nothing of what
// is only for the log.
func TestStoreFails(t *testing.T) {
	l := newLab(t, "alpha")
	l.give(another(t, 0))
	server := httptest.NewServer(func() http.Handler {
		mux := http.NewServeMux()
		(&Server{Source: broken{l}, Health: func(context.Context) (Health, error) { return Health{}, errDisk }}).Routes(mux)
		return mux
	}())
	defer server.Close()
	resp, err := http.Get(server.URL + "/export")
	if err == nil {
		_, err = io.ReadAll(resp.Body)
	}
	if err == nil {
		t.Error("an export that broke off looks whole")
	}
	for path, status := range map[string]int{"/ranges": 500, "/objects/sha256/" + strings.Repeat("0", 64): 500, "/_health": 503} {
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != status || bytes.Contains(body, []byte("secret")) {
			t.Errorf("%s: status %d %q, want %d without the details", path, resp.StatusCode, body, status)
		}
	}
}

// TestGone: that a client goes is no trouble of the store, and not in the log as one.
func TestGone(t *testing.T) {
	l := newLab(t, "alpha")
	l.give(another(t, 0))
	var log bytes.Buffer
	mux := http.NewServeMux()
	s := &Server{Source: broken{l}, Health: func(context.Context) (Health, error) { return Health{}, errDisk }, Log: slog.New(slog.NewTextHandler(&log, nil))}
	s.Routes(mux)
	for _, path := range []string{"/_health", "/ranges", "/objects/sha256/" + strings.Repeat("0", 64)} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil).WithContext(ctx))
		if log.Len() > 0 {
			t.Errorf("%s: %s", path, &log)
			log.Reset()
		}
	}
	mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/_health", nil))
	if !strings.Contains(log.String(), "health check failed") {
		t.Errorf("a store that fails is not in the log: %s", &log)
	}
}

func TestObjects(t *testing.T) {
	l := newLab(t, "alpha")
	bundle := another(t, 0)
	l.give(bundle)
	digest := digestOf(bundle).String()
	resp, body := fetch(t, l, "/objects/sha256/"+digest)
	if resp.StatusCode != 200 || !bytes.Equal(body, bundle) || resp.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
		t.Errorf("status %d, %d bytes, %q", resp.StatusCode, len(body), resp.Header.Get("Cache-Control"))
	}
	if resp, body := fetch(t, l, "/objects/sha256/"+digest, "If-None-Match", resp.Header.Get("ETag")); resp.StatusCode != 304 || len(body) != 0 {
		t.Errorf("status %d with %d bytes for a known object, want 304", resp.StatusCode, len(body))
	}
	for _, bad := range []string{strings.Repeat("0", 64), "x", strings.ToUpper(digest), "..%2f..%2fetc%2fpasswd"} {
		if resp, _ := fetch(t, l, "/objects/sha256/"+bad); resp.StatusCode != 404 || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: status %d, %q; want 404 that nobody keeps", bad, resp.StatusCode, resp.Header.Get("Cache-Control"))
		}
	}
}

func TestRangesOverHTTP(t *testing.T) {
	a, b := newLab(t, "alpha"), newLab(t, "beta")
	for i := range 10 {
		if a.give(another(t, i)); i != 4 {
			b.give(another(t, i))
		}
	}
	b.give(says(t, another(t, 5), testKey("eve"), "a slip", ""))
	client, err := NewClient(b.server.URL, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	stats, err := compare.Diff(context.Background(), a, client, func(d compare.Difference) error {
		found++
		if d.A == nil || (d.B == nil) != (d.Suffix() == a.events[8].Suffix) {
			t.Errorf("%s: %v %v", d.Suffix(), d.A, d.B)
		}
		return nil
	})
	if err != nil || found != 2 || stats.Rounds != 1 {
		t.Errorf("%d differences, %+v, %v; want 2 in one round", found, stats, err)
	}
	for _, query := range []string{"?prefix=a", "?prefix=" + strings.Repeat("A", 27), "?" + strings.Repeat("prefix=A&", 257)} {
		if resp, _ := fetch(t, b, "/ranges"+query); resp.StatusCode != 400 {
			t.Errorf("%.30s: status %d, want 400", query, resp.StatusCode)
		}
	}
	if _, err := client.Bundle(context.Background(), a.events[0].Suffix); err != nil {
		t.Error(err)
	}
}

func TestHealth(t *testing.T) {
	l := newLab(t, "alpha")
	l.give(another(t, 0))
	var h Health
	resp, body := fetch(t, l, "/_health")
	if err := json.Unmarshal(body, &h); err != nil || resp.StatusCode != 200 || h.Status != "ok" || h.Cursor != 2 || h.Upstreams == nil {
		t.Errorf("status %d %s %v", resp.StatusCode, body, err)
	}
	l.mirror.Drain()
	if resp, body := fetch(t, l, "/_health"); resp.StatusCode != 503 || !bytes.Contains(body, []byte(`"shutdown"`)) {
		t.Errorf("while draining: status %d %s, want 503, so that balancers look elsewhere", resp.StatusCode, body)
	}
}
