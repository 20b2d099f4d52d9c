package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/memstore"
)

// A lab is a site with a few records: the real one, with everything that a
// record can have; one that cites it; one with a hostile title; one with TeX.
type lab struct {
	http.Handler
	site                        *Site
	store                       resolver.Store
	rich, cited, hostile, maths []byte
}

func newLab(t testing.TB, change ...func(*Config)) *lab {
	t.Helper()
	l := &lab{
		rich:    rich(t),
		hostile: another(t, 2, hostile, hostile),
		maths:   another(t, 3, `Schr\"odinger operators on $\mathbb{Z}_2$ with $\theta=\pi$ and $L^2$ bounds at $10^{-5}$`, `Bj\"orn \O rsted, \v{S}im\r{u}nek, Ko\c{c}i`),
	}
	l.cited = say(t, another(t, 1, "On large batches", "A. Author, B. Author"), ada, 0,
		pith.CitationSignature{Relation: "uses_method", Citing: pith.Work{Kind: "pith", ID: numberOf(t, l.rich)}})
	trust := labPolicy(t)
	l.store = fill(t, l.rich, l.cited, l.hostile, l.maths)
	key := ada.Public()
	cfg := Config{Store: l.store, Log: slog.New(slog.DiscardHandler), Trust: func() *pith.Trust { return trust }, Key: &key, BaseURL: "https://mirror.example", Operator: "the library of Example University",
		Upstreams: func(context.Context) []Upstream {
			return []Upstream{{URL: "https://pith.example", Cursor: 1234567, Lag: 3 * time.Second, At: "a minute ago"}}
		}}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if l.site, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	l.site.Routes(mux)
	l.Handler = l.site.Secure(mux)
	return l
}

// use gives the site another store.
func (l *lab) use(s resolver.Store) { l.site.store, l.site.quick = s, resolver.QuickOf(s) }

func body(t testing.TB, r *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if b, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// TestPublishedAddresses asks for every address that the real bundle names, with
// and without compression, and checks what comes by its digest.
func TestPublishedAddresses(t *testing.T) {
	l := newLab(t)
	l.use(fill(t, canonicalSeed(t)))
	var b struct {
		Links map[string]string   `json:"links"`
		Hints []map[string]string `json:"mirror_hints"`
		State struct {
			SHA256 string `json:"state_sha256"`
		} `json:"state"`
	}
	if err := json.Unmarshal(seed.Bundle(), &b); err != nil {
		t.Fatal(err)
	}
	canonical := canonicalSeed(t)
	addresses := map[string]bool{}
	for _, u := range b.Links {
		addresses[u] = true
	}
	for name, u := range b.Hints[0] {
		if strings.HasSuffix(name, "_url") {
			addresses[u] = true
		}
	}
	kinds := map[string]int{}
	for u := range addresses {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		path := parsed.Path
		for _, encoding := range []string{"gzip", "identity"} {
			r := get(t, l, cmpOr(path, "/"), "Accept-Encoding", encoding)
			got := body(t, r)
			if r.StatusCode != http.StatusOK {
				t.Errorf("%s: %s", path, r.Status)
				continue
			}
			if zipped := r.Header.Get("Content-Encoding") == "gzip"; zipped != (encoding == "gzip") && path != "" {
				t.Errorf("%s for %s: zipped %v", path, encoding, zipped)
			}
			switch {
			case strings.HasSuffix(path, "/bundle.json"):
				kinds["bundle"]++
				if !bytes.Equal(got, canonical) {
					t.Errorf("%s: not the canonical bytes of the bundle", path)
				}
				if v := pith.Verify(got, nil).Verdict(); v != pith.Valid {
					t.Errorf("%s: %v", path, v)
				}
				sum := sha256.Sum256(got)
				if tag := r.Header.Get("Etag"); !strings.Contains(tag, hex.EncodeToString(sum[:])) {
					t.Errorf("%s: tag %s is not the digest", path, tag)
				}
			case strings.HasSuffix(path, "/state.json"):
				kinds["state"]++
				var state struct {
					SHA256 string `json:"state_sha256"`
				}
				want, err := pith.State(seed.Bundle())
				if err != nil {
					t.Fatal(err)
				}
				same, err := pith.Canonical(got)
				if err != nil || !bytes.Equal(same, want) {
					t.Errorf("%s: not the state (%v)", path, err)
				}
				if err := json.Unmarshal(got, &state); err != nil || state.SHA256 != b.State.SHA256 || !strings.Contains(r.Header.Get("Etag"), state.SHA256) {
					t.Errorf("%s: digest %s, tag %s, %v", path, state.SHA256, r.Header.Get("Etag"), err)
				}
			case strings.HasPrefix(path, "/pith/"):
				kinds["page"]++
				if !bytes.Contains(got, []byte("SmoothOut: Smoothing Out")) {
					t.Errorf("%s: no page of the record", path)
				}
			default:
				kinds["base"]++
			}
		}
	}
	// resolver, bundle, state and well-known, each twice; base_url is asked too.
	if kinds["bundle"] != 4 || kinds["state"] != 2 || kinds["page"] != 2 || kinds["base"] != 2 {
		t.Errorf("asked for %v of %d addresses", kinds, len(addresses))
	}
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func TestRedirects(t *testing.T) {
	l := newLab(t)
	cited := suffixOf(t, l.cited)
	for path, want := range map[string]struct {
		status int
		to     string
	}{
		"/pith/cwpylzdw7awax7tq5zrns3ohem":                    {301, "/pith/" + seedSuffix},
		"/pith/cwpylzdw7awax7tq5zrns3ohem/bundle.json":        {301, "/pith/" + seedSuffix + "/bundle.json"},
		"/pith/CWPYLZDW":                                      {302, "/pith/" + seedSuffix},
		"/pith/CWPYLZDW7AWA.bib":                              {302, "/pith/" + seedSuffix + ".bib"},
		"/pith/cwpylzdw7awax7tq/state.json":                   {302, "/pith/" + seedSuffix + "/state.json"},
		"/.well-known/pith/CWPYLZDW/bundle.json":              {302, "/.well-known/pith/" + seedSuffix + "/bundle.json"},
		"/api/pith-number/cwpylzdw/graph.json":                {302, "/api/pith-number/" + seedSuffix + "/graph.json"},
		"/pith/pith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM":          {302, "/pith/" + seedSuffix},
		"/pith/1805.07898v3":                                  {302, "/pith/" + seedSuffix},
		"/paper/1805.07898":                                   {302, "/pith/" + seedSuffix},
		"/p/1805.07898v3":                                     {302, "/pith/" + seedSuffix},
		"/paper/arXiv:2401.00001":                             {302, "/pith/" + cited},
		"/doi/10.48550/arXiv.1805.07898":                      {302, "/pith/" + seedSuffix},
		"/alias/arxiv/1805.07898":                             {302, "/pith/" + seedSuffix},
		"/alias/pith_short_8/CWPYLZDW":                        {302, "/pith/" + seedSuffix},
		"/alias/pith_short_12/cwpylzdw7awa":                   {302, "/pith/" + seedSuffix},
		"/alias/pith_short_16/CWPYLZDW7AWA":                   {404, ""}, // 12 characters
		"/search?q=arXiv:1805.07898":                          {302, "/pith/" + seedSuffix},
		"/search?q=https://doi.org/10.48550/arXiv.1805.07898": {302, "/pith/" + seedSuffix},
		"/paper/1805.07898v2":                                 {404, ""},
		"/paper/hep-th/9309160":                               {404, ""},
		"/pith/hep-th/9309160":                                {404, ""},
		"/pith/AAAAAAAA":                                      {404, ""},
		"/pith/AAAAAAAAAAAAAAAAAAAAAAAAAA":                    {404, ""},
		"/pith/AAAAAAAAAAAAAAAAAAAAAAAAAA/bundle.json":        {404, ""},
		"/pith/AAAAAAAAAAAAAAAAAAAAAAAAAA/state.json":         {404, ""},
		"/pith/0000":                                          {400, ""},
		"/pith/0000/bundle.json":                              {400, ""},
		"/paper/no such paper":                                {400, ""},
		"/pith/" + seedSuffix + "/nothing":                    {404, ""},
		"/pith/" + seedSuffix + ".exe":                        {400, ""},
		"/pith/":                                              {400, ""},
		"/schemas/../../go.mod":                               {307, "/go.mod"}, // ServeMux cleans paths
		"/schemas/pith-number/v1.json":                        {404, ""},
		"/assets/":                                            {404, ""},
		"/search?q=" + strings.Repeat("a", 201):               {400, ""},
		"/search?q=x&from=1001":                               {400, ""},
		"/search?q=x&from=-1":                                 {400, ""},
		"/search?q=" + strings.Repeat("a", 3000):              {414, ""},
		"/" + strings.Repeat("a", 2000):                       {414, ""},
		"/recent?before=x":                                    {400, ""},
	} {
		r := get(t, l, strings.ReplaceAll(path, " ", "%20"))
		if r.StatusCode != want.status || r.Header.Get("Location") != want.to {
			t.Errorf("%s: %d %s, want %d %s", path, r.StatusCode, r.Header.Get("Location"), want.status, want.to)
		}
		if want.status >= 400 && r.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: no security headers", path)
		}
	}
}

// TestMethods: an address that takes other methods says which, whoever serves it.
func TestMethods(t *testing.T) {
	l := newLab(t)
	mux := http.NewServeMux()
	l.site.Routes(mux)
	mux.HandleFunc("POST /events", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("PUT /pith/{suffix}/bundle.json", func(http.ResponseWriter, *http.Request) {})
	l.Handler = mux
	for _, tt := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"POST", "/about", 405, "GET, HEAD"},
		{"GET", "/events", 405, "POST"},
		{"DELETE", "/events", 405, "POST"},
		{"DELETE", "/pith/" + suffixOf(t, l.cited) + "/bundle.json", 405, "GET, HEAD, PUT"},
		{"DELETE", "/nothing", 404, ""},
		{"GET", "/nothing", 404, ""},
	} {
		if r := do(t, l, tt.method, tt.path); r.StatusCode != tt.status || r.Header.Get("Allow") != tt.allow {
			t.Errorf("%s %s: %s, Allow: %q, want %d, %q", tt.method, tt.path, r.Status, r.Header.Get("Allow"), tt.status, tt.allow)
		}
	}
}

