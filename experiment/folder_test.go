package experiment

import (
	"errors"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openpith/evidence/datasets"
	"github.com/openpith/evidence/train"
)

// paint writes n images of each of two classes below dir.
func paint(t *testing.T, dir string, n int) {
	t.Helper()
	for class, tint := range map[string]uint8{"cat": 40, "dog": 200} {
		if err := os.MkdirAll(filepath.Join(dir, class), 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			m := image.NewGray(image.Rect(0, 0, 12, 10))
			for k := range m.Pix {
				m.Pix[k] = tint + uint8((i*7+k)%40)
			}
			m.Set(0, 0, color.Black)
			f, err := os.Create(filepath.Join(dir, class, string(rune('a'+i))+".png"))
			if err != nil {
				t.Fatal(err)
			}
			if err := png.Encode(f, m); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func folderConfig(name string) Config {
	return Config{
		Schema: Schema, Network: Network{Name: "resnet8", Width: 2},
		Data:   Data{Name: name, Validation: 4, Test: 6, Images: &datasets.FolderConfig{Size: 8, Crop: "area"}},
		Recipe: train.Recipe{Batch: 4, Epochs: 1, LearningRate: 0.1, Seed: 3},
	}
}

func TestLoadFolder(t *testing.T) {
	flat, divided := t.TempDir(), t.TempDir()
	paint(t, flat, 10)
	paint(t, filepath.Join(divided, "train"), 10)
	paint(t, filepath.Join(divided, "val"), 5)
	for dir, sizes := range map[string][3]int{flat: {10, 4, 6}, divided: {16, 4, 6}} {
		in, err := folderConfig(dir).Load("")
		if err != nil {
			t.Fatal(err)
		}
		d := in.Data
		if got := [3]int{d.Train.Len(), d.Validation.Len(), d.Test.Len()}; got != sizes || d.Train.Classes() != 2 {
			t.Errorf("%v samples, want %v", got, sizes)
		}
		if _, ok := d.Train.(train.Augmented); !ok {
			t.Error("training does not see crops")
		}
		again, err := in.Config.Load("") // with digests
		if err != nil {
			t.Fatal(err)
		}
		again.Config.Data.TestSHA256 = strings.Repeat("0", 64)
		if _, err := again.Config.Load(""); !errors.Is(err, ErrData) || !strings.Contains(err.Error(), "test samples") {
			t.Errorf("error %v: want ErrData about the test samples", err)
		}
		// A choice: it sees nothing of the test set, and all else as it is.
		for _, setting := range []string{"none", "unread=6"} {
			choice := folderConfig(dir)
			if setting != "none" {
				choice.Data.Test = 0
			}
			choice, err = choice.Apply(map[string]string{"test": setting})
			if err != nil {
				t.Fatal(err)
			}
			c, err := choice.Load("")
			if err != nil {
				t.Fatalf("test %s: %v", setting, err)
			}
			if c.Data.Test != nil || choice.Data.ReadsTest() {
				t.Errorf("test %s: the test set is read", setting)
			}
			if a, b := c.Config.Data, in.Config.Data; a.TrainSHA256 != b.TrainSHA256 || a.ValidationSHA256 != b.ValidationSHA256 || a.TestSHA256 != "" {
				t.Errorf("test %s: the training and validation samples of a choice are others: %+v, %+v", setting, a, b)
			}
			if a := in.Config.Data.unread(); a.Train != choice.Data.Train || a.Test != 6 || a.ReadsTest() || !in.Config.Data.ReadsTest() {
				t.Errorf("unread data: %+v", a)
			}
			home := Dir(t.TempDir())
			if err := home.begin(c.Config, nil); err != nil {
				t.Fatal(err)
			}
			if run, err := Open(home, ""); err != nil || run.Data.Test == nil || run.Data.Test.Len() != 6 || run.Config.Data.TestSHA256 != in.Config.Data.TestSHA256 {
				t.Errorf("opened to be evaluated: %v", err)
			}
		}
	}
	divides := folderConfig(divided)
	divides.Data.Test, divides.Data.Validation = NoTest, 0
	if in, err := divides.Load(""); err != nil || in.Data.Test != nil || in.Data.Validation != nil {
		t.Errorf("a run without test: %v, %v, %v", in.Data.Validation, in.Data.Test, err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		want   error
		says   string
	}{
		"all of no test set":  {func(c *Config) { c.Data.Test = 0 }, ErrData, "how many test samples"},
		"none of no test set": {func(c *Config) { c.Data.Test = NoTest }, ErrData, "unread=N"},
		"unread what":         {func(c *Config) { c.Data.Test, c.Data.Unread = 0, true }, ErrConfig, "unread"},
		"unread set":          {func(c *Config) { c.Data.Name, c.Data.Images, c.Data.Unread = "mnist", nil, true }, ErrConfig, "unread"},
		"too many":            {func(c *Config) { c.Data.Validation = 99 }, ErrData, "hold 99"},
		"nowhere":             {func(c *Config) { c.Data.Name = "./nowhere" }, datasets.ErrMissing, "directory per class"},
		"pad":                 {func(c *Config) { c.Data.Augment = &datasets.Augmentation{Pad: 2} }, ErrConfig, "crop=area"},
		"no folder":           {func(c *Config) { c.Data.Name = "mnist" }, ErrConfig, "mnist is none"},
	} {
		config := folderConfig(flat)
		c.change(&config)
		if _, err := config.Load(""); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v: want %v that says %q", name, err, c.want, c.says)
		}
	}
}

func TestSetImages(t *testing.T) {
	var c Config
	if err := setImages(&c, "size=64,resize=72,crop=random,flip"); err != nil || *c.Data.Images != (datasets.FolderConfig{Size: 64, Resize: 72, Crop: "random", Flip: true}) {
		t.Errorf("%+v, %v", c.Data.Images, err)
	}
	for _, bad := range []string{"", "size", "size=x", "flip=1", "colour"} {
		if err := setImages(&c, bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
