package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"image/png"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/openpith/evidence/landscape"
	"github.com/openpith/evidence/objective"
	"github.com/openpith/evidence/sharpness"
)

// ridge is a landscape with a crooked valley, least at (0.2, -0.1).
func ridge(n int) *landscape.Grid {
	g := &landscape.Grid{Header: landscape.Header{
		Format: landscape.Format, Kind: "random", Names: []string{"random direction 1", "random direction 2"},
		Series: []string{"train"}, Examples: []int{1000}, Note: map[string]string{"command": "smoothout landscape <dir>"},
	}}
	for i := range n {
		x := -1 + 2*float64(i)/float64(n-1)
		for k := range 2 {
			if len(g.Coordinates) <= k {
				g.Coordinates = append(g.Coordinates, nil)
			}
			g.Coordinates[k] = append(g.Coordinates[k], x)
		}
	}
	var values []objective.Value
	for _, y := range g.Coordinates[1] {
		for _, x := range g.Coordinates[0] {
			u, v := x-0.2, y+0.1
			l := 0.01 + 3*math.Pow(u+0.8*v*v, 2) + 8*v*v*(1+0.4*math.Sin(6*x))
			values = append(values, objective.Value{Loss: l, Accuracy: 1 / (1 + l)})
		}
	}
	values[0].Loss = math.NaN()
	g.Values = [][]objective.Value{values}
	return g
}

func line() *landscape.Grid {
	g := &landscape.Grid{Header: landscape.Header{Format: landscape.Format, Kind: "between", Names: []string{"from the first to the second"},
		Series: []string{"train", "test"}, Examples: []int{1000, 500}}, Values: make([][]objective.Value, 2)}
	g.Coordinates = [][]float64{nil}
	for x := -1.0; x <= 2; x += 0.1 {
		g.Coordinates[0] = append(g.Coordinates[0], x)
		for s := range 2 {
			l := 0.01 + 2*x*x*(x-1)*(x-1) + 0.05*float64(s)
			g.Values[s] = append(g.Values[s], objective.Value{Loss: l, Accuracy: 1 / (1 + l)})
		}
	}
	return g
}

func files() []*sharpness.File {
	var out []*sharpness.File
	for i, name := range []string{"SGD", "SmoothOut"} {
		for seed := range 5 {
			k := float64(seed + 5*i)
			out = append(out, &sharpness.File{
				Format: sharpness.FileFormat, Name: fmt.Sprintf("%s, seed %d", name, seed), Group: name, Data: "mnist training split", BatchNorm: "recalibrated",
				Train: &objective.Value{Accuracy: 1}, Test: &objective.Value{Accuracy: 0.95 + 0.004*k},
				Results: []*sharpness.Result{
					{Measure: "noise", Settings: sharpness.Noise{Strength: 0.01}, Value: 0.5 / (k + 1), StandardError: 0.01, Examples: 1000},
					{Measure: "hessian-density", Settings: sharpness.Density{}, Detail: sharpness.DensityDetail{
						Nodes: []float64{-1, 0, 1, 20 - k, 50 - 3*k}, Weights: []float64{0.01, 0.9, 0.08, 0.008, 0.002}}},
				},
			})
		}
	}
	return out
}

// Names too long for a picture stand beside it, and letters in it; and what has not
// a colour of its own cannot be hidden.
func TestLongNames(t *testing.T) {
	for _, n := range []int{2, 7} {
		var runs []TrainingRun
		for i := range n {
			name := fmt.Sprintf("a method with quite some words in its name %d", i)
			runs = append(runs, TrainingRun{Name: name, Group: name, Validation: 0.5 + 0.01*float64(i), Train: math.NaN(), Test: math.NaN(), StepCost: math.NaN()})
		}
		figures, err := Training(runs)
		if err != nil {
			t.Fatal(err)
		}
		page, err := Page("long", []Section{{Title: "Training", Figures: figures}})
		if err != nil {
			t.Fatal(err)
		}
		if svg := string(figures[0].SVG); strings.Contains(svg, "a method with quite some words in its name 1</text>") || !strings.Contains(svg, ">B</text>") {
			t.Errorf("%d names: the picture holds whole ones, or no letters", n)
		}
		if !strings.Contains(string(page), "B: a method with quite some words in its name 1<") {
			t.Errorf("%d names: the page does not say what B is", n)
		}
		if got := strings.Contains(string(page), "checkbox"); got != (n == 2) {
			t.Errorf("%d names: can be hidden %v", n, got)
		}
	}
}

