package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/openpith/evidence/datasets"
	"github.com/openpith/evidence/replicate"
	"github.com/openpith/evidence/replicate/study"
)

// downloadProgress shows how much of a file has arrived when a person is
// watching, and nothing otherwise.
func downloadProgress(w io.Writer) datasets.DownloadProgress {
	if !isTerminal(w) {
		return nil
	}
	var bar *progressbar.ProgressBar
	var current string
	return func(file string, done, total int64) {
		if file != current {
			current = file
			bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(file),
				progressbar.OptionShowBytes(true), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())
		}
		bar.Set64(done)
	}
}

// progress says how far a study is: one line that is redrawn when a person is
// watching, and otherwise one line per finished run. It never shows the test
// set: whoever watches must not be led to stop by it.
type progress struct {
	w   io.Writer
	tty bool
	now func() time.Time

	bar       *progressbar.ProgressBar
	drawn     time.Time
	start     time.Time // of what this session did first…
	startDone float64   // …and how much it had done by then
	startRuns int
}

func newProgress(w io.Writer) *progress {
	return &progress{w: w, tty: isTerminal(w), now: time.Now}
}

func (p *progress) update(u replicate.Progress) {
	now := p.now()
	if p.start.IsZero() {
		p.start, p.startDone, p.startRuns = now, u.NewFraction, u.Runs
	}
	status := fmt.Sprintf("%d/%d runs", u.Runs, u.TotalRuns)
	if left, ok := p.timeLeft(now, u); ok {
		status += ", " + left
	}
	if r := u.JustDone; r != nil {
		if p.bar != nil {
			p.bar.Clear()
		}
		what := "done"
		if r.Status == study.StatusFailed {
			what = "failed: " + r.Error
		}
		fmt.Fprintf(p.w, "%s: %s seed %d %s\n", status, r.Arm, r.Seed, what)
		p.drawn = time.Time{}
	}
	if p.tty && now.Sub(p.drawn) >= 200*time.Millisecond {
		p.drawn = now
		p.draw(status, u)
	}
}

func (p *progress) draw(status string, u replicate.Progress) {
	if p.bar == nil {
		p.bar = progressbar.NewOptions(1000,
			progressbar.OptionSetWriter(p.w),
			progressbar.OptionSetPredictTime(false), // its rate would count the steps of earlier sessions
			progressbar.OptionSetWidth(24),
			progressbar.OptionClearOnFinish(),
		)
	}
	p.bar.Describe(status)
	p.bar.Set(int(1000 * u.Fraction))
}

// timeLeft is what remains at the rate of this session: of its training or,
// where it only measures runs that others trained, of its runs. What an earlier
// session did counts as done, but not for the rate.
func (p *progress) timeLeft(now time.Time, u replicate.Progress) (string, bool) {
	made, remaining := u.NewFraction-p.startDone, 1-u.Fraction
	if made <= 0 {
		made, remaining = float64(u.Runs-p.startRuns), float64(u.TotalRuns-u.Runs)
	}
	if made <= 0 || remaining <= 0 {
		return "", false
	}
	left := time.Duration(float64(now.Sub(p.start)) * remaining / made)
	switch {
	case left < time.Minute:
		return fmt.Sprintf("about %d s left", int(left.Seconds())+1), true
	case left < 2*time.Hour:
		return fmt.Sprintf("about %d min left", int(left.Minutes()+0.5)), true
	}
	return fmt.Sprintf("about %.0f h left", left.Hours()), true
}

func (p *progress) finish() {
	if p.bar != nil {
		p.bar.Clear()
	}
}
