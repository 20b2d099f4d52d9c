package httpserve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// serve runs a handler until the test ends and returns its address and a
// function that ends it and waits.
func serve(t testing.TB, o Options, h http.Handler) (address string, end func()) {
	t.Helper()
	o.Listen = "127.0.0.1:0"
	l, err := Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), serveOn(t, l, h, o)
}

// serveOn serves on l until the test or end ends it.
func serveOn(t testing.TB, l net.Listener, h http.Handler, o Options) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, h, o) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving ended with %v", err)
		}
	})
	t.Cleanup(end)
	return end
}

var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	fmt.Fprint(w, "hello")
})

func get(t testing.TB, address string) (string, error) {
	t.Helper()
	resp, err := http.Get("http://" + address)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// TestBadClients: each of them is got rid of, and the next client is served.
func TestBadClients(t *testing.T) {
	o := Options{HeaderTimeout: 50 * time.Millisecond, ReadTimeout: 100 * time.Millisecond, IdleTimeout: 50 * time.Millisecond, MaxHeader: 1 << 12}
	address, _ := serve(t, o, hello)
	tests := []struct {
		name, send string
		want       string // the first line of the answer; "" for a closed connection
	}{
		{"says nothing", "", ""},
		{"half a header", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", ""},
		{"half a body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", "HTTP/1.1 200 OK"},
		{"no HTTP", "\x16\x03\x01\x02\x00\x01\x00", "HTTP/1.1 400 Bad Request"},
		{"no host", "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request: missing required Host header"},
		{"two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc", "HTTP/1.1 400 Bad Request"},
		{"length and chunks", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 501 Not Implemented"},
		{"a header that folds", "GET / HTTP/1.1\r\nHost: x\r\n: x\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		{"a header without end", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 64<<10), "HTTP/1.1 431 Request Header Fields Too Large"},
		{"another protocol", "GET / HTTP/9.9\r\nHost: x\r\n\r\n", "HTTP/1.1 505 HTTP Version Not Supported: unsupported protocol version"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, tt.send) // the server may hang up before it has all
			answer := bufio.NewReader(conn)
			line, _ := answer.ReadString('\n')
			if got := strings.TrimSpace(line); got != tt.want {
				t.Errorf("answer %q, want %q", got, tt.want)
			}
			// The server hangs up, or this test never ends.
			io.Copy(io.Discard, answer)
			if body, err := get(t, address); err != nil || body != "hello" {
				t.Errorf("the next client got %q, %v", body, err)
			}
		})
	}
}

// TestSlowReader: who does not take an answer is cut off.
func TestSlowReader(t *testing.T) {
	cut := make(chan error, 1)
	address, _ := serve(t, Options{WriteTimeout: 50 * time.Millisecond}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		chunk := make([]byte, 1<<20)
		for {
			if _, err := w.Write(chunk); err != nil {
				cut <- err
				return
			}
		}
	}))
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if err := <-cut; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the handler's write ended with %v, want a timeout", err)
	}
}

// TestEndLetsAnswersFinish: an answer in progress is finished, an endless one is
// told to end, and new connections are refused.
func TestEndLetsAnswersFinish(t *testing.T) {
	started, finish, draining := make(chan bool), make(chan bool), make(chan bool)
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		started <- true
		<-finish
		fmt.Fprint(w, "finished")
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		started <- true
		<-draining
		fmt.Fprint(w, "shutdown")
	})
	address, end := serve(t, Options{Draining: func() { close(draining) }}, mux)
	answers := make(chan string, 2)
	for _, path := range []string{"/slow", "/endless"} {
		go func() {
			body, err := get(t, address+path)
			answers <- fmt.Sprint(body, err)
		}()
		<-started
	}
	ended := make(chan bool)
	go func() { end(); close(ended) }()
	if got := <-answers; got != "shutdown<nil>" {
		t.Errorf("the endless answer: %s", got)
	}
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("a new connection was accepted after the end began")
	}
	close(finish)
	if got := <-answers; got != "finished<nil>" {
		t.Errorf("the answer in progress: %s", got)
	}
	<-ended
}

// TestEndComes even if an answer never finishes.
func TestEndComes(t *testing.T) {
	started := make(chan bool)
	address, end := serve(t, Options{Grace: 20 * time.Millisecond}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started <- true
		<-r.Context().Done()
	}))
	failed := make(chan error)
	go func() {
		_, err := get(t, address)
		failed <- err
	}()
	<-started
	end()
	if err := <-failed; err == nil {
		t.Error("the client got a whole answer")
	}
}

