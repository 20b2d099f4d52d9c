package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/openpith/evidence/internal/lru"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/spec/schema"
)

// A Config says what is served, and in whose name. Store is required.
type Config struct {
	Store resolver.Store

	// Trust returns the policy that pages and documents report, as it is now; nil
	// stands for pith.PinnedTrust.
	Trust func() *pith.Trust

	// Key is the public key with which this mirror signs unions of bundles and
	// its checkpoints; nil when it signs nothing.
	Key *pith.PublicKey

	Name     string // of the mirror, as pages show it; "" for the host of BaseURL
	BaseURL  string // "https://mirror.example"; "" for the host that was asked
	Operator string // who runs it, "" to say nothing

	// Upstreams tells where the mirror copies from, nil for nowhere.
	Upstreams func(context.Context) []Upstream
	// Mirrors are others that the manifest lists beside this one.
	Mirrors []Mirror

	Log *slog.Logger // nil is slog.Default
}

// An Upstream is a mirror that this one copies.
type Upstream struct {
	URL    string
	Cursor int64         // events read
	Lag    time.Duration // since this mirror had all that the upstream had
	At     string        // when it last answered, in words, "" for never
	Err    string        // what went wrong last, "" for nothing
}

// A Mirror is an entry of the mirror manifest, in the published form.
type Mirror struct {
	Name             string          `json:"name"`
	MirrorType       string          `json:"mirror_type"` // "https"
	BaseURL          string          `json:"base_url"`
	BundlePattern    string          `json:"bundle_pattern"` // with {suffix}
	StatePattern     string          `json:"state_pattern"`
	WellKnownPattern string          `json:"well_known_pattern"`
	PublicKey        *pith.PublicKey `json:"public_key"` // null when it signs nothing
	Status           string          `json:"status"`     // "primary" or "mirror"
}

// MirrorAt describes a mirror at an address by the patterns that all mirrors
// share. Without a name it goes by its host.
func MirrorAt(name, baseURL, status string, key *pith.PublicKey) Mirror {
	baseURL = strings.TrimRight(baseURL, "/")
	if u, err := url.Parse(baseURL); name == "" && err == nil {
		name = u.Host
	}
	return Mirror{name, "https", baseURL, baseURL + "/pith/{suffix}/bundle.json", baseURL + "/pith/{suffix}/state.json",
		baseURL + "/.well-known/pith/{suffix}/bundle.json", key, status}
}

// A Site answers everybody who reads.
type Site struct {
	cfg      Config
	store    resolver.Store
	quick    resolver.Quick
	trust    func() *pith.Trust
	started  time.Time
	mcp      http.Handler
	schemas  []string
	mux      *http.ServeMux // where else a mirror answers
	views    *lru.Cache[viewKey, *recordView]
	replaced *lru.Cache[resolver.Digest, []string] // events that were, by the bundle that says so
	flights  singleflight.Group                    // one verification of each at a time
	memory   *semaphore.Weighted                   // bytes that views take while they are made
	policy   atomic.Pointer[namedPolicy]           // the newest

	searching  *semaphore.Weighted // searches at once
	searchTime time.Duration
}

