package resolver

import "context"

// SubmitAll is Submit for many submissions at once, which is faster; they are
// judged as if they came one after the other. The error is the mirror's: then
// none of the submissions has an outcome, though some may have been let in.
func (s *Service) SubmitAll(ctx context.Context, subs []Submission) ([]Outcome, error) {
	panic("not yet")
}
