package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/guptarohit/asciigraph"
	"github.com/spf13/cobra"

	"github.com/openpith/evidence/experiment"
	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/report"
)

func watchCommand() *cobra.Command {
	var listen string
	var interval time.Duration
	var once bool
	cmd := &cobra.Command{
		Use:   "watch DIR...",
		Short: "Draw the curves of runs while they train",
		Long: `Draws loss and accuracy of one run or several, again and again on a terminal until
all are finished, once otherwise; of more than six runs, the mean of those that
differ in the seed. With --listen it serves them as a page instead.
It only reads: watching disturbs nothing.`,
		Args:    cobra.MinimumNArgs(1),
		Example: "  smoothout watch runs/quick\n  smoothout watch runs/sweep/runs/* --listen 127.0.0.1:8080",
		RunE: func(cmd *cobra.Command, args []string) error {
			if interval < 100*time.Millisecond {
				return fmt.Errorf("--interval %v: want 100ms or more", interval)
			}
			for _, dir := range args {
				if _, err := experiment.Dir(dir).Config(); err != nil {
					return cli.Hint(err, "name the directory of a run of smoothout train, or several")
				}
			}
			if listen != "" {
				return serveCurves(cmd, args, listen, interval)
			}
			return drawCurves(cmd, args, interval, once || !isTerminal(cmd.OutOrStdout()))
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "", "serve a page at this `address`, such as 127.0.0.1:8080")
	cmd.Flags().DurationVar(&interval, "interval", 2*time.Second, "time between two pictures")
	cmd.Flags().BoolVar(&once, "once", false, "draw once")
	return cmd
}

// A chart is one picture: what is measured, for one run or several.
type chart struct {
	title, unit string
	scale       float64
	curves      []report.Curve
}

// charts reads the runs. finished is true when none of them goes on.
func charts(dirs []string) (loss, accuracy chart, finished bool, err error) {
	loss = chart{title: "loss", unit: "loss (nats)", scale: 1}
	accuracy = chart{title: "accuracy", unit: "accuracy (%)", scale: 100}
	finished = true
	for _, name := range dirs {
		dir := experiment.Dir(name)
		lines, err := dir.Lines()
		if err != nil {
			return loss, accuracy, false, err
		}
		if _, err := dir.Result(); err != nil {
			finished = false
		}
		label := ""
		if len(dirs) > 1 {
			label = filepath.Base(name) + " "
		}
		add := func(c *chart, what, kind string, of func(experiment.Line) *float64) {
			curve := report.Curve{Name: label + what}
			for _, l := range lines {
				if y := of(l); l.Kind == kind && y != nil {
					curve.X = append(curve.X, l.Epoch)
					curve.Y = append(curve.Y, c.scale**y)
				}
			}
			if len(curve.X) > 0 {
				c.curves = append(c.curves, curve)
			}
		}
		if len(dirs) == 1 {
			add(&loss, "train, as minimised (noisy)", "step", func(l experiment.Line) *float64 { return l.TrainLossNoisy })
			add(&loss, "train, clean", "epoch", func(l experiment.Line) *float64 { return l.TrainLossClean })
			add(&accuracy, "train, clean", "epoch", func(l experiment.Line) *float64 { return l.TrainAccuracy })
		}
		add(&loss, "validation", "epoch", func(l experiment.Line) *float64 { return l.ValidationLoss })
		add(&accuracy, "validation", "epoch", func(l experiment.Line) *float64 { return l.ValidationAccuracy })
	}
	if len(dirs) > mostLines {
		loss.curves, accuracy.curves = overSeeds(loss.curves), overSeeds(accuracy.curves)
	}
	return loss, accuracy, finished, nil
}

// mostLines is the number of runs that are told apart in one picture: that of
// its colours.
const mostLines = 6

var seedSuffix = regexp.MustCompile(`-seed\d+ `)

// overSeeds is one curve for all that differ in the seed alone, by the names
// that sweeps give: the mean of those that have come to an epoch.
func overSeeds(curves []report.Curve) []report.Curve {
	var out []report.Curve
	runs := map[string]int{}
	sums := map[string]map[float64][2]float64{} // by name and epoch: sum and number
	for _, c := range curves {
		name := seedSuffix.ReplaceAllString(c.Name, " ")
		if sums[name] == nil {
			sums[name] = map[float64][2]float64{}
			out = append(out, report.Curve{Name: name})
		}
		runs[name]++
		for i, x := range c.X {
			s := sums[name][x]
			sums[name][x] = [2]float64{s[0] + c.Y[i], s[1] + 1}
		}
	}
	for i := range out {
		c := &out[i]
		c.X = slices.Sorted(maps.Keys(sums[c.Name]))
		for _, x := range c.X {
			s := sums[c.Name][x]
			c.Y = append(c.Y, s[0]/s[1])
		}
		if n := runs[c.Name]; n > 1 {
			c.Name += fmt.Sprintf(", mean of %d runs", n)
		}
	}
	return out
}

// state is one line per run: what it is and how far.
func runState(name string) string {
	dir := experiment.Dir(name)
	c, err := dir.Config()
	if err != nil {
		return fmt.Sprintf("%s: %v", name, err)
	}
	s := name + ": " + inOneLine(c)
	if r, err := dir.Result(); err == nil {
		s += ", " + r.Status
		if v := r.Validation; v != nil {
			s += fmt.Sprintf(", validation %.2f %%", 100*v.Accuracy)
		}
		return s
	}
	if lines, err := dir.Lines(); err == nil && len(lines) > 0 {
		last := lines[len(lines)-1]
		s += fmt.Sprintf(", epoch %.2f", last.Epoch)
		if last.ImagesPerSecond != nil {
			s += fmt.Sprintf(", %.0f images/s", *last.ImagesPerSecond)
		}
		s += ", last heard of " + last.Time.Local().Format("15:04:05")
	}
	return s
}

// colors of the terminal, and of the page's order: see package report.
var colors = []asciigraph.AnsiColor{asciigraph.Gray, asciigraph.DodgerBlue, asciigraph.Orange, asciigraph.Green, asciigraph.Violet, asciigraph.Gold}

func drawCurves(cmd *cobra.Command, dirs []string, interval time.Duration, once bool) error {
	out := cmd.OutOrStdout()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		loss, accuracy, finished, err := charts(dirs)
		if err != nil {
			return err
		}
		var text strings.Builder
		for _, dir := range dirs {
			fmt.Fprintln(&text, runState(dir))
		}
		width := terminalWidth(out)
		if width == 0 {
			width = 80
		}
		for _, c := range []chart{loss, accuracy} {
			text.WriteString(c.draw(width, isTerminal(out)))
		}
		if !once {
			io.WriteString(out, "\x1b[H\x1b[2J") // from the top of an empty screen
		}
		io.WriteString(out, text.String())
		if once || finished {
			return nil
		}
		select {
		case <-tick.C:
		case <-cmd.Context().Done():
			return nil // whoever stops watching is done
		}
	}
}

