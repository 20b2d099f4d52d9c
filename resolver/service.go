package resolver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/openpith/evidence/pith"
)

// Config is what a service is made of.
type Config struct {
	Store Store
	Key   *pith.PrivateKey // the mirror's own: signs united bundles, receipts and checkpoints
	Trust *pith.Trust      // who may write; nil: pith.PinnedTrust()

	// Unknown says what becomes of valid submissions by signers that the policy
	// does not know: Queued (the default), Accepted or Refused.
	Unknown Status

	Limits Limits
	Now    func() time.Time // nil: time.Now
	Log    *slog.Logger     // nil: no log
}

// A Service lets submissions into a store. It is safe for use by many
// goroutines, and several services, also in different processes, may share one
// store.
type Service struct {
	store   Store
	key     *pith.PrivateKey
	unknown Status
	limits  *limiter
	now     func() time.Time
	log     *slog.Logger

	uniting *semaphore.Weighted // bytes of the stored bundles that are united with something

	allNew atomic.Int64 // how many batches in a row brought nothing but new records

	files *pith.Trust // the policy without key documents that moderators accepted

	loading  sync.Mutex // of the policy
	mu       sync.Mutex
	trust    *pith.Trust
	accepted []string      // the key documents of which it was made, by their digests
	changed  chan struct{} // closed with the next commit
}

// A Submission is something that somebody wants to be kept: a bundle, an event,
// or a key document, as JSON.
type Submission struct {
	Data []byte
	From string // who sent it, for limits and for the record: an address, a mirror, a file

	// Trust, if set, decides instead of the policy of the service: what comes
	// from a mirror that is believed is judged by what is believed of it.
	Trust *pith.Trust
	// Unlimited lifts the limits on the rate: whoever runs the mirror may load it.
	Unlimited bool

	asked bool // whether From may send so much
}

// An Outcome is what became of one of several submissions: a receipt of what of it is
// here, a *Refusal if that is not all, or both.
type Outcome struct {
	Receipt *Receipt
	Err     error
}

// A Receipt says what the mirror did with a submission that it let in.
// [Service.SignReceipt] makes of it what others can check.
type Receipt struct {
	Number   string    // of the record; "" for a key
	Revision int64     // that the record has now
	Digest   Digest    // of the bundle that is served now
	Key      string    // fingerprint of a key that was declared
	Events   []Event   // all events that the submission held, with their places in the order
	New      int       // how many of them the mirror did not have before
	At       time.Time // when the mirror says so
}

// A Refusal is the error by which a service does not let something in.
type Refusal struct {
	Status Status // Refused or Queued
	Code   string // stable: a pith.Code, or one of the Code constants of this package
	Detail string
	ID     int64         // under which it is kept, 0 if it is not
	Retry  time.Duration // when to come again, for limits

	signer string // whom the policy does not know
}

func (r *Refusal) Error() string { return string(r.Status) + ": " + r.Code + ": " + r.Detail }

// unitingBytes is how many bytes of stored bundles are united with something at once.
// That takes many times the memory and seconds of a core for the largest, which an
// event of some hundred bytes can ask for.
const unitingBytes = 2 * pith.MaxSize

// NewService returns a service on a store.
func NewService(c Config) (*Service, error) {
	switch {
	case c.Store == nil:
		return nil, errors.New("a resolver needs a store")
	case c.Key == nil:
		return nil, errors.New("a resolver needs a key of its own")
	}
	s := &Service{store: c.Store, key: c.Key, unknown: c.Unknown, now: c.Now, log: c.Log, files: c.Trust, changed: make(chan struct{}), uniting: semaphore.NewWeighted(unitingBytes)}
	if s.unknown == "" {
		s.unknown = Queued
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.files == nil {
		s.files = pith.PinnedTrust()
	}
	s.trust = s.files
	s.limits = newLimiter(c.Limits, s.now)
	if err := s.LoadPolicy(context.Background()); err != nil {
		return nil, err
	}
	return s, nil
}

// ask takes a submission out of the bucket of who sends it, before it is read.
func (s *Service) ask(from string) *Refusal {
	wait, ok := s.limits.take("from "+from, s.limits.PerAddress, 1)
	if ok {
		return nil
	}
	return &Refusal{Status: Refused, Code: CodeRateAddress, Retry: wait, Detail: fmt.Sprintf("more than %g submissions per second from %s", s.limits.PerAddress, from)}
}

// Store returns the store that the service writes to.
func (s *Service) Store() Store { return s.store }

// PublicKey returns the public half of the mirror's key.
func (s *Service) PublicKey() pith.PublicKey { return s.key.Public() }

// Trust returns the policy as it is now.
func (s *Service) Trust() *pith.Trust {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trust
}

// Policy names what decides who gets in: another policy has another name.
func (s *Service) Policy() string {
	sum := sha256.Sum256(fmt.Appendf(s.Trust().JSON(), "\n%s", s.unknown))
	return hex.EncodeToString(sum[:])
}

// Changed returns a channel that is closed after the next commit of this
// service.
func (s *Service) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Service) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Submit lets one submission in, or says why not: with a *Refusal when the
// submission is the reason, with another error when the mirror is. What was
// submitted before gives the same events again, and no error.
func (s *Service) Submit(ctx context.Context, sub Submission) (*Receipt, error) {
	out, err := s.SubmitAll(ctx, []Submission{sub})
	if err != nil {
		return nil, err
	}
	if out[0].Err != nil {
		return nil, out[0].Err
	}
	return out[0].Receipt, nil
}
