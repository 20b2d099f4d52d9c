package experiment

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/openpith/evidence/datasets"
)

// folder reports that the samples are a folder of images: that Name is a path,
// which no name of a set looks like.
func (d Data) folder() bool {
	return strings.ContainsAny(d.Name, "./"+string(filepath.Separator))
}

// validateFolder checks what only folders have, or cannot have.
func (d Data) validateFolder() error {
	switch {
	case d.folder() && d.Augment != nil:
		return fmt.Errorf("data: augment is for sets in memory; for a folder, images says what training sees, such as crop=area,flip")
	case !d.folder() && d.Images != nil:
		return fmt.Errorf("data: images is for folders of images, and %s is none", d.Name)
	}
	return nil
}

// loadFolder reads a folder of images. It may hold train and val (or test), or
// the classes themselves; then the test samples are held out by their names.
func (d *Data) loadFolder(seed int64) (train, validation, test *datasets.Folder, err error) {
	var c datasets.FolderConfig
	if d.Images != nil {
		c = *d.Images
	}
	c.Seed = seed
	fail := func(err error) (_, _, _ *datasets.Folder, _ error) {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrData, err)
	}
	if _, missing := os.Stat(filepath.Join(d.Name, "train")); !errors.Is(missing, fs.ErrNotExist) {
		if train, test, err = datasets.OpenFolders(d.Name, c); err != nil {
			return nil, nil, nil, err
		}
		if d.Test > 0 {
			if test, err = test.Subset(d.Test); err != nil {
				return fail(err)
			}
		}
	} else {
		if train, err = datasets.OpenFolder(d.Name, c); err != nil {
			return nil, nil, nil, err
		}
		if d.Test < 1 {
			return fail(fmt.Errorf("%s has no train and val (or test) in it: say how many test samples to hold out, also of a run that does not read them: test N, or unread=N", d.Name))
		}
		if test, train, err = train.Hold("test", d.Test); err != nil {
			return fail(err)
		}
	}
	if validation, train, err = train.Hold("validation", d.Validation); err != nil {
		return fail(err)
	}
	if d.Train > 0 {
		if train, err = train.Subset(d.Train); err != nil {
			return fail(err)
		}
	}
	return train, validation, test, nil
}

// setImages reads "size=224,resize=256,crop=area,flip".
func setImages(c *Config, v string) error {
	var f datasets.FolderConfig
	for part := range strings.SplitSeq(v, ",") {
		name, value, given := strings.Cut(part, "=")
		var err error
		switch {
		case name == "size" && given:
			err = parseInt(value, &f.Size)
		case name == "resize" && given:
			err = parseInt(value, &f.Resize)
		case name == "crop" && given:
			f.Crop = value
		case name == "flip" && !given:
			f.Flip = true
		default:
			err = errors.New("want size=N, resize=N, crop=centre, crop=random, crop=area or flip")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
	}
	c.Data.Images = &f
	return nil
}