// draw is the chart for a terminal.
func (c chart) draw(width int, colored bool) string {
	last := 0.0
	for _, curve := range c.curves {
		last = max(last, curve.X[len(curve.X)-1])
	}
	columns := max(20, width-12)
	if last == 0 || len(c.curves) == 0 {
		return fmt.Sprintf("\n%s: nothing yet\n", c.title)
	}
	var data [][]float64
	var names []string
	for _, curve := range c.curves {
		data = append(data, resample(curve, last, columns))
		names = append(names, curve.Name)
	}
	options := []asciigraph.Option{
		asciigraph.Height(10), asciigraph.Precision(3), asciigraph.Caption(c.unit + " by epoch"),
		asciigraph.XAxisRange(0, last),
	}
	if colored {
		var use []asciigraph.AnsiColor
		for i := range data {
			use = append(use, colors[i%len(colors)])
		}
		options = append(options, asciigraph.SeriesColors(use...), asciigraph.SeriesLegends(names...))
		return "\n" + asciigraph.PlotMany(data, options...) + "\n"
	}
	// Without colours, each line is drawn with a letter of its own.
	var letters []asciigraph.CharSet
	legend := ""
	for i, name := range names {
		letter := string(rune('a' + i%26))
		letters = append(letters, asciigraph.CreateCharSet(letter))
		legend += fmt.Sprintf("%10s %s\n", letter, name)
	}
	return "\n" + asciigraph.PlotMany(data, append(options, asciigraph.SeriesChars(letters...))...) + "\n" + legend
}

// resample gives a curve one value per column of an axis from 0 to last: the
// mean of the points in a column, or on the line between its neighbours. Before
// the first point and after the last there is none.
func resample(c report.Curve, last float64, columns int) []float64 {
	sum, n := make([]float64, columns), make([]float64, columns)
	for i, x := range c.X {
		k := min(columns-1, max(0, int(math.Round(x/last*float64(columns-1)))))
		sum[k] += c.Y[i]
		n[k]++
	}
	out := make([]float64, columns)
	before := -1
	for k := range out {
		out[k] = math.NaN()
		if n[k] == 0 {
			continue
		}
		out[k] = sum[k] / n[k]
		for j := before + 1; before >= 0 && j < k; j++ {
			t := float64(j-before) / float64(k-before)
			out[j] = out[before] + t*(out[k]-out[before])
		}
		before = k
	}
	return out
}

// serveCurves serves the page until it is interrupted.
func serveCurves(cmd *cobra.Command, dirs []string, address string, interval time.Duration) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return cli.Hint(err, "choose another address with --listen; port 0 takes any that is free")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		loss, accuracy, finished, err := charts(dirs)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		var states []string
		for _, dir := range dirs {
			states = append(states, runState(dir))
		}
		section := report.Section{Title: "Curves", Text: strings.Join(states, " · ")}
		for _, c := range []chart{loss, accuracy} {
			if len(c.curves) > 0 {
				section.Figures = append(section.Figures, report.Curves(c.title, "epoch", c.unit, "", c.scale == 1, c.curves))
			}
		}
		runs := strings.Join(dirs, ", ")
		if len(dirs) > 3 { // the curves name them
			runs = fmt.Sprintf("%d runs", len(dirs))
		}
		page, err := report.Page("Training: "+runs, []report.Section{section})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:")
		h.Set("Cache-Control", "no-store")
		if !finished {
			h.Set("Refresh", fmt.Sprint(max(1, int(math.Round(interval.Seconds())))))
		}
		w.Write(page)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	fmt.Fprintf(cmd.ErrOrStderr(), "smoothout: curves at http://%s/ until you stop this with ^C\n", listener.Addr())
	stop := context.AfterFunc(cmd.Context(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		server.Shutdown(ctx)
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
