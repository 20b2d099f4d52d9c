package replicate

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/openpith/evidence/experiment"
	"github.com/openpith/evidence/replicate/study"
	"github.com/openpith/evidence/sharpness"
)

// begin spells out what the plan leaves to this program and to the data: the
// arms with their configurations and the digests of their samples, and the
// defaults of measures. A plan that was begun before is only compared with the
// data. The table holds its runs seed by seed, so that whatever an
// interruption leaves behind is made of complete pairs.
func begin(asked *study.Plan, dataDir string) (*study.Plan, *experiment.Table, error) {
	p := *asked
	p.Measures.List = filled(p.Measures.List)
	configs, err := configs(&p)
	if err != nil {
		return nil, nil, err
	}
	loaded := map[string]experiment.Data{} // with digests, by what was asked
	for i, c := range configs {
		key, err := json.Marshal(c.Data)
		if err != nil {
			return nil, nil, err
		}
		d, ok := loaded[string(key)]
		if !ok {
			in, err := c.Load(dataDir)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", p.Sweep.Arms[i].Name, err)
			}
			d = in.Config.Data
			loaded[string(key)] = d
		}
		configs[i].Data = d
		if d.TestSHA256 != configs[0].Data.TestSHA256 {
			return nil, nil, fmt.Errorf("%w: arm %s has other test samples than %s: they cannot be compared", study.ErrPlan, p.Sweep.Arms[i].Name, p.Sweep.Arms[0].Name)
		}
	}
	p.Arms = arms(&p, configs)
	if err := p.Validate(); err != nil {
		return nil, nil, err
	}
	table := &experiment.Table{Baseline: p.Baseline()}
	for _, seed := range p.Seeds() {
		for i, a := range p.Arms {
			row := experiment.Row{Arm: a.Name, Seed: seed, Config: configs[i]}
			row.Config.Recipe.Seed = seed
			table.Rows = append(table.Rows, row)
		}
	}
	return &p, table, nil
}

// filled spells out the defaults of measures.
func filled(list []sharpness.Choice) []sharpness.Choice {
	var out []sharpness.Choice
	for _, c := range list {
		out = append(out, sharpness.Choice{Measure: sharpness.Filled(c.Measure)})
	}
	return out
}

// configs are the configurations of the arms with the first seed: those of a
// plan that was begun, or what this program makes of the sweep.
func configs(p *study.Plan) ([]experiment.Config, error) {
	fail := func(err error) ([]experiment.Config, error) {
		return nil, fmt.Errorf("%w: sweep: %w", study.ErrPlan, err)
	}
	var out []experiment.Config
	if len(p.Arms) > 0 {
		for _, a := range p.Arms {
			c, err := experiment.Parse(a.Config)
			if err != nil {
				return nil, fmt.Errorf("%w: arm %s: %w", study.ErrPlan, a.Name, err)
			}
			out = append(out, c)
		}
		if err := agree(p, out); err != nil {
			return nil, err
		}
	} else {
		text, err := json.Marshal(p.Sweep)
		if err != nil {
			return nil, err
		}
		sweep, err := experiment.ParseSweep(text)
		if err != nil {
			return fail(err)
		}
		table, err := sweep.Table()
		if err != nil {
			return fail(err)
		}
		for i, r := range table.Rows {
			if i%len(p.Seeds()) == 0 {
				c := r.Config
				c.Title, c.Notes = "", nil // words of the recipe, about other runs
				out = append(out, c)
			}
		}
	}
	for i, c := range out {
		switch {
		case !c.Data.ReadsTest():
			return fail(fmt.Errorf("arm %s does not read the test set, which the verdict is about", p.Sweep.Arms[i].Name))
		case c.Data.Validation == 0:
			return fail(fmt.Errorf("arm %s has no validation samples: choices are made on them, never on the test set", p.Sweep.Arms[i].Name))
		case c.InitSHA256 != "":
			return fail(errors.New("initial weights from a file are not part of a plan"))
		}
	}
	return out, nil
}

