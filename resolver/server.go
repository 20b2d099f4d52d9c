package resolver

import (
	"net/http"
	"net/netip"
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
}

// Routes registers all routes of the server: POST /events, POST /keys, PUT
// /pith/{suffix}/bundle.json, /moderation and /log.
func (s *Server) Routes(mux *http.ServeMux) {
	s.routesWrite(mux)
	s.routesModeration(mux)
}
