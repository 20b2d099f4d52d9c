package httpserve

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An authority issues certificates by ACME to whoever answers its challenge at an
// address. It believes every signature: those of requests are not what is tested.
type authority struct {
	*httptest.Server
	roots  *x509.CertPool
	orders atomic.Int32
	broken atomic.Bool

	mu     sync.Mutex
	server string // where it finds every host, "" for nowhere
	host   string // of the order
	valid  bool
	chain  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a := &authority{roots: x509.NewCertPool()}
	a.roots.AddCert(root)
	answers := map[string]func(payload []byte) (status int, location string, body any, err error){
		"/directory": func([]byte) (int, string, any, error) {
			return 200, "", map[string]string{"newNonce": a.URL + "/nonce", "newAccount": a.URL + "/account", "newOrder": a.URL + "/orders", "revokeCert": a.URL, "keyChange": a.URL}, nil
		},
		"/nonce": func([]byte) (int, string, any, error) { return 200, "", nil, nil },
		"/account": func([]byte) (int, string, any, error) {
			return 201, "/account", map[string]string{"status": "valid"}, nil
		},
		"/orders": func(payload []byte) (int, string, any, error) {
			var order struct {
				Identifiers []struct{ Value string }
			}
			err := json.Unmarshal(payload, &order)
			a.orders.Add(1)
			a.host, a.valid, a.chain = order.Identifiers[0].Value, false, nil
			return 201, "/order", a.order(), err
		},
		"/order": func([]byte) (int, string, any, error) { return 200, "", a.order(), nil },
		"/authorization": func([]byte) (int, string, any, error) {
			status := map[bool]string{true: "valid", false: "pending"}[a.valid]
			return 200, "", map[string]any{"status": status, "identifier": map[string]string{"type": "dns", "value": a.host}, "challenges": []any{a.challenge()}}, nil
		},
		"/challenge": func([]byte) (int, string, any, error) {
			if err := a.looks(); err != nil {
				return 400, "", map[string]string{"type": "urn:ietf:params:acme:error:connection", "detail": err.Error()}, nil
			}
			a.valid = true
			return 200, "", a.challenge(), nil
		},
		"/finalize": func(payload []byte) (int, string, any, error) {
			var wanted struct{ CSR string }
			if err := json.Unmarshal(payload, &wanted); err != nil {
				return 0, "", nil, err
			}
			der, err := base64.RawURLEncoding.DecodeString(wanted.CSR)
			if err != nil {
				return 0, "", nil, err
			}
			csr, err := x509.ParseCertificateRequest(der)
			if err != nil {
				return 0, "", nil, err
			}
			leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: csr.DNSNames, NotBefore: root.NotBefore, NotAfter: root.NotAfter}
			if der, err = x509.CreateCertificate(rand.Reader, leaf, root, csr.PublicKey, key); err != nil {
				return 0, "", nil, err
			}
			a.chain = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
			return 200, "", a.order(), nil
		},
		"/certificate": func([]byte) (int, string, any, error) { return 200, "", a.chain, nil },
	}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var signed struct{ Payload string }
		if r.Method == http.MethodPost {
			if err := json.NewDecoder(r.Body).Decode(&signed); err != nil {
				t.Error(err)
			}
		}
		payload, err := base64.RawURLEncoding.DecodeString(signed.Payload)
		answer := answers[r.URL.Path]
		if err != nil || answer == nil || a.broken.Load() {
			http.Error(w, "{}", http.StatusNotFound)
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		status, location, body, err := answer(payload)
		if err != nil {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		w.Header().Set("Replay-Nonce", "nonce")
		if location != "" {
			w.Header().Set("Location", a.URL+location)
		}
		w.WriteHeader(status)
		if chain, ok := body.([]byte); ok {
			w.Write(chain)
		} else if body != nil {
			json.NewEncoder(w).Encode(body)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *authority) order() any {
	order := map[string]any{"status": "pending", "authorizations": []string{a.URL + "/authorization"}, "finalize": a.URL + "/finalize"}
	switch {
	case a.chain != nil:
		order["status"], order["certificate"] = "valid", a.URL+"/certificate"
	case a.valid:
		order["status"] = "ready"
	}
	return order
}

func (a *authority) challenge() any {
	return map[string]string{"type": "tls-alpn-01", "url": a.URL + "/challenge", "token": "token", "status": map[bool]string{true: "valid", false: "pending"}[a.valid]}
}

// looks whether the host answers the challenge (RFC 8737).
func (a *authority) looks() error {
	conn, err := tls.Dial("tcp", a.server, &tls.Config{ServerName: a.host, NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer conn.Close()
	state := conn.ConnectionState()
	leaf := state.PeerCertificates[0]
	answers := func(e pkix.Extension) bool {
		return e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}) && e.Critical
	}
	if state.NegotiatedProtocol != "acme-tls/1" || !slices.Equal(leaf.DNSNames, []string{a.host}) || !slices.ContainsFunc(leaf.Extensions, answers) {
		return errors.New("the challenge was not answered")
	}
	return nil
}

// A lines channel is a place for logs: one line after the other.
type lines chan string

func (l lines) Write(p []byte) (int, error) { l <- string(p); return len(p), nil }

func (l lines) await(t *testing.T, text string) {
	t.Helper()
	for line := range l {
		if strings.Contains(line, text) {
			return
		}
		if strings.Contains(line, "level=ERROR") {
			t.Fatalf("waiting for %q: %s", text, line)
		}
	}
}

// serveTLS is serve with certificates of the authority.
func serveTLS(t *testing.T, a *authority, h http.Handler, o Options) (address string, log lines, end func()) {
	t.Helper()
	log = make(lines, 100)
	o.Authority, o.Log, o.Listen = a.URL+"/directory", slog.New(slog.NewTextHandler(log, nil)), "127.0.0.1:0"
	o.MaxConns = 100
	l, err := Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	a.server = l.Addr().String()
	a.mu.Unlock()
	return l.Addr().String(), log, serveOn(t, l, h, o)
}

// TestCertificates: a certificate is ordered at the start and kept, nobody who
// connects causes another order, and what goes wrong is logged.
func TestCertificates(t *testing.T) {
	authority := newAuthority(t)
	dir := t.TempDir()
	start := func(hosts ...string) (connect func(string, *tls.Config) error, log lines, end func()) {
		address, log, end := serveTLS(t, authority, hello, Options{Hosts: hosts, CertDir: dir})
		return func(host string, c *tls.Config) error {
			c.ServerName, c.RootCAs = host, authority.roots
			client := http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
			resp, err := client.Get("https://" + address)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "hello" {
				return fmt.Errorf("answer %q, %v", body, err)
			}
			return nil
		}, log, end
	}

	connect, log, end := start("pith.example.org")
	log.await(t, "msg=certificate host=pith.example.org")
	for _, tt := range []struct {
		name, host string
		config     *tls.Config
		alert      string // "" for an answer
	}{
		{"its name", "pith.example.org", &tls.Config{}, ""},
		{"in capitals", "PITH.example.org", &tls.Config{}, ""},
		{"TLS 1.3 alone", "pith.example.org", &tls.Config{MinVersion: tls.VersionTLS13}, ""},
		{"TLS 1.2", "pith.example.org", &tls.Config{MaxVersion: tls.VersionTLS12}, ""},
		{"TLS 1.1", "pith.example.org", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "protocol version not supported"},
		{"RSA alone", "pith.example.org", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, "handshake failure"},
		{"another name", "other.example.org", &tls.Config{}, "unrecognized name"},
		{"no name", "127.0.0.1", &tls.Config{}, "unrecognized name"},
	} {
		err := connect(tt.host, tt.config)
		if tt.alert == "" && err != nil || tt.alert != "" && (err == nil || !strings.HasSuffix(err.Error(), tt.alert)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.alert)
		}
	}
	end()
	connect, log, end = start("pith.example.org")
	log.await(t, "msg=certificate host=pith.example.org")
	if err := connect("pith.example.org", &tls.Config{}); err != nil {
		t.Errorf("after another start: %v", err)
	}
	if n := authority.orders.Load(); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	end()

	// The authority is away: what is kept serves, and the rest is not waited for.
	authority.broken.Store(true)
	connect, log, end = start("new.example.org", "pith.example.org")
	for got := 0; got < 2; got++ {
		line := <-log
		if !strings.Contains(line, "msg=certificate host=pith.example.org") && !strings.Contains(line, `level=ERROR msg="no certificate" host=new.example.org`) {
			t.Errorf("log: %s", line)
		}
	}
	if err := connect("pith.example.org", &tls.Config{}); err != nil {
		t.Errorf("without the authority: %v", err)
	}
	if err := connect("new.example.org", &tls.Config{}); err == nil || !strings.HasSuffix(err.Error(), "internal error") {
		t.Errorf("without a certificate: %v", err)
	}
	end()

	if err := (kept{"/dev/null/certificates", slog.New(slog.NewTextHandler(log, nil))}).Put(t.Context(), "x", nil); err == nil {
		t.Error("a certificate was kept where nothing can be")
	}
	log.await(t, "cannot be kept")
}

// TestSlowReaderOfHTTP2: who opens all windows of HTTP/2 and takes nothing is cut
// off, too: the answer waits below them, where its own deadline is not seen.
func TestSlowReaderOfHTTP2(t *testing.T) {
	authority, cut := newAuthority(t), make(chan error, 1)
	address, log, _ := serveTLS(t, authority, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		chunk := make([]byte, 1<<20)
		for {
			if _, err := w.Write(chunk); err != nil {
				cut <- err
				return
			}
		}
	}), Options{Hosts: []string{"pith.example.org"}, CertDir: t.TempDir(), WriteTimeout: 200 * time.Millisecond})
	log.await(t, "msg=certificate host=pith.example.org")
	conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: "pith.example.org", RootCAs: authority.roots, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var header bytes.Buffer
	fields := hpack.NewEncoder(&header)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "pith.example.org"}, {":path", "/"}} {
		if err := fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	const most = 1<<31 - 1
	_, err = io.WriteString(conn, http2.ClientPreface)
	frames := http2.NewFramer(conn, nil)
	err = errors.Join(err, frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: most}),
		frames.WriteWindowUpdate(0, most-65535),
		frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header.Bytes(), EndHeaders: true, EndStream: true}))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-cut; err == nil {
		t.Error("all was taken")
	}
}

// TestCertificateOptions: what can never have a certificate is refused at once.
func TestCertificateOptions(t *testing.T) {
	for _, o := range []Options{
		{Hosts: []string{"localhost"}},
		{Hosts: []string{"192.0.2.1"}},
		{Hosts: []string{"2001:db8::1"}},
		{Hosts: []string{"*.example.org"}},
		{Hosts: []string{"https://pith.example.org"}},
		{Hosts: []string{"pith.example.org:443"}},
		{Hosts: []string{"pith.example.org", ""}},
		{Hosts: []string{"pith.example.org"}, Authority: "ca.example.org"},
		{Hosts: []string{"pith.example.org"}, Authority: "file:///etc/passwd"},
		{Hosts: []string{"pith.example.org"}, CertDir: "/dev/null/certificates"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.Log = slog.New(slog.DiscardHandler)
		if o.CertDir == "" {
			o.CertDir = t.TempDir()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // ends what should not have begun
		if err := Serve(ctx, l, hello, o); err == nil {
			t.Errorf("%q, %q: served", o.Hosts, o.Authority)
		}
	}
}