// agree reports where the sweep of a plan says something else than the arms that
// were made of it. Another program's recipe may differ from ours in what the
// sweep does not say; the network, the data set and every setting that it says
// must be those of the arm.
func agree(p *study.Plan, arms []experiment.Config) error {
	text, err := json.Marshal(p.Sweep)
	if err != nil {
		return err
	}
	sweep, err := experiment.ParseSweep(text)
	if err != nil {
		return fmt.Errorf("%w: sweep: %w", study.ErrPlan, err)
	}
	table, _ := sweep.Table() // nil where the recipe is not ours
	for i, c := range arms {
		name := p.Sweep.Arms[i].Name
		values := map[string]string{}
		for _, set := range []experiment.Values{sweep.Set, sweep.Arms[i].Set} {
			for k, v := range set {
				values[k] = string(v)
			}
		}
		delete(values, "stretch") // a factor: what it was applied to is not known
		said, err := c.Apply(values)
		if err != nil {
			return fmt.Errorf("%w: sweep: arm %s: %w", study.ErrPlan, name, err)
		}
		if table != nil {
			ours := table.Rows[i*len(p.Seeds())].Config
			said.Network, said.Data.Name = ours.Network, ours.Data.Name
		}
		if d := experiment.Differences(c, said); len(d) > 0 {
			return fmt.Errorf("%w: arm %s: the sweep contradicts the arms that were made of it: %s; leave arms out to begin anew from the sweep", study.ErrPlan, name, strings.Join(d, "; "))
		}
	}
	return nil
}

// methods are the names of methods as people write them.
var methods = map[string]string{
	"sgd": "SGD", "smoothout": "SmoothOut", "adasmoothout": "AdaSmoothOut", "lpf-sgd": "LPF-SGD",
	"sam": "SAM", "asam": "ASAM", "anti-pgd": "Anti-PGD", "noisy-sgd": "noisy SGD",
}

// arms names the configurations: by method, and by batch size where the study
// has several.
func arms(p *study.Plan, configs []experiment.Config) []study.Arm {
	out := make([]study.Arm, len(configs))
	labels := map[string]int{}
	for i, c := range configs {
		r := c.Recipe
		a := study.Arm{Name: p.Sweep.Arms[i].Name, Method: r.Method(), Strength: r.Strength(), Config: c.JSON()}
		name, different, _ := strings.Cut(a.Method, ",")
		a.Label = a.Method
		if l, ok := methods[name]; ok {
			a.Label = l
			if different != "" {
				a.Label += "," + different
			}
		}
		if slices.ContainsFunc(configs, func(o experiment.Config) bool { return o.Recipe.Batch != r.Batch }) {
			a.Label = fmt.Sprintf("%s, batch %d", a.Label, r.Batch)
		}
		labels[a.Label]++
		out[i] = a
	}
	for i := range out {
		if labels[out[i].Label] > 1 { // they differ in something else
			out[i].Label = out[i].Name
		}
	}
	return out
}

// sameConfigs reports whether the arms are called what their configurations are,
// share their test samples, and whether every run has the digest of the
// configuration that the plan gives it.
func sameConfigs(p *study.Plan, runs []study.Run) error {
	all, err := configs(p)
	if err != nil {
		return err
	}
	for i, want := range arms(p, all) {
		got := p.Arms[i]
		if want.Name != got.Name || want.Label != got.Label || want.Method != got.Method || want.Strength != got.Strength {
			return fmt.Errorf("%w: arm %s is called %s, %s %v, and its configuration is %s, %s %v", study.ErrPlan, got.Name, got.Label, got.Method, got.Strength, want.Label, want.Method, want.Strength)
		}
		if d := all[i].Data.TestSHA256; d == "" || d != all[0].Data.TestSHA256 {
			return fmt.Errorf("%w: arm %s has no test samples or others than %s", study.ErrPlan, got.Name, p.Arms[0].Name)
		}
	}
	for _, r := range runs {
		i := slices.IndexFunc(p.Arms, func(a study.Arm) bool { return a.Name == r.Arm })
		c := all[i]
		c.Recipe.Seed = r.Seed
		if c.SHA256() != r.ConfigSHA256 {
			return fmt.Errorf("%s: %w: config_sha256 is not that of the plan's configuration", study.RunName(r.Arm, r.Seed), study.ErrRunFile)
		}
	}
	return nil
}

// Continues reports whether a study that was begun with the plan asked would
// have the plan begun: beginning fills in arms and defaults.
func Continues(asked, begun *study.Plan) bool {
	if len(asked.Arms) == 0 {
		wanted, err := configs(asked)
		if err != nil {
			return false
		}
		had, err := configs(begun)
		if err != nil || len(wanted) != len(had) {
			return false
		}
		for i := range wanted {
			d, have := &wanted[i].Data, had[i].Data
			for _, s := range [][2]*string{{&d.TrainSHA256, &have.TrainSHA256}, {&d.ValidationSHA256, &have.ValidationSHA256}, {&d.TestSHA256, &have.TestSHA256}} {
				if *s[0] == "" {
					*s[0] = *s[1]
				}
			}
			if wanted[i].SHA256() != had[i].SHA256() {
				return false
			}
		}
	}
	p := *asked
	p.Arms = begun.Arms
	p.Measures.List = filled(asked.Measures.List)
	return p.SHA256() == begun.SHA256()
}
