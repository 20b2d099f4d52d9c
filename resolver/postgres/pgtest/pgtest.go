// Package pgtest starts PostgreSQL servers for tests.
package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Server is a PostgreSQL server of a test. It listens at a socket in its own
// directory and nowhere else, and ends with the test.
type Server struct {
	dir, bin string
	uid, gid uint32
	flags    []string
	cmd      *exec.Cmd
	ended    chan struct{}
	names    atomic.Int64
}

// Start starts a server, or skips the test where PostgreSQL is not installed.
// flags are those of the program postgres, like "-c", "max_connections=20". It
// does not wait for its disk: what a test can kill is a process, not the machine.
func Start(t testing.TB, flags ...string) *Server {
	t.Helper()
	bin := programs()
	if bin == "" {
		t.Skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
	}
	// Not t.TempDir(): it is closed to other users, and too long for a socket.
	dir, err := os.MkdirTemp("", "pith-pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // the system clears what is left
	s := &Server{dir: dir, bin: bin, flags: flags, uid: uint32(os.Getuid()), gid: uint32(os.Getgid())}
	if s.uid == 0 { // as root it refuses to run
		s.uid, s.gid = unprivileged()
		if err := os.Chown(dir, int(s.uid), int(s.gid)); err != nil {
			t.Fatal(err)
		}
	}
	init := exec.Command(filepath.Join(bin, "initdb"), "--pgdata", s.data(), "--username", "pith", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	s.as(init)
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.Restart(t)
	t.Cleanup(s.Kill)
	return s
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// programs is the directory of the newest PostgreSQL of this machine.
func programs() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path)
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is good
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }))
}

// unprivileged is a user that may do nothing.
func unprivileged() (uid, gid uint32) {
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			id, _ := strconv.ParseUint(u.Uid, 10, 32)
			group, _ := strconv.ParseUint(u.Gid, 10, 32)
			return uint32(id), uint32(group)
		}
	}
	return 65534, 65534
}

// Restart starts the server after Kill and waits until it answers.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(filepath.Join(s.bin, "postgres"), append([]string{
		"-D", s.data(), "-k", s.dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "autovacuum_naptime=5s", "-c", "shared_buffers=32MB"}, s.flags...)...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.as(s.cmd)
	started := make(chan error, 1)
	s.ended = make(chan struct{})
	go s.run(s.cmd, started, s.ended)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	for {
		conn, err := pgx.Connect(context.Background(), s.DSN("postgres"))
		if err == nil {
			_ = conn.Close(context.Background()) // it answered
			return
		}
		select {
		case <-s.ended:
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("PostgreSQL did not start:\n%s", text)
		case <-time.After(20 * time.Millisecond): // it says that it is starting up, or nothing yet
		}
	}
}

// DSN is the connection string of a database of the server.
func (s *Server) DSN(database string) string {
	return "postgres:///" + database + "?host=" + url.QueryEscape(s.dir) + "&user=pith"
}

// Database makes an empty database and returns its connection string.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.names.Add(1))
	s.Exec(t, "postgres", `CREATE DATABASE `+name)
	return s.DSN(name)
}

// Exec runs a statement in a database, by its name or connection string, and
// returns how many rows it touched.
func (s *Server) Exec(t testing.TB, database, query string) int64 {
	t.Helper()
	if filepath.Base(database) == database {
		database = s.DSN(database)
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	tag, err := conn.Exec(ctx, query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return tag.RowsAffected()
}
