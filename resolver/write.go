package resolver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/openpith/evidence/pith"
)

func (s *Server) routesWrite(mux *http.ServeMux) {
	mux.HandleFunc("POST /events", s.post)
	mux.HandleFunc("POST /keys", s.post)
	mux.HandleFunc("PUT /pith/{suffix}/bundle.json", s.put)
}

// post takes a bundle, an event or a key document.
func (s *Server) post(w http.ResponseWriter, r *http.Request) {
	if data, done := s.body(w, r); done != nil {
		defer done()
		s.submit(w, r, data)
	}
}

// put takes a bundle of the record that the address names.
func (s *Server) put(w http.ResponseWriter, r *http.Request) {
	data, done := s.body(w, r)
	if done == nil {
		return
	}
	defer done()
	suffix := strings.ToUpper(r.PathValue("suffix"))
	if !IsSuffix(suffix) {
		writeProblem(w, http.StatusBadRequest, &Refusal{Status: Refused, Code: CodeMismatch, Detail: "put a bundle under the 26 characters of its Pith Number"})
		return
	}
	// Which record it is of, the strict reader says below; this only spares an
	// honest sender a mistake.
	var top struct {
		Number string `json:"pith_number"`
	}
	if json.Unmarshal(data, &top) == nil {
		if _, got, ok := CutNumber(top.Number); ok && got != suffix {
			writeProblem(w, http.StatusConflict, &Refusal{Status: Refused, Code: CodeMismatch, Detail: "the bundle is about " + got})
			return
		}
	}
	s.submit(w, r, data)
}

func (s *Server) submit(w http.ResponseWriter, r *http.Request, data []byte) {
	// To verify takes several times the memory of what is verified, and all cores.
	weight := min(int64(len(data))+1, s.Memory/8)
	if err := s.working.Acquire(r.Context(), weight); err != nil {
		s.fail(w, r, err)
		return
	}
	receipt, err := s.Service.Submit(r.Context(), Submission{Data: data, From: s.client(r).String(), asked: true})
	s.working.Release(weight)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	signed, err := s.Service.SignReceipt(receipt)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if receipt.New > 0 {
		w.WriteHeader(http.StatusCreated)
	}
	_, _ = w.Write(append(signed, '\n')) // nobody is left to tell
}

// body reads a request up to the limit, after who sends it was asked for. done is
// called when the request is done with; it is nil where there is an answer already.
func (s *Server) body(w http.ResponseWriter, r *http.Request) (data []byte, done func()) {
	client := s.client(r)
	if refusal := s.Service.ask(client.String()); refusal != nil {
		writeProblem(w, statusOf(refusal), refusal)
		return nil, nil
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		w.Header().Set("Accept-Encoding", "identity") // RFC 9110, section 12.5.3
		writeProblem(w, http.StatusUnsupportedMediaType, &Refusal{Status: Refused, Code: "unreadable", Detail: "send it as it is: nothing is unpacked here"})
		return nil, nil
	}
	s.mu.Lock()
	many := s.senders[client] >= maxSending
	if !many {
		s.senders[client]++
	}
	s.mu.Unlock()
	if many {
		s.busy(w, fmt.Sprintf("more than %d requests at once from %s", maxSending, client))
		return nil, nil
	}
	body := &heldReader{of: s.reading}
	done = func() {
		s.reading.Release(body.n)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.senders[client]--; s.senders[client] == 0 {
			delete(s.senders, client)
		}
	}
	limit := int64(pith.MaxSize)
	if n := s.Service.limits.Size; n > 0 {
		limit = min(limit, int64(n))
	}
	body.r = http.MaxBytesReader(w, r.Body, limit)
	data, err := io.ReadAll(body)
	if err == nil {
		return data, done
	}
	done()
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		writeProblem(w, http.StatusRequestEntityTooLarge, &Refusal{Status: Refused, Code: CodeSize, Detail: fmt.Sprintf("this mirror takes %d bytes", limit)})
	case errors.Is(err, errBusy):
		s.busy(w, "too many requests are being read")
	default:
		writeProblem(w, http.StatusBadRequest, &Refusal{Status: Refused, Code: "unreadable", Detail: "the request broke off"})
	}
	return nil, nil
}

