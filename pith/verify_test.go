package pith

import (
	"encoding/json"
	"testing"

	"github.com/openpith/evidence/pith/seed"
)

func TestSeedIsValid(t *testing.T) {
	r := Verify(seed.Bundle(), nil)
	if r.Verdict() != Valid {
		for _, c := range r.Checks {
			if !c.OK {
				t.Errorf("%+v", c)
			}
		}
	}
	out, _ := json.MarshalIndent(r, "", " ")
	t.Logf("%s", out)
}