// TestAddresses: what others answer beside the site is told where it is, and pages
// of any origin may read it, but not send to it.
func TestAddresses(t *testing.T) {
	l := newLab(t)
	if page := string(body(t, get(t, l, "/about"))); strings.Contains(page, "/export?after=") || strings.Contains(page, "proof.json") {
		t.Error("the page tells addresses that nobody answers")
	}
	mux := http.NewServeMux()
	l.site.Routes(mux)
	nothing := func(http.ResponseWriter, *http.Request) {}
	for _, pattern := range []string{"POST /events", "GET /export", "GET /log/checkpoint", "GET /_health"} {
		mux.HandleFunc(pattern, nothing)
	}
	l.Handler = l.site.Secure(mux)
	page := string(body(t, get(t, l, "/about")))
	for _, address := range []string{"POST /events", "/export?after={event}", "/pith/{number}/proof.json", "/log/checkpoint", "/_health"} {
		if !strings.Contains(page, ">"+address) {
			t.Errorf("the page does not tell of %s", address)
		}
	}
	for _, path := range []string{"/export", "/log/checkpoint", "/about", "/pith/" + seedSuffix + "/bundle.json", "/paper/1805.07898", "/nothing"} {
		if r := get(t, l, path); r.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: no page of another origin may read it", path)
		}
	}
	if r := do(t, l, "POST", "/events"); r.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("pages of any origin may read what POST answers")
	}
}

// TestAmbiguous: two records with one short number, and two versions of a paper,
// are listed and not chosen between.
func TestAmbiguous(t *testing.T) {
	l := newLab(t)
	first := suffixOf(t, l.cited)
	twin := first[:8] + base32.StdEncoding.EncodeToString(make([]byte, 20))[:18]
	l.use(twins{l.store, first, twin})
	for _, path := range []string{"/pith/" + strings.ToLower(first[:8]), "/pith/" + first[:8] + "/bundle.json", "/paper/2401.00001"} {
		r := get(t, l, path, "Accept", "text/html")
		if text := string(body(t, r)); r.StatusCode != http.StatusMultipleChoices || !strings.Contains(text, "/pith/"+first) || !strings.Contains(text, "/pith/"+twin) {
			t.Errorf("%s: %s\n%s", path, r.Status, text)
		}
		r = get(t, l, path)
		var p struct {
			Candidates []struct {
				URL string `json:"url"`
			} `json:"candidates"`
		}
		if err := json.Unmarshal(body(t, r), &p); err != nil || len(p.Candidates) != 2 || r.StatusCode != http.StatusMultipleChoices {
			t.Errorf("%s: %s, %v %v", path, r.Status, p, err)
		}
	}
	if r := get(t, l, "/pith/"+first[:8]+first[8:12]); r.StatusCode != http.StatusFound {
		t.Errorf("twelve characters of one: %s", r.Status)
	}
}

