package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/resolver"
)

// A hit is a record in a list.
type hit struct {
	Suffix, Number, Title, Authors, Source, Categories string
	Submitted                                          time.Time
	Events, Replications                               int
}

// A recentEvent is an event in a list.
type recentEvent struct {
	Suffix, Title, Label, Signer string
	Seq                          int64
	At                           time.Time // when this mirror accepted it
	Invalid                      pith.Code
	Superseded                   bool // by now
}

// Bounds on what a search may ask for.
const (
	maxSearch  = 200                 // bytes of the query
	maxOffset  = resolver.MaxCounted // results that can be reached
	searchPage = 20                  // results on a page
	recentPage = 50                  // events on a page
)

type searchPageData struct {
	Page           page
	Query          string
	Hits           []hit
	Offset, From   int
	Total          string // how many there are, "1000 or more"
	Previous, More string
}

// search finds records: by name, if what is asked for is one and somebody has
// it, else by words.
func (s *Site) search(w http.ResponseWriter, r *http.Request) error {
	query := strings.Join(strings.Fields(r.URL.Query().Get("q")), " ")
	if len(query) > maxSearch || !utf8.ValidString(query) {
		return &problem{status: http.StatusBadRequest, heading: "That is too much to search for", text: "A search has at most " + strconv.Itoa(maxSearch) + " bytes of text."}
	}
	offset := 0
	if text := r.URL.Query().Get("from"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > maxOffset {
			return &problem{status: http.StatusBadRequest, heading: "There is no such page of results", text: "Results can be paged through up to the " + strconv.Itoa(maxOffset) + "th. Better words find faster."}
		}
		offset = n
	}
	if n, ok := parseName(query); ok && offset == 0 {
		suffix, err := s.only(r.Context(), n)
		var p *problem
		switch {
		case err == nil:
			return redirect(w, r, "/pith/"+suffix, http.StatusFound)
		case !errors.As(err, &p) || p.status != http.StatusNotFound:
			return err
		}
	}
	data := searchPageData{Page: s.page("search", "Search", ""), Query: query, Offset: offset, From: offset + 1}
	if query != "" {
		data.Page.Title = query + " · Search"
		hits, total, err := s.searchText(r.Context(), query, searchPage, offset)
		if err != nil {
			return err
		}
		data.Hits, data.Total = hits, countWords(total)
		more := offset+len(hits) < total && len(hits) == searchPage
		at := func(from int) string {
			return "/search?" + url.Values{"q": {query}, "from": {strconv.Itoa(from)}}.Encode()
		}
		if offset > 0 {
			data.Previous = at(max(0, offset-searchPage))
		}
		if more && offset+searchPage <= maxOffset {
			data.More = at(offset + searchPage)
		}
	}
	data.Page.Title += " · " + s.cfg.Name
	return s.show(w, r, "search", data)
}

func countWords(total int) string {
	switch {
	case total == 1:
		return "One result"
	case total >= resolver.MaxCounted:
		return thousands(resolver.MaxCounted) + " results or more"
	}
	return strconv.Itoa(total) + " results"
}

// show answers with a page.
func (s *Site) show(w http.ResponseWriter, r *http.Request, name string, data any) error {
	body, err := render(name, data)
	if err != nil {
		return err
	}
	respond(w, r, document{body: body, media: "text/html; charset=utf-8"})
	return nil
}

func (s *Site) recent(w http.ResponseWriter, r *http.Request) error {
	before, err := strconv.ParseInt(firstNonEmpty(r.URL.Query().Get("before"), "0"), 10, 64)
	if err != nil || before < 0 {
		return &problem{status: http.StatusBadRequest, heading: "There is no such place in the list", text: "before is the number of an event."}
	}
	events, err := s.recentEvents(r.Context(), before, recentPage)
	if err != nil {
		return err
	}
	older := ""
	if len(events) == recentPage && events[recentPage-1].Seq > 0 {
		older = "/recent?before=" + strconv.FormatInt(events[recentPage-1].Seq, 10)
	}
	return s.show(w, r, "recent", struct {
		Page   page
		Recent []recentEvent
		Older  string
	}{s.page("recent", "Recent events · "+s.cfg.Name, "What this mirror accepted last."), events, older})
}

// example is the newest record here, if there is one, and the arXiv id of its paper, if
// it has one: what the pages tell people to run shall work on every mirror, and hold
// nothing for a shell that a stranger has written.
func (s *Site) example(ctx context.Context) (suffix, arxiv string, err error) {
	events, err := s.store.RecentEvents(ctx, 0, 1)
	if err != nil || len(events) == 0 {
		return "CWPYLZDW7AWAX7TQ5ZRNS3OHEM", "1805.07898", err
	}
	record, err := s.store.Record(ctx, events[0].Suffix)
	if err != nil && !errors.Is(err, resolver.ErrNotFound) {
		return "", "", err
	}
	if id, ok := strings.CutPrefix(record.Source, "arxiv:"); ok {
		n, _ := arxivName(id)
		arxiv = n.value
	}
	return events[0].Suffix, arxiv, nil
}