// New returns a site. It fails when the configuration contradicts itself.
func New(cfg Config) (*Site, error) {
	if cfg.Store == nil {
		return nil, errors.New("web: a site needs a store")
	}
	cfg.BaseURL = strings.TrimRight(cfg.BaseURL, "/")
	if cfg.BaseURL != "" {
		u, err := url.Parse(cfg.BaseURL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
			return nil, fmt.Errorf("web: the base address %q is not like https://mirror.example", cfg.BaseURL)
		}
		cfg.Name = cmp.Or(cfg.Name, u.Host)
	}
	cfg.Name = cmp.Or(cfg.Name, "a mirror")
	if cfg.Trust == nil {
		pinned := pith.PinnedTrust()
		cfg.Trust = func() *pith.Trust { return pinned }
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Site{cfg: cfg, store: cfg.Store, quick: resolver.QuickOf(cfg.Store), trust: cfg.Trust, started: time.Now(),
		views: lru.NewUneven[viewKey, *recordView](viewBytes, viewBytes/2), replaced: lru.New[resolver.Digest, []string](1 << 14), memory: semaphore.NewWeighted(makingBytes),
		searching: newSearching(), searchTime: searchTime}
	if err := s.listSchemas(); err != nil {
		return nil, err
	}
	s.mcp = s.agentHandler()
	return s, nil
}

// Routes registers everything that is read with GET and HEAD, and /mcp.
func (s *Site) Routes(mux *http.ServeMux) {
	s.mux = mux
	handle := func(pattern string, h func(http.ResponseWriter, *http.Request) error) {
		mux.Handle("GET "+pattern, s.handler(h))
	}
	handle("/{$}", s.front)
	handle("/search", s.search)
	handle("/number", func(w http.ResponseWriter, r *http.Request) error { return redirect(w, r, "/about", http.StatusFound) })
	handle("/recent", s.recent)
	handle("/about", s.about)

	mux.HandleFunc(bundlePattern, s.bundle)
	mux.HandleFunc("GET /.well-known/pith/{id}/bundle.json", s.bundle)
	handle("/pith/{id}", s.record)
	handle("/pith/{id}/state.json", s.state)
	handle("/pith/{id}/claims.json", s.document(claims))
	handle("/pith/{id}/graph.json", s.document(graph))
	handle("/api/pith-number/{id}/graph.json", s.document(graph))
	handle("/pith/{rest...}", s.otherName) // old arXiv ids have a slash

	handle("/paper/{rest...}", s.otherName)
	handle("/p/{rest...}", s.otherName)
	handle("/doi/{rest...}", s.otherName)
	handle("/alias/{kind}/{rest...}", s.alias)

	handle("/pith-signing-key.json", s.signingKey)
	handle("/pith-trust.json", s.trustFile)
	handle("/pith-mirrors.json", s.manifest)
	handle("/schemas/{rest...}", s.schema)
	handle("/favicon.svg", func(w http.ResponseWriter, r *http.Request) error {
		respond(w, r, document{body: favicon, media: "image/svg+xml", cache: cacheForever})
		return nil
	})
	handle("/robots.txt", func(w http.ResponseWriter, r *http.Request) error {
		respond(w, r, document{body: []byte("User-agent: *\nDisallow: /search\n"), media: "text/plain; charset=utf-8"})
		return nil
	})
	mux.Handle("/mcp", s.mcp)
	// Without a method, so that it gives way to whatever else is mounted.
	mux.Handle("/", s.handler(func(w http.ResponseWriter, r *http.Request) error {
		if allow := methods(mux, r); allow != "" {
			w.Header().Set("Allow", allow)
			return &problem{status: http.StatusMethodNotAllowed, heading: "Nothing is taken here", text: "This address does not take " + clip(r.Method, 20) + ", but " + allow + ". Events go to POST /events.", elsewhere: link{"Every address:", "/about#addresses"}}
		}
		return &problem{status: http.StatusNotFound, heading: "There is no such page", text: "The address is not one that this mirror knows.", elsewhere: link{"Every address:", "/about#addresses"}}
	}))
}

// methods are those by which something else than the last resort answers at the
// address of a request, "" if there are none.
func methods(mux *http.ServeMux, r *http.Request) string {
	var allow []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut} {
		other := *r
		other.Method = method
		if _, pattern := mux.Handler(&other); pattern != "/" {
			allow = append(allow, method)
		}
	}
	return strings.Join(allow, ", ")
}

// handler turns an error into an answer.
func (s *Site) handler(h func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// page is the frame of a page.
func (s *Site) page(at, title, description string) page {
	return page{Title: title, Description: description, Mirror: s.cfg.Name, At: at}
}

// goodHost reports whether a Host header is one that may stand in our links.
func goodHost(host string) bool {
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == ':', c == '-', c == '[', c == ']':
		default:
			return false
		}
	}
	return host != "" && len(host) <= 255
}

