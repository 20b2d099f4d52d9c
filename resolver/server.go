package resolver

import (
	"net/http"
	"net/netip"
	"sync"

	"golang.org/x/sync/semaphore"
)

// A Server gives a service to the network. It registers the routes that write,
// and those of the transparency log; what reads lives in package web, what
// copies in package mirror, on the same mux.
type Server struct {
	Service *Service

	// Moderator is the bearer token of those who may moderate. Without one
	// there is no moderation over the network.
	Moderator string

	// ClientIP tells where a request comes from, which is what limits go by.
	// The default is the other end of the connection; behind a proxy, set what
	// knows the proxy.
	ClientIP func(*http.Request) netip.Addr

	// Memory is how many bytes of requests are held at once, default 256 MiB; of
	// those an eighth is verified at a time. Who comes when it is full is told to
	// come again.
	Memory int64

	once    sync.Once
	reading *semaphore.Weighted
	working *semaphore.Weighted
	mu      sync.Mutex
	senders map[netip.Addr]int // requests that each is sending
}

// maxSending is how many requests one sender may have under way at once.
const maxSending = 16

func (s *Server) init() {
	s.once.Do(func() {
		if s.Memory == 0 {
			s.Memory = 256 << 20
		}
		s.reading, s.working = semaphore.NewWeighted(s.Memory), semaphore.NewWeighted(s.Memory/8)
		s.senders = map[netip.Addr]int{}
	})
}

// Routes registers all routes of the server: POST /events, POST /keys, PUT
// /pith/{suffix}/bundle.json, /moderation and /log.
func (s *Server) Routes(mux *http.ServeMux) {
	s.init()
	s.routesWrite(mux)
	s.routesModeration(mux)
}
