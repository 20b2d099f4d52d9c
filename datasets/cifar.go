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

// readCIFARFiles reads files of records, gzipped if their name says so. The
// last is the test split, the others together the training split.
func readCIFARFiles(p published, k packing, dir string) (train, test *Split, err error) {
	var images, labels []uint8
	last := len(k.files) - 1
	for i, f := range k.files {
		at := filepath.Join(dir, f.name)
		r, err := f.open(p, dir)
		if err != nil {
			return nil, nil, err
		}
		im, lb, err := func() ([]uint8, []uint8, error) {
			defer r.Close()
			var content io.Reader = r
			if strings.HasSuffix(f.name, ".gz") {
				z, err := gzip.NewReader(bufio.NewReader(r))
				if err != nil {
					return nil, nil, fmt.Errorf("not a gzip file: %w", short(err))
				}
				content = z
			}
			return readCIFAR(content, p.labelBytes(), f.dims[0])
		}()
		if err != nil {
			return nil, nil, p.damaged(at, err)
		}
		if i < last {
			images, labels = append(images, im...), append(labels, lb...)
			if i < last-1 {
				continue
			}
			if train, err = p.split(at, images, labels, cifarShape); err != nil {
				return nil, nil, err
			}
		} else if test, err = p.split(at, im, lb, cifarShape); err != nil {
			return nil, nil, err
		}
	}
	return train, test, nil
}

// readCIFARArchive reads the archive as it is published: the files of the first
// unpacked form, anywhere in it, in any order; others are skipped.
func readCIFARArchive(p published, k packing, dir string) (train, test *Split, err error) {
	r, err := k.files[0].open(p, dir)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	at := filepath.Join(dir, k.files[0].name)
	members := p.packings[1].files
	images, labels, err := readCIFARTar(bufio.NewReader(r), p.labelBytes(), members)
	if err != nil {
		return nil, nil, p.damaged(at, err)
	}
	last := len(members) - 1
	if train, err = p.split(at, slices.Concat(images[:last]...), slices.Concat(labels[:last]...), cifarShape); err != nil {
		return nil, nil, err
	}
	if test, err = p.split(at, images[last], labels[last], cifarShape); err != nil {
		return nil, nil, err
	}
	return train, test, nil
}

// readCIFARTar reads the given files of records from a gzipped tar archive.
func readCIFARTar(r io.Reader, labelBytes int, members []file) (images, labels [][]uint8, err error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, nil, fmt.Errorf("not a gzip file: %w", short(err))
	}
	images, labels = make([][]uint8, len(members)), make([][]uint8, len(members))
	archive := tar.NewReader(z)
	for {
		head, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("not a tar archive: %w", err)
		}
		i := slices.IndexFunc(members, func(f file) bool { return f.name == path.Base(head.Name) })
		if i < 0 || head.Typeflag != tar.TypeReg {
			continue
		}
		if images[i], labels[i], err = readCIFAR(archive, labelBytes, members[i].dims[0]); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", head.Name, err)
		}
	}
	for i, f := range members {
		if images[i] == nil {
			return nil, nil, fmt.Errorf("no %s in it", f.name)
		}
	}
	return images, labels, nil
}

// readCIFAR reads exactly the given number of records: images as height, width,
// channel, and the last label byte of each.
func readCIFAR(r io.Reader, labelBytes, records int) (images, labels []uint8, err error) {
	record := make([]byte, labelBytes+cifarPixels)
	in := bufio.NewReaderSize(r, 1<<16)
	for i := range records {
		if _, err := io.ReadFull(in, record); err != nil {
			return nil, nil, fmt.Errorf("data ends after %d of %d records: %w", i, records, short(err))
		}
		if i == 0 { // now that there is one, there may be all
			images, labels = make([]uint8, 0, records*cifarPixels), make([]uint8, 0, records)
		}
		labels = append(labels, record[labelBytes-1])
		planes := record[labelBytes:]
		for at := range cifarPlane {
			images = append(images, planes[at], planes[cifarPlane+at], planes[2*cifarPlane+at])
		}
	}
	// Reading to the end also checks the checksum of gzip.
	switch _, err := in.ReadByte(); {
	case err == nil:
		return nil, nil, errors.New("more data than it should have")
	case err != io.EOF:
		return nil, nil, fmt.Errorf("after the data: %w", short(err))
	}
	return images, labels, nil
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
