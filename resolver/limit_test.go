package resolver_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/resolver"
)

// TestRefill: who has used up what may come at once is told when to come again; then,
// and no earlier, the next comes in, and however long he waits, never more at once.
// The clock is the test's.
func TestRefill(t *testing.T) {
	const burst = 3
	for name, tt := range map[string]struct {
		limits resolver.Limits
		code   string
	}{
		"of an address": {resolver.Limits{PerAddress: 2, PerSigner: -1, Burst: burst}, resolver.CodeRateAddress},
		"of a key":      {resolver.Limits{PerAddress: -1, PerSigner: 2, Burst: burst}, resolver.CodeRateSigner},
	} {
		t.Run(name, func(t *testing.T) {
			now := day.Add(time.Hour)
			s := service(t, func(c *resolver.Config) {
				c.Limits, c.Now = tt.limits, func() time.Time { return now }
			})
			if _, err := s.Submit(t.Context(), resolver.Submission{Data: seed.Bundle(), From: "operator", Unlimited: true}); err != nil {
				t.Fatal(err)
			}
			sent := 0
			// send sends something new; it returns how long it is to wait.
			send := func() time.Duration {
				t.Helper()
				sent++
				bundle, _ := correction(t, ada, strings.Repeat("x", sent))
				_, err := s.Submit(t.Context(), resolver.Submission{Data: bundle, From: "1"})
				var limited *resolver.Refusal
				switch {
				case err == nil:
					return 0
				case !errors.As(err, &limited) || limited.Code != tt.code:
					t.Fatalf("submission %d: %v", sent, err)
				}
				return limited.Retry
			}
			full := func() {
				t.Helper()
				for i := range burst {
					if wait := send(); wait != 0 {
						t.Fatalf("%d of %d at once: wait %v", i+1, burst, wait)
					}
				}
				if wait := send(); wait != 500*time.Millisecond {
					t.Fatalf("one too many: wait %v, at two a second", wait)
				}
			}
			full()
			now = now.Add(499 * time.Millisecond)
			if wait := send(); wait != time.Millisecond { // the one before took nothing
				t.Errorf("too early by a millisecond: wait %v", wait)
			}
			now = now.Add(time.Millisecond)
			if wait := send(); wait != 0 {
				t.Errorf("in time: wait %v", wait)
			}
			if wait := send(); wait != 500*time.Millisecond {
				t.Errorf("and another: wait %v", wait)
			}
			now = now.Add(time.Hour)
			full()
		})
	}
}