// TestConnections: however many are open, files are left.
func TestConnections(t *testing.T) {
	for _, tt := range []struct{ wanted, files, want int }{
		{20_000, 1 << 20, 20_000},
		{20_000, 20_256, 20_000},
		{20_000, 20_000, 19_744},
		{20_000, 1024, 768},
		{100, 1024, 100},
		{20_000, 300, 150},
		{20_000, 0, 1},
	} {
		if got := connections(tt.wanted, tt.files); got != tt.want {
			t.Errorf("%d connections of %d files, want %d of %d wanted", got, tt.files, tt.want, tt.wanted)
		}
	}
	if n := maxFiles(); n < 16 {
		t.Errorf("this test has %d files", n)
	}
}

func TestMaxConns(t *testing.T) {
	address, _ := serve(t, Options{MaxConns: 1, IdleTimeout: time.Hour}, hello)
	first, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(first, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if line, err := bufio.NewReader(first).ReadString('\n'); err != nil {
		t.Fatalf("first connection: %q, %v", line, err)
	}
	second := make(chan string)
	go func() {
		body, err := get(t, address)
		second <- fmt.Sprint(body, err)
	}()
	select {
	case got := <-second:
		t.Fatalf("a second connection was served while one was open: %s", got)
	default:
	}
	first.Close()
	if got := <-second; got != "hello<nil>" {
		t.Errorf("after the first has gone: %s", got)
	}
}

// TestShare: one address keeps nobody else out, and may come back when it let go.
func TestShare(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a second address of this machine is needed, which Linux has")
	}
	address, _ := serve(t, Options{MaxConns: 4, IdleTimeout: time.Hour}, hello)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(from string) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
		conn, err := d.DialContext(t.Context(), "tcp", "127.0.0.1:"+port)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return nil, err
		}
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err = bufio.NewReader(conn).ReadString('\n')
		return conn, err
	}
	var held []net.Conn
	for range 3 {
		conn, err := ask("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	if _, err := ask("127.0.0.1"); err == nil {
		t.Error("one address holds all connections")
	}
	other, err := ask("127.0.0.2")
	if err != nil {
		t.Fatalf("another address: %v", err)
	}
	other.Close()
	held[0].Close()
	for { // the server finds out in a moment
		if _, err := ask("127.0.0.1"); err == nil {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("the first address is not let in again")
		}
	}
}

// Of IPv6 a network counts as one.
func TestSender(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7:1": "192.0.2.7/32", "[2001:db8::1]:1": "2001:db8::/64", "[::ffff:192.0.2.7]:1": "192.0.2.7/32", "[fe80::1%eth0]:1": "fe80::/64",
	} {
		if got, ok := sender(addressed{net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text))}); !ok || got.String() != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}

type addressed struct{ from *net.TCPAddr }

func (a addressed) RemoteAddr() net.Addr { return a.from }

// TestManyIdleConnections holds PITH_TEST_IDLE connections open and serves
// another one meanwhile. The other ends are in a process of their own, since each
// process may have only so many files: for 10,000 ulimit -n 10100 is enough.
func TestManyIdleConnections(t *testing.T) {
	n := "200"
	if text := os.Getenv("PITH_TEST_IDLE"); text != "" {
		n = text
	}
	address, _ := serve(t, Options{IdleTimeout: time.Hour, HeaderTimeout: time.Hour, ReadTimeout: time.Hour}, hello)
	client := exec.Command(os.Args[0], "-test.run=^TestIdleClient$", "-test.v")
	client.Env = append(os.Environ(), "PITH_IDLE_CLIENT="+address, "PITH_TEST_IDLE="+n)
	end, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	defer client.Wait()
	defer end.Close() // lets go of them
	told := bufio.NewScanner(out)
	for told.Scan() && !strings.HasPrefix(told.Text(), "holding") {
		if strings.Contains(told.Text(), "FAIL") || strings.Contains(told.Text(), "connection") {
			t.Fatal(told.Text())
		}
	}
	if want := "holding " + n; told.Text() != want {
		t.Fatalf("the client says %q, want %q", told.Text(), want)
	}
	for range 10 {
		start := time.Now()
		if body, err := get(t, address); err != nil || body != "hello" {
			t.Errorf("with %s idle connections: %q, %v", n, body, err)
		}
		t.Logf("answered in %v", time.Since(start))
	}
}

// TestIdleClient is the other end.
func TestIdleClient(t *testing.T) {
	address := os.Getenv("PITH_IDLE_CLIENT")
	if address == "" {
		t.Skip("only as a process of TestManyIdleConnections")
	}
	n, err := strconv.Atoi(os.Getenv("PITH_TEST_IDLE"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer conn.Close()
		if i%2 == 0 { // every other one has asked something before
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
	}
	fmt.Printf("holding %d\n", n)
	io.Copy(io.Discard, os.Stdin)
}
