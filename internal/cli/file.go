package cli

import (
	"fmt"
	"io"
	"os"
)

// ReadFile reads a file that should not be larger than limit bytes, and never
// more of it than that: a device or a wrong file costs an error, not the
// machine's memory.
func ReadFile(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, nil
}
