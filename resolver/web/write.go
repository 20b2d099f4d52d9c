package web

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/openpith/evidence/resolver"
)

// Header values that many answers share. net/http takes them as they are, so
// the busiest answers allocate nothing for them; nobody may append to them.
var (
	typeJSON     = []string{"application/json"}
	varyEncoding = []string{"Accept-Encoding"}
	varyBoth     = []string{"Accept, Accept-Encoding"}
	encodingGzip = []string{"gzip"}
	// A record changes when somebody signs something about it. Readers may take
	// a minute-old answer; asking again costs them a 304.
	cacheMinute  = []string{"public, max-age=60"}
	cacheForever = []string{"public, max-age=31536000, immutable"}
	cacheNot     = []string{"no-store"}
	anyOrigin    = []string{"*"}
	exposed      = []string{"ETag, Link"}
)

// policy is what a page may do: show itself, its own style sheet and pictures of
// this mirror, and send its search form here. Nothing runs and nothing is loaded
// from elsewhere.
var policy = []string{"default-src 'none'; style-src " + styleHash + "; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"}

var (
	nosniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
	crossSite  = []string{"cross-origin"} // data is for everybody, see Access-Control-Allow-Origin
	sameOrigin = []string{"same-origin"}
)

// Secure sets the headers that keep a browser from doing with our answers what
// they are not for, lets pages of any origin read what anybody may, and refuses
// addresses of unreasonable length. What mirrors
// and verifiers ask for all the time, a bundle by its whole number, it answers
// itself: JSON is no page, so it needs two of those headers and no more.
func (s *Site) Secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["X-Content-Type-Options"] = nosniff
		h["Cross-Origin-Resource-Policy"] = crossSite
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			h["Access-Control-Allow-Origin"] = anyOrigin
			h["Access-Control-Expose-Headers"] = exposed
		}
		if suffix := bundlePath(r.URL.Path); suffix != "" && r.URL.RawQuery == "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			r.Pattern = bundlePattern // for metrics, as the mux would set it
			if err := s.serveBundle(w, r, suffix); err != nil {
				setPageHeaders(h)
				s.fail(w, r, err)
			}
			return
		}
		setPageHeaders(h)
		if len(r.URL.Path) > maxPath || len(r.URL.RawQuery) > maxQuery {
			http.Error(w, "the address is too long", http.StatusRequestURITooLong)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func setPageHeaders(h http.Header) {
	h["Content-Security-Policy"] = policy
	h["Referrer-Policy"] = noReferrer
	h["Cross-Origin-Opener-Policy"] = sameOrigin
}

const bundlePattern = "GET /pith/{id}/bundle.json"

// bundlePath returns the suffix of a record where a path is exactly that of its
// bundle, else "".
func bundlePath(path string) string {
	const before, after = "/pith/", "/bundle.json"
	if len(path) != len(before)+26+len(after) || path[:len(before)] != before || path[len(before)+26:] != after {
		return ""
	}
	suffix := path[len(before) : len(before)+26]
	if !resolver.IsSuffix(suffix) {
		return ""
	}
	return suffix
}

// Bounds on addresses, in bytes.
const (
	maxPath  = 1 << 10
	maxQuery = 2 << 10
)

// document is an answer that is wholly in memory.
type document struct {
	body   []byte
	media  string
	etag   string   // without quotes; "" for the digest of the body
	vary   []string // varyEncoding if nil
	links  []string // Link headers
	status int      // 200 if 0
	cache  []string // cacheMinute if nil
}

// respond sends a document: with a strong entity tag, as 304 to those who have
// it, compressed to those who take gzip.
func respond(w http.ResponseWriter, r *http.Request, d document) {
	h := w.Header()
	h["Vary"] = varyEncoding
	if d.vary != nil {
		h["Vary"] = d.vary
	}
	if d.links != nil {
		h["Link"] = []string{strings.Join(d.links, ", ")}
	}
	h["Cache-Control"] = cacheMinute
	if d.cache != nil {
		h["Cache-Control"] = d.cache
	}
	if d.etag == "" {
		sum := sha256.Sum256(d.body)
		d.etag = hex.EncodeToString(sum[:])
	}
	ok := d.status == 0 || d.status == http.StatusOK
	zip := len(d.body) >= minGzip && takesGzip(r)
	if ok {
		setETag(h, d.etag, zip)
		if matches(r, d.etag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h["Content-Type"] = []string{d.media}
	if zip {
		h["Content-Encoding"] = encodingGzip
	} else {
		h["Content-Length"] = []string{strconv.Itoa(len(d.body))}
	}
	if d.status != 0 {
		w.WriteHeader(d.status)
	}
	if r.Method == http.MethodHead {
		return
	}
	if zip {
		z := zippers.Get().(*gzip.Writer)
		defer zippers.Put(z)
		z.Reset(w)
		_, _ = z.Write(d.body)
		_ = z.Close()
		return
	}
	_, _ = w.Write(d.body)
}

// minGzip is the smallest body that is worth compressing.
const minGzip = 1 << 10

var zippers = sync.Pool{New: func() any {
	z, err := gzip.NewWriterLevel(io.Discard, 5)
	if err != nil {
		panic(err) // the level is a constant
	}
	return z
}}

// setETag sets the strong tag of a representation: the digest of the content,
// and for its compressed form the same with -gzip, because strong tags tell
// bytes apart.
func setETag(h http.Header, digest string, zip bool) {
	if zip {
		h["Etag"] = []string{`"` + digest + `-gzip"`}
		return
	}
	h["Etag"] = []string{`"` + digest + `"`}
}

// matches reports whether the reader has the content already, in any coding. A
// digest occurs in no other tag, so that it is enough to look for it.
func matches(r *http.Request, digest string) bool {
	return slices.ContainsFunc(r.Header["If-None-Match"], func(tags string) bool { return tags == "*" || strings.Contains(tags, digest) })
}

// takesGzip reports whether the reader takes gzip (RFC 9110 §12.5.3).
func takesGzip(r *http.Request) bool {
	header := r.Header["Accept-Encoding"]
	if len(header) == 0 {
		return false
	}
	any := false
	rest := header[0]
	for rest != "" {
		var item string
		item, rest, _ = strings.Cut(rest, ",")
		coding, params, weighed := strings.Cut(item, ";")
		coding = strings.TrimSpace(coding)
		good := !weighed || positiveQ(params)
		switch {
		case strings.EqualFold(coding, "gzip"), strings.EqualFold(coding, "x-gzip"):
			return good
		case coding == "*":
			any = good
		}
	}
	return any
}

func positiveQ(params string) bool {
	name, value, ok := strings.Cut(strings.TrimSpace(params), "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(name), "q") {
		return true
	}
	q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	return err == nil && q > 0
}