func (s *Server) busy(w http.ResponseWriter, detail string) {
	writeProblem(w, http.StatusServiceUnavailable, &Refusal{Status: Refused, Code: "busy", Detail: detail, Retry: 2 * time.Second})
}

var errBusy = errors.New("there is no memory left for requests")

// A heldReader counts what was read of a request, so that a slow sender holds no
// more than it has sent.
type heldReader struct {
	r  io.Reader
	of *semaphore.Weighted
	n  int64
}

func (h *heldReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if !h.of.TryAcquire(int64(n)) {
		return 0, errBusy
	}
	h.n += int64(n)
	return n, err
}

// client is who sent a request, for limits.
func (s *Server) client(r *http.Request) netip.Addr {
	if s.ClientIP != nil {
		return Customer(s.ClientIP(r))
	}
	end, _ := netip.ParseAddrPort(r.RemoteAddr)
	return Customer(end.Addr())
}

// Customer is the address by which limits know who has an address: itself, of
// IPv6 its network of 64 bits, all of which one customer has.
func Customer(addr netip.Addr) netip.Addr {
	if addr = addr.Unmap(); addr.Is6() {
		if p, err := addr.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// fail answers with an error: what was refused with its reason, what broke here
// without details.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		writeProblem(w, statusOf(refusal), refusal)
		return
	}
	if r.Context().Err() != nil && !errors.Is(err, ErrFull) {
		return // who sent it has gone
	}
	status := http.StatusInternalServerError
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrConflict) {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	s.Service.log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	if errors.Is(err, ErrFull) {
		w.Header().Set("Retry-After", "60")
		writeProblem(w, http.StatusInsufficientStorage, &Refusal{Status: Refused, Code: CodeStorageFull, Detail: "this mirror has no room left; nothing of this was acknowledged, what was before is safe: try again later, or another mirror"})
		return
	}
	writeProblem(w, status, &Refusal{Status: Refused, Code: "internal", Detail: "the mirror could not do it; nothing was acknowledged, try again"})
}

// statusOf is the HTTP status that fits a refusal.
func statusOf(r *Refusal) int {
	if r.Status == Queued {
		return http.StatusAccepted
	}
	switch r.Code {
	case CodeRateAddress, CodeRateSigner:
		return http.StatusTooManyRequests
	case CodeSize:
		return http.StatusRequestEntityTooLarge
	case CodeNoRecord:
		return http.StatusNotFound
	case CodeQueueFull:
		return http.StatusServiceUnavailable
	case CodeMismatch:
		return http.StatusConflict
	}
	if code := pith.Code(r.Code); code.IfFailed() == pith.Untrusted {
		return http.StatusForbidden
	}
	return http.StatusUnprocessableEntity
}

// writeProblem answers with a refusal as problem details (RFC 9457).
func writeProblem(w http.ResponseWriter, status int, r *Refusal) {
	if r.Retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(r.Retry.Seconds()))))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Fate   Status `json:"fate"`
		Code   string `json:"code"`
		Detail string `json:"detail"`
		ID     int64  `json:"id,omitempty"`
	}{http.StatusText(status), status, r.Status, r.Code, r.Detail, r.ID})
}

func (s *Server) routesModeration(mux *http.ServeMux) {
	mux.HandleFunc("GET /moderation", s.moderator(s.listHeld))
	mux.HandleFunc("GET /moderation/{id}", s.moderator(s.showHeld))
	mux.HandleFunc("POST /moderation/{id}/accept", s.moderator(s.acceptHeld))
	mux.HandleFunc("POST /moderation/{id}/reject", s.moderator(s.rejectHeld))
}

