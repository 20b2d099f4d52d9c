package main

import (
	"context"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/mirror"
)

// newNode wires the parts of a mirror.
func (s *serving) newNode(ctx context.Context, c resolver.Config, clientIP func(*http.Request) netip.Addr) (*node, error) {
	known, all, err := services(c)
	if err != nil {
		return nil, err
	}
	n := &node{
		store: c.Store, service: known, log: c.Log, mux: http.NewServeMux(), started: time.Now().UTC(),
		requests: newRequests(), logSize: func() int64 { return -1 }, close: func() {},
	}
	n.mirror = &mirror.Server{Source: mirror.NewSource(c.Store, known.Changed), Log: c.Log, Health: n.health}
	n.mirror.Routes(n.mux)
	writing := &resolver.Server{Service: known, Moderator: os.Getenv("PITH_MODERATOR"), ClientIP: clientIP}
	writing.Routes(n.mux)
	if s.copy && !s.demo {
		sync := &mirror.Sync{Target: mirror.NewTarget(known, all), Leaf: leafOf, Log: c.Log}
		n.background = append(n.background, func(ctx context.Context) { n.copyUpstreams(ctx, sync) })
	}
	return n, nil
}
