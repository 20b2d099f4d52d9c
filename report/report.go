// Package report turns the files of a study into one page that a person can
// read anywhere: self-contained, complete without scripts, in light and dark, on a
// phone and on paper, with the numbers behind every picture.
//
// It reads files only ([study.Dir]); it knows nothing of how they were made.
package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/openpith/evidence/landscape"
	"github.com/openpith/evidence/replicate/study"
)

//go:embed report.gohtml
var page string

var pageTemplate = template.Must(template.New("report").Parse(page))

// A view is everything the page prints; the template only arranges it.
type view struct {
	Plan         *study.Plan
	Results      *study.Results
	Base         string // label of the baseline
	Record       *record
	Verdicts     []verdict
	Arms         Table
	Effects      []Figure
	Sharpness    []Figure
	Correlations []Figure
	Landscapes   []Figure
	Curves       []Figure
	Cost         []Figure
	Setting      [][2]string
	Digests      [][2]string
	Runs         Table
	Failures     []string
	Colors       []string
	Script       template.JS
}

// A verdict is one comparison as a sentence.
type verdict struct{ Label, Effect, Outcome, Reason string }

// record is what the page says about the signed record, when there is one.
type record struct {
	EventID   string `json:"event_id"`
	CreatedAt string `json:"created_at"`
	Subject   string `json:"subject_pith_number"`
	Signer    struct {
		ID          string `json:"signer_id"`
		Fingerprint string `json:"public_key_fingerprint"`
	} `json:"signer"`
	Payload struct {
		Environment struct {
			Machine string `json:"machine"`
			System  string `json:"system"`
		} `json:"environment"`
		Landscapes []struct {
			Name string `json:"name"`
		} `json:"landscapes"`
	} `json:"payload"`
}

// landscapes are the files that the record names.
func (r *record) landscapes() (names []string) {
	if r == nil {
		return nil
	}
	for _, f := range r.Payload.Landscapes {
		names = append(names, f.Name)
	}
	return names
}

