package resolver

import (
	"context"
	"errors"
	"fmt"
)

// Accept lets in a submission that waits, or that a moderator kept out before. It is
// judged again, since the record may have changed; only the policy is not asked. A
// crash in the middle leaves it as it was, and it can be accepted again. Errors:
// ErrNotFound when it is neither, a *Refusal when it is not right any more.
func (s *Service) Accept(ctx context.Context, id int64) (receipt *Receipt, err error) {
	return receipt, s.moderating(ctx, func(ctx context.Context) error {
		receipt, err = s.accept(ctx, id)
		return err
	})
}

// moderating runs f while no other moderator decides, in whatever process: two
// could decide otherwise about one submission, or let in key documents that
// exclude each other.
func (s *Service) moderating(ctx context.Context, f func(context.Context) error) error {
	return s.store.Lock(ctx, "moderation", f)
}

func (s *Service) accept(ctx context.Context, id int64) (*Receipt, error) {
	h, err := s.store.HeldByID(ctx, id)
	if err != nil {
		return nil, err
	}
	if h.Status != Queued && h.Status != Rejected {
		return nil, ErrNotFound
	}
	data, err := Gunzip(h.Data)
	if err != nil {
		return nil, fmt.Errorf("held submission %d: %w; run pith fsck", id, err)
	}
	code, detail := h.Code, h.Detail
	if h.Status == Rejected {
		code, detail = CodeAfterAll, clip("it was kept out before: "+h.Detail, 1024)
	}
	var receipt *Receipt
	if kindOf(data) == "document_type" {
		if err := s.acceptDocument(ctx, data); err != nil {
			return nil, err
		}
		code = CodeKeyDocument
		receipt = &Receipt{At: s.now().UTC().Truncate(1e9)}
	} else {
		generous := &Service{store: s.store, key: s.key, unknown: Accepted, limits: s.limits, now: s.now, log: s.log, trust: s.Trust(), changed: make(chan struct{}), uniting: s.uniting}
		j := &job{Submission: Submission{Data: data, From: h.From, Unlimited: true}, moderated: &h.Digest}
		if err := generous.letAll(ctx, []*job{j}); err != nil {
			return nil, err
		}
		if j.refusal != nil {
			return nil, j.refusal
		}
		receipt = j.receipt
		s.wake()
	}
	err = s.store.MoveHeld(ctx, id, h.Status, Accepted, code, detail)
	if errors.Is(err, ErrNotFound) { // it was sent again meanwhile, and came in
		if now, failed := s.store.HeldByID(ctx, id); failed == nil && now.Status == Accepted {
			return receipt, nil
		}
	}
	return receipt, err
}

// Reject keeps a submission that waits out for good, with the reason. It stays
// in the store. A key document that was accepted is taken back: it is part of the
// policy no more; what came in by it stays. Errors: ErrNotFound when it is neither.
func (s *Service) Reject(ctx context.Context, id int64, reason string) error {
	return s.moderating(ctx, func(ctx context.Context) error {
		h, err := s.store.HeldByID(ctx, id)
		if err != nil {
			return err
		}
		from := Queued
		if h.Status == Accepted && h.Code == CodeKeyDocument {
			from = Accepted
			if err := s.store.SetMeta(ctx, policyKey(h.Digest), nil); err != nil {
				return err
			}
		}
		err = s.store.MoveHeld(ctx, id, from, Rejected, CodeModerated, clip(reason, 1024))
		return errors.Join(err, s.LoadPolicy(ctx))
	})
}
