package main

import (
	"fmt"
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
	size  int64 // of the inputs, where their bytes are counted; -1 for not known
	bytes bool
	line  *progressbar.ProgressBar
	watch bool
	shown time.Time
}

func newCounter(w io.Writer, what string) *counter {
	f, ok := w.(*os.File)
	return &counter{w: w, what: what, watch: ok && term.IsTerminal(int(f.Fd())) && !strings.HasPrefix(os.Getenv("TERM"), "dumb")}
}

// newReading returns a counter of the bytes of files with bundles.
func newReading(w io.Writer, paths []string) *counter {
	c := newCounter(w, "")
	c.bytes = true
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			c.size = -1 // a pipe: nobody knows
			break
		}
		c.size += info.Size()
	}
	return c
}

// showRead draws the line of a counter of bytes.
func (c *counter) showRead(bytes int64, bundles int) {
	c.what = fmt.Sprintf("%d bundles", bundles)
	c.draw(bytes, c.size)
}

// show draws the line; of may grow, and be 0 for not known.
func (c *counter) show(done, of int64) { c.draw(done, max(of, done)) }

func (c *counter) draw(done, of int64) {
	if !c.watch || time.Since(c.shown) < 200*time.Millisecond {
		return
	}
	c.shown = time.Now()
	if c.line == nil {
		c.line = progressbar.NewOptions64(of, progressbar.OptionSetWriter(c.w), progressbar.OptionShowBytes(c.bytes), progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(of > 0), progressbar.OptionClearOnFinish())
	}
	c.line.Describe(c.what)
	c.line.ChangeMax64(of)
	_ = c.line.Set64(done) // a line that cannot be drawn stops nothing
}

func (c *counter) close() {
	if c.line != nil {
		_ = c.line.Clear()
	}
}
