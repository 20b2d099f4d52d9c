package replicate

import (
	"errors"
	"fmt"

	"github.com/openpith/evidence/datasets"
	"github.com/openpith/evidence/replicate/study"
	"github.com/openpith/evidence/train"
)

// ErrData reports data that is not what the plan says.
var ErrData = errors.New("the data is not what the plan says")

// Glyphs is the name of the generated digits: always there, no files needed.
const Glyphs = "glyphs"

// glyphsSeed fixes the generated set; plans choose its size only.
const glyphsSeed = 1805_07898

// splits are the samples of a study. resolved is the plan's data section with
// sizes and digests filled in.
type splits struct {
	train, validation, test *datasets.Split
	resolved                study.Data
}

// loadData reads the plan's data set and divides it. The validation samples
// are taken out of the training set first, then the training subset: both by
// the hash of each sample, so they are the same on every machine and for every
// seed. Digests that the plan states must match.
func loadData(d study.Data, dir string) (*splits, error) {
	set, err := open(d, dir)
	if err != nil {
		return nil, err
	}
	s := &splits{test: set.Test, resolved: d}
	fail := func(err error) (*splits, error) { return nil, fmt.Errorf("%w: %w", ErrData, err) }
	if s.validation, s.train, err = set.Train.Hold("validation", d.Validation); err != nil {
		return fail(err)
	}
	if d.Train > 0 {
		if s.train, err = s.train.Subset(d.Train); err != nil {
			return fail(err)
		}
	}
	if d.Test > 0 {
		if s.test, err = s.test.Subset(d.Test); err != nil {
			return fail(err)
		}
	}
	r := &s.resolved
	r.Train, r.Validation, r.Test = s.train.Len(), s.validation.Len(), s.test.Len()
	for _, x := range []struct {
		split  string
		digest *string
		got    string
	}{
		{"training", &r.TrainSHA256, s.train.SHA256()},
		{"validation", &r.ValidationSHA256, s.validation.SHA256()},
		{"test", &r.TestSHA256, s.test.SHA256()},
	} {
		if *x.digest != "" && *x.digest != x.got {
			return nil, fmt.Errorf("%w: the %s samples of %s have SHA-256 %s, the plan says %s", ErrData, x.split, d.Name, x.got, *x.digest)
		}
		*x.digest = x.got
	}
	return s, nil
}

func open(d study.Data, dir string) (*datasets.Set, error) {
	if d.Name == Glyphs {
		if d.Train == 0 || d.Test == 0 {
			return nil, fmt.Errorf("%w: %s is generated, so its train and test sizes cannot be 0", ErrData, Glyphs)
		}
		return datasets.Glyphs(datasets.GlyphsConfig{Seed: glyphsSeed, Train: d.Train + d.Validation, Test: d.Test})
	}
	return datasets.Load(d.Name, dir)
}

// head is the first n samples of s, in the order of the data set, or all of
// them when n is 0 or too large. The sets at hand are not sorted by class.
func head(s *datasets.Split, n int) train.Samples {
	if n == 0 || n >= s.Len() {
		return s
	}
	return first{s, n}
}

type first struct {
	*datasets.Split
	n int
}

func (f first) Len() int { return f.n }