// twins is a store that has one record twice, under numbers that begin alike.
type twins struct {
	resolver.Store
	first, twin string
}

func (s twins) Resolve(ctx context.Context, prefix string, limit int) ([]string, error) {
	found, err := s.Store.Resolve(ctx, prefix, limit)
	if strings.HasPrefix(s.twin, prefix) {
		found = append(found, s.twin)
	}
	return found, err
}

func (s twins) ByAlias(ctx context.Context, kind, value string, limit int) ([]string, error) {
	found, err := s.Store.ByAlias(ctx, kind, value, limit)
	if slices.Contains(found, s.first) {
		found = append(found, s.twin)
	}
	return found, err
}

func (s twins) Record(ctx context.Context, suffix string) (resolver.Record, error) {
	if suffix != s.twin {
		return s.Store.Record(ctx, suffix)
	}
	rec, err := s.Store.Record(ctx, s.first)
	rec.Suffix, rec.Number = suffix, "pith:2018:"+suffix
	return rec, err
}

// TestForms asks for every form of a record by Accept and by its own address.
func TestForms(t *testing.T) {
	l := newLab(t)
	for _, f := range forms {
		own := get(t, l, "/pith/"+seedSuffix+f.suffix, "Accept", "text/html")
		asked := get(t, l, "/pith/"+seedSuffix, "Accept", f.media.String())
		a, b := body(t, own), body(t, asked)
		if own.StatusCode != 200 || asked.StatusCode != 200 || !bytes.Equal(a, b) || len(a) == 0 {
			t.Errorf("%s: %s and %s, %d and %d bytes", f.name, own.Status, asked.Status, len(a), len(b))
		}
		if got := asked.Header.Get("Content-Type"); !strings.HasPrefix(got, f.media.essence) {
			t.Errorf("%s comes as %s", f.name, got)
		}
		if vary := asked.Header.Get("Vary"); !strings.Contains(vary, "Accept,") {
			t.Errorf("%s varies by %q", f.name, vary)
		}
		if f.suffix != "" && strings.Contains(own.Header.Get("Vary"), "Accept,") {
			t.Errorf("%s at its own address varies by Accept", f.name)
		}
		if strings.Contains(f.media.essence, "json") && !json.Valid(a) {
			t.Errorf("%s is no JSON", f.name)
		}
	}
	r := get(t, l, "/pith/"+seedSuffix, "Accept", "image/png")
	text := string(body(t, r))
	if r.StatusCode != http.StatusNotAcceptable || strings.Count(text, `"url"`) != len(forms) {
		t.Errorf("a form that is not there: %s %s", r.Status, text)
	}
	// Nobody who is trusted describes the paper: what needs a description is not offered.
	l = newLab(t, func(c *Config) { c.Trust = func() *pith.Trust { return pith.TrustFor(stranger.Public(), nil, false) } })
	if r := get(t, l, "/pith/"+seedSuffix+".bib"); r.StatusCode != http.StatusNotFound {
		t.Errorf("BibTeX of an undescribed paper: %s", r.Status)
	}
	if r := get(t, l, "/pith/"+seedSuffix, "Accept", "application/x-bibtex"); r.StatusCode != http.StatusNotAcceptable {
		t.Errorf("BibTeX of an undescribed paper by Accept: %s", r.Status)
	}
	r = get(t, l, "/pith/"+seedSuffix)
	if text := string(body(t, r)); r.StatusCode != 200 || strings.Contains(text, "Chunpeng") || !strings.Contains(text, "SmoothOut") {
		t.Errorf("page of an undescribed paper: %s", r.Status) // the title is covered by the number, the authors by nothing
	}
	for _, suffix := range []string{".json", ".jsonld"} {
		if r := get(t, l, "/pith/"+seedSuffix+suffix); r.StatusCode != 200 {
			t.Errorf("%s of an undescribed paper: %s", suffix, r.Status)
		}
	}
}

// TestJSONLDIdentity: the published check, by which .canonical_record of the
// JSON-LD has the digest that the number is made of.
func TestJSONLDIdentity(t *testing.T) {
	l := newLab(t)
	for _, suffix := range []string{".jsonld", ".json"} {
		var doc struct {
			Record json.RawMessage `json:"canonical_record"`
			Status map[string]any  `json:"verification_status"`
			Type   string          `json:"record_type"`
			Schema string          `json:"schema_url"`
			State  string          `json:"attestation_state"`
		}
		if err := json.Unmarshal(body(t, get(t, l, "/pith/"+seedSuffix+suffix)), &doc); err != nil {
			t.Fatal(err)
		}
		number, _, err := pith.Number(doc.Record)
		if err != nil || number != "pith:2018:"+seedSuffix {
			t.Errorf("%s: %s %v", suffix, number, err)
		}
		if suffix != ".json" {
			continue
		}
		if doc.Type != "pith_number_record" || doc.Schema != recordSchema || doc.State != "computed" {
			t.Errorf("%+v", doc)
		}
		for name, want := range map[string]any{
			"content_addressed": true, "pith_receipt": true, "author_attested": true, "weak_author_claims": 0.0, "strong_author_claims": 0.0,
			"externally_anchored": false, "storage_verified": true, "citation_signatures": 1.0, "replication_records": 1.0,
			"graph_snapshot": true, "references_resolved": false, "formal_links_present": false,
		} {
			if doc.Status[name] != want {
				t.Errorf("%s is %v, want %v", name, doc.Status[name], want)
			}
		}
	}
}

