package httpserve

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
	"golang.org/x/net/idna"
)

// Certificates are those of a server, from a certificate authority that speaks
// ACME (RFC 8555). They are ordered when the server starts and not when somebody
// asks for a name: so trouble stands in the log from the beginning, and strangers
// cause no orders, of which authorities allow few.
type certificates struct {
	manager *autocert.Manager
	log     *slog.Logger
	ready   map[string]*atomic.Bool // by host
}

// newCertificates takes the hosts, the directory and the authority of the options.
func newCertificates(o Options) (*certificates, error) {
	c := &certificates{log: o.Log, ready: map[string]*atomic.Bool{}}
	var hosts []string
	for _, text := range o.Hosts {
		host, err := HostName(text)
		if err != nil {
			return nil, err
		}
		c.ready[host] = new(atomic.Bool)
		hosts = append(hosts, host)
	}
	authority := cmp.Or(o.Authority, autocert.DefaultACMEDirectory)
	if u, err := url.Parse(authority); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("%q is no address of an ACME directory, which is like %s", authority, autocert.DefaultACMEDirectory)
	}
	if err := os.MkdirAll(o.CertDir, 0o700); err != nil {
		return nil, fmt.Errorf("directory for certificates: %w", err)
	}
	c.manager = &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		HostPolicy: autocert.HostWhitelist(hosts...),
		Cache:      kept{autocert.DirCache(o.CertDir), o.Log},
		Client:     &acme.Client{DirectoryURL: authority},
	}
	return c, nil
}

// HostName is a host as certificates name it, if they can: a whole name, not an
// address or a pattern.
func HostName(text string) (string, error) {
	host, err := idna.Lookup.ToASCII(text)
	_, notAddress := netip.ParseAddr(text)
	if err != nil || notAddress == nil || !strings.Contains(strings.Trim(host, "."), ".") {
		return "", fmt.Errorf("no certificate can be had for %q: write the whole name of a host, like pith.example.org", text)
	}
	return host, nil
}

// config is that of a server. The challenge is answered on its own port
// (tls-alpn-01), so port 80 is not needed.
func (c *certificates) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1", acme.ALPNProto}, GetCertificate: c.get}
}

// get answers who connects: with a certificate that is there, or not at all.
func (c *certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acme.ALPNProto { // the authority, with its challenge
		return c.manager.GetCertificate(hello)
	}
	host, err := idna.Lookup.ToASCII(strings.TrimSuffix(hello.ServerName, "."))
	if err != nil || c.ready[host] == nil {
		return nil, nil // which package tls turns into the alert unrecognized_name
	}
	if !c.ready[host].Load() {
		return nil, fmt.Errorf("there is no certificate for %q yet", host)
	}
	return c.manager.GetCertificate(helloFor(host))
}

// helloFor asks for the certificate with an elliptic curve, which everybody takes.
// What clients say is not looked at: those that speak TLS 1.3 alone name no suite
// by which autocert would see it, and would have a second one ordered.
func helloFor(host string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{ServerName: host, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}
}

// keep has certificates for all hosts until ctx ends. The manager renews them
// when a third of their time is left, and says nothing when it cannot.
func (c *certificates) keep(ctx context.Context) {
	for host, ready := range c.ready {
		go func() {
			var until time.Time
			// Authorities allow five failures in an hour.
			for pause := 2 * time.Minute; ; pause = min(2*pause, time.Hour) {
				cert, err := c.manager.GetCertificate(helloFor(host))
				if ctx.Err() != nil {
					return
				}
				wait := pause
				if err != nil {
					c.log.Error("no certificate", "host", host, "authority", c.manager.Client.DirectoryURL, "error", err,
						"hint", "the authority must find this server under that name at port 443", "again_in", wait)
				} else {
					ready.Store(true)
					life, left := cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore), time.Until(cert.Leaf.NotAfter)
					if !until.Equal(cert.Leaf.NotAfter) {
						c.log.Info("certificate", "host", host, "issuer", cert.Leaf.Issuer.String(), "until", cert.Leaf.NotAfter.Format(time.RFC3339))
					} else if left < life/6 {
						c.log.Error("the certificate was not renewed", "host", host, "authority", c.manager.Client.DirectoryURL, "until", until.Format(time.RFC3339))
					}
					until, wait = cert.Leaf.NotAfter, min(life/12, 12*time.Hour)
				}
				select {
				case <-time.After(wait):
				case <-ctx.Done():
					return
				}
			}
		}()
	}
}

// kept says when a certificate cannot be kept, which the manager does not: it
// would be ordered again with every start.
type kept struct {
	autocert.DirCache
	log *slog.Logger
}

func (k kept) Put(ctx context.Context, name string, data []byte) error {
	err := k.DirCache.Put(ctx, name, data)
	if err != nil {
		k.log.Error("what belongs to a certificate cannot be kept", "directory", string(k.DirCache), "name", name, "error", err)
	}
	return err
}
