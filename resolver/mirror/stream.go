package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// stream sends events as they come. Nothing is kept for a client: what it has not
// taken yet is read from the store when it does, so a slow one costs no memory,
// and one that does not take a message within WriteWait is let go.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	text := r.URL.Query().Get("after")
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		text = id // a browser that connects again
	}
	after, err := afterParam(text)
	if err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	release, ok := s.streams.Take(s.client(r))
	if !ok {
		busy(w, "streams")
		return
	}
	defer release()
	head, err := s.Source.Head(r.Context())
	if err != nil {
		s.failed(w, r, err)
		return
	}
	if after >= head { // before 1 is added: the largest number has none behind it
		refuse(w, http.StatusConflict, "this mirror has %d events, so none has the number %d: was its database replaced?", head, after)
		return
	}
	next := after + 1
	if text == "" {
		next = head // from now on
	}
	s.Stats.Streams.Add(1)
	defer s.Stats.Streams.Add(-1)
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Accel-Buffering", "no") // nginx would hold messages back
	sse := &messages{w: w, rc: http.NewResponseController(w), wait: s.WriteWait}
	sse.comment(fmt.Sprintf("from %d", next)) // the client sees at once that it is connected
	reason, err := s.follow(r.Context(), sse, next)
	if sse.err != nil {
		err = sse.err
		if errors.Is(err, os.ErrDeadlineExceeded) {
			reason = CloseSlowClient
			s.Stats.SlowClients.Add(1)
		}
	}
	if reason == "" {
		return // the client has gone
	}
	if sse.err == nil {
		sse.send("close", -1, map[string]string{"reason": reason})
	}
	s.Log.Info("stream closed", "reason", reason, "error", err)
	if reason == CloseError {
		panic(http.ErrAbortHandler)
	}
}

// follow sends events until something ends the stream, and says what.
func (s *Server) follow(ctx context.Context, sse *messages, next int64) (reason string, err error) {
	heartbeat := time.NewTicker(s.Heartbeat)
	defer heartbeat.Stop()
	poll := time.NewTicker(s.Poll)
	defer poll.Stop()
	life := time.NewTimer(s.StreamLife)
	defer life.Stop()
	for {
		// Taken before the store is read: what is accepted in between wakes us.
		changed := s.Source.Changed()
		for {
			events, err := s.Source.Events(ctx, next, 100)
			if err != nil {
				if ctx.Err() != nil {
					return "", nil
				}
				return CloseError, err
			}
			for _, e := range events {
				sse.send("event", e.Seq, Line{Seq: &e.Seq, Event: e.ID, Suffix: e.Suffix, SHA256: e.SHA256.String()})
				next = e.Seq + 1
			}
			s.Stats.StreamedEvents.Add(int64(len(events)))
			if sse.err != nil {
				return "", nil
			}
			if len(events) == 0 {
				break
			}
			select { // a client that is far behind is told, too
			case <-s.closing:
				return CloseShutdown, nil
			case <-life.C:
				return CloseLimit, nil
			default:
			}
		}
		select {
		case <-changed:
		case <-poll.C:
		case <-heartbeat.C:
			if sse.comment("alive"); sse.err != nil {
				return "", nil
			}
		case <-s.closing:
			return CloseShutdown, nil
		case <-life.C:
			return CloseLimit, nil
		case <-ctx.Done():
			return "", nil
		}
	}
}

// messages writes server-sent events (HTML Living Standard, 9.2) and remembers
// the first error.
type messages struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	wait time.Duration
	err  error
}

func (m *messages) send(kind string, id int64, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		m.err = err
		return
	}
	text := fmt.Sprintf("event: %s\ndata: %s\n\n", kind, data)
	if id >= 0 {
		text = fmt.Sprintf("id: %d\n%s", id, text)
	}
	m.write(text)
}

func (m *messages) comment(text string) { m.write(": " + text + "\n\n") }

func (m *messages) write(text string) {
	if m.err != nil {
		return
	}
	m.rc.SetWriteDeadline(time.Now().Add(m.wait))
	if _, m.err = m.w.Write([]byte(text)); m.err == nil {
		if m.err = m.rc.Flush(); errors.Is(m.err, http.ErrNotSupported) {
			m.err = nil
		}
	}
}
