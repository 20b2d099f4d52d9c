package replicate

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/openpith/evidence/datasets"
)

// What the notes of a plan say of its images is what its arms do to them.
func TestNotesOnAugmentation(t *testing.T) {
	words := map[datasets.Augmentation]string{
		{}:                              "Training images are neither shifted nor mirrored.",
		{Pad: 2}:                        "Training images are padded and shifted by up to 2 pixels as in the reference, not mirrored.",
		{Pad: 4, Fill: 127, Flip: true}: "Training images are padded with gray by 4 pixels, cropped and mirrored as in the reference.",
	}
	for _, mnist := range []bool{false, true} {
		for _, name := range PlanNames() {
			p := BuiltinPlan(name, func() bool { return mnist })
			all, err := configs(p)
			if err != nil {
				t.Fatal(err)
			}
			for i, c := range all {
				how := datasets.Augmentation{}
				if c.Data.Augment != nil {
					how = *c.Data.Augment
				}
				said := slices.ContainsFunc(p.Notes, func(n string) bool { return n == words[how] })
				others := 0
				for _, n := range p.Notes {
					if strings.Contains(n, "mirrored") || strings.Contains(n, "shifted") {
						others++
					}
				}
				if words[how] == "" || !said || others != 1 {
					t.Errorf("%s, arm %s: images are changed by %+v, the notes say %q", name, p.Sweep.Arms[i].Name, how, p.Notes)
				}
			}
		}
	}
}

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
