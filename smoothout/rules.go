package smoothout

import (
	"fmt"
	"math"
	"regexp"
)

// A Rule changes the strength for some parameters: those of a role, and whose
// path matches. Of several rules that match, the last one holds. Where none
// does, parameters of batch normalisation get no noise, as in the reference,
// and all others the full strength.
//
//	{Role: smoothout.BatchNorm, Factor: 1}        // perturb batch norm too
//	{Role: smoothout.Bias}                        // leave biases alone
//	{Path: `^/embed`, Factor: 0.5}                // half the noise there
//	{}, {Path: `/dense/weights$`, Factor: 1}      // nothing but these
type Rule struct {
	Path   string  `json:"path,omitempty"` // a regular expression; "" matches all
	Role   Role    `json:"role,omitempty"` // "" matches all
	Factor float64 `json:"factor"`         // of the strength; 0 is no noise
}

func (r Rule) validate() error {
	if _, err := regexp.Compile(r.Path); err != nil {
		return err
	}
	if r.Role != "" && r.Role != Weight && r.Role != Bias && r.Role != BatchNorm {
		return fmt.Errorf("role %q: want %q, %q or %q", r.Role, Weight, Bias, BatchNorm)
	}
	if !(r.Factor >= 0) || math.IsInf(r.Factor, 0) {
		return fmt.Errorf("factor %v: want a finite number, 0 or more", r.Factor)
	}
	return nil
}

// A noisyParam is a parameter with the factor of its rule.
type noisyParam struct {
	Param
	factor float64
}

// factor is that of the parameter, and the reason if it is 0.
func (c Config) factor(p Param) (factor float64, why string) {
	if !p.DType().IsFloat() {
		return 0, "not a floating-point variable"
	}
	for i := len(c.Rules) - 1; i >= 0; i-- {
		r := c.Rules[i]
		if r.Role != "" && r.Role != p.Role {
			continue
		}
		if r.Path != "" && !regexp.MustCompile(r.Path).MatchString(p.Path()) { // validated before
			continue
		}
		if r.Factor == 0 {
			return 0, fmt.Sprintf("rule %d", i+1)
		}
		return r.Factor, ""
	}
	if p.Role == BatchNorm {
		return 0, "batch norm"
	}
	return 1, ""
}
