package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/internal/httpserve"
	"github.com/openpith/evidence/internal/keyfile"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/mirror"
	"github.com/openpith/evidence/resolver/tlog"
)

// serving are the settings of pith serve, one for each flag.
type serving struct {
	home
	printConfig bool
	demo        bool

	listen, metrics     string
	url, operator       string
	archive, moderator  string
	copy                bool
	proxies             []string
	autocert            []string
	authority           string
	maxConnections      int
	grace               time.Duration
	logLevel, logFormat string
	trace               string

	listening func(address, metrics string) // tests want to know
}

func serveCommand() *cobra.Command { return newServeCommand(&serving{}) }

func newServeCommand(s *serving) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a mirror: serve records, take new events, copy other mirrors",
		Long: `serve answers over HTTP: pages and bundles for readers, a place to send events to
for authors, everything for other mirrors. What other mirrors pith mirror add
named is copied all the time.

Each flag but --demo, --new-log and --config may also stand in the environment, as
--max-connections does in PITH_MAX_CONNECTIONS, or in the configuration file; the command line
goes before the environment, which goes before the file. Those who moderate over
the network show a token, see --moderator-file.`,
		Example: "  pith serve --demo",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.configure(cmd); err != nil {
				return err
			}
			if s.printConfig {
				return printConfig(cmd)
			}
			return s.run(cmd)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&s.printConfig, "print-config", false, "print all settings as such a file, and end")
	f.BoolVar(&s.newLog, "new-log", false, "begin a new log with a new key, once, because the old key or events that were signed are lost; move mirror-key.json and log in the data directory away before")
	f.BoolVar(&s.demo, "demo", false, "serve one real record from memory; nothing is stored")
	s.serviceFlags(cmd)
	f.StringVar(&s.listen, "listen", "localhost:8017", "answer at `ADDRESS`")
	f.StringVar(&s.metrics, "metrics", "", "answer Prometheus at another `ADDRESS` (default not at all)")
	f.StringVar(&s.url, "url", "", "the `URL` under which the world sees this mirror (default that of each request)")
	f.StringVar(&s.operator, "operator", "", "`WHO` runs this mirror, for the page about it")
	f.StringVar(&s.archive, "archive", "", "offer the archive in `DIR` at /archive, for pith archive clone")
	f.StringVar(&s.moderator, "moderator-file", "", "those who know the token in `FILE`, which nobody else may read, moderate over the network (default $PITH_MODERATOR, else nobody)")
	f.BoolVar(&s.copy, "copy", true, "copy the mirrors that pith mirror add named")
	f.StringSliceVar(&s.proxies, "trusted-proxies", nil, "believe X-Forwarded-For of these `NETWORKS`, like 10.0.0.0/8")
	f.StringSliceVar(&s.autocert, "autocert", nil, "serve TLS as `HOST` with certificates that the server gets and renews; needs --listen :443 (repeatable)")
	f.StringVar(&s.authority, "acme-directory", "", "get them from the authority whose ACME directory is at `URL` (default Let's Encrypt); who asks for certificates agrees to its terms")
	f.IntVar(&s.maxConnections, "max-connections", 20_000, "`HOW MANY` connections may be open")
	f.DurationVar(&s.grace, "grace", 20*time.Second, "`HOW LONG` answers may take to finish at the end")
	f.StringVar(&s.logLevel, "log-level", "info", "log from this `LEVEL` on: debug (every request), info, warn or error")
	f.StringVar(&s.logFormat, "log-format", "text", "log as `FORMAT`: text or json")
	f.StringVar(&s.trace, "trace", "", "send OpenTelemetry traces to the collector at `URL`, like http://localhost:4318")
	return cmd
}

// configure fills in what the command line leaves open and checks it.
func (s *serving) configure(cmd *cobra.Command) error {
	if err := s.home.configure(cmd); err != nil {
		return err
	}
	if s.name == "" && len(s.autocert) > 0 {
		s.name = s.autocert[0]
	}
	if s.demo {
		s.db = "memory:"
	}
	return nil
}

