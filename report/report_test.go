package report

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	_ "image/png"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/openpith/evidence/landscape"
	"github.com/openpith/evidence/objective"
	"github.com/openpith/evidence/replicate/study"
	"github.com/openpith/evidence/sharpness"
)

// exampleStudy writes a concluded study with three judged methods at one batch
// size, plain SGD at another, five seeds, curves and measures, and lets the test
// change the plan and the runs before.
func exampleStudy(t *testing.T, change func(*study.Plan, []study.Run)) study.Dir {
	t.Helper()
	p := &study.Plan{
		Schema: study.PlanSchema, Name: "example", Title: "A study of nothing",
		Claim:       study.Claim{PithNumber: "pith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM", ID: "c", Text: "Noise helps.", Source: "abstract"},
		Sweep:       study.Sweep{Schema: study.SweepSchema, Recipe: "quick", Seeds: []int64{1, 2, 3, 4, 5}, Baseline: "sgd"},
		Comparisons: []string{"so", "ada"},
		Outcome:     study.Outcome{Metric: "test_accuracy", Test: "paired t", Alpha: 0.05, MinimumEffect: 0.002},
		Measures: study.Measures{Examples: 100, Seed: 1, List: []sharpness.Choice{
			{Measure: sharpness.Filled(sharpness.Noise{Strength: 0.01, Draws: 2})}, {Measure: sharpness.Filled(sharpness.Keskar{})},
		}},
		Notes: []string{"A note about the setting."},
	}
	for _, a := range []struct {
		name, label, method string
		strength            float64
		batch               int
	}{{"sgd", "SGD, batch 64", "sgd", 0, 64}, {"so", "SmoothOut, batch 64", "smoothout", 0.01, 64}, {"ada", "AdaSmoothOut, batch 64", "adasmoothout", 0.1, 64}, {"small", "SGD, batch 8", "sgd", 0, 8}} {
		p.Sweep.Arms = append(p.Sweep.Arms, study.SweepArm{Name: a.name, Set: map[string]any{"batch": fmt.Sprint(a.batch)}})
		p.Arms = append(p.Arms, study.Arm{Name: a.name, Label: a.label, Method: a.method, Strength: a.strength, Config: json.RawMessage(fmt.Sprintf(
			`{"network": {"name": "f1", "width": 16}, "data": {"name": "glyphs"}, "recipe": {"batch": %d, "ghost": 8, "epochs": 4, "learning_rate": 0.1, "milestones": [{"epoch": 2.5, "learning_rate": 0.01}]}}`, a.batch))})
	}
	var runs []study.Run
	for i, a := range p.Arms {
		for k, s := range p.Seeds() {
			acc := 0.9 + 0.01*float64(i) + 0.002*float64(k*k%5)
			r := study.Run{Arm: a.Name, Seed: s, Status: study.StatusDone, ConfigSHA256: strings.Repeat("cd", 32), WeightsSHA256: strings.Repeat("ab", 32),
				Final: &study.Final{TrainAccuracy: 0.99, TrainLoss: 0.05, TrainSamples: 512, ValidationAccuracy: acc, ValidationLoss: 0.3, ValidationSamples: 128, TestAccuracy: acc, TestLoss: 0.31, TestSamples: 128}}
			for e := 1; e <= 4; e++ {
				r.Epochs = append(r.Epochs, study.Epoch{Epoch: e, LearningRate: 0.1, TrainLoss: 2 / math.Pow(float64(e), 2+float64(i)), ValidationLoss: 0.5, ValidationAccuracy: acc - 0.3/float64(e)})
			}
			for m, label := range p.Measures.Labels() {
				r.Measures = append(r.Measures, study.Measured{Measure: label, Value: math.Pow(10, float64(m+3)-30*(acc-0.9)), StandardError: 0.1})
			}
			runs = append(runs, r)
		}
	}
	if change != nil {
		change(p, runs)
	}
	d := study.Dir(filepath.Join(t.TempDir(), "study"))
	if err := d.Create(p); err != nil {
		t.Fatal(err)
	}
	for i := range runs {
		runs[i].PlanSHA256 = p.SHA256()
		if err := d.WriteRun(p, runs[i], study.Timing{StartedAt: "2026-01-01T00:00:00Z", Seconds: 1.5}, []study.Code{{Module: "m", Revision: "r"}}); err != nil {
			t.Fatal(err)
		}
	}
	res, err := p.Judge(runs)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Write("results.json", res.JSON()); err != nil {
		t.Fatal(err)
	}
	return d
}

