package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// upstream serves a handler and returns a client of it.
func upstream(t testing.TB, limits Limits, h http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c, err := NewClient(server.URL, limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// pack compresses what fill writes.
func pack(w io.Writer, fill func(io.Writer), options ...zstd.EOption) {
	z, err := zstd.NewWriter(w, options...)
	if err != nil {
		panic(err)
	}
	fill(z)
	z.Close()
}

func zeros(n int) func(io.Writer) {
	return func(w io.Writer) {
		chunk := make([]byte, 1<<20)
		for ; n > 0; n -= len(chunk) {
			w.Write(chunk)
		}
	}
}

// TestMaliciousUpstream: whatever the other side does, the answer is an error
// soon, and no more is read than the limits say.
func TestMaliciousUpstream(t *testing.T) {
	limits := Limits{Answer: 8 << 20, Line: 1 << 20, Stall: time.Minute, Progress: 1 << 10}
	endless := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := io.WriteString(w, text); err != nil {
					return
				}
			}
		}
	}
	tests := []struct {
		name string
		h    http.HandlerFunc
		want error
	}{
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/secret", http.StatusFound)
		}, ErrRedirect},
		{"endless lines", endless("{}\n"), ErrTooLarge},
		{"an endless line", endless("x"), ErrTooLarge},
		{"a bomb in one line", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "zstd")
			pack(w, zeros(1<<30))
		}, ErrTooLarge},
		{"a bomb of lines", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "zstd")
			pack(w, func(w io.Writer) {
				lines := bytes.Repeat([]byte("{}\n"), 1<<20)
				for range 100 {
					w.Write(lines)
				}
			})
		}, ErrTooLarge},
		{"endless frames that decoders skip", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "zstd")
			frame := append([]byte("\x50\x2a\x4d\x18\x00\x00\x01\x00"), make([]byte, 1<<16)...)
			for {
				if _, err := w.Write(frame); err != nil {
					return
				}
			}
		}, ErrTooLarge},
		{"a window of half a gigabyte", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "zstd")
			pack(w, zeros(16<<20), zstd.WithWindowSize(512<<20))
		}, zstd.ErrWindowSizeExceeded},
		{"an encoding nobody asked for", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
		}, ErrProtocol},
		{"nothing", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, ErrSlow},
		{"a trickle", func(w http.ResponseWriter, r *http.Request) {
			for tick := time.NewTicker(time.Millisecond); ; {
				select {
				case <-tick.C:
					fmt.Fprint(w, "\n")
					w.(http.Flusher).Flush()
				case <-r.Context().Done():
					return
				}
			}
		}, ErrSlow},
		{"a line without end", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "{}\n{") }, io.ErrUnexpectedEOF},
		{"a broken frame", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "zstd")
			fmt.Fprint(w, "(\xb5/\xfd....................")
		}, errAny},
		{"another length than promised", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			fmt.Fprint(w, "{}\n")
			panic(http.ErrAbortHandler)
		}, errAny},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			limits := limits
			if tt.want == ErrSlow {
				limits.Stall = 50 * time.Millisecond
			}
			c := upstream(t, limits, tt.h)
			read := 0
			err := c.lines(context.Background(), "/export", nil, "*/*", func(line []byte) error { read += len(line) + 1; return nil })
			if err == nil || tt.want != errAny && !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), c.Base) {
				t.Errorf("error %q does not name the mirror", err)
			}
			if int64(read) > limits.Answer {
				t.Errorf("%d bytes were taken, the limit is %d", read, limits.Answer)
			}
		})
	}
}

// errAny stands for an error of a library.
var errAny = errors.New("any error")

func TestStatusError(t *testing.T) {
	c := upstream(t, Limits{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		http.Error(w, "come back later"+strings.Repeat(".", 1<<20), http.StatusServiceUnavailable)
	})
	_, err := c.getBytes(context.Background(), "/checkpoint", nil, "*/*", 1<<10)
	var status *StatusError
	if !errors.As(err, &status) || status.Status != 503 || status.RetryAfter != 7*time.Second || len(status.Text) > 200 {
		t.Errorf("error %v, want a short StatusError 503 with 7 s", err)
	}
}

// TestAddressOnce: an error names the mirror once, and others know what it is.
func TestAddressOnce(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	l := newLab(t, "reader")
	l.upstreams[gone.URL] = Upstream{URL: gone.URL}
	err := l.sync().Run(t.Context(), []string{gone.URL}, false)
	if err == nil || strings.Count(err.Error(), strings.TrimPrefix(gone.URL, "http://")) != 2 { // the second in "dial tcp"
		t.Errorf("error %v", err)
	}
	if got := publicly(err); got != "the mirror cannot be reached" {
		t.Errorf("publicly: %s", got)
	}
}

func TestGetBytesLimit(t *testing.T) {
	c := upstream(t, Limits{}, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "12345") })
	if got, err := c.getBytes(context.Background(), "/", nil, "*/*", 5); err != nil || string(got) != "12345" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := c.getBytes(context.Background(), "/", nil, "*/*", 4); !errors.Is(err, ErrTooLarge) {
		t.Errorf("error %v, want ErrTooLarge", err)
	}
}

// TestBusyReaderIsNotBlamed: time that the reader takes is not the upstream's.
func TestBusyReaderIsNotBlamed(t *testing.T) {
	c := upstream(t, Limits{Stall: time.Second, Progress: 1 << 30}, func(w http.ResponseWriter, r *http.Request) {
		for range 20 {
			fmt.Fprintln(w, strings.Repeat("x", 128<<10)) // more than the reader takes at once
		}
	})
	n := 0
	err := c.lines(context.Background(), "/", nil, "*/*", func([]byte) error {
		if n++; n == 1 {
			time.Sleep(1500 * time.Millisecond) // the work that this reader has
		}
		return nil
	})
	if n != 20 || errors.Is(err, ErrSlow) {
		t.Errorf("%d lines, error %v, want 20", n, err)
	}
}

func TestNewClientRefuses(t *testing.T) {
	for _, base := range []string{"", "example.org", "ftp://example.org", "https://", "https://user:pw@example.org", "https://example.org/?x=1", "file:///etc/passwd", "https://example.org/#x"} {
		if _, err := NewClient(base, Limits{}); err == nil {
			t.Errorf("%q was taken for a mirror", base)
		}
	}
	c, err := NewClient("https://example.org/pith/", Limits{})
	if err != nil || c.Base != "https://example.org/pith" {
		t.Errorf("base %q, %v", c.Base, err)
	}
}
