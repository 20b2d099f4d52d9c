package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/openpith/evidence/internal/httpserve"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/compare"
)

// A Line is one line of an export.
type Line struct {
	Seq    *int64          `json:"seq,omitempty"` // lines about events: the number of the event, dense from 0
	Event  string          `json:"event_id,omitempty"`
	Suffix string          `json:"suffix,omitempty"` // of its record
	SHA256 string          `json:"sha256,omitempty"` // of the event's canonical bytes, signature included
	Bundle json.RawMessage `json:"bundle,omitempty"` // lines with a bundle: in canonical form
	Next   *int64          `json:"next,omitempty"`   // the last line: the seq to go on with
	Head   *int64          `json:"head,omitempty"`   // the last line: how many events the mirror has
}

// An Event is one accepted event.
type Event struct {
	Seq    int64
	ID     string // "sha256:…", or "" where an invalid event claims none
	Suffix string // of its record
	SHA256 compare.Digest
}

// suffixOf is the part of a number by which stores know a record, "" for what is
// no Pith Number.
func suffixOf(number string) string {
	if len(number) != len("pith:2018:")+compare.SuffixLen || number[:5] != "pith:" || number[9] != ':' || !compare.ValidPrefix(number[10:]) {
		return ""
	}
	return number[10:]
}

// ErrNotFound reports an object that the source does not have.
var ErrNotFound = errors.New("not here")

// A Source is the store that a Server offers.
type Source interface {
	// Events lists at most limit events from a sequence number on.
	Events(ctx context.Context, from int64, limit int) ([]Event, error)
	// Head is the number of events: the sequence number of the next one.
	Head(ctx context.Context) (int64, error)
	// Bundle returns the bundle that is served for a record, canonical.
	Bundle(ctx context.Context, suffix string) ([]byte, error)
	// Object returns the bytes that have a SHA-256, or ErrNotFound.
	Object(ctx context.Context, digest compare.Digest) ([]byte, error)
	// Ranges answers package compare.
	compare.Set
	// Changed returns a channel that is closed when events come after this call. It
	// may miss those that another process accepts.
	Changed() <-chan struct{}
}

// Why a stream was closed, as its last message says.
const (
	CloseShutdown   = "shutdown"    // the mirror ends: come back in a moment
	CloseLimit      = "limit"       // it was long enough: connect again
	CloseSlowClient = "slow_client" // what was sent is not taken
	CloseError      = "error"       // the store failed
)

// A Server answers other mirrors. Its fields are set before the first request.
type Server struct {
	Source Source
	Log    *slog.Logger

	MaxExports  int                            // at the same time, default 8, of which one client has 2
	MaxStreams  int                            // at the same time, default 256, of which one client has 8
	PageEvents  int                            // events in one export at most, default 2,000
	PageBytes   int                            // an export ends after so many bytes of bundles, default 64 MiB
	Heartbeat   time.Duration                  // between two signs of life in a stream, default 15 s
	StreamLife  time.Duration                  // default 1 h
	Poll        time.Duration                  // how often a stream looks for what other processes accepted, default 5 s
	ExportLife  time.Duration                  // after which an export ends with the next record, default 5 min
	WriteWait   time.Duration                  // for a piece of a stream, or 256 KiB of an export, to be taken, default 30 s
	ClientIP    func(*http.Request) netip.Addr // whose request it is, nil for the other end of the connection
	Health      func(ctx context.Context) (Health, error)
	once        sync.Once
	exports     *httpserve.Slots
	streams     *httpserve.Slots
	closing     chan struct{}
	endOnce     sync.Once
	compressors sync.Pool

	// Counters, for metrics.
	Stats struct{ Exports, ExportedEvents, ExportedBytes, Streams, StreamedEvents, SlowClients atomic.Int64 }
}

// Health is the answer of /_health.
type Health struct {
	Status    string           `json:"status"`           // ok, or what is wrong
	Cursor    int64            `json:"cursor"`           // events accepted: the next sequence number
	LogSize   int64            `json:"log_size"`         // events that the signed checkpoint covers
	LogLag    int64            `json:"log_lag"`          // events that it does not cover yet
	Records   int64            `json:"records"`          //
	Upstreams []UpstreamHealth `json:"upstreams"`        // never null
	Version   string           `json:"version"`          //
	StartedAt string           `json:"started_at"`       //
	Detail    string           `json:"detail,omitempty"` //
}

