package httpserve

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// TestSlots: nobody takes more than its share, and what is given back can be taken.
func TestSlots(t *testing.T) {
	a, b, c := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	s := NewSlots(3, 2)
	var release []func()
	for i, tt := range []struct {
		client netip.Addr
		ok     bool
	}{{a, true}, {a, true}, {a, false}, {b, true}, {c, false}} {
		r, ok := s.Take(tt.client)
		if ok != tt.ok {
			t.Errorf("%d: %s gets a place: %v", i, tt.client, ok)
		}
		if ok {
			release = append(release, r)
		}
	}
	release[0]()
	if _, ok := s.Take(c); !ok {
		t.Error("what was given back is not there")
	}
	if _, ok := s.Take(a); ok {
		t.Error("there are more than all")
	}
}

// TestPaced: a client that takes a little all the time is let go, though it takes
// something within every wait, and one that takes what comes is not.
func TestPaced(t *testing.T) {
	const size = 64 << 20 // more than buffers hold
	ended := make(chan error, 2)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &Paced{ResponseWriter: w, Wait: 2 * time.Second, Bytes: 8 << 20}
		var err error
		piece := make([]byte, 64<<10)
		for sent := 0; sent < size && err == nil; sent += len(piece) {
			_, err = p.Write(piece)
		}
		ended <- err
	}))
	defer server.Close()
	resp, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if err := errors.Join(err, <-ended); err != nil || n != size {
		t.Errorf("who takes what comes: %d bytes, %v", n, err)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// So that there is room for the server again with every read, not once in a while.
	if err := conn.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	stop := make(chan struct{})
	defer close(stop)
	go func() { // a little, often: each write of the server ends in time
		buffer := make([]byte, 16<<10)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if _, err := conn.Read(buffer); err != nil {
				return
			}
		}
	}()
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("who trickles: %v", err)
	}
}
