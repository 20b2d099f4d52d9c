// Package httpserve runs an HTTP handler for strangers: with limits on time,
// headers and connections, TLS certificates that renew themselves, and an end
// that lets answers finish.
package httpserve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/net/netutil"
)

// Options say how to serve. The zero value of each but Listen is a good default.
type Options struct {
	Listen   string // host:port
	MaxConns int    // open at once, default 20,000, fewer where files are; more wait to be accepted, and of one address three quarters at most

	Hosts     []string // serve TLS under these names, which the world must find at port 443
	Authority string   // URL of the ACME directory of who certifies them, default Let's Encrypt
	CertDir   string   // where the certificates stay

	HeaderTimeout time.Duration // to send the header of a request, default 10 s
	ReadTimeout   time.Duration // to send all of it, default 60 s
	WriteTimeout  time.Duration // to take an answer, default 60 s; handlers of long answers move it on
	IdleTimeout   time.Duration // between two requests, default 2 min
	MaxHeader     int           // bytes, default 32 KiB

	Grace    time.Duration // for answers to finish at the end, default 20 s
	Draining func()        // called when the end begins: close what would go on for ever

	Log *slog.Logger
}

// Listen opens the address of the options, with their limit on connections.
func Listen(ctx context.Context, o Options) (net.Listener, error) {
	// Connections whose other end is gone are found by keep-alive probes.
	config := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 15 * time.Second, Count: 4}}
	l, err := config.Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, err
	}
	wanted := orDefault(o.MaxConns, 20_000)
	most := connections(wanted, maxFiles())
	if most < wanted/2 && o.Log != nil { // few less are not worth a word
		o.Log.Warn("fewer connections than wanted: each is an open file", "connections", most, "wanted", wanted, "files", maxFiles(), "hint", "raise the limit: LimitNOFILE= of a service, ulimit -n")
	}
	fair := &fairListener{Listener: l, most: share(most), log: o.Log, held: map[netip.Prefix]int{}}
	return netutil.LimitListener(fair, most), nil
}

// ownFiles are left to the process itself when all connections are taken: without
// one it could not even read what it is asked for.
const ownFiles = 256

// connections is how many of those wanted leave enough of the files.
func connections(wanted, files int) int {
	return min(wanted, max(files-ownFiles, files/2, 1))
}

// Serve answers on l until ctx ends, then lets answers in progress finish. The
// error is nil after such an end, also when some did not finish in time, which
// is logged.
func Serve(ctx context.Context, l net.Listener, h http.Handler, o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: orDefault(o.HeaderTimeout, 10*time.Second),
		ReadTimeout:       orDefault(o.ReadTimeout, time.Minute),
		WriteTimeout:      orDefault(o.WriteTimeout, time.Minute),
		IdleTimeout:       orDefault(o.IdleTimeout, 2*time.Minute),
		MaxHeaderBytes:    orDefault(o.MaxHeader, 32<<10),
		// Deadlines of answers do not reach a connection of HTTP/2 that is not read.
		HTTP2: &http.HTTP2Config{WriteByteTimeout: orDefault(o.WriteTimeout, time.Minute)},
		// What strangers do wrong, such as a broken handshake, is theirs.
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	if o.Draining != nil {
		server.RegisterOnShutdown(o.Draining)
	}
	if len(o.Hosts) > 0 {
		certs, err := newCertificates(o)
		if err != nil {
			l.Close()
			return err
		}
		server.TLSConfig = certs.config()
		certs.keep(ctx)
	}
	failed := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			failed <- server.ServeTLS(l, "", "")
		} else {
			failed <- server.Serve(l)
		}
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace := orDefault(o.Grace, 20*time.Second)
	o.Log.Info("shutting down", "grace", grace.String())
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		o.Log.Warn("some answers did not finish in time and were cut off", "error", err)
		server.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func orDefault[T int | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}
