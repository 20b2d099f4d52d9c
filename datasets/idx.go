package datasets

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
)

// readIDXFiles reads a set of four gzipped IDX files: training images and
// labels, test images and labels.
func readIDXFiles(p published, k packing, dir string) (train, test *Split, err error) {
	var data [4][]uint8
	for i, f := range k.files {
		r, err := f.open(p, dir)
		if err != nil {
			return nil, nil, err
		}
		data[i], err = readIDX(r, f.dims)
		r.Close()
		if err != nil {
			return nil, nil, p.damaged(filepath.Join(dir, f.name), err)
		}
	}
	shape := append(slices.Clone(k.files[0].dims[1:]), 1) // one channel
	if train, err = p.split(filepath.Join(dir, k.files[1].name), data[0], data[1], shape); err != nil {
		return nil, nil, err
	}
	if test, err = p.split(filepath.Join(dir, k.files[3].name), data[2], data[3], shape); err != nil {
		return nil, nil, err
	}
	return train, test, nil
}

// readIDX reads a gzipped IDX file of bytes with the given dimensions: two zero
// bytes, the type (8: unsigned byte), the number of dimensions, each dimension
// as a big-endian uint32, and the data. It reads no more than that size.
func readIDX(r io.Reader, dims []int) ([]uint8, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("not a gzip file: %w", short(err))
	}
	head := make([]byte, 4+4*len(dims))
	if _, err := io.ReadFull(z, head[:4]); err != nil {
		return nil, fmt.Errorf("IDX header: %w", short(err))
	}
	if want := []byte{0, 0, 8, byte(len(dims))}; !bytes.Equal(head[:4], want) {
		return nil, fmt.Errorf("IDX magic number is % x, want % x", head[:4], want)
	}
	if _, err := io.ReadFull(z, head[4:]); err != nil {
		return nil, fmt.Errorf("IDX header: %w", short(err))
	}
	size := 1
	for i, want := range dims {
		if got := binary.BigEndian.Uint32(head[4+4*i:]); int64(got) != int64(want) {
			return nil, fmt.Errorf("IDX dimension %d is %d, want %d", i+1, got, want)
		}
		size *= want
	}
	data := make([]uint8, size)
	if n, err := io.ReadFull(z, data); err != nil {
		return nil, fmt.Errorf("data ends after %d of %d bytes: %w", n, size, short(err))
	}
	// Reading to the end also checks the checksum of gzip.
	switch n, err := z.Read(make([]byte, 1)); {
	case n > 0:
		return nil, errors.New("more data than the header says")
	case err != io.EOF:
		return nil, fmt.Errorf("after the data: %w", short(err))
	}
	return data, nil
}

// short names the two ways in which Go reports an early end alike.
func short(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
