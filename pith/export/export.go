package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/openpith/evidence/pith"
)

// ErrRejected reports a result that is not valid in structure and cryptography.
var ErrRejected = errors.New("the bundle is not valid, so it is not exported")

// ErrNoMetadata reports a record about which no trusted signer says anything:
// title and abstract could be checked by their digests, authors could not.
var ErrNoMetadata = errors.New("no trusted signer describes the paper")

// A Record is what there is to say about a paper elsewhere.
type Record struct {
	PithNumber string // pith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM
	SHA256     string // of the canonical record
	Title      string // as in the source, with its TeX
	Authors    []string
	Abstract   string // an excerpt when Excerpt is true
	Excerpt    bool
	License    string // an address, or ""
	Categories []string
	Submitted  time.Time
	SourceKind string // arxiv
	SourceID   string // 1805.07898
	Version    string // decimal digits

	// Withdrawals by trusted signers, and how many there are by others: those say
	// nothing here, or anybody could write into the citations of a paper.
	Withdrawals []Withdrawal
	Doubtful    int
}

// A Withdrawal takes the paper back, or one claim of it.
type Withdrawal struct {
	Kind  string // withdrawal or retraction
	Claim string // "" for the whole paper
	By    string
	At    time.Time
	Text  string
}

// words gives the withdrawal in one sentence.
func (w Withdrawal) words() string {
	what := strings.ToUpper(w.Kind)
	if w.Claim != "" {
		what += " of claim " + w.Claim
	}
	return fmt.Sprintf("%s by %s on %s: %s", what, w.By, w.At.Format(time.DateOnly), w.Text)
}

// status is RETRACTED or WITHDRAWN when the whole paper was, else "".
func (r *Record) status() string {
	status := ""
	for _, w := range r.Withdrawals {
		switch {
		case w.Claim != "":
		case w.Kind == "retraction":
			return "RETRACTED"
		default:
			status = "WITHDRAWN"
		}
	}
	return status
}

// heading is the title, marked as publishers do when the paper was taken back: of
// all that a citation says, the title is what is printed.
func (r *Record) heading() string {
	if status := r.status(); status != "" {
		return status + ": " + r.Title
	}
	return r.Title
}

// taken says who has taken the paper back, a sentence each.
func (r *Record) taken() []string {
	var out []string
	for _, w := range r.Withdrawals {
		out = append(out, w.words())
	}
	switch {
	case r.Doubtful == 1:
		out = append(out, "One signer who is not trusted says that the paper is withdrawn or retracted; pith log tells who")
	case r.Doubtful > 1:
		out = append(out, fmt.Sprintf("%d events by signers who are not trusted say that the paper is withdrawn or retracted; pith log tells whose", r.Doubtful))
	}
	return out
}

// Alphabetical is what must be said wherever authors are listed.
const Alphabetical = "Authors in alphabetical order of given names, as in the source; not the order of the byline"

type graphSnapshot struct {
	Graph struct {
		Paper struct {
			Title      string   `json:"title"`
			License    string   `json:"license"`
			CrossCats  []string `json:"cross_cats"`
			PrimaryCat string   `json:"primary_cat"`
			Authors    string   `json:"authors_text"`
			Submitted  string   `json:"submitted_at"`
			Abstract   string   `json:"abstract_excerpt"`
		} `json:"paper"`
	} `json:"graph_snapshot"`
}

