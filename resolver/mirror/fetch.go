package mirror

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/openpith/evidence/pith"
)

// Errors of talking to another mirror, for errors.Is.
var (
	// ErrSlow reports an upstream that trickles.
	ErrSlow = errors.New("the mirror sends too slowly")
	// ErrTooLarge reports an answer that is larger than its kind may be.
	ErrTooLarge = errors.New("the answer is too large")
	// ErrRedirect reports an upstream that points elsewhere.
	ErrRedirect = errors.New("the mirror redirects, which is not followed")
	// ErrProtocol reports an answer that no mirror of this kind gives.
	ErrProtocol = errors.New("the answer is not what a mirror says")
)

// A StatusError reports an answer with another status than 200.
type StatusError struct {
	Status     int
	Text       string        // the beginning of what the mirror said
	RetryAfter time.Duration // 0 if the mirror did not say
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("the mirror answers %d %s", e.Status, http.StatusText(e.Status))
	if e.Text != "" {
		text += fmt.Sprintf(" (%q)", e.Text)
	}
	return text
}

// said is the beginning of what an answer that is an error says: its detail, if
// it is a problem document (RFC 9457) as mirrors send.
func said(answer []byte) string {
	var problem struct{ Detail string }
	text := string(answer)
	if json.Unmarshal(answer, &problem) == nil && problem.Detail != "" {
		text = problem.Detail
	}
	text = text[:min(len(text), 200)]
	return strings.TrimSpace(strings.ToValidUTF8(text, "?"))
}

// Limits bound what one upstream can cost. The zero value of each is its default.
type Limits struct {
	Answer   int64         // bytes of one answer, as it comes and after decompression, default 1 GiB; answers are never held whole
	Line     int           // bytes of one line of an answer, default MaxSize of a bundle and 1 MiB
	Stall    time.Duration // how long to wait in all for Progress bytes, default 30 s
	Progress int64         // default 16 KiB
}

func (l Limits) withDefaults() Limits {
	if l.Answer == 0 {
		l.Answer = 1 << 30
	}
	if l.Line == 0 {
		l.Line = pith.MaxSize + 1<<20
	}
	if l.Stall == 0 {
		l.Stall = 30 * time.Second
	}
	if l.Progress == 0 {
		l.Progress = 16 << 10
	}
	return l
}

// A Client reads from one mirror that it does not trust: not its digests, not
// its sizes, not its pace.
type Client struct {
	Base   string // "https://mirror.example.org", without a slash at the end
	Limits Limits
	http   *http.Client
}

// NewClient returns a client for the mirror at a URL, http or https, which may
// have a path.
func NewClient(base string, limits Limits) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%.200q is not the address of a mirror: want https://HOST or http://HOST", base)
	}
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  2 * time.Minute, // the first question about ranges reads the whole store
		MaxResponseHeaderBytes: 64 << 10,
		MaxConnsPerHost:        4,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        time.Minute,
		DisableCompression:     true, // it would unpack without a limit
		ForceAttemptHTTP2:      true,
	}
	return &Client{
		Base: strings.TrimRight(u.String(), "/"), Limits: limits.withDefaults(),
		http: &http.Client{
			Transport: transport,
			// A redirect could lead into the network of whoever runs this mirror.
			CheckRedirect: func(r *http.Request, _ []*http.Request) error {
				return fmt.Errorf("%w: it points to %.200q; name that address if you believe it", ErrRedirect, r.URL.String())
			},
		},
	}, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// get asks for a path with a query and returns the decompressed body, cut off
// with an error at the limits.
func (c *Client) get(ctx context.Context, path string, query url.Values, accept string) (io.ReadCloser, error) {
	target := c.Base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	r.Header.Set("Accept", accept)
	r.Header.Set("Accept-Encoding", "zstd")
	r.Header.Set("User-Agent", "pith-mirror/1 (+https://github.com/openpith/evidence)")
	resp, err := c.http.Do(r)
	if err != nil {
		cancel(nil)
		return nil, unanswered{err}
	}
	body := &body{ctx: ctx, cancel: cancel, raw: resp.Body, rest: c.Limits.Answer, come: c.Limits.Answer, limits: c.Limits, wait: c.Limits.Stall}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(wire{body}, 4<<10))
		body.Close()
		e := &StatusError{Status: resp.StatusCode, Text: said(text)}
		if s, err := time.ParseDuration(resp.Header.Get("Retry-After") + "s"); err == nil {
			e.RetryAfter = min(max(s, 0), time.Hour)
		}
		return nil, e
	}
	switch encoding := resp.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		body.r = wire{body}
	case "zstd":
		z, err := zstd.NewReader(wire{body}, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			body.Close()
			return nil, err
		}
		body.r, body.unpack = z, z
	default:
		body.Close()
		return nil, fmt.Errorf("%w: Content-Encoding %.40q was not asked for", ErrProtocol, encoding)
	}
	return body, nil
}

