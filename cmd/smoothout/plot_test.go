package main

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/openpith/evidence/experiment"
	"github.com/openpith/evidence/report"
)

// A mean over runs is one over seeds: what differs in anything else has a name of
// its own, and strengths of SAM are strengths.
func TestRunsAreToldApart(t *testing.T) {
	base, err := experiment.RecipeByName("quick")
	if err != nil {
		t.Fatal(err)
	}
	var runs []report.TrainingRun
	var configs []experiment.Config
	for _, settings := range []map[string]string{
		{"method": "smoothout", "strength": "0.01"},
		{"method": "smoothout", "strength": "0.01", "seed": "2"},
		{"method": "smoothout", "strength": "0.02"},
		{"method": "sam", "strength": "0.05"},
		{"lr": "0.1"},
		{"lr": "0.2"},
	} {
		c, err := base.Apply(settings)
		if err != nil {
			t.Fatal(err)
		}
		dir := experiment.Dir(t.TempDir())
		if err := os.WriteFile(dir.Path(experiment.ConfigFile), c.JSON(), 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := trainingRun(dir)
		if err != nil {
			t.Fatal(err)
		}
		runs, configs = append(runs, r), append(configs, c)
	}
	tellApart(runs, configs)
	var groups, names []string
	for _, r := range runs {
		groups, names = append(groups, r.Group), append(names, r.Name)
	}
	if groups[0] != "smoothout 0.01, batch 512" || names[1] != "smoothout 0.01, batch 512, seed 2" {
		t.Errorf("%q", names)
	}
	slices.Sort(names)
	slices.Sort(groups)
	if n, g := len(slices.Compact(names)), len(slices.Compact(groups)); n != 6 || g != 5 {
		t.Errorf("%d names and %d groups, want 6 and 5: %q", n, g, fmt.Sprint(names, groups))
	}
	if runs[0].Strength != 0.01 || runs[2].Strength != 0.02 || runs[3].Strength != 0.05 || runs[0].Method != runs[2].Method {
		t.Errorf("strengths: %+v", runs)
	}
}