func mustHTML(t *testing.T, d study.Dir) string {
	t.Helper()
	page, err := HTML(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

func TestPageStandsAlone(t *testing.T) {
	page := mustHTML(t, exampleStudy(t, nil))
	// Accuracy, effect; two measures; their correlations, within batch sizes,
	// together and each; two curves for two batch sizes; cost.
	const pictures = 2 + 2 + 4 + 4 + 1
	if n := strings.Count(page, "<svg "); n != pictures {
		t.Errorf("%d pictures, want %d", n, pictures)
	}
	if n := strings.Count(page, `role="img" aria-label="`); n != pictures {
		t.Errorf("%d pictures say what they show, want %d", n, pictures)
	}
	if n := strings.Count(page, ">smoothout replicate --plan example (5 seeds)</text>"); n != pictures {
		t.Errorf("%d pictures say what made them, want %d", n, pictures)
	}
	for _, banned := range []string{"<script", "<link", "<img", "@import", "url("} {
		if strings.Contains(page, banned) {
			t.Errorf("the page contains %q: it must work alone", banned)
		}
	}
	// Every colour of a picture must follow the page into the dark.
	if fixed := regexp.MustCompile(`style="[^"]*(fill|stroke):#`).FindString(page); fixed != "" {
		t.Errorf("a picture has a fixed colour: %s", fixed)
	}
	for _, want := range []string{"A study of nothing", "Noise helps.", "A note about the setting.", `class="badge successful"`, "This study is not signed.", "prefers-color-scheme: dark",
		"<title>SGD, batch 8, seed 2: 93.2</title>", "Over 20 runs τ = ", "Within one batch size: which measure goes with the gap?", "<th>batch 8: runs</th>", "&#43;1.00 among the 15 with batches of 64", "SGD, batch 8</td><td>–</td><td>5</td>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// Results of a program that did not correlate by batch size are drawn with it,
// and runs that a sweep made before the plan are said to be such.
func TestPageOfEarlierResultsAndOfASweep(t *testing.T) {
	d := exampleStudy(t, func(_ *study.Plan, runs []study.Run) { runs[3].TakenOver = true })
	res, err := d.Results()
	if err != nil {
		t.Fatal(err)
	}
	if res.ByBatch == nil {
		t.Fatal("results lack the correlations by batch size")
	}
	res.ByBatch = nil
	if err := d.Write("results.json", res.JSON()); err != nil {
		t.Fatal(err)
	}
	page := mustHTML(t, d)
	for _, want := range []string{"<th>batch 8: runs</th>", "1 of the 20 runs were trained before the plan was written down", "<th>older than the plan</th>", "<td>yes</td></tr>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	text, err := RunsCSV(d)
	if err != nil || strings.Count(string(text), "true") != 1 || !strings.Contains(string(text), "taken_over") {
		t.Errorf("runs.csv does not mark the one run: %v", err)
	}
}

// Every run is in the table of runs, also one that failed, and the verdicts
// are those of the results.
func TestPageListsEveryRun(t *testing.T) {
	d := exampleStudy(t, func(p *study.Plan, runs []study.Run) {
		runs[7] = study.Run{Arm: "so", Seed: 3, ConfigSHA256: strings.Repeat("cd", 32), Status: study.StatusFailed, Error: "the loss is not a number at step 3", Epochs: []study.Epoch{}}
	})
	page := mustHTML(t, d)
	for _, label := range []string{"SGD, batch 64", "SmoothOut, batch 64", "AdaSmoothOut, batch 64", "SGD, batch 8"} {
		for _, seed := range []string{"1", "2", "3", "4", "5"} {
			if !strings.Contains(page, "<tr><td>"+label+"</td><td>"+seed+"</td>") {
				t.Errorf("run %s seed %s is not listed", label, seed)
			}
		}
	}
	if !strings.Contains(page, "SmoothOut, batch 64, seed 3: the loss is not a number at step 3") {
		t.Error("the failed run is not explained")
	}
	if !strings.Contains(page, `<td class="inconclusive">inconclusive</td>`) || !strings.Contains(page, `class="badge mixed"`) {
		t.Error("the verdicts are not those of the results")
	}
}

func TestPageOfOnlyFailures(t *testing.T) {
	d := exampleStudy(t, func(p *study.Plan, runs []study.Run) {
		for i, r := range runs {
			runs[i] = study.Run{Arm: r.Arm, Seed: r.Seed, ConfigSHA256: r.ConfigSHA256, Status: study.StatusFailed, Error: "diverged", Epochs: []study.Epoch{}}
		}
	})
	if page := mustHTML(t, d); !strings.Contains(page, "no complete pair of runs") {
		t.Error("the page does not say that nothing could be compared")
	}
}

// Plans come from files that people exchange: nothing in them may become
// markup.
func TestPageEscapes(t *testing.T) {
	const evil = `<b onclick="x">&'"`
	page := mustHTML(t, exampleStudy(t, func(p *study.Plan, _ []study.Run) {
		p.Title, p.Claim.Text, p.Notes = evil, evil, []string{evil}
		for i := range p.Arms {
			p.Arms[i].Label = evil
		}
	}))
	if strings.Contains(page, "<b ") {
		i := strings.Index(page, "<b ")
		t.Errorf("markup from the plan reached the page: …%s…", page[max(0, i-80):i+40])
	}
}

// The columns of a table keep to their arm also where one has no numbers.
func TestTablesOfAFailedArm(t *testing.T) {
	d := exampleStudy(t, func(p *study.Plan, runs []study.Run) {
		for i, r := range runs {
			if r.Arm == "so" {
				runs[i] = study.Run{Arm: r.Arm, Seed: r.Seed, ConfigSHA256: r.ConfigSHA256, Status: study.StatusFailed, Error: "diverged", Epochs: []study.Epoch{}}
			}
		}
		p.Arms[0], p.Arms[1] = p.Arms[1], p.Arms[0] // the failed one first
		p.Sweep.Arms[0], p.Sweep.Arms[1] = p.Sweep.Arms[1], p.Sweep.Arms[0]
	})
	p, _ := d.Plan()
	res, err := d.Results()
	if err != nil {
		t.Fatal(err)
	}
	files, err := d.Runs(p)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newDrawing(p, res, files)
	if err != nil {
		t.Fatal(err)
	}
	figures := w.curves()
	if len(figures) != 4 {
		t.Fatalf("%d pictures of curves, want 4", len(figures))
	}
	for _, f := range figures {
		for _, row := range f.Table.Rows {
			if len(row) != len(f.Table.Head) || row[len(row)-1] == "–" || f.Table.Head[1] == "SmoothOut, batch 64" && (row[1] != "–" || row[2] == "–") {
				t.Errorf("%s: %q under %q", f.Title, row, f.Table.Head)
			}
		}
	}
	mustHTML(t, d)
}

// A picture says how many runs it has, not how many were planned; and which way a
// measure of its own direction is to be read.
func TestCaptionsCountWhatIsDrawn(t *testing.T) {
	d := exampleStudy(t, func(p *study.Plan, runs []study.Run) {
		for i, r := range runs {
			if r.Arm == "so" && r.Seed == 2 {
				runs[i] = study.Run{Arm: r.Arm, Seed: r.Seed, ConfigSHA256: r.ConfigSHA256, Status: study.StatusFailed, Error: "diverged", Epochs: []study.Epoch{}}
			}
		}
		p.Measures.List[1].Measure = sharpness.Filled(sharpness.PACBayes{})
		for _, r := range runs {
			for m := range r.Measures {
				r.Measures[m].Measure = p.Measures.Labels()[m]
			}
		}
	})
	page := mustHTML(t, d)
	for text, want := range map[string]bool{
		"(mean of 4 seeds)": true, "(mean of 5 seeds)": true, "mean over 4 to 5 seeds": true, "is one run (4 to 5 seeds)": true,
		"mean over 5 seeds;": true, // the small batches
		"Left is flatter":    true, "Right is flatter": true,
		"Smaller is sharper by PAC-Bayes σ for a rise of 0.1: there, −1 is what 1 is of other measures.": true,
		"Smaller is sharper by loss rise": false, "(5 seeds)": false,
	} {
		if strings.Contains(page, text) != want {
			t.Errorf("the page says %q: %v, want %v", text, !want, want)
		}
	}
}

// Landscapes that lie beside a study are on its page, which then carries the
// one script that turns surfaces.
func TestLandscapesOfAStudy(t *testing.T) {
	d := exampleStudy(t, nil)
	slice := &landscape.Slice{Kind: "random", Names: []string{"a", "b"}, Origin: []float32{0, 0}, Directions: [][]float32{{1, 0}, {0, 1}}}
	if err := os.MkdirAll(d.Path(study.LandscapeFolder), 0o755); err != nil {
		t.Fatal(err)
	}
	axis := landscape.Axis{From: -1, To: 1, N: 5}
	if _, err := landscape.Measure(t.Context(), slice, []landscape.Axis{axis, axis}, []landscape.Series{{Name: "train", Func: bowl{}}}, d.Path(study.LandscapeFolder+"/plane.jsonl"),
		landscape.Options{Note: map[string]string{"command": "smoothout landscape <dir>"}}); err != nil {
		t.Fatal(err)
	}
	page := mustHTML(t, d)
	for _, want := range []string{"Loss on a plane (train): plane", ">smoothout landscape &lt;dir&gt;</text>", "data-surface="} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n := strings.Count(page, "<script"); n != 1 {
		t.Errorf("%d scripts, want 1", n)
	}
}

// bowl is L(w) = 1 + |w|².
type bowl struct{}

func (bowl) Layout() *objective.Layout {
	return objective.NewLayout(objective.Tensor{Path: "w", Shape: []int{2}, Role: objective.Weight})
}
func (bowl) Examples() int { return 1 }
func (bowl) Loss(_ context.Context, w []float32) (objective.Value, error) {
	return objective.Value{Loss: 1 + float64(w[0]*w[0]+w[1]*w[1]), Accuracy: math.NaN()}, nil
}
func (bowl) Gradient(context.Context, []float32, []float32) (objective.Value, error) {
	panic("a landscape needs no gradient")
}
func (bowl) Parts() int                { return 1 }
func (b bowl) Part(int) objective.Func { return b }

// Colours and fonts are replaced in the drawing, not in what people wrote.
func TestLabelsStayAsTheyAre(t *testing.T) {
	const label = "#D55E00 font-family:Liberation Sans"
	page := mustHTML(t, exampleStudy(t, func(p *study.Plan, _ []study.Run) { p.Arms[2].Label = label }))
	if !strings.Contains(page, ">"+label+"</text>") {
		t.Error("the label was changed")
	}
}

func TestJoinOutlines(t *testing.T) {
	cell := func(at string) string {
		return `<path d="M` + at + `L2,0L2,2Z" style="fill:#FF0000" />
<path d="M` + at + `L2,0L2,2L` + at + `" style="fill:none;stroke:#000000" />
`
	}
	other := `<path d="M9,9L8,8" style="fill:none;stroke:#000000" />
`
	want := `<g style="stroke:#000000">
<path d="M0,0L2,0L2,2Z" style="fill:#FF0000" />
<path d="M1,1L2,0L2,2Z" style="fill:#FF0000" />
</g>
` + other + "</svg>"
	if got := joinOutlines(cell("0,0") + cell("1,1") + other + "</svg>"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestRoundTicks(t *testing.T) {
	tests := []struct {
		low, high, atLeast float64
		want               string
	}{
		{90.02, 92.7, 0, "90.5 91.0 91.5 92.0 92.5"},
		{0, 100, 0, "0 20 40 60 80 100"},
		{1, 4, 1, "1 2 3 4"},
		{-0.012, 0.013, 0, "-0.010 -0.005 0.000 0.005 0.010"},
		{5, 5, 0, ""},
		{math.Inf(-1), math.Inf(1), 0, ""},
	}
	for _, tt := range tests {
		var got []string
		for _, tick := range (roundTicks{tt.atLeast}).Ticks(tt.low, tt.high) {
			got = append(got, tick.Label)
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%v to %v: %s, want %s", tt.low, tt.high, s, tt.want)
		}
	}
}

// Nobody has checked the files before they are drawn.
func TestResultsThatDoNotFollowAreRefused(t *testing.T) {
	for name, change := range map[string]func(*study.Results){
		"an unknown arm compared": func(r *study.Results) { r.Comparisons[0].Arm = "nobody" },
		"an unknown arm that ran": func(r *study.Results) { r.Runs[0].Arm, r.Runs[0].Status = "nobody", study.StatusFailed },
		"fewer arms":              func(r *study.Results) { r.Arms = r.Arms[:1] },
		"more arms":               func(r *study.Results) { r.Arms = append(r.Arms, r.Arms...) },
	} {
		t.Run(name, func(t *testing.T) {
			d := exampleStudy(t, nil)
			res, err := d.Results()
			if err != nil {
				t.Fatal(err)
			}
			change(res)
			if err := d.Write("results.json", res.JSON()); err != nil {
				t.Fatal(err)
			}
			if _, err := HTML(d); err == nil {
				t.Error("it was drawn")
			}
		})
	}
}

func TestForeignResultsAreRefused(t *testing.T) {
	d := exampleStudy(t, nil)
	other, err := exampleStudy(t, func(p *study.Plan, _ []study.Run) { p.Name = "other" }).Results()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Write("results.json", other.JSON()); err != nil {
		t.Fatal(err)
	}
	if _, err := HTML(d); err == nil {
		t.Error("results of another plan were drawn")
	}
}

// TestPageInABrowser renders the page as people see it: it must fit a phone
// and be light or dark as they asked.
func TestPageInABrowser(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
	file := filepath.Join(t.TempDir(), "report.html")
	page := []byte(mustHTML(t, exampleStudy(t, nil)))
	if dir := os.Getenv("REPORT_PAGES"); dir != "" { // to look at
		if err := os.WriteFile(dir+"/study.html", page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, page, 0o644); err != nil {
		t.Fatal(err)
	}
	light := screenshot(t, chromium, file, "1")
	dark := screenshot(t, chromium, file, "0")
	if l, d := brightness(light), brightness(dark); !(l > 0.85 && d < 0.3) {
		t.Errorf("brightness %.2f in light and %.2f in dark mode", l, d)
	}
	// What reaches beyond the right edge would be cut off: on a phone's width
	// the margin there shows nothing but the page's background.
	b := light.Bounds()
	background := light.At(2, b.Dy()/2)
	for y := b.Min.Y; y < b.Max.Y; y++ {
		if light.At(b.Max.X-3, y) != background {
			t.Fatalf("something touches the right edge at line %d", y)
		}
	}
}

func screenshot(t *testing.T, chromium, file, scheme string) image.Image {
	t.Helper()
	out := filepath.Join(t.TempDir(), "page.png")
	cmd := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
		"--disable-background-networking", "--user-data-dir="+t.TempDir(), "--blink-settings=preferredColorScheme="+scheme,
		"--window-size=500,3000", "--screenshot="+out, "file://"+file)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("chromium: %v\n%s", err, text)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	img, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// brightness is the mean luminance, 0 to 1.
func brightness(img image.Image) float64 {
	b := img.Bounds()
	sum := 0.0
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			r, g, bl, _ := img.At(x, y).RGBA()
			sum += float64(r+g+bl) / 3 / 0xffff
		}
	}
	return sum / float64(b.Dx()*b.Dy())
}
