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

// progress shows one line with the time left when a person is watching, and
// nothing otherwise.
type progress struct {
	w   io.Writer
	bar *progressbar.ProgressBar
	tty bool
}

func newProgress(w io.Writer) *progress { return &progress{w: w, tty: isTerminal(w)} }

func (p *progress) update(u replicate.Progress) {
	if !p.tty {
		return
	}
	if p.bar == nil {
		// The bar starts where an earlier session stopped, so that the rate,
		// and with it the time left, is that of this session.
		p.bar = progressbar.NewOptions(u.TotalSteps,
			progressbar.OptionSetWriter(p.w),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionShowCount(),
			progressbar.OptionSetWidth(24),
			progressbar.OptionThrottle(200*time.Millisecond),
			progressbar.OptionClearOnFinish(),
		)
	}
	p.bar.Describe(fmt.Sprintf("%d/%d runs, %s", u.Runs, u.TotalRuns, u.Run))
	p.bar.Set(u.Steps)
	if r := u.JustDone; r != nil {
		p.bar.Clear()
		if r.Status == study.StatusFailed {
			fmt.Fprintf(p.w, "%s seed %d: failed: %s\n", r.Arm, r.Seed, r.Error)
		} else {
			fmt.Fprintf(p.w, "%s seed %d: validation accuracy %.2f %%\n", r.Arm, r.Seed, 100*r.Final.ValidationAccuracy)
		}
	}
}

func (p *progress) finish() {
	if p.bar != nil {
		p.bar.Clear()
	}
}
