package experiment

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/openpith/evidence/smoothout"
	"github.com/openpith/evidence/train"
)

// Describe says what the configuration's noise is for each tensor at the weights
// that a run begins with. Nothing is trained.
func (c Config) Describe(opts Options) (smoothout.Table, error) {
	in, err := c.Load(opts.DataDir)
	if err != nil {
		return nil, err
	}
	backend, err := opts.Backend()
	if err != nil {
		return nil, err
	}
	defer backend.Finalize()
	m, err := train.Initial(backend, in.Net, in.Data.Train, c.Recipe.Seed)
	if err != nil {
		return nil, err
	}
	if opts.Init != "" {
		file, err := os.ReadFile(opts.Init)
		if err != nil {
			return nil, err
		}
		if err := m.SetWeights(file); err != nil {
			return nil, fmt.Errorf("%s: %w", opts.Init, err)
		}
	}
	noise := c.Recipe.SmoothOut
	noise.Schedule.Steps = max(1, in.Data.Train.Len()/c.Recipe.Batch*c.Recipe.Epochs)
	return m.Describe(noise)
}

// tunePairs are the antithetic pairs of draws over which the rise is averaged.
const tunePairs = 4

// Tune chooses the strength of the configuration's noise by its effect: so that
// it raises the validation loss by target where its schedule is at its strongest,
// at weights that were trained without noise for some epochs. That run lies in dir and never reads the test set.
func (c Config) Tune(ctx context.Context, dir Dir, target float64, epochs int, opts Options) (smoothout.Tuned, error) {
	noise := c.Recipe.SmoothOut
	switch {
	case c.Recipe.SAM.Rho > 0 || noise.Strength == 0:
		return smoothout.Tuned{}, fmt.Errorf("%w: method %s has no noise to tune", ErrConfig, c.Recipe.Method())
	case c.Data.Validation == 0:
		return smoothout.Tuned{}, fmt.Errorf("%w: no validation samples to tune by", ErrConfig)
	case epochs < 1:
		return smoothout.Tuned{}, fmt.Errorf("%w: %d epochs to tune by: want 1 or more", ErrConfig, epochs)
	}
	plain := c
	var err error
	if plain.Recipe, err = plain.Recipe.WithMethod("sgd", 0); err != nil {
		return smoothout.Tuned{}, err
	}
	plain.Recipe.Epochs = epochs // the beginning of the regime, not all of it in little
	plain.Data = plain.Data.unread()
	if plain.Recipe.Schedule == "cosine" {
		plain.Recipe.Schedule = ""
	}
	if _, err := dir.Run(ctx, plain, opts); err != nil {
		return smoothout.Tuned{}, err
	}
	backend, err := opts.Backend()
	if err != nil {
		return smoothout.Tuned{}, err
	}
	defer backend.Finalize()
	run, err := Open(dir, opts.DataDir)
	if err != nil {
		return smoothout.Tuned{}, err
	}
	m, err := run.Model(backend, "final")
	if err != nil {
		return smoothout.Tuned{}, err
	}
	t, err := smoothout.Tune(func(strength float64) (float64, error) {
		noise.Strength = strength * noise.Schedule.Max()
		return m.LossRise(ctx, run.Data.Validation, noise, tunePairs)
	}, target, noise.Strength)
	if err != nil {
		return t, err
	}
	t.Strength, err = strconv.ParseFloat(strconv.FormatFloat(t.Strength, 'g', 3, 64), 64) // more digits say no more
	return t, err
}