// UpstreamHealth says how far behind another mirror this one is.
type UpstreamHealth struct {
	URL    string `json:"url"`
	Cursor int64  `json:"cursor"` // the sequence number there to go on with
	Head   int64  `json:"head"`   // what it had when last asked
	Lag    int64  `json:"lag"`    // events between the two
	At     string `json:"at"`     // when it was last asked with success, "" for never
	Error  string `json:"error,omitempty"`

	Evidence int `json:"evidence,omitempty"` // pairs of its checkpoints that are not of one log
}

func (s *Server) init() {
	s.once.Do(func() {
		if s.Log == nil {
			s.Log = slog.New(slog.DiscardHandler)
		}
		setDefault(&s.MaxExports, 8)
		setDefault(&s.MaxStreams, 256)
		setDefault(&s.PageEvents, 2000)
		setDefault(&s.PageBytes, 64<<20)
		setDefault(&s.Heartbeat, 15*time.Second)
		setDefault(&s.StreamLife, time.Hour)
		setDefault(&s.Poll, 5*time.Second)
		setDefault(&s.WriteWait, 30*time.Second)
		setDefault(&s.ExportLife, 5*time.Minute)
		s.exports = httpserve.NewSlots(s.MaxExports, 2)
		s.streams = httpserve.NewSlots(s.MaxStreams, 8)
		s.closing = make(chan struct{})
		s.compressors.New = func() any {
			z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
			if err != nil {
				panic(err) // only for options that do not exist
			}
			return z
		}
	})
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Routes adds the endpoints to a mux.
func (s *Server) Routes(mux *http.ServeMux) {
	s.init()
	mux.HandleFunc("GET /export", s.export)
	mux.HandleFunc("GET /stream", s.stream)
	mux.HandleFunc("GET /ranges", s.ranges)
	mux.HandleFunc("GET /objects/sha256/{digest}", s.object)
	mux.HandleFunc("GET /_health", s.health)
}

// Drain ends all streams, with the reason shutdown, and all exports after the
// piece that they are at.
func (s *Server) Drain() {
	s.init()
	s.endOnce.Do(func() { close(s.closing) })
}

// refuse answers with an error in words. Nothing of it is kept by caches.
func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.Error(w, fmt.Sprintf(format, args...), status)
}

// client is who asks, for limits.
func (s *Server) client(r *http.Request) netip.Addr {
	if s.ClientIP != nil {
		return resolver.Customer(s.ClientIP(r))
	}
	end, _ := netip.ParseAddrPort(r.RemoteAddr)
	return resolver.Customer(end.Addr())
}

// busy answers a request that would be one too many.
func busy(w http.ResponseWriter, what string) {
	w.Header().Set("Retry-After", "5")
	refuse(w, http.StatusServiceUnavailable, "limit: too many %s at once, try again in a few seconds", what)
}

// failed answers when the store fails. What it says is for the log alone.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // the client has gone
	}
	s.Log.Error("reading failed", "path", r.URL.Path, "error", err)
	refuse(w, http.StatusInternalServerError, "the store could not be read; try again")
}

// afterParam reads the sequence number that the client has, -1 for none.
func afterParam(text string) (int64, error) {
	if text == "" {
		return -1, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("after=%.20q is not the sequence number of an event", text)
	}
	return n, nil
}

// acceptsZstd reports whether a client takes Zstandard.
func acceptsZstd(r *http.Request) bool {
	for _, value := range r.Header.Values("Accept-Encoding") {
		for part := range strings.SplitSeq(value, ",") {
			name, quality, _ := strings.Cut(strings.TrimSpace(part), ";")
			if strings.EqualFold(strings.TrimSpace(name), "zstd") {
				q, weighed := strings.CutPrefix(strings.ToLower(strings.ReplaceAll(quality, " ", "")), "q=")
				return !weighed || strings.Trim(q, "0.") != ""
			}
		}
	}
	return false
}