// New picks from a result what its newest trusted graph snapshot says. Errors
// are ErrRejected and ErrNoMetadata.
func New(r *pith.Result) (*Record, error) {
	if r.Structure() != pith.Valid {
		return nil, ErrRejected
	}
	rec := &Record{PithNumber: r.PithNumber, SHA256: r.SHA256, SourceKind: r.SourceKind, SourceID: r.SourceID, Version: r.Version}
	described := false
	for _, s := range r.History {
		// Anybody can sign a description; the authors in it are covered by no digest.
		if s.Type != pith.TypeGraphSnapshot || s.Invalid != "" || s.Superseded || !s.Trusted {
			continue
		}
		var p graphSnapshot
		if err := pith.Decode(s.Payload, &p); err != nil {
			return nil, fmt.Errorf("event %s: %w", s.EventID, err)
		}
		described = true
		paper := p.Graph.Paper
		rec.Title, rec.License, rec.Abstract = visible(paper.Title), license(paper.License), visible(paper.Abstract)
		rec.Excerpt = len([]rune(paper.Abstract)) >= 600
		rec.Categories = slices.DeleteFunc(append([]string{paper.PrimaryCat}, paper.CrossCats...), func(c string) bool { return !category.MatchString(c) })
		rec.Authors = splitAuthors(visible(paper.Authors))
		rec.Submitted, _ = time.Parse(time.RFC3339, paper.Submitted)
	}
	if !described {
		return nil, ErrNoMetadata
	}
	for _, t := range r.Withdrawals() {
		if t.Trusted {
			rec.Withdrawals = append(rec.Withdrawals, Withdrawal{t.Kind, visible(t.Claim), visible(t.Signer.ID), t.CreatedAt, visible(t.Text)})
		} else {
			rec.Doubtful++
		}
	}
	return rec, nil
}

// visible drops what steers terminals and readers instead of being read: control
// characters, which become spaces, and marks of writing direction.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r):
			return ' '
		case 0x202a <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069:
			return -1
		}
		return r
	}, s)
}

// license returns an address of the web, or "". Formats link to it.
func license(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || visible(s) != s || strings.ContainsAny(s, " <>\"{}") {
		return ""
	}
	return s
}

func splitAuthors(text string) []string {
	var out []string
	for _, name := range strings.Split(text, ",") {
		if name = strings.Join(strings.Fields(name), " "); name != "" {
			out = append(out, name)
		}
	}
	return out
}

// Formats are the names that Format knows.
var Formats = []string{"json-ld", "bibtex", "csl-json", "ris", "ro-crate"}

// Format writes the record in the format of that name.
func (r *Record) Format(name string) ([]byte, error) {
	switch name {
	case "json-ld":
		return r.JSONLD()
	case "bibtex":
		return r.BibTeX(), nil
	case "csl-json":
		return r.CSLJSON()
	case "ris":
		return r.RIS(), nil
	case "ro-crate":
		return r.ROCrate()
	}
	return nil, fmt.Errorf("format %q is not one of %s", name, strings.Join(Formats, ", "))
}

// suffix are the 26 characters of the number.
func (r *Record) suffix() string { return r.PithNumber[strings.LastIndexByte(r.PithNumber, ':')+1:] }

// URL is where pith.science shows the record.
func (r *Record) URL() string { return "https://pith.science/pith/" + r.suffix() }

// arXivID is how identifiers of arXiv look, new and old; category, its subjects.
// What looks otherwise is not written where a format expects one.
var (
	arXivID  = regexp.MustCompile(`^(?:[0-9]{4}\.[0-9]{4,5}|[a-z-]+(?:\.[A-Z]{2})?/[0-9]{7})$`)
	category = regexp.MustCompile(`^[A-Za-z][A-Za-z.-]*$`)
)

func (r *Record) isArXiv() bool { return r.SourceKind == "arxiv" && arXivID.MatchString(r.SourceID) }

// DOI is that of the source, "" if it gives none.
func (r *Record) DOI() string {
	if !r.isArXiv() {
		return ""
	}
	return "10.48550/arXiv." + r.SourceID
}

// abstract is the abstract, marked when it is cut off.
func (r *Record) abstract() string {
	text := Plain(strings.Join(strings.Fields(r.Abstract), " "))
	if r.Excerpt {
		text += " […]"
	}
	return text
}

