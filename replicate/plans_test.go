package replicate

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// What a built-in plan trains must not change by accident: studies that were begun
// with it would go on as something else.
func TestBuiltinConfigurations(t *testing.T) {
	for name, want := range map[string]string{
		"quick":           "d551cf98e8e464e8",
		"mnist-f1":        "1978fdc8eabf6832",
		"mnist-f1-part":   "54ca8d211d13c5e3",
		"fashion-f1":      "bf8f265e0f654efa",
		"fashion-f1-part": "f825a8d5a21f3942",
		"cifar10-c1":      "c74756d5ea819bd0",
		"cifar10-c1-part": "ed8ad1b50e20f12a",
	} {
		all, err := configs(BuiltinPlan(name, func() bool { return true }))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		for _, c := range all {
			sum.Write([]byte(c.SHA256()))
		}
		if got := hex.EncodeToString(sum.Sum(nil))[:16]; got != want {
			t.Errorf("%s: digest of the configurations of its arms is %s, want %s", name, got, want)
		}
	}
}