// An out is a long answer: compressed if the client likes, and given time as
// long as the client takes what it gets.
type out struct {
	s    *Server
	w    io.Writer
	z    *zstd.Encoder
	sent int64
}

// open begins a long answer.
func (s *Server) open(w http.ResponseWriter, r *http.Request, mediaType string) *out {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Add("Vary", "Accept-Encoding")
	o := &out{s: s, w: &httpserve.Paced{ResponseWriter: w, Wait: s.WriteWait, Bytes: pacedBytes}}
	if acceptsZstd(r) {
		w.Header().Set("Content-Encoding", "zstd")
		o.z = s.compressors.Get().(*zstd.Encoder)
		o.z.Reset(o.w)
	}
	return o
}

// pacedBytes is how much of a long answer is taken in WriteWait at least.
const pacedBytes = 256 << 10

func (o *out) Write(p []byte) (n int, err error) {
	if o.z != nil {
		n, err = o.z.Write(p)
	} else {
		n, err = o.w.Write(p)
	}
	o.sent += int64(n)
	return n, err
}

// close ends the answer. One that failed is cut off, so that its reader sees
// that something is missing.
func (o *out) close(err error) {
	if o.z != nil {
		if err == nil {
			err = o.z.Close()
		}
		o.z.Reset(nil)
		o.s.compressors.Put(o.z)
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	after, err := afterParam(r.URL.Query().Get("after"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	limit := s.PageEvents
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			refuse(w, http.StatusBadRequest, "limit=%.20q is not a number of events", text)
			return
		}
		limit = n
	}
	// Without bundles an export is short: many more events fit.
	bare := r.URL.Query().Get("bundles") == "no"
	if most := s.PageEvents; bare {
		limit = min(limit, bareEvents*most)
	} else {
		limit = min(limit, most)
	}
	release, ok := s.exports.Take(s.client(r))
	if !ok {
		busy(w, "exports")
		return
	}
	defer release()
	head, err := s.Source.Head(r.Context())
	if err != nil {
		s.failed(w, r, err)
		return
	}
	if after >= head {
		refuse(w, http.StatusConflict, "this mirror has %d events, so none has the number %d: was its database replaced?", head, after)
		return
	}
	events, err := s.Source.Events(r.Context(), after+1, limit)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-cache")
	o := s.open(w, r, "application/jsonl")
	s.Stats.Exports.Add(1)
	err = s.exportEvents(r.Context(), o, events, after+1, head, bare)
	s.Stats.ExportedBytes.Add(o.sent)
	if err != nil && r.Context().Err() == nil {
		s.Log.Warn("export broke off", "after", after, "sent", o.sent, "error", err)
	}
	o.close(err)
}

// bareEvents is how many times more events an export has without bundles.
const bareEvents = 10

// maxOpen is of how many records the bundle may be due at a time, however large they
// are: when an export has to end, those still come. Of more, as many as PageBytes hold.
const maxOpen = 32

// exportEvents writes events, the bundles of their records unless it is bare, and
// the last line.
func (s *Server) exportEvents(ctx context.Context, o *out, events []Event, next, head int64, bare bool) error {
	last := map[string]int64{} // per record, the seq after which its bundle comes
	for _, e := range events {
		last[e.Suffix] = e.Seq
	}
	var open []string // records of which an event was written, in order, but not their bundle
	full, written, started, beyond := false, 0, time.Now(), 0
	defer func() { s.Stats.ExportedEvents.Add(int64(written)) }()
	for _, e := range events {
		opens := !bare && last[e.Suffix] != e.Seq && !slices.Contains(open, e.Suffix)
		if opens && len(open) >= maxOpen {
			bundle, err := s.Source.Bundle(ctx, e.Suffix)
			if err != nil {
				return fmt.Errorf("bundle of %s: %w", e.Suffix, err)
			}
			if beyond += len(bundle); beyond > s.PageBytes {
				break
			}
		}
		line := Line{Seq: &e.Seq, Event: e.ID, Suffix: e.Suffix, SHA256: e.SHA256.String()}
		if err := writeLine(o, line); err != nil {
			return err
		}
		next = e.Seq + 1
		written++
		if bare {
			continue
		}
		if opens {
			open = append(open, e.Suffix)
		}
		if last[e.Suffix] != e.Seq {
			continue
		}
		if err := s.exportBundle(ctx, o, e.Suffix); err != nil {
			return err
		}
		open = slices.DeleteFunc(open, func(suffix string) bool { return suffix == e.Suffix })
		select {
		case <-s.closing:
			full = true
		default:
			full = o.sent >= int64(s.PageBytes) || time.Since(started) > s.ExportLife
		}
		if full {
			break
		}
	}
	for _, suffix := range open { // its last event is not in this answer, so its bundle is due now
		if err := s.exportBundle(ctx, o, suffix); err != nil {
			return err
		}
	}
	return writeLine(o, Line{Next: &next, Head: &head})
}

func (s *Server) exportBundle(ctx context.Context, o *out, suffix string) error {
	bundle, err := s.Source.Bundle(ctx, suffix)
	if err != nil {
		return fmt.Errorf("bundle of %s: %w", suffix, err)
	}
	// Not through encoding/json, which would parse it again: it is canonical, so it
	// has no line breaks.
	for _, part := range [][]byte{[]byte(`{"bundle":`), bytes.TrimSpace(bundle), []byte("}\n")} {
		if _, err := o.Write(part); err != nil {
			return err
		}
	}
	return nil
}

func writeLine(o *out, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = o.Write(append(data, '\n'))
	return err
}

func (s *Server) ranges(w http.ResponseWriter, r *http.Request) {
	prefixes := r.URL.Query()["prefix"]
	if len(prefixes) == 0 {
		prefixes = []string{""}
	}
	if len(prefixes) > compare.MaxPrefixes {
		refuse(w, http.StatusBadRequest, "%d prefixes, at most %d can be asked about at once", len(prefixes), compare.MaxPrefixes)
		return
	}
	for _, p := range prefixes {
		if !compare.ValidPrefix(p) {
			refuse(w, http.StatusBadRequest, "prefix=%.40q: no record begins so; suffixes are 26 characters A-Z and 2-7", p)
			return
		}
	}
	// The first question reads the whole store, which may take longer than other answers.
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(5 * time.Minute))
	answers, err := s.Source.Ranges(r.Context(), prefixes)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-cache")
	o := s.open(w, r, "application/json")
	o.close(writeLine(o, answers))
}