// note says in one paragraph what the fields of a format cannot.
func (r *Record) note(plain func(string) string) string {
	note := ""
	for _, sentence := range r.taken() {
		note += plain(strings.TrimRight(sentence, ".")) + ". "
	}
	note += "Pith Number " + r.PithNumber + "."
	if len(r.Authors) > 0 {
		names := make([]string, len(r.Authors))
		for i, a := range r.Authors {
			names[i] = plain(a)
		}
		note += " " + Alphabetical + ": " + strings.Join(names, "; ") + "."
	}
	return note
}

// BibTeX writes an entry of type misc, without author field.
func (r *Record) BibTeX() []byte {
	var out strings.Builder
	fmt.Fprintf(&out, "@misc{pith-%s,\n", r.suffix()[:8])
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&out, "  %-13s = {%s},\n", name, value)
		}
	}
	field("title", "{"+texSafe(r.heading())+"}")
	field("year", strconv.Itoa(r.Submitted.Year()))
	field("month", strconv.Itoa(int(r.Submitted.Month())))
	if r.isArXiv() {
		field("eprint", r.SourceID)
		field("archiveprefix", "arXiv")
		if len(r.Categories) > 0 {
			field("primaryclass", r.Categories[0])
		}
	}
	field("doi", r.DOI())
	field("url", r.URL())
	field("note", r.note(texSafe))
	out.WriteString("}\n")
	return []byte(out.String())
}

// RIS writes an unpublished work, without author field.
func (r *Record) RIS() []byte {
	var out strings.Builder
	field := func(tag, value string) {
		if value = strings.Join(strings.Fields(value), " "); value != "" || tag == "ER" {
			fmt.Fprintf(&out, "%s  - %s\r\n", tag, value)
		}
	}
	field("TY", "UNPB")
	field("ID", r.PithNumber)
	field("TI", Plain(r.heading()))
	field("PY", strconv.Itoa(r.Submitted.Year()))
	field("DA", r.Submitted.Format("2006/01/02"))
	field("DO", r.DOI())
	field("UR", r.URL())
	for _, c := range r.Categories {
		field("KW", c)
	}
	field("AB", r.abstract())
	field("N1", r.note(Plain))
	field("ER", "")
	return []byte(out.String())
}

// object is JSON under construction; encoding/json sorts its names.
type object = map[string]any

func indent(v any) ([]byte, error) {
	var out strings.Builder
	e := json.NewEncoder(&out) // escapes <, so the text may stand in a page
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return []byte(out.String()), err
}

// CSLJSON writes a list of one item, without author.
func (r *Record) CSLJSON() ([]byte, error) {
	item := object{
		"id": r.PithNumber, "type": "article", "genre": "preprint",
		"title":  Plain(r.heading()),
		"issued": object{"date-parts": [][]int{{r.Submitted.Year(), int(r.Submitted.Month()), r.Submitted.Day()}}},
		"URL":    r.URL(), "abstract": r.abstract(), "note": r.note(Plain),
		"custom": object{"pith_number": r.PithNumber, "canonical_sha256": r.SHA256, "authors_alphabetical": r.plainAuthors()},
	}
	if status := r.status(); status != "" {
		item["status"] = strings.ToLower(status)
	}
	if doi := r.DOI(); doi != "" {
		item["DOI"], item["number"], item["publisher"] = doi, "arXiv:"+r.SourceID, "arXiv"
	}
	return indent([]object{item})
}

func (r *Record) plainAuthors() []string {
	names := []string{}
	for _, a := range r.Authors {
		names = append(names, Plain(a))
	}
	return names
}

