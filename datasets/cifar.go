package datasets

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// An image of CIFAR is a record of one or two label bytes, the last of which
// counts, and the planes of red, green and blue, 32 by 32 each.
const (
	cifarSide   = 32
	cifarPlane  = cifarSide * cifarSide
	cifarPixels = 3 * cifarPlane
)

var cifarShape = []int{cifarSide, cifarSide, 3}

// unpacked is the packings of a set whose archive was unpacked: plain files and
// gzipped ones. The last file is the test split. each is the number of records
// of a file, or 0 for CIFAR-100's 50,000 and 10,000.
func unpacked(labels, each int, names ...string) []packing {
	plain, zipped := packing{read: readCIFARFiles}, packing{read: readCIFARFiles}
	for i, name := range names {
		n := each
		if n == 0 {
			n = []int{50000, 10000}[i]
		}
		plain.files = append(plain.files, file{name + ".bin", "", int64(n) * int64(labels+cifarPixels), []int{n}})
		zipped.files = append(zipped.files, file{name + ".bin.gz", "", 0, []int{n}})
	}
	return []packing{plain, zipped}
}

// labelBytes is the number of label bytes of a record.
func (p published) labelBytes() int {
	if len(p.classes) > 10 {
		return 2 // coarse and fine
	}
	return 1
}

// A cifar is the images and labels of a set's files, one after another; the last
// file is the test split.
type cifar struct {
	files          []file
	labelBytes     int
	images, labels []uint8
}

func (p published) newCIFAR(files []file) *cifar {
	n := 0
	for _, f := range files {
		n += f.dims[0]
	}
	return &cifar{files, p.labelBytes(), make([]uint8, n*cifarPixels), make([]uint8, n)}
}

// part is the place of file i.
func (c *cifar) part(i int) (images, labels []uint8) {
	start := 0
	for _, f := range c.files[:i] {
		start += f.dims[0]
	}
	end := start + c.files[i].dims[0]
	return c.images[start*cifarPixels : end*cifarPixels], c.labels[start:end]
}

// splits makes the two splits of what the file at path held, or one of several.
func (c *cifar) splits(p published, path string) (train, test *Split, err error) {
	last := len(c.files) - 1
	images, labels := c.part(last)
	if test, err = p.split(path, images, labels, cifarShape); err != nil {
		return nil, nil, err
	}
	n := len(c.labels) - len(labels)
	train, err = p.split(path, c.images[:n*cifarPixels], c.labels[:n], cifarShape)
	return train, test, err
}

// readCIFARFiles reads files of records, gzipped if their name says so.
func readCIFARFiles(p published, k packing, dir string) (train, test *Split, err error) {
	c := p.newCIFAR(k.files)
	for i, f := range k.files {
		r, err := f.open(p, dir)
		if err != nil {
			return nil, nil, err
		}
		err = c.readFile(i, r)
		r.Close()
		if err != nil {
			return nil, nil, p.damaged(filepath.Join(dir, f.name), err)
		}
	}
	return c.splits(p, dir)
}

func (c *cifar) readFile(i int, r io.Reader) error {
	if strings.HasSuffix(c.files[i].name, ".gz") {
		z, err := gzip.NewReader(bufio.NewReader(r))
		if err != nil {
			return fmt.Errorf("not a gzip file: %w", short(err))
		}
		r = z
	}
	images, labels := c.part(i)
	return readCIFAR(r, c.labelBytes, images, labels)
}

// readCIFARArchive reads the archive as it is published.
func readCIFARArchive(p published, k packing, dir string) (train, test *Split, err error) {
	r, err := k.files[0].open(p, dir)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	c := p.newCIFAR(p.packings[1].files) // what is in it
	at := filepath.Join(dir, k.files[0].name)
	if err := c.readTar(bufio.NewReader(r)); err != nil {
		return nil, nil, p.damaged(at, err)
	}
	return c.splits(p, at)
}

// readTar reads the files from a gzipped tar archive, in any order, wherever
// they are in it; others are skipped.
func (c *cifar) readTar(r io.Reader) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("not a gzip file: %w", short(err))
	}
	found := make([]bool, len(c.files))
	archive := tar.NewReader(z)
	for {
		head, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("not a tar archive: %w", err)
		}
		i := slices.IndexFunc(c.files, func(f file) bool { return f.name == path.Base(head.Name) })
		if i < 0 || head.Typeflag != tar.TypeReg {
			continue
		}
		images, labels := c.part(i)
		if err := readCIFAR(archive, c.labelBytes, images, labels); err != nil {
			return fmt.Errorf("%s: %w", head.Name, err)
		}
		found[i] = true
	}
	if i := slices.Index(found, false); i >= 0 {
		return fmt.Errorf("no %s in it", c.files[i].name)
	}
	return nil
}

// readCIFAR reads as many records as there is room for labels: images as height,
// width, channel, and the last label byte of each. There must be no more.
func readCIFAR(r io.Reader, labelBytes int, images, labels []uint8) error {
	record := make([]byte, labelBytes+cifarPixels)
	in := bufio.NewReaderSize(r, 1<<16)
	for i := range labels {
		if _, err := io.ReadFull(in, record); err != nil {
			return fmt.Errorf("data ends after %d of %d records: %w", i, len(labels), short(err))
		}
		labels[i] = record[labelBytes-1]
		image, planes := images[i*cifarPixels:(i+1)*cifarPixels], record[labelBytes:]
		for at := range cifarPlane {
			image[3*at], image[3*at+1], image[3*at+2] = planes[at], planes[cifarPlane+at], planes[2*cifarPlane+at]
		}
	}
	// Reading to the end also checks the checksum of gzip.
	switch _, err := in.ReadByte(); {
	case err == nil:
		return errors.New("more data than it should have")
	case err != io.EOF:
		return fmt.Errorf("after the data: %w", short(err))
	}
	return nil
}

var cifar10Classes = []string{"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}

var cifar100Classes = strings.Fields(`
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
trout tulip turtle wardrobe whale willow_tree wolf woman worm`)