func (s *Server) object(w http.ResponseWriter, r *http.Request) {
	digest, err := compare.ParseDigest(r.PathValue("digest"))
	if err != nil {
		refuse(w, http.StatusNotFound, "%v", err)
		return
	}
	tag := `"` + digest.String() + `"`
	header := w.Header()
	if strings.Contains(r.Header.Get("If-None-Match"), tag) {
		header.Set("ETag", tag)
		w.WriteHeader(http.StatusNotModified)
		return
	}
	data, err := s.Source.Object(r.Context(), digest)
	switch {
	case errors.Is(err, ErrNotFound):
		refuse(w, http.StatusNotFound, "no event and no bundle that is served now has this SHA-256")
		return
	case err != nil:
		s.failed(w, r, err)
		return
	}
	header.Set("Content-Type", "application/json")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "public, max-age=31536000, immutable")
	header.Set("ETag", tag)
	header.Set("Content-Length", strconv.Itoa(len(data)))
	w.Write(data)
}

func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	var h Health
	var err error
	if s.Health != nil {
		h, err = s.Health(ctx)
	} else {
		h.Status = "ok"
		h.Cursor, err = s.Source.Head(ctx)
	}
	status := http.StatusOK
	if err != nil {
		if r.Context().Err() != nil {
			return // who asked has gone
		}
		s.Log.Error("health check failed", "error", err)
		h.Status, h.Detail, status = "failing", "the store cannot be read", http.StatusServiceUnavailable
	}
	select {
	case <-s.closing:
		h.Status, status = "shutdown", http.StatusServiceUnavailable
	default:
	}
	if h.Upstreams == nil {
		h.Upstreams = []UpstreamHealth{}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(h)
}