// moderatorToken is the token of those who may moderate, "" for nobody.
func (s *serving) moderatorToken() (string, error) {
	token, from := os.Getenv("PITH_MODERATOR"), "PITH_MODERATOR"
	if s.moderator != "" {
		data, err := keyfile.ReadSecret(s.moderator)
		if err != nil {
			return "", cli.Hint(err, "write the token to a file that only you can read: (umask 077; openssl rand -hex 32 > FILE)")
		}
		token, from = strings.TrimSpace(string(data)), s.moderator
		if token == "" {
			return "", cli.Hint(fmt.Errorf("%s holds no token", from), "make one with openssl rand -hex 32")
		}
	}
	if token != "" && len(token) < leastToken {
		return "", cli.Hint(fmt.Errorf("the token in %s has %d characters: it could be guessed", from, len(token)), "make one with openssl rand -hex 32")
	}
	return token, nil
}

// leastToken is how many characters a token has at least.
const leastToken = 16

// logger writes to standard error, as the settings say.
func (s *serving) logger(cmd *cobra.Command) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.logLevel)) // configure knows the words
	o := &slog.HandlerOptions{Level: level}
	if s.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), o))
	}
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), o))
}

// run serves until the context of the command ends.
func (s *serving) run(cmd *cobra.Command) error {
	log := s.logger(cmd)
	clientIP, err := trustedProxies(s.proxies)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	store, err := s.open(cmd)
	if err != nil {
		return err
	}
	defer store.Close()
	if db, ok := store.(interface{ Alone() bool }); ok && db.Alone() {
		log.Warn("the disk is full: the mirror answers readers, and takes what is sent when there is room again; until the next start no other command can open the database", "db", shown(s.db))
	}
	config, err := s.config(cmd, store, log)
	if err != nil {
		return err
	}
	node, err := s.newNode(ctx, config, clientIP)
	if err != nil {
		return err
	}
	defer node.close()
	if s.demo {
		if _, err := node.service.Submit(ctx, resolver.Submission{Data: seed.Bundle(), From: "demo", Unlimited: true}); err != nil {
			return fmt.Errorf("load the real bundle: %w", err)
		}
	}

	options := httpserve.Options{
		Listen: s.listen, MaxConns: s.maxConnections, Hosts: s.autocert, Authority: s.authority, CertDir: filepath.Join(s.data, "certificates"),
		Grace: s.grace, Draining: node.mirror.Drain, Log: log,
	}
	listener, err := httpserve.Listen(ctx, options)
	if err != nil {
		return cli.Hint(err, "name another address with --listen")
	}
	handler, endTrace, err := s.observed(ctx, node, clientIP)
	if err != nil {
		listener.Close()
		return err
	}
	defer endTrace()
	metrics, err := s.serveMetrics(ctx, node)
	if err != nil {
		listener.Close()
		return err
	}
	log.Info("serving", "address", listener.Addr().String(), "db", shown(s.db), "fingerprint", config.Key.Public().Fingerprint())
	if len(s.autocert) == 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "http://%s/\n", listener.Addr())
	} else {
		fmt.Fprintf(cmd.OutOrStdout(), "https://%s/\n", s.autocert[0])
	}
	if s.listening != nil {
		s.listening(listener.Addr().String(), metrics)
	}

	var background sync.WaitGroup
	for _, work := range node.background {
		background.Go(func() { work(ctx) })
	}
	err = httpserve.Serve(ctx, listener, handler, options)
	stop()
	background.Wait()
	if err != nil {
		return cli.Hint(err, "see the log for what went before")
	}
	log.Info("ended")
	return nil
}

// A node is a running mirror: its parts, wired.
type node struct {
	store   *resolver.Cache
	service *resolver.Service
	mirror  *mirror.Server
	mux     *http.ServeMux
	handler http.Handler // the mux, with what every answer gets
	log     *slog.Logger
	started time.Time

	requests   *prometheus.HistogramVec
	logSize    func() int64 // of the newest checkpoint, -1 without a log
	logTrouble atomic.Pointer[trouble]
	background []func(context.Context)
	close      func()
}

