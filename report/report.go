// Package report turns the files of a study into one page that a person can
// read anywhere: self-contained, without scripts, in light and dark, on a
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
	"strconv"
	"strings"

	"github.com/openpith/evidence/replicate/study"
)

//go:embed report.gohtml
var page string

var pageTemplate = template.Must(template.New("report").Parse(page))

// A view is everything the page prints; the template only arranges it.
type view struct {
	Plan     *study.Plan
	Results  *study.Results
	Record   *record
	Verdicts []verdict
	Effects  []Figure
	Curves   []Figure
	Flatness []Figure
	Setting  [][2]string
	Digests  [][2]string
	Runs     Table
	Failures []string
	Colors   []string
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
	} `json:"payload"`
}

// HTML renders the report of the finished study in dir. The study needs
// plan.json, runs/ and results.json; record.json is shown when it is there.
// Results that do not follow from plan and runs are an error.
func HTML(dir study.Dir) ([]byte, error) {
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
	if err := follows(res, p, files); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	rec, err := readRecord(dir.Path("record.json"))
	if err != nil {
		return nil, err
	}
	v := view{
		Plan: p, Results: res, Record: rec,
		Effects:  []Figure{accuracyFigure(p, res), effectFigure(p, res)},
		Curves:   curves(p, res),
		Flatness: flatness(p, res),
		Setting:  setting(p, files, rec),
		Digests:  digests(p, res),
		Runs:     runsTable(p, files),
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

// follows makes sure that the results are those of the plan and the runs: what
// does not follow is not drawn, and what follows names only arms that exist.
func follows(res *study.Results, p *study.Plan, files []study.RunFile) error {
	if res.PlanSHA256 != p.SHA256() {
		return errors.New("results.json belongs to another plan")
	}
	var runs []study.Run
	for _, f := range files {
		runs = append(runs, f.Run)
	}
	judged, err := p.Judge(runs)
	if err != nil {
		return err
	}
	if judged.SHA256() != res.SHA256() {
		return errors.New("results.json does not follow from plan.json and runs/")
	}
	return nil
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

func curves(p *study.Plan, res *study.Results) []Figure {
	band := fmt.Sprintf("Line: mean over %s; band: lowest to highest seed.", seeds(p))
	return []Figure{
		curveFigure(p, res, "Validation accuracy", "validation accuracy (%)",
			"At clean weights, with running batch-norm statistics. "+band, 100,
			func(e study.Epoch) float64 { return e.ValidationAccuracy }),
		curveFigure(p, res, "Training loss as training saw it", "loss (nats)",
			"At perturbed weights where the method perturbs them, so the arms measure different things here. "+band, 1,
			func(e study.Epoch) float64 { return e.TrainLoss }),
	}
}

func flatness(p *study.Plan, res *study.Results) []Figure {
	trained := func(method string) float64 {
		for _, a := range p.Arms {
			if a.Method == method {
				return a.Strength
			}
		}
		return 0
	}
	var out []Figure
	if f, ok := riseFigure(p, res, study.MethodSmoothOut, "Loss under uniform noise", "a", "every weight moves by up to a", trained(study.MethodSmoothOut)); ok {
		out = append(out, f)
	}
	if f, ok := riseFigure(p, res, study.MethodAdaSmoothOut, "Loss under filter-relative noise", "s", "every filter moves by s times its norm", trained(study.MethodAdaSmoothOut)); ok {
		out = append(out, f)
	}
	return out
}

// setting lists what was run, for the table at the end.
func setting(p *study.Plan, files []study.RunFile, rec *record) [][2]string {
	t := p.Training
	rate := fmt.Sprintf("%v", t.LearningRate)
	var drops []string
	for _, m := range t.Milestones {
		drops = append(drops, fmt.Sprintf("%v after %d epochs", m.LearningRate, m.Epoch))
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
	out := [][2]string{
		{"Data", fmt.Sprintf("%s: %d training, %d validation, %d test samples", p.Data.Name, p.Data.Train, p.Data.Validation, p.Data.Test)},
		{"Network", fmt.Sprintf("%s, width %d", p.Network.Name, p.Network.Width)},
		{"Batches", fmt.Sprintf("%d, as ghost batches of %d", t.Batch, t.Ghost)},
		{"Epochs", strconv.Itoa(t.Epochs)},
		{"Learning rate", rate},
		{"Optimizer", fmt.Sprintf("SGD, momentum %v, weight decay %v, gradient clipped at norm %v", t.Momentum, t.WeightDecay, t.ClipNorm)},
		{"Noise strength", strings.Join(strengths, ", ")},
		{"Batch-norm statistics", t.BatchNorm},
		{"Rule", fmt.Sprintf("%s, alpha %v with Holm's correction, smallest improvement %s points, at least %d pairs",
			p.Outcome.Test, p.Outcome.Alpha, points(p.Outcome.MinimumEffect), study.MinimumPairs)},
	}
	if len(files) > 0 {
		c := files[0].Code
		seconds := 0.0
		for _, f := range files {
			seconds += f.Timing.Seconds
		}
		out = append(out,
			[2]string{"Program", fmt.Sprintf("%s, revision %s%s, %s, GoMLX %s, backend %s", c.Module, c.Revision, map[bool]string{true: " with changes"}[c.Modified], c.Go, c.GoMLX, c.Backend)},
			[2]string{"Training time", fmt.Sprintf("%.0f s over %d runs", seconds, len(files))})
	}
	if rec != nil {
		e := rec.Payload.Environment
		out = append(out, [2]string{"Machine", strings.Trim(e.Machine+", "+e.System, ", ")})
	}
	return out
}

func digests(p *study.Plan, res *study.Results) [][2]string {
	return [][2]string{
		{"plan.json", p.SHA256()},
		{"results.json", res.SHA256()},
		{"training samples", p.Data.TrainSHA256},
		{"validation samples", p.Data.ValidationSHA256},
		{"test samples", p.Data.TestSHA256},
	}
}

func runsTable(p *study.Plan, files []study.RunFile) Table {
	t := Table{Head: []string{"method", "seed", "test acc. %", "train acc. %", "gap", "test loss", "train loss", "seconds", "weights"}}
	for _, f := range files {
		r := f.Run
		row := []string{p.Arm(r.Arm).Label, strconv.FormatUint(r.Seed, 10)}
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
		t.Rows = append(t.Rows, append(row, fmt.Sprintf("%.1f", f.Timing.Seconds), weights))
	}
	return t
}