// HTML renders the report of the finished study in dir. The study needs
// plan.json, runs/ and results.json; record.json is shown when it is there.
// Results that do not follow from plan and runs are an error.
func HTML(dir study.Dir) ([]byte, error) {
	d, err := readStudy(dir)
	if err != nil {
		return nil, err
	}
	p, res := d.plan, d.results
	rec, err := readRecord(dir.Path("record.json"))
	if err != nil {
		return nil, err
	}
	v := view{
		Plan: p, Results: res, Base: p.Arm(p.Baseline()).Label, Record: rec,
		Arms:         d.armsTable(),
		Effects:      []Figure{d.effectFigure()},
		Sharpness:    d.sharpness(),
		Correlations: d.correlations(),
		Curves:       d.curves(),
		Setting:      d.settings(rec),
		Digests:      d.digests(),
		Runs:         d.runsTable(),
	}
	if f, ok := d.armsFigure("Test accuracy", "test accuracy (%)", "The test set was read once per run, at clean weights.", false,
		func(f study.RunFile) (float64, bool) { return 100 * f.Run.Final.TestAccuracy, true }); ok {
		v.Effects = append([]Figure{f}, v.Effects...)
	}
	if f, ok := d.costFigure(); ok {
		v.Cost = append(v.Cost, f)
	}
	if v.Landscapes, err = landscapes(dir, rec); err != nil {
		return nil, err
	}
	if len(v.Landscapes) > 0 {
		v.Script = template.JS(turning) //nolint:gosec // our own, embedded
	}
	for _, figures := range [][]Figure{v.Effects, v.Sharpness, v.Correlations, v.Curves, v.Cost} {
		for i := range figures {
			figures[i].stamp("smoothout replicate --plan " + p.Name + " (" + seeds(d.counts()...) + ")")
		}
	}
	for _, c := range res.Comparisons {
		text := "no complete pair of runs"
		switch {
		case c.Effect != nil && c.Effect.N == 1:
			text = points(c.Effect.Mean) + " points in the only pair"
		case c.Effect != nil:
			text = fmt.Sprintf("%s points (95 %% interval %s to %s), p (Holm) %s",
				points(c.Effect.Mean), points(c.Effect.Low), points(c.Effect.High), probability(c.PAdjusted))
		}
		v.Verdicts = append(v.Verdicts, verdict{p.Arm(c.Arm).Label, text, c.Outcome, c.Reason})
	}
	for _, r := range res.Runs {
		if r.Status == study.StatusFailed {
			v.Failures = append(v.Failures, fmt.Sprintf("%s, seed %d: %s", p.Arm(r.Arm).Label, r.Seed, r.Error))
		}
	}
	for _, c := range series {
		v.Colors = append(v.Colors, hex(c))
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return b.Bytes(), nil
}

// readStudy reads the files of a study and makes sure that they belong together.
func readStudy(dir study.Dir) (*drawing, error) {
	p, err := dir.Plan()
	if err != nil {
		return nil, err
	}
	res, err := dir.Results()
	if err != nil {
		return nil, err
	}
	files, err := dir.Runs(p)
	if err != nil {
		return nil, err
	}
	var runs []study.Run
	for _, f := range files {
		runs = append(runs, f.Run)
	}
	// What does not follow is not drawn, and what follows names only arms that exist.
	derived, err := res.Follows(p, runs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	d, err := newDrawing(p, res, files)
	if err != nil {
		return nil, err
	}
	d.byBatch = derived.ByBatch // also where the results are of an earlier program
	return d, nil
}

func readRecord(path string) (*record, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &r, nil
}

// landscapes draws the surveys that lie beside the study, and says which of
// them the record names.
func landscapes(dir study.Dir, rec *record) ([]Figure, error) {
	paths, err := dir.Landscapes()
	if err != nil {
		return nil, err
	}
	var surveys []Survey
	for _, path := range paths {
		g, err := landscape.Load(path)
		if err != nil {
			return nil, err
		}
		surveys = append(surveys, Survey{strings.TrimSuffix(filepath.Base(path), ".jsonl"), g})
	}
	var figures []Figure
	for i, fs := range Landscapes(surveys) {
		for _, f := range fs {
			f.Title += ": " + surveys[i].Name
			if rec != nil && !slices.Contains(rec.landscapes(), filepath.Base(paths[i])) {
				f.Caption += " The signed record does not name this file."
			}
			figures = append(figures, f)
		}
	}
	return figures, nil
}

// armsTable is every arm with its numbers, judged or not.
func (d *drawing) armsTable() Table {
	base := d.plan.Arm(d.plan.Baseline()).Label
	t := Table{Head: []string{"arm", "strength", "runs", "test acc. %", "train acc. %", "gap", "test loss", "against " + base + " (95 %)"}}
	difference := map[string]study.Difference{}
	for _, c := range d.results.Comparisons {
		difference[c.Arm] = c.Difference
	}
	for _, c := range d.results.Reported {
		difference[c.Arm] = c
	}
	for i, a := range d.plan.Arms {
		s := d.results.Arms[i]
		runs := strconv.Itoa(s.Done)
		if s.Failed > 0 {
			runs += fmt.Sprintf(" (%d failed)", s.Failed)
		}
		strength := "–"
		if a.Strength > 0 {
			strength = significant(a.Strength)
		}
		row := []string{a.Label, strength, runs, "–", "–", "–", "–", "–"}
		if s.TestAccuracy != nil {
			row[3], row[4] = meanSD(s.TestAccuracy, 100, "%.2f"), meanSD(s.TrainAccuracy, 100, "%.2f")
			row[5], row[6] = meanSD(s.Gap, 100, "%+.2f"), meanSD(s.TestLoss, 1, "%.4f")
		}
		if e := difference[a.Name].Effect; e != nil {
			row[7] = points(e.Mean)
			if e.N > 1 {
				row[7] += fmt.Sprintf(" (%s to %s)", points(e.Low), points(e.High))
			}
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func meanSD(s *study.Summary, scale float64, form string) string {
	mean := fmt.Sprintf(form, scale*s.Mean)
	if s.N < 2 {
		return mean
	}
	return mean + " ± " + fmt.Sprintf(strings.Replace(form, "+", "", 1), scale*s.SD)
}

// settings lists what was run, for the table at the end: the baseline's
// setting; arms differ from it as their settings say.
func (d *drawing) settings(rec *record) [][2]string {
	p := d.plan
	base := d.index(p.Baseline())
	c := d.setting[base]
	t := c.Recipe
	rate := fmt.Sprintf("%v", t.LearningRate)
	var drops []string
	for _, m := range t.Milestones {
		drops = append(drops, fmt.Sprintf("%v after %v epochs", m.LearningRate, m.Epoch))
	}
	if len(drops) > 0 {
		rate += ", " + strings.Join(drops, ", ")
	}
	if by := map[string]string{"sqrt": "√(batch/ghost)", "linear": "batch/ghost"}[t.Scaling]; by != "" {
		rate += "; all times " + by
	}
	var strengths []string
	for _, a := range p.Arms {
		if a.Strength > 0 {
			strengths = append(strengths, fmt.Sprintf("%s %v", a.Label, a.Strength))
		}
	}
	data := c.Data.Name
	for _, f := range d.files {
		if n := f.Run.Final; n != nil {
			data += fmt.Sprintf(": %d training, %d validation, %d test samples", n.TrainSamples, n.ValidationSamples, n.TestSamples)
			break
		}
	}
	network := c.Network.Name
	if c.Network.Width > 0 {
		network += fmt.Sprintf(", width %d", c.Network.Width)
	}
	batch := fmt.Sprintf("%d", t.Batch)
	if t.Ghost > 0 && t.Ghost != t.Batch {
		batch += fmt.Sprintf(", as ghost batches of %d", t.Ghost)
	}
	out := [][2]string{
		{"Baseline", p.Arms[base].Label},
		{"Data", data},
		{"Network", network},
		{"Batches", batch},
		{"Epochs", strconv.Itoa(t.Epochs)},
		{"Learning rate", rate},
		{"Optimizer", fmt.Sprintf("SGD, momentum %v, weight decay %v, gradient clipped at norm %v", t.Momentum, t.WeightDecay, t.ClipNorm)},
		{"Strengths", strings.Join(strengths, "; ")},
		{"Measures", strings.Join(p.Measures.Labels(), "; ")},
		{"Rule", fmt.Sprintf("%s, alpha %v with Holm's correction, smallest improvement %s points, at least %d pairs",
			p.Outcome.Test, p.Outcome.Alpha, points(p.Outcome.MinimumEffect), study.MinimumPairs)},
	}
	seconds, measuring := 0.0, 0.0
	var code []string
	for _, f := range d.files {
		seconds, measuring = seconds+f.Timing.Seconds, measuring+f.Timing.MeasureSeconds
		for _, c := range f.Code {
			text := fmt.Sprintf("%s, revision %s%s, %s, GoMLX %s, backend %s", c.Module, c.Revision, map[bool]string{true: " with changes"}[c.Modified], c.Go, c.GoMLX, c.Backend)
			if !slices.Contains(code, text) {
				code = append(code, text)
			}
		}
	}
	if len(d.files) > 0 {
		out = append(out,
			[2]string{"Program", strings.Join(code, "; ")},
			[2]string{"Time", fmt.Sprintf("%.0f s of training and %.0f s of measuring over %d runs, added up", seconds, measuring, len(d.files))})
	}
	if rec != nil {
		e := rec.Payload.Environment
		out = append(out, [2]string{"Machine", strings.Trim(e.Machine+", "+e.System, ", ")})
	}
	return out
}

func (d *drawing) digests() [][2]string {
	data := d.setting[d.index(d.plan.Baseline())].Data
	return [][2]string{
		{"plan.json", d.plan.SHA256()},
		{"results.json", d.results.SHA256()},
		{"training samples", data.TrainSHA256},
		{"validation samples", data.ValidationSHA256},
		{"test samples", data.TestSHA256},
	}
}

func (d *drawing) runsTable() Table {
	t := Table{Head: []string{"arm", "seed", "test acc. %", "train acc. %", "gap", "test loss", "train loss", "seconds", "weights"}}
	if d.results.TakenOver() > 0 {
		t.Head = append(t.Head, "older than the plan")
	}
	for _, f := range d.files {
		r := f.Run
		row := []string{d.plan.Arm(r.Arm).Label, strconv.FormatInt(r.Seed, 10)}
		if r.Final == nil {
			row = append(row, "failed", "–", "–", "–", "–")
		} else {
			row = append(row, percent(r.Final.TestAccuracy), percent(r.Final.TrainAccuracy), points(r.Final.Gap()),
				significant(r.Final.TestLoss), significant(r.Final.TrainLoss))
		}
		weights := r.WeightsSHA256
		if len(weights) > 12 {
			weights = weights[:12] + "…"
		}
		row = append(row, fmt.Sprintf("%.1f", f.Timing.Seconds), weights)
		if len(t.Head) > len(row) {
			row = append(row, map[bool]string{true: "yes", false: "no"}[r.TakenOver])
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}