// A body is an answer that is being read.
type body struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	raw    io.ReadCloser
	r      io.Reader // decompressed
	unpack *zstd.Decoder
	rest   int64 // decompressed bytes that may still come
	come   int64 // bytes that may still come of which they are made: a frame may be empty

	limits Limits
	wait   time.Duration // that may still be spent until progress is made
	got    int64         // bytes since progress was made
}

// A wire is the answer as it arrives. It measures only the time spent waiting:
// a reader that is busy with what it has is not the upstream's fault.
type wire struct{ b *body }

func (w wire) Read(p []byte) (int, error) {
	b := w.b
	timer := time.AfterFunc(b.wait, func() {
		b.cancel(fmt.Errorf("%w: less than %d bytes in %v", ErrSlow, b.limits.Progress, b.limits.Stall))
	})
	start := time.Now()
	n, err := b.raw.Read(p)
	timer.Stop()
	if b.come -= int64(n); b.come < 0 {
		b.cancel(ErrTooLarge) // a decoder may give the error in other words
		return 0, ErrTooLarge
	}
	b.wait -= time.Since(start)
	if b.got += int64(n); b.got >= b.limits.Progress {
		b.got, b.wait = 0, b.limits.Stall
	}
	return n, err
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.rest -= int64(n); b.rest < 0 {
		return 0, ErrTooLarge
	}
	if err != nil && err != io.EOF {
		if cause := context.Cause(b.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (b *body) Close() error {
	b.cancel(nil)
	if b.unpack != nil {
		b.unpack.Close()
	}
	return b.raw.Close()
}

// unanswered is why a request got no answer. The *url.Error in it names the address,
// which whoever asked does as well.
type unanswered struct{ error }

func (u unanswered) Error() string {
	if e := new(url.Error); errors.As(u.error, &e) {
		return e.Err.Error()
	}
	return u.error.Error()
}

func (u unanswered) Unwrap() error { return u.error }

// Open asks for a file below the address of the mirror, to be read within the
// limits of the client.
func (c *Client) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	b, err := c.get(ctx, "/"+name, nil, "*/*")
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", c.Base, name, err)
	}
	return b, nil
}

// getJSON reads a small answer.
func (c *Client) getJSON(ctx context.Context, path string, query url.Values, limit int64, v any) error {
	data, err := c.getBytes(ctx, path, query, "application/json", limit)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %s%s: %v", ErrProtocol, c.Base, path, err)
	}
	return nil
}

// getBytes reads an answer of at most limit bytes.
func (c *Client) getBytes(ctx context.Context, path string, query url.Values, accept string, limit int64) ([]byte, error) {
	b, err := c.get(ctx, path, query, accept)
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", c.Base, path, err)
	}
	defer b.Close()
	data, err := io.ReadAll(io.LimitReader(b, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", c.Base, path, err)
	}
	return data, nil
}

// lines calls each for every line of an answer. The line is valid until each
// returns. A last line without an end is an answer that was cut off.
func (c *Client) lines(ctx context.Context, path string, query url.Values, accept string, each func(line []byte) error) error {
	b, err := c.get(ctx, path, query, accept)
	if err != nil {
		return fmt.Errorf("%s%s: %w", c.Base, path, err)
	}
	defer b.Close()
	scan := bufio.NewScanner(b)
	scan.Buffer(make([]byte, 0, 64<<10), c.Limits.Line)
	scan.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			return i + 1, data[:i], nil
		}
		if atEOF && len(data) > 0 {
			return 0, nil, io.ErrUnexpectedEOF
		}
		return 0, nil, nil
	})
	for scan.Scan() {
		if err := each(scan.Bytes()); err != nil {
			return err
		}
	}
	err = scan.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		err = fmt.Errorf("%w: a line of more than %d bytes", ErrTooLarge, c.Limits.Line)
	}
	if err != nil {
		return fmt.Errorf("%s%s: %w", c.Base, path, err)
	}
	return nil
}
