package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/gomlx/compute"
	"github.com/spf13/cobra"

	"github.com/openpith/evidence/experiment"
	"github.com/openpith/evidence/objective/network"
	"github.com/openpith/evidence/train"
)

// measured.go is what sharpness and landscape share: a trained run as a loss
// over its weights.

// A measuredRun is a run directory opened to be measured.
type measuredRun struct {
	*experiment.Trained
	backend   compute.Backend
	model     *train.Model
	weights   string // SHA-256
	batchNorm string // which statistics the weights came with
}

// openMeasured opens a run directory with the weights of a name.
func openMeasured(cmd *cobra.Command, dir experiment.Dir, weights, data string) (*measuredRun, error) {
	run, err := experiment.Open(dir, dataDir(data))
	if err != nil {
		return nil, explainRun(cmd, err, dir)
	}
	// One core per evaluation: a survey has many to make side by side.
	_, newBackend, err := backend()
	if err != nil {
		return nil, err
	}
	m := &measuredRun{Trained: run, batchNorm: "those stored with the weights"}
	if m.backend, err = newBackend(); err != nil {
		return nil, err
	}
	if err := m.load(weights); err != nil {
		m.backend.Finalize()
		return nil, explainRun(cmd, err, dir)
	}
	if r := run.Result; r != nil && r.WeightsSHA256 == m.weights {
		m.batchNorm = r.BatchNorm
	}
	return m, nil
}

func (m *measuredRun) load(weights string) (err error) {
	if m.model, err = m.Model(m.backend, weights); err != nil {
		return err
	}
	m.weights, err = m.model.Digest()
	return err
}

// objective is the loss on n examples of a split (0: all), and words for what
// they are.
func (m *measuredRun) objective(split string, n int, drawn int64) (*network.Model, string, error) {
	return m.Objective(m.backend, m.model, split, n, drawn)
}

// digestOf is the SHA-256 of a split, in words.
func (m *measuredRun) digestOf(split string) string {
	d := m.Config.Data
	return ", SHA-256 of the split " + map[string]string{"train": d.TrainSHA256, "validation": d.ValidationSHA256, "test": d.TestSHA256}[split]
}

// name is what the run is called in pictures, group what its like are called.
func (m *measuredRun) name() string {
	return fmt.Sprintf("%s, seed %d", m.group(), m.Config.Recipe.Seed)
}
func (m *measuredRun) group() string { return groupOf(m.Config) }

func groupOf(c experiment.Config) string {
	method := c.Recipe.Method()
	if s := c.Recipe.Strength(); s > 0 {
		method = fmt.Sprintf("%s %g", method, s)
	}
	return fmt.Sprintf("%s, batch %d", method, c.Recipe.Batch)
}

// typed is the command as it was typed, for the note of a result.
func typed() string {
	words := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	for i, w := range words {
		if strings.ContainsAny(w, " \t\"'$&|;<>()*?[]#~`\\") {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

func allCPUs() int { return runtime.GOMAXPROCS(0) }
