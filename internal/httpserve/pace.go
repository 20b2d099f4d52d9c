package httpserve

import (
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Slots are places for answers that take long: so many in all, and so many for
// each client, so that one cannot close them to the others.
type Slots struct {
	all, each int

	mu   sync.Mutex
	n    int
	held map[netip.Addr]int
}

// NewSlots returns places for so many answers at once, in all and for each client.
func NewSlots(all, each int) *Slots {
	return &Slots{all: all, each: each, held: map[netip.Addr]int{}}
}

// Take takes a place, which release gives back. There is none for who has its
// share, and none for anybody when all are taken.
func (s *Slots) Take(client netip.Addr) (release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n >= s.all || s.held[client] >= s.each {
		return nil, false
	}
	s.n++
	s.held[client]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.n--
		if s.held[client]--; s.held[client] == 0 {
			delete(s.held, client)
		}
	}, true
}

// A Paced answer may take long as long as it is taken: whoever takes less than
// Bytes in Wait of waiting is let go. It measures only the time spent waiting for
// the client.
type Paced struct {
	http.ResponseWriter
	Wait  time.Duration
	Bytes int

	left time.Duration // that may be waited until progress is made
	got  int           // bytes since progress was made
}

// Write implements io.Writer.
func (p *Paced) Write(data []byte) (n int, err error) {
	for first := true; first || n < len(data) && err == nil; first = false {
		if p.got == 0 && p.left == 0 {
			p.left = p.Wait
		}
		piece := data[n:min(len(data), n+p.Bytes-p.got)]
		start := time.Now()
		// Not supported by recorders of tests; the server's own limit holds then.
		_ = http.NewResponseController(p.ResponseWriter).SetWriteDeadline(start.Add(p.left))
		var wrote int
		wrote, err = p.ResponseWriter.Write(piece)
		n += wrote
		// A millisecond at least, so that the time always ends.
		p.left = max(p.left-time.Since(start), time.Millisecond)
		if p.got += wrote; p.got >= p.Bytes {
			p.got, p.left = 0, 0
		}
	}
	return n, err
}

// Unwrap is for http.ResponseController.
func (p *Paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }
