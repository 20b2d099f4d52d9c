package main

import (
	"context"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/mirror"
	"github.com/openpith/evidence/resolver/tlog"
	"github.com/openpith/evidence/resolver/web"
)

// bundleCache is how many bytes of bundles are kept in memory for who asks next.
const bundleCache = 64 << 20

// newNode wires the parts of a mirror.
func (s *serving) newNode(ctx context.Context, c resolver.Config, clientIP func(*http.Request) netip.Addr) (*node, error) {
	cache := resolver.NewCache(c.Store, bundleCache)
	c.Store = cache
	known, all, err := services(c)
	if err != nil {
		return nil, err
	}
	n := &node{
		store: cache, service: known, log: c.Log, mux: http.NewServeMux(), started: time.Now().UTC(),
		requests: newRequests(), logSize: func() int64 { return -1 }, close: func() {},
	}
	n.mirror = &mirror.Server{Source: mirror.NewSource(c.Store, known.Changed), Log: c.Log, Health: n.health, ClientIP: clientIP}
	n.mirror.Routes(n.mux)
	public := c.Key.Public()
	mirrors, err := mirror.Upstreams(ctx, c.Store)
	if err != nil {
		return nil, err
	}
	site := web.Config{
		Store: c.Store, Trust: known.Trust, Key: &public, Name: s.name, BaseURL: s.url, Operator: s.operator, Log: c.Log,
		Upstreams: n.upstreams,
	}
	for _, u := range mirrors {
		site.Mirrors = append(site.Mirrors, web.MirrorAt("", u.URL, "mirror", nil))
	}
	pages, err := web.New(site)
	if err != nil {
		return nil, cli.Hint(err, "write --url like https://mirror.example.org")
	}
	pages.Routes(n.mux)
	secure := pages.Secure(n.mux)
	n.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ranges" { // many prefixes make a longer address than pages take
			w.Header().Set("Access-Control-Allow-Origin", "*")
			n.mux.ServeHTTP(w, r)
			return
		}
		secure.ServeHTTP(w, r)
	})
	moderator, err := s.moderatorToken()
	if err != nil {
		return nil, err
	}
	writing := &resolver.Server{Service: known, Moderator: moderator, ClientIP: clientIP}
	writing.Routes(n.mux)
	dir := s.data
	if s.db == "memory:" { // nothing of it stays, nor does its log
		if dir, err = os.MkdirTemp("", "pith-"); err != nil {
			c.Log.Warn("without a directory for it this mirror has no log: others copy it with pith mirror add --no-log", "error", err)
		} else {
			n.close = func() { os.RemoveAll(dir) }
		}
	}
	if dir != "" {
		if err := n.keepLog(filepath.Join(dir, "log"), s.newLog, c); err != nil {
			n.close()
			return nil, err
		}
	}
	if s.archive != "" {
		if err := serveArchive(n.mux, s.archive, clientIP); err != nil {
			return nil, err
		}
	}
	n.background = append(n.background, func(ctx context.Context) { n.followPolicy(ctx, known, all) })
	if s.copy && !s.demo {
		sync := &mirror.Sync{Target: mirror.NewTarget(known, all), Leaf: leafOf, Log: c.Log}
		n.background = append(n.background, func(ctx context.Context) { n.copyUpstreams(ctx, sync) })
	}
	return n, nil
}

// keepLog publishes the transparency log, a new one where asked, and keeps it up
// with the store.
func (n *node) keepLog(dir string, again bool, c resolver.Config) error {
	l, err := tlog.Open(dir, c.Store, c.Key)
	if err != nil {
		return err
	}
	if again {
		if err := l.Renew(context.Background()); err != nil {
			return cli.Hint(err, "move mirror-key.json in the data directory away, or name a new key; or start without --new-log")
		}
	}
	l.Routes(n.mux)
	n.logSize = func() int64 { return l.Size(context.Background()) }
	n.background = append(n.background, func(ctx context.Context) {
		for wait := time.Second; ctx.Err() == nil; wait = min(2*wait, time.Minute) {
			started := time.Now()
			if err := l.Run(ctx, n.service.Changed); err != nil {
				if time.Since(started) > time.Minute {
					wait = time.Second // it ran: this is another trouble
				}
				n.log.Error("the transparency log stands still", "error", err, "hint", "run pith fsck", "again_in", wait)
				n.logTrouble.Store(&trouble{err, time.Now().UTC(), n.logSize()})
				select {
				case <-time.After(wait):
				case <-ctx.Done():
				}
			}
		}
	})
	return nil
}

// followPolicy learns what moderators let in by other processes on the database.
func (n *node) followPolicy(ctx context.Context, services ...*resolver.Service) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, s := range services {
			if err := s.LoadPolicy(ctx); err != nil && ctx.Err() == nil {
				n.log.Error("the policy could not be read again", "error", err)
			}
		}
	}
}

// A trouble is something that went wrong, and when.
type trouble struct {
	err     error
	at      time.Time
	logSize int64 // entries of the log then
}

// upstreams tells pages what is copied.
func (n *node) upstreams(ctx context.Context) []web.Upstream {
	ups, err := mirror.Upstreams(ctx, n.store)
	if err != nil {
		n.log.Error("the list of upstreams could not be read", "error", err)
	}
	var list []web.Upstream
	for _, u := range ups {
		w := web.Upstream{URL: u.URL, Cursor: u.Next, At: u.At(), Err: u.Trouble}
		if w.At != "" {
			// It is asked again and again whether there is more: see mirror.Sync.
			if since := time.Since(u.SyncedAt); since > 2*mirror.AliveEvery || u.Lag() > 0 || u.Trouble != "" {
				w.Lag = since.Round(time.Second)
			}
		}
		list = append(list, w)
	}
	return list
}

// leafOf is the leaf of a mirror's log for an event.
func leafOf(e mirror.Event) []byte {
	return resolver.Leaf(resolver.Event{Seq: e.Seq, ID: e.ID, Suffix: e.Suffix, SHA256: resolver.Digest(e.SHA256)})
}