// health is the answer of /_health.
func (n *node) health(ctx context.Context) (mirror.Health, error) {
	h := mirror.Health{Status: "ok", Version: cli.Version(), StartedAt: n.started.Format(time.RFC3339)}
	counts, err := n.store.Counts(ctx)
	if err != nil {
		return h, err
	}
	h.Cursor, h.Records = counts.Events, counts.Records
	if h.LogSize = n.logSize(); h.LogSize >= 0 {
		h.LogLag = max(0, h.Cursor-h.LogSize)
	}
	if failure := n.store.WriteFailure(); failure != nil { // reading goes on
		h.Status, h.Detail = "degraded", "since "+failure.Since.Format(time.RFC3339)+" nothing can be written: "+publicly(failure.Err)
	} else if trouble := n.logTrouble.Load(); trouble != nil && h.LogLag > 0 && h.LogSize == trouble.logSize { // it has not moved since
		h.Status, h.Detail = "degraded", "the transparency log stands still since "+trouble.at.Format(time.RFC3339)+": "+publicly(trouble.err)
	}
	ups, err := mirror.Upstreams(ctx, n.store)
	for _, u := range ups {
		h.Upstreams = append(h.Upstreams, mirror.UpstreamHealth{URL: u.URL, Cursor: u.Next, Head: u.Head, Lag: u.Lag(), At: u.At(), Error: u.Trouble})
		found, err := mirror.EvidenceAgainst(ctx, n.store, u.URL)
		if err != nil {
			return h, err
		}
		h.Upstreams[len(h.Upstreams)-1].Evidence = len(found)
	}
	return h, err
}

// publicly says what is wrong in words for everybody, without names of files or
// machines; the log has the rest.
func publicly(err error) string {
	switch {
	case errors.Is(err, resolver.ErrFull), errors.Is(err, syscall.ENOSPC):
		return resolver.ErrFull.Error()
	case errors.Is(err, tlog.ErrHistory):
		return tlog.ErrHistory.Error()
	}
	return "see the log of the mirror"
}

// copyLock is the name of the lock of who copies for a database.
const copyLock = "mirror-copy"

// copyUpstreams follows the mirrors that pith mirror add named, also those that
// are named while it runs. Of several processes on one database one does it.
func (n *node) copyUpstreams(ctx context.Context, sync *mirror.Sync) {
	for ctx.Err() == nil {
		err := n.store.Lock(ctx, copyLock, func(ctx context.Context) error {
			for ctx.Err() == nil {
				ups, err := mirror.Upstreams(ctx, n.store)
				if err != nil {
					return err
				}
				round, end := context.WithCancel(ctx)
				done := make(chan struct{})
				go func() {
					defer close(done)
					urls := make([]string, len(ups))
					for i, u := range ups {
						urls[i] = u.URL
					}
					sync.Run(round, urls, true)
				}()
				n.awaitOtherUpstreams(round, ups)
				end()
				<-done
			}
			return nil
		})
		if err != nil && ctx.Err() == nil {
			n.log.Error("copying other mirrors stopped", "error", err, "again_in", "10s")
			select {
			case <-time.After(10 * time.Second):
			case <-ctx.Done():
			}
		}
	}
}

// awaitOtherUpstreams returns when the list of mirrors is another one.
func (n *node) awaitOtherUpstreams(ctx context.Context, before []mirror.Upstream) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, err := mirror.Upstreams(ctx, n.store)
		if err != nil {
			continue // the store is asked again
		}
		same := len(now) == len(before)
		for i := 0; same && i < len(now); i++ {
			same = now[i].URL == before[i].URL && now[i].LogKey == before[i].LogKey && now[i].All == before[i].All
		}
		if !same {
			return
		}
	}
}

// trustedProxies returns what tells where a request comes from. Of the addresses
// in X-Forwarded-For the last one counts that no trusted proxy wrote for another
// trusted proxy: everything before it may be invented.
func trustedProxies(networks []string) (func(*http.Request) netip.Addr, error) {
	var trusted []netip.Prefix
	for _, text := range networks {
		p, err := network(text)
		if err != nil {
			return nil, err
		}
		trusted = append(trusted, p)
	}
	isTrusted := func(a netip.Addr) bool {
		for _, p := range trusted {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	return func(r *http.Request) netip.Addr {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		client, _ := netip.ParseAddr(host)
		client = client.Unmap().WithZone("")
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		for i := len(hops) - 1; i >= 0 && isTrusted(client); i-- {
			text := strings.TrimSpace(hops[i])
			hop, err := netip.ParseAddr(text)
			if withPort, bad := netip.ParseAddrPort(text); bad == nil { // as some proxies write it
				hop, err = withPort.Addr(), nil
			}
			if err != nil {
				break
			}
			client = hop.Unmap().WithZone("")
		}
		return client
	}, nil
}

// network reads a network like 10.0.0.0/8, or an address.
func network(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is no network like 10.0.0.0/8, and no address", text)
	}
	return p, nil
}
