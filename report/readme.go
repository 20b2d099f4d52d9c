package report

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/openpith/evidence/replicate/study"
)

//go:embed readme.gotmpl
var readmeText string

var readmeTemplate = template.Must(template.New("README.md").Funcs(template.FuncMap{"text": markdownText}).Parse(readmeText))

// markdownText keeps the words of a plan words: nothing in them becomes a link,
// markup or a table cell.
func markdownText(s string) string {
	return markdownSpecial.ReplaceAllString(s, `\$0`)
}

var markdownSpecial = regexp.MustCompile("[\\\\`*_{}\\[\\]<>#|!&]")

// Readme tells a stranger what lies in the directory of a signed study, with
// its main tables.
func Readme(dir study.Dir) ([]byte, error) {
	d, err := readStudy(dir)
	if err != nil {
		return nil, err
	}
	rec, err := readRecord(dir.Path("record.json"))
	if err != nil {
		return nil, err
	}
	if rec == nil {
		return nil, fmt.Errorf("%s: the study is not signed", dir)
	}
	var judged []string
	for _, c := range d.plan.Comparisons {
		judged = append(judged, d.plan.Arm(c).Label)
	}
	examples := "all training examples"
	if n := d.plan.Measures.Examples; n > 0 {
		examples = fmt.Sprintf("%d training examples", n)
	}
	_, err = os.Stat(dir.Path(study.LandscapeFolder))
	var byBatch *Table
	if len(d.byBatch) > 1 {
		t := d.byBatchTable()
		byBatch = &t
	}
	var b bytes.Buffer
	err = readmeTemplate.Execute(&b, struct {
		Plan         *study.Plan
		Results      *study.Results
		Record       *record
		Arms         Table
		Measures     *Table
		Correlations Table
		ByBatch      *Table
		Seeds        string
		Judged       string
		Examples     string
		Landscapes   bool
		Signed       []string // those that the record names
	}{d.plan, d.results, rec, d.armsTable(), d.measuresTable(), d.correlationsTable(), byBatch, seeds(d.counts()...), strings.Join(judged, " and "), examples, err == nil, rec.landscapes()})
	return b.Bytes(), err
}

// measuresTable has an arm per row and a measure per column; nil without
// measures.
func (d *drawing) measuresTable() *Table {
	labels := d.plan.Measures.Labels()
	if len(labels) == 0 {
		return nil
	}
	t := &Table{Head: append([]string{"arm"}, labels...)}
	positive := make([]bool, len(labels)) // for every run: one kind of mean per column
	for m := range labels {
		positive[m] = !slices.ContainsFunc(d.files, func(f study.RunFile) bool {
			return f.Run.Final != nil && f.Run.Measures[m].Error == "" && f.Run.Measures[m].Value <= 0
		})
	}
	for i, a := range d.plan.Arms {
		row := []string{a.Label}
		for m := range labels {
			var values []float64
			for _, f := range d.runs(i) {
				if x := f.Run.Measures[m]; x.Error == "" {
					values = append(values, x.Value)
				}
			}
			cell := "–"
			if len(values) > 0 && len(values) == len(d.runs(i)) { // not a mean over the lucky ones
				mean := summarize(values, positive[m]).Mean
				cell = strconv.FormatFloat(mean, 'g', 3, 64)
				if mean >= 1000 {
					cell = significant(math.Round(mean))
				}
			}
			row = append(row, cell)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// RunsCSV is a line per run with all its numbers but the learning curve.
func RunsCSV(dir study.Dir) ([]byte, error) {
	d, err := readStudy(dir)
	if err != nil {
		return nil, err
	}
	labels := d.plan.Measures.Labels()
	rows := [][]string{append([]string{"arm", "method", "strength", "batch", "seed", "status", "train_accuracy", "train_loss", "validation_accuracy", "validation_loss",
		"test_accuracy", "test_loss", "generalization_gap", "training_seconds"}, labels...)}
	taken := d.results.TakenOver() > 0
	if taken {
		rows[0] = append(rows[0], "taken_over")
	}
	number := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	for _, f := range d.files {
		i := d.index(f.Run.Arm)
		a := d.plan.Arms[i]
		row := []string{a.Name, a.Method, number(a.Strength), strconv.Itoa(d.setting[i].Recipe.Batch), strconv.FormatInt(f.Run.Seed, 10), f.Run.Status}
		if n := f.Run.Final; n != nil {
			row = append(row, number(n.TrainAccuracy), number(n.TrainLoss), number(n.ValidationAccuracy), number(n.ValidationLoss),
				number(n.TestAccuracy), number(n.TestLoss), number(n.Gap()), number(f.Timing.Seconds))
		}
		for _, m := range f.Run.Measures {
			cell := ""
			if m.Error == "" {
				cell = number(m.Value)
			}
			row = append(row, cell)
		}
		for len(row) < len(rows[0]) {
			row = append(row, "")
		}
		if taken {
			row[len(row)-1] = strconv.FormatBool(f.Run.TakenOver)
		}
		rows = append(rows, row)
	}
	var b bytes.Buffer
	err = csv.NewWriter(&b).WriteAll(rows)
	return b.Bytes(), err
}
