package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrLockLost is the cause of the end of a context under a lock whose connection
// broke: somebody else may hold the lock now.
var ErrLockLost = errors.New("the connection that held the lock is gone")

// How soon a lock changes hands. When the machine that holds one is lost, the
// server notices after 5 s of silence and 3 probes; the holder gives up before that.
const (
	watchEvery = time.Second
	watchLimit = 5 * time.Second
)

// Lock implements resolver.Store: within the process by a channel, between
// processes by an advisory lock of a connection of its own. When that connection
// breaks, the context of f ends.
//
// Who waits asks again and again: a statement that waits in the server would keep
// it from cleaning up behind other transactions.
func (s *Store) Lock(ctx context.Context, name string, f func(context.Context) error) (err error) {
	s.mu.Lock()
	lock := s.locks[name]
	if lock == nil {
		lock = make(chan struct{}, 1)
		s.locks[name] = lock
	}
	s.mu.Unlock()
	select {
	case lock <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-lock }()

	config := s.pool.Config().ConnConfig
	for param, value := range map[string]string{"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3", "application_name": "pith lock " + name} {
		config.RuntimeParams[param] = value
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), watchLimit)
		defer cancel()
		_ = conn.Close(end) // frees the lock; the connection may be gone already
	}()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		var mine bool
		err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended('pith ' || $1 || ' ' || $2, 0))`, s.schema, name).Scan(&mine)
		if err != nil {
			return err
		}
		if mine {
			break
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	held, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	ended, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-ended:
				return
			case <-time.After(watchEvery):
			}
			ping, cancel := context.WithTimeout(context.WithoutCancel(ctx), watchLimit)
			err := conn.Ping(ping)
			cancel()
			if err != nil {
				lost(fmt.Errorf("%w: %w", ErrLockLost, err))
				return
			}
		}
	}()
	err = f(held)
	close(ended)
	<-watched
	if cause := context.Cause(held); errors.Is(cause, ErrLockLost) {
		err = errors.Join(cause, err)
	}
	return err
}
