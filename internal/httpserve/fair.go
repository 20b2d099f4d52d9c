package httpserve

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// share is how many of all connections one address may hold, so that nobody alone
// keeps all others out. It is a large share: behind an address may be a proxy.
func share(all int) int { return max(all*3/4, 1) }

// A fairListener closes connections of addresses that hold their share already.
type fairListener struct {
	net.Listener
	most int
	log  *slog.Logger

	mu     sync.Mutex
	held   map[netip.Prefix]int
	warned time.Time
}

// Accept implements net.Listener.
func (l *fairListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who, ok := sender(conn)
		if !ok {
			return conn, nil
		}
		if l.take(who) {
			return &fairConn{Conn: conn, free: sync.OnceFunc(func() { l.free(who) })}, nil
		}
		conn.Close()
	}
}

// sender is who a connection comes from: an address, or of IPv6 the network of 64
// bits, all of which one customer of a provider has.
func sender(conn interface{ RemoteAddr() net.Addr }) (netip.Prefix, bool) {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}, false
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	return p, err == nil
}

func (l *fairListener) take(who netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[who] < l.most {
		l.held[who]++
		return true
	}
	if l.log != nil && time.Since(l.warned) > time.Minute {
		l.warned = time.Now()
		l.log.Warn("an address holds its share of connections: more of it are closed", "address", who.String(), "connections", l.most)
	}
	return false
}

func (l *fairListener) free(who netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[who]--; l.held[who] == 0 {
		delete(l.held, who)
	}
}

type fairConn struct {
	net.Conn
	free func()
}

func (c *fairConn) Close() error {
	err := c.Conn.Close()
	c.free()
	return err
}
