package pith

import "fmt"

// A Verdict is the answer to a verification. The order is the order of
// precedence: a result has the greatest verdict that one of its checks gives.
type Verdict int

// The verdicts.
const (
	Valid      Verdict = iota // all is well, and every signer is trusted for what it signed
	Untrusted                 // the mathematics is right, but the policy does not vouch for every signer
	Rejected                  // something is not what its signer signed, or not what it says
	Unreadable                // no bundle of a known version, so nothing could be checked
)

var verdictNames = [...]string{"valid", "untrusted", "rejected", "unreadable"}

// String returns valid, untrusted, rejected or unreadable.
func (v Verdict) String() string {
	if v < 0 || int(v) >= len(verdictNames) {
		return fmt.Sprintf("Verdict(%d)", int(v))
	}
	return verdictNames[v]
}

// MarshalText is String for encoding/json.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (v *Verdict) UnmarshalText(b []byte) error {
	for i, name := range verdictNames {
		if name == string(b) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no verdict", b)
}