func TestAnalysisPage(t *testing.T) {
	drawn := Landscapes([]Survey{{"SGD, seed 1", ridge(25)}, {"SGD to SmoothOut", line()}})
	plane, alongLine := drawn[0], drawn[1]
	sharp, err := Sharpness(files())
	if err != nil {
		t.Fatal(err)
	}
	if len(plane) != 2 || len(alongLine) != 2 || len(sharp) != 3 {
		t.Fatalf("%d, %d and %d figures", len(plane), len(alongLine), len(sharp))
	}
	page, err := Page("Analysis of <b>", []Section{{"Landscape", "", append(plane, alongLine...)}, {"Sharpness", "By measure.", sharp}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Analysis of &lt;b&gt;", "least loss measured", "τ = &#43;1.00 (&#43;1.00 to &#43;1.00)", ">smoothout landscape &lt;dir&gt;</text>"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if n := bytes.Count(page, []byte("<script")); n != 1 {
		t.Errorf("%d scripts, want the one that turns surfaces", n)
	}
	for _, want := range []string{
		"<title>SGD, seed 3: 0.125</title>", `class="show-1" checked`, `data-surface="{&#34;X&#34;:[0,0.042,`, "<title>loss 0.01626 at (0.1667, -0.08333)</title>",
	} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page does not hold %s", want)
		}
	}
	for _, not := range []string{"http://", "https://", "src="} {
		text := bytes.ReplaceAll(page, []byte("http://www.w3.org/"), nil)
		if bytes.Contains(text, []byte(not)) {
			t.Errorf("the page holds %q", not)
		}
	}
	if dir := os.Getenv("REPORT_PAGES"); dir != "" { // to look at
		if err := os.WriteFile(dir+"/analysis.html", page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range append(append(plane, alongLine...), sharp...) {
		d := xml.NewDecoder(bytes.NewReader(f.StandaloneSVG()))
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", f.Title, err)
			}
		}
		var b bytes.Buffer
		if err := f.WritePNG(&b); err != nil {
			t.Fatal(err)
		}
		if img, err := png.Decode(&b); err != nil || img.Bounds().Dx() < 1000 {
			t.Errorf("%s: PNG %v", f.Title, err)
		}
	}
	var csv strings.Builder
	if err := plane[0].WriteCSV(&csv); err != nil || strings.Count(csv.String(), "\n") != 26 {
		t.Errorf("%d lines of CSV, %v", strings.Count(csv.String(), "\n"), err)
	}
}

// Ties count on neither side, whatever the order of the files.
func TestRankCorrelationOfTies(t *testing.T) {
	for _, c := range []struct {
		gaps []float64
		want string
	}{
		{[]float64{1, 1, 1, 1, 1, 1}, "not defined"},
		{[]float64{0, 0, 1, 1, 0, 0}, "τ = +0.00 ("},
		{[]float64{0, 0, 0, 1, 1, 1}, "τ = +0.77 ("},
		{[]float64{0, 1, 2}, "not defined"},
	} {
		var fs []*sharpness.File
		for i, gap := range c.gaps {
			f := files()[0]
			f.Test = &objective.Value{Accuracy: 1 - gap/100}
			f.Results[0].Value = float64(i + 1)
			fs = append(fs, f)
		}
		var answers []string
		for range 2 {
			figures, err := Sharpness(fs)
			if err != nil {
				t.Fatal(err)
			}
			answers = append(answers, figures[1].Answer)
			slices.Reverse(fs)
		}
		if !strings.Contains(answers[0], c.want) || answers[0] != answers[1] {
			t.Errorf("gaps %v: %q, in reverse order %q, want %q", c.gaps, answers[0], answers[1], c.want)
		}
	}
}