func (s *Site) front(w http.ResponseWriter, r *http.Request) error {
	events, err := s.recentEvents(r.Context(), 0, 5)
	if err != nil {
		return err
	}
	counts, err := s.store.Counts(r.Context())
	if err != nil {
		return err
	}
	suffix, arxiv, err := s.example(r.Context())
	if err != nil {
		return err
	}
	base := s.base(r)
	recipe := "curl -O " + base + "/pith/" + suffix + "/bundle.json\npith verify bundle.json"
	if arxiv != "" {
		recipe = "curl -L " + base + "/paper/" + arxiv + "\n" + recipe
	}
	return s.show(w, r, "front", struct {
		Page   page
		Counts resolver.Counts
		Recent []recentEvent
		Recipe string
	}{s.page("", "Pith · "+s.cfg.Name, "Records of papers that anyone can check: signed events about scholarly papers, served with what it takes to verify them."), counts, events, recipe})
}

// addresses are what a mirror answers, for the page about it and for docs.
var addresses = [][2]string{
	{"/pith/{number}", "the record: page, JSON-LD, record, BibTeX, RIS, CSL-JSON, RO-Crate or badge, by Accept. A number has 26, 16, 12 or 8 characters in any case; what is not the whole number in capitals is redirected, and what begins several numbers is answered with their list (300)"},
	{"/pith/{number}.json .jsonld .bib .ris .csl.json .ro-crate.json .svg .tex", "the same forms, each at an address of its own"},
	{"/pith/{number}/bundle.json", "everything signed about the record, for pith verify; also at /.well-known/pith/{number}/bundle.json"},
	{"/pith/{number}/state.json", "what the events add up to, the same on every mirror"},
	{"/pith/{number}/claims.json", "claims that were extracted by machine"},
	{"/api/pith-number/{number}/graph.json", "the newest trusted description, bare"},
	{"/paper/{arXiv id} and /p/{arXiv id}", "to the record of an arXiv paper, with or without version, of the old style too"},
	{"/doi/{DOI}", "to the record of a DOI"},
	{"/alias/{kind}/{value}", "to the record of any other name"},
	{"/search?q={words}", "records by title, author, arXiv id, category or abstract"},
	{"/recent", "the newest events"},
	{"/mcp", "the same for agents (Model Context Protocol): resolve, search, verify, history"},
	{"/pith-mirrors.json", "this mirror and others"},
	{"/pith-signing-key.json", "the key of this mirror"},
	{"/pith-trust.json", "whom it trusts, as a trust file"},
	{"/schemas/", "JSON Schemas of the formats"},
}

// otherAddresses are those that other packages answer, where a mirror has them: by
// the method and path of the first member.
var otherAddresses = [][3]string{
	{"POST /events", "POST /events", "takes an event or a bundle, and answers with a signed receipt or the reason why not; PUT takes a bundle at its address, POST /keys a key"},
	{"GET /log/checkpoint", "/pith/{number}/proof.json", "that the events of the record are in the log of this mirror"},
	{"GET /log/checkpoint", "/log/checkpoint and /log/key", "the signed root of the log of all events, and the key that checks it"},
	{"GET /export", "/export?after={event} and /stream?after={event}", "all events in the order of this mirror, with the bundles that hold them; and events as they come"},
	{"GET /objects/sha256/0", "/objects/sha256/{digest}", "an event by its id, or a bundle by its digest: bytes that never change"},
	{"GET /ranges", "/ranges?prefix={characters}", "digests of ranges of records, for pith compare"},
	{"GET /archive/manifest.json", "/archive/manifest.json", "all bundles as files, for pith archive clone"},
	{"GET /_health", "/_health", "how far this mirror is, and how far behind those that it copies"},
}

type upstreamRow struct {
	URL     string
	Cursor  int64
	Lag     string
	At, Err string
}

func (s *Site) about(w http.ResponseWriter, r *http.Request) error {
	counts, err := s.store.Counts(r.Context())
	if err != nil {
		return err
	}
	data := struct {
		Page                    page
		Mirror, Operator        string
		Counts                  resolver.Counts
		Upstreams               []upstreamRow
		KeyName, KeyFingerprint string
		Trusted                 []trustedKey
		Recipe                  string
		Addresses               [][2]string
	}{Page: s.page("about", "About · "+s.cfg.Name, "Keys, policy, counts and addresses of this mirror."), Mirror: s.cfg.Name, Operator: s.cfg.Operator, Counts: counts, Addresses: slices.Clone(addresses)}
	for _, a := range otherAddresses {
		method, path, _ := strings.Cut(a[0], " ")
		if strings.Contains(methods(s.mux, &http.Request{Method: method, URL: &url.URL{Path: path}}), method) {
			data.Addresses = append(data.Addresses, [2]string{a[1], a[2]})
		}
	}
	if data.Trusted, err = s.trustedKeys(); err != nil {
		return err
	}
	if k := s.cfg.Key; k != nil {
		data.KeyName, data.KeyFingerprint = k.Signer.ID+", "+k.Signer.KeyID, k.Fingerprint()
	}
	if s.cfg.Upstreams != nil {
		for _, u := range s.cfg.Upstreams(r.Context()) {
			lag := "nothing"
			if u.Lag >= time.Second {
				lag = u.Lag.Round(time.Second).String()
			}
			data.Upstreams = append(data.Upstreams, upstreamRow{u.URL, u.Cursor, lag, u.At, u.Err})
		}
	}
	suffix, _, err := s.example(r.Context())
	if err != nil {
		return err
	}
	base := s.base(r)
	data.Recipe = "curl -sO " + base + "/pith/" + suffix + "/bundle.json && pith verify bundle.json\n" +
		"pith mirror add --all " + base + " && pith mirror sync   # a mirror of your own"
	return s.show(w, r, "about", data)
}