// moderator lets in who has the token. Digests are compared, so that the time
// it takes tells nothing, not even the length.
func (s *Server) moderator(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s.Moderator))
		if s.Moderator == "" || !ok || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="moderation"`)
			writeProblem(w, http.StatusUnauthorized, &Refusal{Status: Refused, Code: "unauthorized", Detail: "moderation needs the moderator's token"})
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		next(w, r)
	}
}

// A HeldReport is a submission that was kept outside as moderators read it, in JSON.
type HeldReport struct {
	ID         int64           `json:"id"`
	Status     Status          `json:"status"`
	Suffix     string          `json:"suffix,omitempty"`
	Code       string          `json:"code"`
	Detail     string          `json:"detail"`
	Signer     string          `json:"signer,omitempty"`
	From       string          `json:"from"`
	ReceivedAt time.Time       `json:"received_at"`
	SHA256     string          `json:"sha256"`
	Truncated  bool            `json:"truncated,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"` // as a value where it is JSON, else as a string
}

// Report returns what moderators read of the submission, without its data.
func (h Held) Report() HeldReport {
	return HeldReport{ID: h.ID, Status: h.Status, Suffix: h.Suffix, Code: h.Code, Detail: h.Detail, Signer: h.Signer, From: h.From,
		ReceivedAt: h.ReceivedAt, SHA256: h.SHA256.String(), Truncated: h.Truncated}
}

// listHeld lists 100 submissions of a status, queued by default, after an id.
func (s *Server) listHeld(w http.ResponseWriter, r *http.Request) {
	status := Status(r.FormValue("status"))
	if status == "" {
		status = Queued
	}
	if !status.Valid() {
		writeProblem(w, http.StatusBadRequest, &Refusal{Status: Refused, Code: "status", Detail: "status is queued, accepted, rejected or refused"})
		return
	}
	after, _ := strconv.ParseInt(r.FormValue("after"), 10, 64) // what is no number starts from the first
	held, err := s.Service.store.Held(r.Context(), status, after, 100)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := make([]HeldReport, len(held))
	for i, h := range held {
		out[i] = h.Report()
	}
	writeJSON(w, map[string]any{"held": out})
}

func (s *Server) showHeld(w http.ResponseWriter, r *http.Request) {
	h, ok := s.held(w, r)
	if !ok {
		return
	}
	data, err := Gunzip(h.Data)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	text := h.Report()
	if text.Data = data; !json.Valid(data) {
		text.Data, _ = json.Marshal(string(data))
	}
	writeJSON(w, text)
}

func (s *Server) held(w http.ResponseWriter, r *http.Request) (Held, bool) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	var h Held
	if err == nil {
		h, err = s.Service.store.HeldByID(r.Context(), id)
	}
	if errors.Is(err, ErrNotFound) || errors.Is(err, strconv.ErrSyntax) || errors.Is(err, strconv.ErrRange) {
		writeProblem(w, http.StatusNotFound, &Refusal{Status: Refused, Code: "not_found", Detail: "no submission of this number"})
		return h, false
	}
	if err != nil {
		s.fail(w, r, err)
		return h, false
	}
	return h, true
}

func (s *Server) acceptHeld(w http.ResponseWriter, r *http.Request) {
	h, ok := s.held(w, r)
	if !ok {
		return
	}
	receipt, err := s.Service.Accept(r.Context(), h.ID)
	if err != nil {
		s.moderationFailed(w, r, err)
		return
	}
	signed, err := s.Service.SignReceipt(receipt)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, json.RawMessage(signed))
}

func (s *Server) rejectHeld(w http.ResponseWriter, r *http.Request) {
	h, ok := s.held(w, r)
	if !ok {
		return
	}
	if err := s.Service.Reject(r.Context(), h.ID, r.FormValue("reason")); err != nil {
		s.moderationFailed(w, r, err)
		return
	}
	h, ok = s.held(w, r)
	if ok {
		writeJSON(w, h.Report())
	}
}

func (s *Server) moderationFailed(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, ErrNotFound) {
		writeProblem(w, http.StatusConflict, &Refusal{Status: Refused, Code: "not_queued", Detail: "this submission does not wait for a moderator"})
		return
	}
	s.fail(w, r, err)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // nobody is left to tell
}
