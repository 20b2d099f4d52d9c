package datasets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/openpith/evidence/internal/atomicfile"
)

// ErrDownload reports that a file could be had from no mirror.
var ErrDownload = errors.New("download failed")

// DownloadProgress is called while a file arrives: its name, the bytes that
// are here and the bytes there will be.
type DownloadProgress func(file string, done, total int64)

// Download fetches the files of a set into the sub-directory of dir with the
// name of the set and returns that directory. Files that are there and right
// are kept; each file is checked against its SHA-256 before it takes its name,
// so an interrupted download leaves no wrong file. progress may be nil.
//
// Errors: ErrUnknown; ErrDownload, with what each mirror said; ctx's error; an
// I/O error.
func Download(ctx context.Context, name, dir string, progress DownloadProgress) (string, error) {
	p, err := byName(name)
	if err != nil {
		return "", err
	}
	return p.download(ctx, dir, progress)
}

func (p published) download(ctx context.Context, dir string, progress DownloadProgress) (string, error) {
	to := filepath.Join(dir, p.name)
	if len(p.urls) == 0 {
		return "", fmt.Errorf("%w: %s is published nowhere", ErrDownload, p.name)
	}
	for _, f := range p.packings[0].files {
		path := filepath.Join(to, f.name)
		if have, err := f.open(p, to); err == nil {
			have.Close()
			continue
		}
		content, err := p.fetch(ctx, f, progress)
		if err != nil {
			if ctx.Err() != nil {
				return "", context.Cause(ctx)
			}
			return "", fmt.Errorf("%w: %s: %w", ErrDownload, f.name, err)
		}
		// Only now: a download that fails leaves no empty directory.
		if err := os.MkdirAll(to, 0o755); err != nil {
			return "", err
		}
		if err := atomicfile.Write(path, content, 0o644); err != nil {
			return "", err
		}
	}
	return to, nil
}

// fetch asks the mirrors one after another.
func (p published) fetch(ctx context.Context, f file, progress DownloadProgress) ([]byte, error) {
	var said []string
	for _, url := range p.urls {
		content, err := f.get(ctx, url+f.name, progress)
		if err == nil {
			return content, nil
		}
		said = append(said, err.Error())
	}
	return nil, errors.New(strings.Join(said, "; "))
}

// stalled is the time without a byte after which a mirror is given up.
const stalled = 30 * time.Second

func (f file) get(ctx context.Context, url string, progress DownloadProgress) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(stalled, func() { cancel(fmt.Errorf("no data for %s", stalled)) })
	defer watchdog.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	content := make([]byte, 0, f.size)
	body := io.LimitReader(resp.Body, f.size+1)
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		watchdog.Reset(stalled)
		content = append(content, buf[:n]...)
		if progress != nil && n > 0 {
			progress(f.name, int64(len(content)), f.size)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("GET %s: %w", url, err)
		}
	}
	if err := f.check(bytes.NewReader(content)); err != nil {
		return nil, fmt.Errorf("GET %s: %w", url, err)
	}
	return content, nil
}
