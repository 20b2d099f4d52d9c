package main

import (
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// A counter shows how many of how many things are done, with the time left. It
// is silent when nobody watches.
type counter struct {
	w     io.Writer
	what  string
	line  *progressbar.ProgressBar
	watch bool
	shown time.Time
}

func newCounter(w io.Writer, what string) *counter {
	f, ok := w.(*os.File)
	return &counter{w: w, what: what, watch: ok && term.IsTerminal(int(f.Fd())) && !strings.HasPrefix(os.Getenv("TERM"), "dumb")}
}

// show draws the line; of may grow, and be 0 for not known.
func (c *counter) show(done, of int64) {
	if !c.watch || time.Since(c.shown) < 200*time.Millisecond {
		return
	}
	c.shown = time.Now()
	if of = max(of, done); c.line == nil {
		c.line = progressbar.NewOptions64(of, progressbar.OptionSetWriter(c.w), progressbar.OptionSetDescription(c.what),
			progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())
	}
	c.line.ChangeMax64(of)
	_ = c.line.Set64(done) // a line that cannot be drawn stops nothing
}

func (c *counter) close() {
	if c.line != nil {
		_ = c.line.Clear()
	}
}