// article is the paper in the vocabulary of schema.org.
func (r *Record) article() object {
	identifier := func(kind, value string) object {
		return object{"@type": "PropertyValue", "propertyID": kind, "value": value}
	}
	persons := []object{}
	for _, name := range r.plainAuthors() {
		persons = append(persons, object{"@type": "Person", "name": name})
	}
	a := object{
		"@id": r.URL(), "@type": "ScholarlyArticle", "url": r.URL(),
		"name": Plain(r.Title), "headline": Plain(r.heading()),
		"datePublished": r.Submitted.Format(time.DateOnly),
		"abstract":      r.abstract(), "keywords": r.Categories,
		"author": persons, "comment": object{"@type": "Comment", "text": "author is a set. " + Alphabetical + "."},
	}
	identifiers := []object{identifier("pith", r.PithNumber), identifier("sha256", r.SHA256)}
	if doi := r.DOI(); doi != "" {
		identifiers = append(identifiers, identifier("doi", doi), identifier("arxiv", r.SourceID+"v"+r.Version))
		a["sameAs"] = []string{"https://doi.org/" + doi, "https://arxiv.org/abs/" + r.SourceID}
		a["version"] = json.Number(r.Version)
	}
	a["identifier"] = identifiers
	if r.License != "" {
		a["license"] = r.License
	}
	if status := r.status(); status != "" {
		a["creativeWorkStatus"] = status[:1] + strings.ToLower(status[1:])
	}
	corrections := []object{}
	for _, sentence := range r.taken() {
		corrections = append(corrections, object{"@type": "CorrectionComment", "text": Plain(sentence)})
	}
	if len(corrections) > 0 {
		a["correction"] = corrections
	}
	return a
}

// JSONLD writes a ScholarlyArticle of schema.org.
func (r *Record) JSONLD() ([]byte, error) {
	a := r.article()
	a["@context"] = "https://schema.org"
	return indent(a)
}

// ROCrate writes the metadata file of a detached RO-Crate 1.2: the article and
// the bundle that vouches for it, at their addresses.
func (r *Record) ROCrate() ([]byte, error) {
	article := r.article()
	comment := article["comment"].(object)
	comment["@id"] = "#order-of-authors"
	article["comment"] = object{"@id": comment["@id"]}
	article["@id"] = r.URL() + "#article"
	graph := []object{}
	refs := []object{}
	for i, p := range article["author"].([]object) {
		p["@id"] = "#author-" + strconv.Itoa(i+1) + "-of-a-set"
		refs = append(refs, object{"@id": p["@id"]})
		graph = append(graph, p)
	}
	article["author"] = refs
	identifiers := []object{}
	for _, p := range article["identifier"].([]object) {
		p["@id"] = "#" + p["propertyID"].(string)
		identifiers = append(identifiers, object{"@id": p["@id"]})
		graph = append(graph, p)
	}
	article["identifier"] = identifiers
	if corrections, ok := article["correction"].([]object); ok {
		taken := []object{}
		for i, c := range corrections {
			c["@id"] = "#correction-" + strconv.Itoa(i+1)
			taken = append(taken, object{"@id": c["@id"]})
			graph = append(graph, c)
		}
		article["correction"] = taken
	}
	root := object{
		"@id": r.URL(), "@type": "Dataset",
		"name":          "Pith record of " + Plain(r.heading()),
		"description":   "The signed events about " + r.PithNumber + ", and the paper they are about.",
		"datePublished": r.Submitted.Format(time.DateOnly),
		"mainEntity":    object{"@id": article["@id"]},
		"hasPart":       []object{{"@id": r.URL() + "/bundle.json"}},
		"mentions":      []object{{"@id": article["@id"]}},
		"identifier":    identifiers[:1],
	}
	if r.License != "" && !strings.HasPrefix(r.License, r.URL()) { // whose names are taken
		root["license"] = object{"@id": r.License}
		article["license"] = object{"@id": r.License}
		graph = append(graph, object{"@id": r.License, "@type": "CreativeWork", "name": "License of the paper"})
	}
	return indent(object{
		"@context": "https://w3id.org/ro/crate/1.2/context",
		"@graph": slices.Concat([]object{
			{"@id": "ro-crate-metadata.json", "@type": "CreativeWork", "about": object{"@id": r.URL()}, "conformsTo": object{"@id": "https://w3id.org/ro/crate/1.2"}},
			root,
			article,
			{"@id": r.URL() + "/bundle.json", "@type": "File", "name": "Pith bundle", "encodingFormat": "application/json"},
			comment,
		}, graph),
	})
}
