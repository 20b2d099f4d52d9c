package tlog

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/openpith/evidence/resolver"
)

// Routes registers what clients of the log ask for: GET /log/checkpoint and the
// tiles beside it, GET /log/key, and GET /pith/{suffix}/proof.json.
func (l *Log) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /log/checkpoint", func(w http.ResponseWriter, r *http.Request) {
		l.file(w, "checkpoint", "text/plain; charset=utf-8", "no-cache")
	})
	mux.HandleFunc("GET /log/key", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, l.key+"\n") // nobody is left to tell
	})
	mux.HandleFunc("GET /log/tile/{path...}", func(w http.ResponseWriter, r *http.Request) {
		path := r.PathValue("path")
		if !isTilePath(path) {
			http.NotFound(w, r)
			return
		}
		l.file(w, filepath.Join("tile", filepath.FromSlash(path)), "application/octet-stream", "public, max-age=31536000, immutable")
	})
	mux.HandleFunc("GET /pith/{suffix}/proof.json", l.serveProof)
}

// isTilePath lets through what names of tiles are made of and nothing else, so
// that no request reaches another file.
func isTilePath(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == "entries" {
			continue
		}
		part = strings.TrimSuffix(strings.TrimPrefix(part, "x"), ".p")
		if part == "" || len(part) > 3 || strings.Trim(part, "0123456789") != "" {
			return false
		}
	}
	return true
}

// file answers with a file of the log. Its files are replaced, never changed.
func (l *Log) file(w http.ResponseWriter, name, mediaType, cache string) {
	data, err := os.ReadFile(filepath.Join(l.dir, name))
	if err != nil {
		http.Error(w, "the log has no such file", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Cache-Control", cache)
	_, _ = w.Write(data)
}

func (l *Log) serveProof(w http.ResponseWriter, r *http.Request) {
	suffix := strings.ToUpper(r.PathValue("suffix"))
	if n := len(suffix); n == 8 || n == 12 || n == 16 {
		found, err := l.store.Resolve(r.Context(), suffix, 2)
		switch {
		case err == nil && len(found) == 1:
			w.Header().Set("Cache-Control", "no-cache") // it may begin two numbers tomorrow
			http.Redirect(w, r, "/pith/"+found[0]+"/proof.json", http.StatusFound)
			return
		case err == nil && len(found) > 1:
			http.Error(w, "several records begin like that: /pith/"+suffix+" lists them", http.StatusMultipleChoices)
			return
		}
	}
	p, err := l.Prove(r.Context(), suffix)
	switch {
	case errors.Is(err, resolver.ErrNotFound):
		http.Error(w, "no such record, or no checkpoint yet", http.StatusNotFound)
		return
	case err != nil:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the log is being written, try again", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	_ = json.NewEncoder(w).Encode(p)
}
