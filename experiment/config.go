// Package experiment is a training run as a value and as a directory.
//
// A [Config] says everything that decides a run: network, data, recipe. The
// same value is a named recipe ([Recipes]), a file to edit, the config.json of
// a run directory, and a row of a [Sweep]. [Run] carries it out in a directory
// that it can be continued in, watched in, and read from afterwards ([Open]).
package experiment

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	gomlx "github.com/gomlx/gomlx/ml/train"

	"github.com/openpith/evidence/datasets"
	"github.com/openpith/evidence/nets"
	"github.com/openpith/evidence/train"
)

// Schema names the format of a configuration.
const Schema = "evidence.experiment/1"

// ErrConfig reports a configuration that cannot be carried out.
var ErrConfig = errors.New("invalid configuration")

// A Config decides a run. Name, Title, Source and Notes are for people and
// decide nothing.
type Config struct {
	Schema string   `json:"schema"`
	Name   string   `json:"name,omitempty"`
	Title  string   `json:"title,omitempty"`
	Source string   `json:"source,omitempty"` // where the settings are from
	Notes  []string `json:"notes,omitempty"`

	Network Network      `json:"network"`
	Data    Data         `json:"data"`
	Recipe  train.Recipe `json:"recipe"`
	// InitSHA256 is the digest of the file of initial weights, if there is one.
	InitSHA256 string `json:"init_sha256,omitempty"`
}

// Network names a network of package nets.
type Network struct {
	Name  string `json:"name"`
	Width int    `json:"width,omitempty"` // 0: that of the reference
}

// Data names the samples. The validation samples are taken out of the training
// set by the hash of each, then the training samples; so they are the same on
// every machine and for every seed.
type Data struct {
	// Name is as package datasets knows it, or "glyphs", or the path of a folder
	// of images, such as "./pets" (see datasets.Folder).
	Name       string `json:"name"`
	Train      int    `json:"train,omitempty"`      // 0: all that remain
	Validation int    `json:"validation,omitempty"` // 0: none
	// Test is the number of test samples: 0 for all, -1 for a run that never
	// reads the test set, such as one that only serves a choice.
	Test int `json:"test,omitempty"`
	// Unread says that the test samples are held out as Test says and not read: a
	// run that only serves a choice, on a folder without a test set of its own. Were
	// nothing held out of it, the choice would be made on what is to test it.
	Unread bool `json:"unread,omitempty"`
	// Augment changes training images from epoch to epoch.
	Augment *datasets.Augmentation `json:"augment,omitempty"`
	// Images says what a network sees of the images of a folder. Its seed is
	// that of the recipe.
	Images *datasets.FolderConfig `json:"images,omitempty"`
	// Digests of the samples of each split. Empty ones are filled in when the
	// run begins, others must match.
	TrainSHA256      string `json:"train_sha256,omitempty"`
	ValidationSHA256 string `json:"validation_sha256,omitempty"`
	TestSHA256       string `json:"test_sha256,omitempty"`
}

// NoTest is the Data.Test of a run that never reads the test set.
const NoTest = -1

// ReadsTest reports whether a run on the data looks at the test set, after its
// last epoch.
func (d Data) ReadsTest() bool { return d.Test != NoTest && !d.Unread }

// unread is the data for a choice: the same training and validation samples, and
// no look at the test set.
func (d Data) unread() Data {
	if d.folder() && d.Test > 0 {
		d.Unread = true
	} else {
		d.Test = NoTest
	}
	d.TestSHA256 = ""
	return d
}

// Glyphs is the name of the generated digits: always there, no files needed.
const Glyphs = "glyphs"

// glyphsSeed fixes the generated set; configurations choose its size only.
const glyphsSeed = 1805_07898

// Parse reads a configuration. A name that is not known is an error: a typing
// mistake must not silently train something else than was meant.
func Parse(text []byte) (Config, error) {
	var c Config
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return c, fmt.Errorf("%w: something follows it", ErrConfig)
	}
	if c.Schema != Schema {
		return c, fmt.Errorf("%w: schema is %q: want %q", ErrConfig, c.Schema, Schema)
	}
	return c, c.Validate()
}