func TestConditional(t *testing.T) {
	l := newLab(t)
	for _, path := range []string{"/pith/" + seedSuffix, "/pith/" + seedSuffix + "/bundle.json", "/pith/" + seedSuffix + "/state.json", "/pith/" + seedSuffix + ".bib", "/about", "/pith-mirrors.json"} {
		plain, zipped := get(t, l, path), get(t, l, path, "Accept-Encoding", "gzip")
		a, b := plain.Header.Get("Etag"), zipped.Header.Get("Etag")
		if a == "" || b == "" || strings.HasPrefix(a, "W/") || (a == b) != (zipped.Header.Get("Content-Encoding") == "") {
			t.Errorf("%s: tags %s and %s", path, a, b)
		}
		for _, inm := range []string{a, b, "W/" + a, `"other", ` + a, "*"} {
			r := get(t, l, path, "If-None-Match", inm)
			if r.StatusCode != http.StatusNotModified || len(body(t, r)) != 0 || r.Header.Get("Etag") == "" || r.Header.Get("Vary") == "" || r.Header.Get("Cache-Control") == "" {
				t.Errorf("%s with %s: %s %v", path, inm, r.Status, r.Header)
			}
		}
		if r := get(t, l, path, "If-None-Match", `"0123"`, "If-None-Match", a); r.StatusCode != http.StatusNotModified {
			t.Errorf("%s with its tag in a second line: %s", path, r.Status)
		}
		if r := get(t, l, path, "If-None-Match", `"0123"`); r.StatusCode != http.StatusOK || len(body(t, r)) == 0 {
			t.Errorf("%s with another tag: %s", path, r.Status)
		}
		head := do(t, l, http.MethodHead, path)
		if head.StatusCode != 200 || len(body(t, head)) != 0 || head.Header.Get("Etag") != a || head.Header.Get("Content-Length") != plain.Header.Get("Content-Length") {
			t.Errorf("HEAD %s: %s %v", path, head.Status, head.Header)
		}
	}
	// What the store holds is what those who take gzip get.
	_, packed, err := l.store.Bundle(context.Background(), seedSuffix)
	if err != nil {
		t.Fatal(err)
	}
	r := get(t, l, "/pith/"+seedSuffix+"/bundle.json", "Accept-Encoding", "gzip")
	if got, _ := io.ReadAll(r.Body); !bytes.Equal(got, packed) {
		t.Error("the stored bytes are not the ones that are sent")
	}
}

// TestHostile: what strangers write appears as text and as nothing else.
func TestHostile(t *testing.T) {
	l := newLab(t)
	id := suffixOf(t, l.hostile)
	paths := []string{"/pith/" + id, "/pith/" + seedSuffix, "/search?q=script", "/recent", "/", "/search?q=" + url.QueryEscape(hostile), "/pith/" + url.PathEscape(hostile), "/paper/" + url.PathEscape(hostile)}
	tag := regexp.MustCompile(`(?i)<\s*(script|img[^>]*onerror|iframe|object|embed|svg[^>]*onload)|\son[a-z]+\s*=|href="javascript:`)
	escaped := regexp.MustCompile(`&lt;script&gt;`)
	seen := 0
	for _, path := range paths {
		r := get(t, l, path, "Accept", "text/html")
		text := body(t, r)
		withoutText := regexp.MustCompile(`&[a-z#0-9]+;`).ReplaceAll(text, nil)
		for _, m := range tag.FindAll(withoutText, -1) {
			if !bytes.Contains(m, []byte("onerror=")) || bytes.Contains(m, []byte("<")) { // as text, without its bracket, it is harmless
				t.Errorf("%s: %s", path, m)
			}
		}
		if bytes.Count(text, []byte("</style>")) != 1 || bytes.Count(text, []byte("</title>")) != 1 {
			t.Errorf("%s: a style sheet or title ends early", path)
		}
		if escaped.Match(text) {
			seen++
		}
		csp := r.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: policy %s", path, csp)
			}
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"} {
			if r.Header.Get(name) != want {
				t.Errorf("%s: %s %q", path, name, r.Header.Get(name))
			}
		}
	}
	if seen < 5 {
		t.Errorf("the hostile text appears on %d pages: the test looks at the wrong ones", seen)
	}
	for _, suffix := range []string{".svg", ".bib", ".ris", ".csl.json", ".ro-crate.json", ".jsonld", ".json"} {
		r := get(t, l, "/pith/"+id+suffix)
		if r.StatusCode != 200 || suffix == ".svg" && bytes.Contains(body(t, r), []byte("<script")) {
			t.Errorf("%s: %s", suffix, r.Status)
		}
		for name, values := range r.Header {
			if strings.ContainsAny(strings.Join(values, ""), "\r\n") {
				t.Errorf("%s: header %s %q", suffix, name, values)
			}
		}
	}
}

// TestStyleIsAllowed: the hash in the policy is that of the style on the page, as
// a browser computes it.
func TestStyleIsAllowed(t *testing.T) {
	l := newLab(t)
	r := get(t, l, "/")
	_, after, _ := strings.Cut(string(body(t, r)), "<style>")
	inside, _, _ := strings.Cut(after, "</style>")
	if inside != style {
		t.Error("the style sheet changes on its way to the page")
	}
	if !strings.Contains(r.Header.Get("Content-Security-Policy"), styleHash) {
		t.Error("the policy does not allow it")
	}
}

