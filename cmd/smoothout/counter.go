package main

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// A counter shows how far one long job is, with the time left, when a person
// is watching, and nothing otherwise.
type counter struct {
	w     io.Writer
	tty   bool
	what  string
	bar   *progressbar.ProgressBar
	drawn time.Time
}

func newCounter(w io.Writer) *counter { return &counter{w: w, tty: isTerminal(w)} }

func (c *counter) begin(what string) { c.what, c.bar, c.drawn = what, nil, time.Time{} }

func (c *counter) update(done, total int) {
	if !c.tty || time.Since(c.drawn) < 100*time.Millisecond {
		return
	}
	c.drawn = time.Now()
	if c.bar == nil {
		c.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(c.w), progressbar.OptionSetDescription(c.what),
			progressbar.OptionSetPredictTime(true), progressbar.OptionSetWidth(24), progressbar.OptionClearOnFinish())
	}
	c.bar.ChangeMax(total)
	c.bar.Set(done)
}

func (c *counter) finish() {
	if c.bar != nil {
		c.bar.Clear()
	}
}
