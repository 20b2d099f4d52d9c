package resolver

import (
	"context"
	"errors"
	"fmt"
)

// Accept lets in a submission that waits. It is judged again, since the record
// may have changed; only the policy is not asked. A crash in the middle leaves
// it waiting, and it can be accepted again. Errors: ErrNotFound when it does
// not wait, a *Refusal when it is not right any more.
func (s *Service) Accept(ctx context.Context, id int64) (*Receipt, error) {
	h, err := s.store.HeldByID(ctx, id)
	if err != nil {
		return nil, err
	}
	if h.Status != Queued {
		return nil, ErrNotFound
	}
	data, err := Gunzip(h.Data)
	if err != nil {
		return nil, fmt.Errorf("held submission %d: %w; run pith fsck", id, err)
	}
	var receipt *Receipt
	if h.Code == CodeKeyDocument {
		if err := s.acceptDocument(ctx, data); err != nil {
			return nil, err
		}
		receipt = &Receipt{At: s.now().UTC().Truncate(1e9)}
	} else {
		generous := &Service{store: s.store, key: s.key, unknown: Accepted, limits: s.limits, now: s.now, log: s.log, trust: s.Trust(), changed: make(chan struct{})}
		receipt, err = generous.Submit(ctx, Submission{Data: data, From: h.From, Unlimited: true})
		if err != nil {
			return nil, err
		}
		s.wake()
	}
	// Another moderator may have been quicker; the submission is in either way.
	if err := s.store.MoveHeld(ctx, id, Queued, Accepted, h.Code, h.Detail); err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	return receipt, nil
}

// Reject keeps a submission that waits out for good, with the reason. It stays
// in the store. Errors: ErrNotFound when it does not wait.
func (s *Service) Reject(ctx context.Context, id int64, reason string) error {
	return s.store.MoveHeld(ctx, id, Queued, Rejected, CodeModerated, clip(reason, 1024))
}