func TestRecordPage(t *testing.T) {
	l := newLab(t)
	page := html.UnescapeString(string(body(t, get(t, l, "/pith/"+seedSuffix))))
	for _, want := range []string{
		"pith:2018:" + seedSuffix, "SmoothOut: Smoothing Out Sharp Minima", "not the order of the byline", "Chunpeng Wu, Cong Xu",
		"unknown key", "trusted", "attested", "not anchored", "refs pending",
		"machine extracted", "closes the generalization gap", "55 were found",
		`class="tag inconclusive"`, "SmoothOut against SGD", "95 % interval −9.79 to +7.91, n = 5", `class="range"`,
		"Sharpness-Aware Minimization", "<b>extends</b> this work", "This work <b>uses the method of</b> <a href=\"/pith/" + suffixOf(t, l.cited),
		"ORCID <a href=\"https://orcid.org/0000-0002-1825-0097\"", "Erratum", "future_type", "web.archive.org",
		"curl -sO https://mirror.example/pith/" + seedSuffix + "/bundle.json", `\pithnumber{` + seedSuffix + `}`, `src="/pith/` + seedSuffix + `.svg"`,
		"1805.07898v3", "10.48550/arxiv.1805.07898", "CWPYLZDW7AWA",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	maths := string(body(t, get(t, l, "/pith/"+suffixOf(t, l.maths))))
	for _, want := range []string{"Schrödinger operators on ℤ₂ with θ=π and L² bounds at 10⁻⁵", "Björn Ørsted, Šimůnek, Koçi", "<b>Verified</b>"} {
		if !strings.Contains(maths, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if strings.ContainsRune(page, utf8.RuneError) {
		t.Error("the page has a broken character")
	}
	if strings.Contains(maths, "unknown key") {
		t.Error("a trusted signer is shown as unknown")
	}
}

// TestTakenBack: that a paper was taken back stands wherever it is shown, as long as
// it stands, and by whom.
func TestTakenBack(t *testing.T) {
	retract := pith.Correction{Kind: "retraction", Text: "The data were made up."}
	retracted := say(t, canonicalSeed(t), ada, 0, retract)
	draft, err := pith.NewDraft(pith.Correction{Kind: "erratum", Text: "They were not: an error of ours."}, day)
	if err != nil {
		t.Fatal(err)
	}
	history := pith.Verify(retracted, labPolicy(t)).History
	draft.Supersedes = []string{history[len(history)-1].EventID}
	for name, tt := range map[string]struct {
		bundle       []byte
		word         string // that stands everywhere
		page, record string
		not          string // does not stand on the page
	}{
		"by a trusted signer": {retracted, "RETRACTED", `class="verdict taken"`, `"trusted": true`, "Disputed"},
		"by a stranger":       {say(t, canonicalSeed(t), stranger, 0, retract), "", "Disputed", `"trusted": false`, "verdict taken"},
		"of a claim":          {say(t, canonicalSeed(t), ada, 0, pith.Correction{Kind: "retraction", Text: "No.", Claim: "C1"}), "", "Retracted: claim C1", `"claim_id": "C1"`, "RETRACTED"},
		"and no longer":       {say(t, retracted, ada, 1, draft), "", `superseded</span>`, `"withdrawals": []`, "verdict taken"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.use(fill(t, tt.bundle))
			page := html.UnescapeString(string(body(t, get(t, l, "/pith/"+seedSuffix))))
			if !strings.Contains(page, tt.page) || strings.Contains(page, tt.not) {
				t.Errorf("the page lacks %s, or has %s", tt.page, tt.not)
			}
			if vouches := strings.Contains(page, "trusts everyone"); vouches != (name != "by a stranger") {
				t.Errorf("the page says that the mirror trusts everyone: %v", vouches)
			}
			if marks := strings.Count(string(body(t, get(t, l, "/recent"))), "superseded</span>"); marks == 1 != (name == "and no longer") {
				t.Errorf("%d recent events are marked as superseded", marks)
			}
			if record := string(body(t, get(t, l, "/pith/"+seedSuffix+".json"))); !strings.Contains(record, tt.record) {
				t.Errorf("the record lacks %s", tt.record)
			}
			for _, suffix := range []string{"", ".jsonld", ".bib", ".ris", ".csl.json", ".ro-crate.json", ".svg", ".tex"} {
				text := strings.ToUpper(string(body(t, get(t, l, "/pith/"+seedSuffix+suffix, "Accept", "text/html"))))
				marked := strings.Contains(text, "RETRACTED: SMOOTHOUT") || strings.Contains(text, "RETRACTION BY ADA")
				if marked != (tt.word != "") {
					t.Errorf("%q says that the paper is retracted: %v", suffix, marked)
				}
			}
			r := httptest.NewRequest("POST", "/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"verify","arguments":{"name":"`+seedSuffix+`"}}}`))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Accept", "application/json, text/event-stream")
			w := httptest.NewRecorder()
			l.ServeHTTP(w, r)
			var answer struct {
				Result struct {
					Structured struct {
						Withdrawals json.RawMessage `json:"withdrawals"`
					} `json:"structuredContent"`
				} `json:"result"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
				t.Fatal(err)
			}
			if said := `"withdrawals": ` + strings.ReplaceAll(string(answer.Result.Structured.Withdrawals), ":", ": "); !strings.Contains(said, tt.record) {
				t.Errorf("agents get %s", said)
			}
		})
	}
}

// TestManyEvents: a record with more events than a page shows.
func TestManyEvents(t *testing.T) {
	b := canonicalSeed(t)
	var payloads []any
	for i := range maxListed + 5 {
		payloads = append(payloads, pith.CitationSignature{Relation: "cites", Citing: pith.Work{Kind: "arxiv", ID: "2010.0" + strconv.Itoa(1000+i)}})
	}
	v, err := newRecordView(say(t, b, ada, 0, payloads...), labPolicy(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(v.History) != maxListed || !v.Cut || len(v.CitedBy) != maxListed || v.Events.Total != maxListed+7 || v.presence("citations").Valid != maxListed+5 {
		t.Errorf("%d of %d events, %d citations, cut %v", len(v.History), v.Events.Total, len(v.CitedBy), v.Cut)
	}
}

func TestMathText(t *testing.T) {
	for tex, want := range map[string]string{
		`$\theta=\pi$`: "θ=π", `$L^2$`: "L²", `$x_{ij}$`: "xᵢⱼ", `$\mathbb{Z}_N$`: `$\mathbb{Z}_N$`, `$O(n^{-1/2})$`: `$O(n^{-1/2})$`,
		`costs $5`: "costs $5", `$a$ and $b`: "$a$ and $b", `$\unknown$`: `$\unknown$`, `$10^{-5}$`: "10⁻⁵", `$\alpha \beta$`: "αβ",
		`$$`: "", `$\mathcal{N}=4$`: "N=4", `$k\sim 1$`: "k∼1", `$^$`: "$^$", `${$`: "${$", `$SU(2)\times U(1)$`: "SU(2)×U(1)", `$^{3}$He`: "³He", `$\{x\}$`: `$\{x\}$`,
		"a\n  b": "a b",
	} {
		if got := plainText(tex); got != want {
			t.Errorf("%s: %q, want %q", tex, got, want)
		}
	}
}

func FuzzPlainText(f *testing.F) {
	f.Add(`$\mathbb{Z}_2^{\theta_{\pi}}$ \"o {\v{S}}`)
	f.Fuzz(func(t *testing.T, tex string) {
		if got := plainText(tex); len(got) > 4*len(tex)+16 {
			t.Errorf("%q became %q", tex, got)
		}
	})
}

func TestSignposting(t *testing.T) {
	l := newLab(t)
	links := get(t, l, "/pith/"+seedSuffix).Header.Get("Link")
	for _, want := range []string{
		`<https://pith.science/pith/` + seedSuffix + `>; rel="cite-as"`, `<https://schema.org/AboutPage>; rel="type"`,
		`<https://mirror.example/pith/` + seedSuffix + `.bib>; rel="describedby"; type="application/x-bibtex; charset=utf-8"`,
		`<https://mirror.example/pith/` + seedSuffix + `/bundle.json>; rel="item"; type="application/json"`,
		`<http://arxiv.org/licenses/nonexclusive-distrib/1.0/>; rel="license"`, `<https://orcid.org/0000-0002-1825-0097>; rel="author"`,
	} {
		if !strings.Contains(links, want) {
			t.Errorf("no %s in %s", want, links)
		}
	}
	if link := get(t, l, "/pith/"+seedSuffix+"/bundle.json").Header.Get("Link"); link != `<https://mirror.example/pith/`+seedSuffix+`>; rel="collection"; type="text/html"` {
		t.Error(link)
	}
	if link := get(t, l, "/pith/"+seedSuffix+".bib").Header.Get("Link"); !strings.Contains(link, `rel="describes"`) {
		t.Error(link)
	}
}

func TestDocuments(t *testing.T) {
	l := newLab(t)
	decode := func(path string) map[string]any {
		t.Helper()
		r := get(t, l, path)
		var v map[string]any
		if err := json.Unmarshal(body(t, r), &v); err != nil || r.StatusCode != 200 {
			t.Fatalf("%s: %s %v", path, r.Status, err)
		}
		return v
	}
	if g := decode("/api/pith-number/" + seedSuffix + "/graph.json"); g["paper"] == nil || g["claims"].(map[string]any)["count"] != 2.0 {
		t.Errorf("graph %v", g)
	}
	if c := decode("/pith/" + seedSuffix + "/claims.json"); c["count"] != 2.0 || len(c["items"].([]any)) != 2 || c["signer_id"] != "ada@example.org" {
		t.Errorf("claims %v", c)
	}
	m := decode("/pith-mirrors.json")
	if mirrors := m["mirrors"].([]any); m["manifest_type"] != "pith_mirror_manifest" || mirrors[0].(map[string]any)["bundle_pattern"] != "https://mirror.example/pith/{suffix}/bundle.json" {
		t.Errorf("manifest %v", m)
	}
	if k := decode("/pith-signing-key.json"); k["fingerprint_sha256_hex"] != ada.Public().Fingerprint() {
		t.Errorf("key %v", k)
	}
	if _, err := pith.ParseTrust(body(t, get(t, l, "/pith-trust.json"))); err != nil {
		t.Errorf("the trust file cannot be read: %v", err)
	}
	if text := body(t, get(t, l, "/schemas/pith-number/v1.json")); !bytes.Contains(text, []byte(`"https://pith.science/schemas/pith-number/v1.json"`)) {
		t.Errorf("who asks for a schema of pith.science is told %s", text)
	}
	list := decode("/schemas/")["schemas"].([]any)
	compiler := jsonschema.NewCompiler()
	for _, u := range list {
		path := strings.TrimPrefix(u.(string), "https://mirror.example")
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(body(t, get(t, l, path))))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource(doc.(map[string]any)["$id"].(string), doc); err != nil {
			t.Fatal(err)
		}
	}
	bundle, err := compiler.Compile("https://github.com/openpith/evidence/spec/schema/bundle.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(body(t, get(t, l, "/pith/"+seedSuffix+"/bundle.json"))))
	if err != nil {
		t.Fatal(err)
	}
	if err := bundle.Validate(doc); err != nil || len(list) < 15 {
		t.Errorf("the served bundle against the served schema: %v (%d schemas)", err, len(list))
	}
	silent := newLab(t, func(c *Config) { c.Key = nil })
	if r := get(t, silent, "/pith-signing-key.json"); r.StatusCode != http.StatusNotFound {
		t.Errorf("the key of a mirror that has none: %s", r.Status)
	}
}

// TestDamage: a store whose bytes were changed is not passed on as if they were
// good.
func TestDamage(t *testing.T) {
	l := newLab(t)
	l.use(damaged{l.store})
	for _, path := range []string{"/pith/" + seedSuffix, "/pith/" + seedSuffix + "/bundle.json", "/pith/" + seedSuffix + "/state.json"} {
		if r := get(t, l, path); r.StatusCode != http.StatusInternalServerError || !bytes.Contains(body(t, r), []byte("fsck")) {
			t.Errorf("%s: %s", path, r.Status)
		}
	}
}

// TestSearchIsBounded: searches that take long end with the reason, and few of them
// read from the store at once, however many are asked for.
func TestSearchIsBounded(t *testing.T) {
	l := newLab(t)
	store := &slowSearch{Store: l.store}
	l.use(store)
	l.site.searchTime = 20 * time.Millisecond
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			r := get(t, l, "/search?q=a+b+c", "Accept", "text/html")
			if r.StatusCode != http.StatusServiceUnavailable || !bytes.Contains(body(t, r), []byte("takes too long")) {
				t.Errorf("a search that takes long: %s", r.Status)
			}
		})
	}
	group.Wait()
	if most := store.most.Load(); most < 1 || most > int64(max(1, runtime.GOMAXPROCS(0)/2)) {
		t.Errorf("%d searches at once", most)
	}
}

type slowSearch struct {
	resolver.Store
	now, most atomic.Int64
}

func (s *slowSearch) Search(ctx context.Context, _ string, _, _ int) ([]resolver.Record, int, error) {
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	<-ctx.Done()
	return nil, 0, ctx.Err()
}

// TestPlacesInTheLog: an event that is not valid and claims the id of another does
// not take its place.
func TestPlacesInTheLog(t *testing.T) {
	bundle := say(t, seed.Bundle(), ada, 0, pith.Correction{Kind: "erratum", Text: "Table 2"})
	var b struct{ Events []json.RawMessage }
	if err := json.Unmarshal(bundle, &b); err != nil {
		t.Fatal(err)
	}
	forged, err := pith.Adopt(bundle, [][]byte{bytes.Replace(b.Events[len(b.Events)-1], []byte("Table 2"), []byte("Table 3"), 1)}, nil)
	if err == nil {
		forged, err = pith.Sign(forged, ada, day)
	}
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	l.use(fill(t, bundle, forged))
	v, err := l.site.verified(context.Background(), seedSuffix)
	if err == nil {
		v, err = l.site.surrounded(context.Background(), v)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range v.History {
		if (h.Invalid != "") != (h.Seq == "3") {
			t.Errorf("the event %s, invalid %q, is said to be the one at %s", h.EventID, h.Invalid, h.Seq)
		}
	}
}

// TestDamageElsewhere: a record is shown although another one, which speaks about
// what it does, is damaged.
func TestDamageElsewhere(t *testing.T) {
	l := newLab(t)
	cites, err := l.store.Citations(context.Background(), "pith", strings.ToLower(seedSuffix), 10)
	if err != nil || len(cites) == 0 {
		t.Fatal(err)
	}
	other := cites[0].Suffix
	l.use(damagedOne{l.store, other})
	if r := get(t, l, "/pith/"+other, "Accept", "text/html"); r.StatusCode != http.StatusInternalServerError {
		t.Errorf("the damaged one: %s", r.Status)
	}
	if r := get(t, l, "/pith/"+seedSuffix, "Accept", "text/html"); r.StatusCode != http.StatusOK {
		t.Errorf("the other one: %s", r.Status)
	}
}

type damagedOne struct {
	resolver.Store
	suffix string
}

func (s damagedOne) Bundle(ctx context.Context, suffix string) (resolver.Record, []byte, error) {
	if suffix == s.suffix {
		return damaged{s.Store}.Bundle(ctx, suffix)
	}
	return s.Store.Bundle(ctx, suffix)
}

// TestDamageInLists: one record that is damaged or gone does not take the others
// out of the lists.
func TestDamageInLists(t *testing.T) {
	for name, store := range map[string]func(resolver.Store) resolver.Store{
		"damaged": func(s resolver.Store) resolver.Store { return damaged{s} },
		"gone":    func(s resolver.Store) resolver.Store { return gone{s} },
	} {
		l := newLab(t)
		l.use(store(l.store))
		if r := get(t, l, "/"); r.StatusCode != http.StatusOK {
			t.Errorf("%s: the front page: %s", name, r.Status)
		}
		if r := get(t, l, "/recent"); r.StatusCode != http.StatusOK || !bytes.Contains(body(t, r), []byte("/pith/"+seedSuffix)) {
			t.Errorf("%s: recent events: %s", name, r.Status)
		}
	}
}

type gone struct{ resolver.Store }

func (gone) Record(context.Context, string) (resolver.Record, error) {
	return resolver.Record{}, resolver.ErrNotFound
}

func (gone) Bundle(context.Context, string) (resolver.Record, []byte, error) {
	return resolver.Record{}, nil, resolver.ErrNotFound
}

type damaged struct{ resolver.Store }

func (s damaged) Bundle(ctx context.Context, suffix string) (resolver.Record, []byte, error) {
	rec, _, err := s.Store.Bundle(ctx, suffix)
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write(bytes.Replace(seed.Bundle(), []byte("Smoothing"), []byte("smoothing"), 1))
	_ = w.Close()
	return rec, z.Bytes(), err
}

func TestConfig(t *testing.T) {
	for _, base := range []string{"mirror.example", "ftp://mirror.example", "https://", "https://mirror.example/path", "https://user@mirror.example", "https://m.example?x"} {
		if _, err := New(Config{Store: twins{}, BaseURL: base}); err == nil {
			t.Errorf("%q is taken as a base address", base)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a site without store")
	}
	l := newLab(t, func(c *Config) { c.BaseURL = "" })
	if page := string(body(t, get(t, l, "http://localhost:8080/pith/"+seedSuffix))); !strings.Contains(page, "curl -sO http://localhost:8080/pith/") {
		t.Error("the recipe does not name the host that was asked")
	}
}

// TestRecipe runs what the pages tell people to run, on a mirror of another record
// than the one of the manual, too.
func TestRecipe(t *testing.T) {
	env := tools(t)
	l := newLab(t, func(c *Config) { c.BaseURL = "" })
	for _, tt := range []struct {
		path, digest string
		bundle       []byte
		exit         int // of pith verify, which knows nobody who signed the other record
	}{
		{"/pith/" + seedSuffix, "159f85e476f82c0bfe70ee62d96dc723359589aaf4c6603cb3ca31edfe59916c", canonicalSeed(t), 0},
		{"/", "", l.cited, 3},
		{"/about", "", l.cited, 3},
	} {
		l.use(fill(t, tt.bundle))
		server := httptest.NewServer(l)
		page := string(body(t, get(t, l, server.URL+tt.path)))
		_, after, _ := strings.Cut(page, "<pre>curl")
		lines, _, _ := strings.Cut("curl"+after, "</pre>")
		lines, _, _ = strings.Cut(lines, "pith mirror add") // writes to the reader's own mirror
		cmd := exec.Command("sh", "-ec", strings.ReplaceAll(html.UnescapeString(lines), "curl ", "curl -f "))
		cmd.Dir, cmd.Env = t.TempDir(), env
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != tt.exit || !strings.Contains(string(out), "valid") || !strings.Contains(string(out), tt.digest) {
			t.Errorf("%s: %v\n%s\n%s", tt.path, err, lines, out)
		}
		server.Close()
	}
}

// TestInBrowser looks at the pages in Chromium: script/axe says what is wrong
// with them. SHOTS=DIR also keeps pictures for people to look at.
func TestInBrowser(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	script, err := filepath.Abs("../../script/axe/look.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(script), "node_modules", "axe-core")); err != nil {
		t.Skip("axe-core is not installed: npm ci --prefix script/axe")
	}
	l := newLab(t, func(c *Config) { c.BaseURL = "" })
	first := suffixOf(t, l.cited)
	l.use(twins{l.store, first, first[:8] + strings.Repeat("A", 18)})
	server := httptest.NewServer(l)
	defer server.Close()
	args := []string{script, chromium}
	for _, path := range []string{"/", "/pith/" + seedSuffix, "/pith/" + suffixOf(t, l.hostile), "/pith/" + suffixOf(t, l.maths), "/about", "/recent",
		"/search", "/search?q=batch", "/search?q=" + url.QueryEscape(hostile), "/nowhere", "/pith/0000", "/pith/" + first[:8]} {
		args = append(args, server.URL+path)
	}
	if out, err := exec.Command(node, args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// canonicalSeed is the real bundle as a store keeps it.
func canonicalSeed(t testing.TB) []byte {
	t.Helper()
	b, err := pith.Canonical(seed.Bundle())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPreview serves the lab for people who change pages: PREVIEW=localhost:8099
// go test -run Preview ./resolver/web
func TestPreview(t *testing.T) {
	if os.Getenv("PREVIEW") == "" {
		t.Skip("PREVIEW names no address")
	}
	l := newLab(t, func(c *Config) { c.BaseURL = "" })
	for _, b := range [][]byte{l.rich, l.cited, l.hostile, l.maths} {
		t.Logf("http://%s/pith/%s", os.Getenv("PREVIEW"), suffixOf(t, b))
	}
	t.Error(http.ListenAndServe(os.Getenv("PREVIEW"), l))
}

// TestViewsAreOfNow: what was verified is verified once, and anew for another
// policy or another bundle.
func TestViewsAreOfNow(t *testing.T) {
	wide, narrow := labPolicy(t), pith.PinnedTrust()
	trust := wide
	l := newLab(t, func(c *Config) { c.Trust = func() *pith.Trust { return trust } })
	path := "/pith/" + seedSuffix
	page := func() string {
		t.Helper()
		text := string(body(t, get(t, l, path, "Accept", "text/html")))
		if again := string(body(t, get(t, l, path, "Accept", "text/html"))); again != text {
			t.Error("the second page is another one")
		}
		return text
	}
	believed := page()
	if l.site.views.Weight() == 0 {
		t.Error("nothing was kept")
	}
	trust = narrow
	if page() == believed {
		t.Error("the page does not follow the policy")
	}
	trust = labPolicy(t) // says the same as before
	before := l.site.views.Weight()
	if page() != believed || l.site.views.Weight() != before {
		t.Error("the same policy is taken for another one")
	}
	l.use(fill(t, say(t, l.rich, ada, 5, pith.Correction{Kind: "erratum", Text: "One more."})))
	if !strings.Contains(page(), "One more.") {
		t.Error("the page does not follow the bundle")
	}
}

// A gate holds back who reads a bundle until so many have asked for its digest.
type gate struct {
	resolver.Store
	resolver.Quick
	asked, read atomic.Int64
	open        chan struct{}
	want        int64
}

func (g *gate) Tag(ctx context.Context, suffix string) (resolver.Digest, error) {
	if g.asked.Add(1) == g.want {
		close(g.open)
	}
	return g.Quick.Tag(ctx, suffix)
}

func (g *gate) Packed(ctx context.Context, suffix string) (resolver.Digest, []byte, error) {
	<-g.open
	g.read.Add(1)
	return g.Quick.Packed(ctx, suffix)
}

// TestVerifiedOnceForMany: however many ask for a record at once, it is verified
// once, also one that is as large as a mirror takes.
func TestVerifiedOnceForMany(t *testing.T) {
	const readers = 20
	large := another(t, 9, "Large", "A. Author")
	var texts []any
	for i := range 64 { // about 1 MB
		texts = append(texts, pith.Correction{Kind: "erratum", Text: fmt.Sprint(i, strings.Repeat(" long", 3_000))})
	}
	large = say(t, large, ada, 0, texts...)
	suffix := suffixOf(t, large)
	l := newLab(t)
	store := fill(t, large)
	g := &gate{Store: store, Quick: resolver.QuickOf(store), open: make(chan struct{}), want: readers}
	l.site.store, l.site.quick = g, g
	var group sync.WaitGroup
	for range readers {
		group.Go(func() {
			if w := get(t, l, "/pith/"+suffix+"/state.json"); w.StatusCode != http.StatusOK {
				t.Errorf("status %d", w.StatusCode)
			}
		})
	}
	group.Wait()
	if n := g.read.Load(); n != 1 {
		t.Errorf("the bundle of %d bytes was read %d times, want once", len(large), n)
	}
	get(t, l, "/pith/"+suffix+".bib")
	if n := g.read.Load(); n != 1 {
		t.Errorf("and %d times after that", n-1)
	}
}

// TestRecipeOfAStranger: what a record calls its source may be any text, of which
// nothing comes into a command.
func TestRecipeOfAStranger(t *testing.T) {
	l := newLab(t)
	for source, want := range map[string]string{
		"arxiv:hep-th/9309160v2":   "/paper/hep-th/9309160v2\n",
		"arxiv:1805.07898v1":       "/paper/1805.07898v1\n",
		"arxiv:1|touch${IFS}me;v1": "",
		"osf:abcdev1":              "",
	} {
		store := memstore.New()
		update := resolver.Update{Record: resolver.Record{Suffix: seedSuffix, Source: source}, Events: []resolver.Event{{ID: "sha256:1", Suffix: seedSuffix}}}
		if _, err := store.Commit(t.Context(), []resolver.Update{update}); err != nil {
			t.Fatal(err)
		}
		l.use(store)
		page := string(body(t, get(t, l, "/")))
		_, after, _ := strings.Cut(page, "<pre>curl")
		lines, _, ok := strings.Cut(after, "</pre>")
		if got := strings.Contains(lines, "/paper/"); !ok || got != (want != "") || !strings.Contains(lines, want) {
			t.Errorf("%s: it says\n%s", source, lines)
		}
	}
}

// TestOnlyPagesLookAround: what other records say is asked for the page of a record
// alone, not for the badge that hangs everywhere.
func TestOnlyPagesLookAround(t *testing.T) {
	l := newLab(t)
	store := &aroundStore{Store: l.store}
	l.use(store)
	for path, want := range map[string]bool{"": true, ".svg": false, ".json": false, "/state.json": false, "/claims.json": false} {
		store.asked.Store(0)
		if resp := get(t, l, "/pith/"+seedSuffix+path); resp.StatusCode != http.StatusOK || store.asked.Load() > 0 != want {
			t.Errorf("%s: status %d, asked %d times for what is around it", path, resp.StatusCode, store.asked.Load())
		}
	}
}

// aroundStore counts how often it is asked for what stands around a record.
type aroundStore struct {
	resolver.Store
	asked atomic.Int64
}

func (a *aroundStore) RecordEvents(ctx context.Context, suffix string) ([]resolver.Event, error) {
	a.asked.Add(1)
	return a.Store.RecordEvents(ctx, suffix)
}

func (a *aroundStore) Citations(ctx context.Context, kind, id string, limit int) ([]resolver.Citation, error) {
	a.asked.Add(1)
	return a.Store.Citations(ctx, kind, id, limit)
}

// TestLargeBundleIsNotHeld: who reads a large bundle without compression, perhaps
// slowly, holds a piece of it.
func TestLargeBundleIsNotHeld(t *testing.T) {
	store := memstore.New()
	put := func(suffix string, body []byte, digest resolver.Digest) {
		t.Helper()
		if _, err := store.Commit(t.Context(), []resolver.Update{{Record: resolver.Record{Suffix: suffix, Digest: digest}, Bundle: resolver.Gzip(body)}}); err != nil {
			t.Fatal(err)
		}
	}
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<19)
	whole, damaged := strings.Repeat("A", 26), strings.Repeat("B", 26)
	put(whole, body, sha256.Sum256(body))
	put(damaged, body, resolver.Digest{})
	site, err := New(Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	site.Routes(mux)
	h := site.Secure(mux)
	if resp := get(t, h, "/pith/"+damaged+"/bundle.json"); resp.StatusCode != http.StatusInternalServerError {
		t.Errorf("a damaged bundle: status %d", resp.StatusCode)
	}
	resp := get(t, h, "/pith/"+whole+"/bundle.json")
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, body) || resp.Header.Get("Content-Length") != strconv.Itoa(len(body)) {
		t.Errorf("%d bytes, Content-Length %s, %v", len(got), resp.Header.Get("Content-Length"), err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	h.ServeHTTP(&nobody{http.Header{}}, httptest.NewRequest("GET", "/pith/"+whole+"/bundle.json", nil))
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > uint64(len(body))/4 {
		t.Errorf("%d bytes of memory for a bundle of %d", took, len(body))
	}
}

// nobody takes an answer and keeps nothing.
type nobody struct{ header http.Header }

func (n *nobody) Header() http.Header         { return n.header }
func (n *nobody) Write(p []byte) (int, error) { return len(p), nil }
func (n *nobody) WriteHeader(int)             {}