// A caption says how long a step is, which the norm decides.
func TestCaptionOfRandomDirections(t *testing.T) {
	old := ridge(5)
	old.Kind = "random"
	for command, want := range map[string]string{
		"smoothout landscape x --points 5":             "against its filters: a step of 1 is as long as the weights; biases and batch norm stay",
		"smoothout landscape x --all":                  "as long as the weights; train",
		"smoothout landscape x --norm none --points 5": "random directions from the network at 0; train",
	} {
		old.Note = map[string]string{"command": command}
		if got := Landscapes([]Survey{{"x", old}})[0][0].Caption; !strings.Contains(got, want) {
			t.Errorf("%s: %q", command, got)
		}
	}
	for _, c := range []struct {
		norm  objective.Norm
		fixed objective.Selection
		want  string
		not   string
	}{
		{"", objective.Selection{}, "random directions from the network at 0;", "a step of 1"},
		{objective.None, objective.Selection{}, "a step of 1 is √n long", "as the weights"},
		{objective.Each, objective.Selection{}, "against each weight", "filters"},
		{objective.Layer, objective.Selection{ExceptBatchNorm: true}, "against its layers: a step of 1 is as long as the weights; batch norm stays", "filters"},
		{objective.Filter, objective.Selection{ExceptBias: true}, "against its filters: a step of 1 is as long as the weights; biases and batch norm stay", "layers"},
	} {
		g := ridge(5)
		g.Kind, g.Norm, g.Selection, g.Note = "random", c.norm, c.fixed, nil
		if got := Landscapes([]Survey{{"x", g}})[0][0].Caption; !strings.Contains(got, c.want) || strings.Contains(got, c.not) {
			t.Errorf("norm %q: %q", c.norm, got)
		}
	}
}

// Planes on one page can be compared: one loss has one colour and one height.
func TestPlanesShareAScale(t *testing.T) {
	low, high := ridge(9), ridge(9)
	for i := range high.Values[0] {
		high.Values[0][i].Loss *= 100
	}
	alone, both := Landscapes([]Survey{{"low", low}})[0], Landscapes([]Survey{{"low", low}, {"high", high}})
	if strings.Contains(alone[0].Caption, "this page") || alone[0].SVG == both[0][0].SVG {
		t.Errorf("a plane looks alone as it does beside another; its caption: %s", alone[0].Caption)
	}
	for i, f := range []Figure{both[0][0], both[0][1], both[1][0], both[1][1]} {
		if !strings.Contains(f.Caption, "The scale is that of all 2 planes on this page.") {
			t.Errorf("picture %d does not say whose scale it has: %s", i, f.Caption)
		}
	}
	words := regexp.MustCompile(`from \S+ to \S+ nats`)
	if a, b := words.FindString(both[0][0].Caption), words.FindString(both[1][0].Caption); a == "" || a != b || a == words.FindString(alone[0].Caption) {
		t.Errorf("scales %q and %q", a, b)
	}
}

func TestNothingToDraw(t *testing.T) {
	g := line()
	for s := range g.Values {
		for i := range g.Values[s] {
			g.Values[s][i].Loss = math.NaN()
		}
	}
	if figures := Landscapes([]Survey{{"x", g}, {"y", line()}}); len(figures[0]) != 0 || len(figures[1]) != 2 {
		t.Errorf("landscapes without and with a loss: %d and %d pictures", len(figures[0]), len(figures[1]))
	}
	if _, err := Sharpness(nil); !errors.Is(err, ErrNothing) {
		t.Errorf("sharpness: %v", err)
	}
}