// Validate reports, as ErrConfig, the first thing that is wrong.
func (c Config) Validate() error {
	d := c.Data
	var err error
	switch {
	case c.Network.Name == "":
		err = errors.New("no network")
	case d.Name == "":
		err = errors.New("no data set")
	case d.Unread && (!d.folder() || d.Test < 1):
		err = fmt.Errorf("data: unread with a test of %d from %s: want a number of images to hold out of a folder, or a test of -1", d.Test, d.Name)
	case d.Train < 0 || d.Validation < 0 || d.Test < NoTest:
		err = fmt.Errorf("data: train %d, validation %d, test %d: want 0 or more, or a test of -1 to leave it out", d.Train, d.Validation, d.Test)
	default:
		if _, err = nets.ByName(c.Network.Name, nets.Options{Width: c.Network.Width}); err == nil {
			err = c.Recipe.Validate()
		}
		if err == nil {
			err = d.validateFolder()
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}

// JSON is the configuration as a file for people.
func (c Config) JSON() []byte { return indented(c) }

// SHA256 identifies what decides the run; words for people do not count.
func (c Config) SHA256() string {
	b, err := json.Marshal(c.deciding())
	if err != nil {
		panic(fmt.Sprintf("experiment: a configuration does not marshal: %v", err)) // Validate refuses NaN
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (c Config) deciding() Config {
	c.Name, c.Title, c.Source, c.Notes = "", "", "", nil
	return c
}

// Differences lists what decides the run and is not the same in both, as
// "recipe.epochs is 20, not 50".
func Differences(a, b Config) []string {
	flat := func(c Config) map[string]string {
		out := map[string]string{}
		var v any
		text, _ := json.Marshal(c.deciding())
		_ = json.Unmarshal(text, &v) // it was just written
		flatten("", v, out)
		return out
	}
	x, y := flat(a), flat(b)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(x)) {
		if y[k] != x[k] {
			out = append(out, fmt.Sprintf("%s is %s, not %s", k, cmp.Or(x[k], "unset"), cmp.Or(y[k], "unset")))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(y)) {
		if _, ok := x[k]; !ok {
			out = append(out, fmt.Sprintf("%s is unset, not %s", k, y[k]))
		}
	}
	return out
}

// Contrast says of each configuration what the others have otherwise, as
// "learning_rate 0.1, epochs 5": what, beside the method, the batch and the seed, runs
// that are shown side by side differ in. What is tested and digests of data, which
// change no training, are left out, lists as long as the rest tells.
func Contrast(configs []Config) []string {
	flat := make([]map[string]string, len(configs))
	keys := map[string]bool{}
	for i, c := range configs {
		c = c.deciding()
		c.Recipe.Seed, c.InitSHA256 = 0, ""
		c.Data.TrainSHA256, c.Data.ValidationSHA256, c.Data.TestSHA256 = "", "", ""
		c.Data.Test, c.Data.Unread = 0, false
		flat[i] = map[string]string{}
		var v any
		text, _ := json.Marshal(c)
		_ = json.Unmarshal(text, &v) // it was just written
		flatten("", v, flat[i])
		for k := range flat[i] {
			keys[k] = true
		}
	}
	out, whole := make([]string, len(configs)), make([]string, len(configs))
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if !slices.ContainsFunc(flat, func(m map[string]string) bool { return m[k] != flat[0][k] }) {
			continue
		}
		_, name, _ := strings.Cut(k, ".")
		for i, m := range flat {
			value, set := m[k]
			list := strings.HasPrefix(value, "[")
			if list { // no name, but different from others
				value = fmt.Sprintf("%.6x", sha256.Sum256([]byte(value)))[:6]
			}
			words := ", " + name + " " + strings.Trim(value, `"`)
			if set {
				whole[i] += words
			}
			if set && !list {
				out[i] += words
			}
		}
	}
	if distinct(out) < distinct(whole) {
		out = whole
	}
	for i := range out {
		out[i] = strings.TrimPrefix(out[i], ", ")
	}
	return out
}

func distinct(words []string) int {
	set := map[string]bool{}
	for _, w := range words {
		set[w] = true
	}
	return len(set)
}

func flatten(path string, v any, out map[string]string) {
	if m, ok := v.(map[string]any); ok {
		for k, x := range m {
			flatten(strings.TrimPrefix(path+"."+k, "."), x, out)
		}
		return
	}
	b, _ := json.Marshal(v)
	out[path] = string(b)
}

// Inputs are what a configuration needs to be carried out.
type Inputs struct {
	Config Config // with digests and sizes filled in
	Net    gomlx.ModelFn
	// Data as the trainer takes it: training samples augmented where the
	// configuration says so. Test is nil if it is not to be read.
	Data train.Data
}

// ErrData reports samples that are not what the configuration says.
var ErrData = errors.New("the data is not what the configuration says")

// Load finds network and samples. dir is where data sets lie; empty looks in
// the usual places. Nothing is downloaded.
//
// Errors: ErrConfig, ErrData, and those of package datasets.
func (c Config) Load(dir string) (*Inputs, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	in := &Inputs{}
	d := &c.Data
	var classes int
	if d.folder() {
		train, validation, test, err := d.loadFolder(c.Recipe.Seed)
		if err != nil {
			return nil, err
		}
		classes, in.Data.Train = train.Classes(), train
		if err := d.checkSplits(train.SHA256, validation.SHA256, test.SHA256); err != nil {
			return nil, err
		}
		if d.Validation > 0 {
			in.Data.Validation = validation
		}
		if d.ReadsTest() {
			in.Data.Test = test
		}
	} else {
		train, validation, test, err := d.loadSet(dir)
		if err != nil {
			return nil, err
		}
		classes, in.Data.Train = train.Classes(), train
		digest := func(s *datasets.Split) func() (string, error) {
			return func() (string, error) { return s.SHA256(), nil }
		}
		if err := d.checkSplits(digest(train), digest(validation), digest(test)); err != nil {
			return nil, err
		}
		if d.Augment != nil && *d.Augment != (datasets.Augmentation{}) {
			if in.Data.Train, err = train.Augment(*d.Augment, c.Recipe.Seed); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrData, err)
			}
		} else {
			d.Augment = nil
		}
		if d.Validation > 0 {
			in.Data.Validation = validation
		}
		if d.ReadsTest() {
			in.Data.Test = test
		}
	}
	var err error
	if in.Net, err = nets.ByName(c.Network.Name, nets.Options{Width: c.Network.Width, Classes: classes}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	in.Config = c
	return in, nil
}

// loadSet reads a set of package datasets and divides it.
func (d *Data) loadSet(dir string) (train, validation, test *datasets.Split, err error) {
	set, err := open(*d, dir)
	if err != nil {
		return nil, nil, nil, err
	}
	fail := func(err error) (_, _, _ *datasets.Split, _ error) {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrData, err)
	}
	if validation, train, err = set.Train.Hold("validation", d.Validation); err != nil {
		return fail(err)
	}
	if d.Train > 0 {
		if train, err = train.Subset(d.Train); err != nil {
			return fail(err)
		}
	}
	test = set.Test
	if d.Test > 0 {
		if test, err = test.Subset(d.Test); err != nil {
			return fail(err)
		}
	}
	return train, validation, test, nil
}

// checkSplits compares the digests of the splits that are used with those that
// the configuration states, and fills in those that it does not.
func (d *Data) checkSplits(train, validation, test func() (string, error)) error {
	for _, s := range []struct {
		split string
		used  bool
		want  *string
		got   func() (string, error)
	}{
		{"training", true, &d.TrainSHA256, train},
		{"validation", d.Validation > 0, &d.ValidationSHA256, validation},
		{"test", d.ReadsTest(), &d.TestSHA256, test},
	} {
		if !s.used {
			continue
		}
		got, err := s.got()
		if err != nil {
			return err
		}
		if *s.want != "" && *s.want != got {
			return fmt.Errorf("%w: the %s samples of %s have SHA-256 %s, it says %s", ErrData, s.split, d.Name, got, *s.want)
		}
		*s.want = got
	}
	return nil
}

func open(d Data, dir string) (*datasets.Set, error) {
	if d.Name != Glyphs {
		return datasets.Load(d.Name, dir)
	}
	if d.Train == 0 || d.Test == 0 {
		return nil, fmt.Errorf("%w: %s is generated, so its train and test sizes cannot be 0", ErrConfig, Glyphs)
	}
	return datasets.Glyphs(datasets.GlyphsConfig{Seed: glyphsSeed, Train: d.Train + d.Validation, Test: max(d.Test, 1)})
}

// indented renders v for a file that people read too.
func indented(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("experiment: %T does not marshal: %v", v, err)) // only a NaN could do that, and writers check
	}
	return b.Bytes()
}