// base is the address under which this mirror is reached.
func (s *Site) base(r *http.Request) string {
	switch {
	case s.cfg.BaseURL != "":
		return s.cfg.BaseURL
	case r == nil || !goodHost(r.Host):
		return "" // addresses without a host lead to whoever was asked
	case r.TLS != nil:
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

func redirect(w http.ResponseWriter, r *http.Request, to string, status int) error {
	h := w.Header()
	if status != http.StatusMovedPermanently {
		h["Cache-Control"] = []string{"no-cache"} // a short number may become ambiguous tomorrow
	}
	h.Set("Location", to)
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		fmt.Fprintln(w, to)
	}
	return nil
}

// A problem is an answer that is not what was asked for, with what to do.
type problem struct {
	status    int
	heading   string
	text      string
	offers    []offer
	hits      []hit // candidates
	cut       bool  // there are more candidates
	elsewhere link
}

func (p *problem) Error() string { return p.heading + ": " + p.text }

// fail answers with a page to those who ask for pages, else with a problem
// document (RFC 9457).
func (s *Site) fail(w http.ResponseWriter, r *http.Request, err error) {
	var p *problem
	if !errors.As(err, &p) {
		if r.Context().Err() != nil {
			return // the reader has gone
		}
		s.cfg.Log.Error("cannot answer", "path", r.URL.Path, "err", err)
		p = &problem{status: http.StatusInternalServerError, heading: "This mirror has a fault", text: "It could not answer, through no fault of yours. The operator's log says why; other mirrors may have the record."}
		if errors.Is(err, errRejected) {
			p.text = "What it has stored of this record does not verify, so it shows nothing of it. The operator should run pith fsck; other mirrors may have the record."
		}
	}
	d := document{status: p.status, cache: cacheNot, vary: varyBoth}
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		title := p.heading
		data := struct {
			Page page
			*errorFields
		}{s.page("", title, ""), &errorFields{p.status, http.StatusText(p.status), p.heading, p.text, p.offers, p.elsewhere, p.hits, p.cut}}
		name := "error"
		if p.hits != nil {
			name = "choice"
		}
		if d.body, err = render(name, data); err != nil {
			s.cfg.Log.Error("cannot render", "err", err)
		}
		d.media = "text/html; charset=utf-8"
	} else {
		doc := object{"type": "about:blank", "status": p.status, "title": p.heading, "detail": p.text}
		if p.offers != nil {
			var list []object
			for _, o := range p.offers {
				list = append(list, object{"name": o.Name, "type": o.Type, "url": s.base(r) + o.URL})
			}
			doc["available"] = list
		}
		if p.hits != nil {
			doc["candidates"], doc["more"] = s.candidates(r, p.hits), p.cut
		}
		if p.elsewhere.URL != "" {
			doc["see"] = p.elsewhere.URL
		}
		d.body, _ = indent(doc) // strings and numbers
		d.media = "application/problem+json"
	}
	for _, h := range p.hits {
		d.links = append(d.links, "<"+s.base(r)+"/pith/"+h.Suffix+`>; rel="alternate"`)
	}
	for _, o := range p.offers {
		d.links = append(d.links, "<"+s.base(r)+o.URL+`>; rel="alternate"; type="`+strings.ReplaceAll(o.Type, `"`, `\"`)+`"`)
	}
	respond(w, r, d)
}

type errorFields struct {
	Status     int
	StatusText string
	Heading    string
	Text       string
	Offers     []offer
	Elsewhere  link
	Hits       []hit
	Cut        bool
}

func (s *Site) candidates(r *http.Request, hits []hit) []object {
	list := []object{}
	for _, h := range hits {
		list = append(list, object{"pith_number": h.Number, "title": h.Title, "source": h.Source, "url": s.base(r) + "/pith/" + h.Suffix})
	}
	return list
}

// signingKey is the document of this mirror's own key. Where pith.science
// publishes it, its text is not known; the entry is that of public_keys in a
// bundle (spec §8.1).
func (s *Site) signingKey(w http.ResponseWriter, r *http.Request) error {
	if s.cfg.Key == nil {
		return &problem{status: http.StatusNotFound, heading: "This mirror signs nothing", text: "It serves bundles as their signers made them. Their keys stand in each bundle under public_keys.", elsewhere: link{"The key of pith.science is at", "https://pith.science/pith-signing-key.json"}}
	}
	key, err := json.Marshal(s.cfg.Key)
	if err != nil {
		return err
	}
	respond(w, r, document{body: append(key, '\n'), media: "application/json"})
	return nil
}

// manifest lists this mirror and those that it was told of, in the form in which
// pith.science publishes its list.
func (s *Site) manifest(w http.ResponseWriter, r *http.Request) error {
	body, err := indent(object{
		"manifest_type": "pith_mirror_manifest", "version": "1.0",
		"generated_at":  s.started.UTC().Format(time.RFC3339), // the list changes with the configuration alone
		"merge_version": pith.MergeVersion,
		"mirrors":       append([]Mirror{MirrorAt(s.cfg.Name, s.base(r), "mirror", s.cfg.Key)}, s.cfg.Mirrors...),
		"notes":         "Any conforming mirror may host bundles. The state of a record comes from the merge of its events, never from trusting this list.",
	})
	if err != nil {
		return err
	}
	respond(w, r, document{body: body, media: "application/json"})
	return nil
}

// A trustedKey is a row of the policy, for the page about the mirror.
type trustedKey struct{ ID, Type, Fingerprint, May, Window string }

// trustFile is the policy, for pith verify --trust.
func (s *Site) trustFile(w http.ResponseWriter, r *http.Request) error {
	respond(w, r, document{body: append(s.trust().JSON(), '\n'), media: "application/json"})
	return nil
}

func (s *Site) trustedKeys() ([]trustedKey, error) {
	var policy struct {
		Signers []struct {
			Fingerprint string   `json:"fingerprint"`
			ID          string   `json:"signer_id"`
			Type        string   `json:"signer_type"`
			Events      []string `json:"event_types"`
			Bundles     bool     `json:"bundles"`
			From        string   `json:"valid_from"`
			Until       string   `json:"valid_until"`
		} `json:"signers"`
	}
	if err := json.Unmarshal(s.trust().JSON(), &policy); err != nil {
		return nil, fmt.Errorf("the policy as JSON: %w", err)
	}
	var rows []trustedKey
	for _, k := range policy.Signers {
		row := trustedKey{ID: k.ID, Type: k.Type, Fingerprint: k.Fingerprint, May: strings.ReplaceAll(strings.Join(k.Events, ", "), "_", " ")}
		if slices.Contains(k.Events, "*") {
			row.May = "events of all types"
		}
		if k.Bundles {
			row.May = strings.TrimPrefix(row.May+", bundles", ", ")
		}
		if k.From != "" {
			row.Window = "from " + k.From
		}
		if k.Until != "" {
			row.Window = strings.TrimSpace(row.Window + " until " + k.Until)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (s *Site) listSchemas() error {
	return fs.WalkDir(schema.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			s.schemas = append(s.schemas, name)
		}
		return err
	})
}

// foreignSchemas are those that pith.science names. Their texts are not made up here.
var foreignSchemas = []string{"pith-number/v1.json", "pith-integrity/v1.json", "pith-integrity-event/v1.json"}

// schema serves the JSON Schemas of this implementation.
func (s *Site) schema(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("rest")
	if name == "" {
		list := []string{}
		for _, n := range s.schemas {
			list = append(list, s.base(r)+"/schemas/"+n)
		}
		body, err := indent(object{"schemas": list})
		if err != nil {
			return err
		}
		respond(w, r, document{body: body, media: "application/json"})
		return nil
	}
	if !slices.Contains(s.schemas, path.Clean(name)) {
		p := &problem{status: http.StatusNotFound, heading: "There is no such schema", text: "This mirror serves the schemas of its own specification.", elsewhere: link{"They are listed at", "/schemas/"}}
		if slices.Contains(foreignSchemas, name) {
			p.elsewhere = link{"That one is named by pith.science, and would be at", "https://pith.science/schemas/" + name}
		}
		return p
	}
	body, err := schema.Files.ReadFile(path.Clean(name))
	if err != nil {
		return err
	}
	respond(w, r, document{body: body, media: "application/schema+json"})
	return nil
}
