package web

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/export"
	"github.com/openpith/evidence/resolver"
)

// maxCandidates is how many records an ambiguous name lists.
const maxCandidates = 20

// canonical finds the record that a path means. id is what stands in the path
// in place of the 26 characters; redirects put the number there. When it
// returns false the answer is written or err says what it is.
func (s *Site) canonical(w http.ResponseWriter, r *http.Request, id string) (suffix string, ok bool, err error) {
	number, looksLike := pithID(id)
	if looksLike && len(number) == 26 {
		if number == id {
			return id, true, nil
		}
		return "", false, redirect(w, r, replaceID(r.URL.Path, id, number), http.StatusMovedPermanently)
	}
	n, known := name{"pith", number}, looksLike
	if !known {
		n, known = parseName(id)
	}
	if !known {
		return "", false, &problem{status: http.StatusBadRequest, heading: "This is not a number that could exist",
			text:      "A Pith Number has 26 characters out of A–Z and 2–7; its first 8, 12 or 16 do as well. arXiv ids and DOIs find their records at /paper/… and /doi/….",
			elsewhere: link{"Search by title, author or id:", "/search"}}
	}
	suffix, err = s.only(r.Context(), n)
	if err != nil {
		return "", false, err
	}
	return "", false, redirect(w, r, replaceID(r.URL.Path, id, suffix), http.StatusFound)
}

// replaceID puts another id into a path.
func replaceID(path, id, suffix string) string {
	before, after, _ := strings.Cut(path, id)
	return before + suffix + after
}

// only finds the one record that goes by a name. Several are an answer of their
// own: this mirror lists them and never chooses.
func (s *Site) only(ctx context.Context, n name) (string, error) {
	hits, more, err := s.find(ctx, n, maxCandidates)
	switch {
	case err != nil:
		return "", err
	case len(hits) == 1:
		return hits[0].Suffix, nil
	case len(hits) > 1:
		text := "Their numbers begin alike, which happens by chance. Choose one, or write more of its number."
		if n.kind != "pith" {
			text = "Several records say to be about this paper: versions of it have records of their own. Choose one; this mirror does not."
		}
		return "", &problem{status: http.StatusMultipleChoices, heading: n.value + " is the name of several records", text: text, hits: hits, cut: more}
	}
	return "", s.absent(n)
}

// absent says that this mirror has no such record, and who may have it.
func (s *Site) absent(n name) error {
	p := &problem{status: http.StatusNotFound, heading: "This mirror does not have that record", text: "Nothing here goes by " + n.value + ". That says nothing about whether the record exists: other mirrors may have it."}
	switch n.kind {
	case "pith":
		p.elsewhere = link{"The record would be at", "https://pith.science/pith/" + n.value}
	case "arxiv", "arxiv_version":
		p.elsewhere = link{"The paper would be at", "https://arxiv.org/abs/" + pathEscape(n.value)}
	case "doi":
		p.elsewhere = link{"The paper would be at", "https://doi.org/" + pathEscape(n.value)}
	}
	return p
}

// bundle serves the bytes that the store keeps: compressed once, when they were
// stored, and handed on as they are. It is the address that mirrors, agents and
// verifiers ask for, so it does nothing else.
func (s *Site) bundle(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if number, ok := pithID(id); !ok || len(id) != 26 || number != id {
		s.handler(func(w http.ResponseWriter, r *http.Request) error {
			_, _, err := s.canonical(w, r, id)
			return err
		}).ServeHTTP(w, r)
		return
	}
	if err := s.serveBundle(w, r, id); err != nil {
		s.fail(w, r, err)
	}
}

// record answers for the record itself, in the form that the path or the Accept
// header names.
func (s *Site) record(w http.ResponseWriter, r *http.Request) error {
	segment := r.PathValue("id")
	id, f := cutForm(segment)
	if f == nil {
		id = segment
	}
	suffix, ok, err := s.canonical(w, r, id)
	if !ok {
		return err
	}
	v, err := s.verified(r.Context(), suffix)
	if err != nil {
		return err
	}
	d := document{vary: varyEncoding}
	offers := v.offers()
	if f == nil {
		d.vary = varyBoth
		var types []mediaType
		var choices []*form
		for i := range forms {
			if !forms[i].needsDescription() || v.export != nil {
				types, choices = append(types, forms[i].media), append(choices, &forms[i])
			}
		}
		i := negotiate(strings.Join(r.Header["Accept"], ","), types)
		if i < 0 {
			return &problem{status: http.StatusNotAcceptable, heading: "The record does not exist in that form", text: "None of the types in the Accept header is among the forms that this record has. They are listed here; each has an address of its own.", offers: offers}
		}
		f = choices[i]
	}
	d.media = f.media.String()
	d.links = s.signposts(r, v, f)
	if f.make == nil {
		d.body, err = s.recordPage(r, v)
	} else {
		d.body, err = f.make(v)
	}
	if errors.Is(err, export.ErrNoMetadata) {
		return &problem{status: http.StatusNotFound, heading: "Nobody describes the paper", text: "No signer that this mirror trusts gives its title and authors, so there is no " + f.name + ". What exists is listed here.", offers: offers}
	}
	if err != nil {
		return err
	}
	respond(w, r, d)
	return nil
}

// document answers with something that is made from the bundle.
func (s *Site) document(write func(*recordView) ([]byte, error)) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		suffix, ok, err := s.canonical(w, r, r.PathValue("id"))
		if !ok {
			return err
		}
		v, err := s.verified(r.Context(), suffix)
		if err != nil {
			return err
		}
		body, err := write(v)
		if errors.Is(err, errNothing) {
			return &problem{status: http.StatusNotFound, heading: "The record has no such part", text: err.Error(), offers: v.offers()}
		}
		if err != nil {
			return err
		}
		respond(w, r, document{body: body, media: "application/json", links: []string{s.collection(r, suffix)}})
		return nil
	}
}

// state is a document whose tag is the digest that it names itself.
func (s *Site) state(w http.ResponseWriter, r *http.Request) error {
	suffix, ok, err := s.canonical(w, r, r.PathValue("id"))
	if !ok {
		return err
	}
	v, err := s.verified(r.Context(), suffix)
	if err != nil {
		return err
	}
	respond(w, r, document{body: v.bundle.State, media: "application/json", etag: v.StateSHA256, links: []string{s.collection(r, suffix)}})
	return nil
}

func (s *Site) collection(r *http.Request, suffix string) string {
	return "<" + s.base(r) + "/pith/" + suffix + `>; rel="collection"; type="text/html"`
}

// signposts are the links that lead machines from a record to its parts: FAIR
// Signposting (https://signposting.org/FAIR/), level 1.
func (s *Site) signposts(r *http.Request, v *recordView, f *form) []string {
	base := s.base(r)
	here := base + "/pith/" + v.Suffix
	add := func(list []string, target, rel, media string) []string {
		l := "<" + target + `>; rel="` + rel + `"`
		if media != "" {
			l += `; type="` + strings.ReplaceAll(media, `"`, `\"`) + `"`
		}
		return append(list, l)
	}
	if f.suffix != "" {
		return add(add(nil, here, "describes", "text/html"), "https://pith.science/pith/"+v.Suffix, "cite-as", "")
	}
	links := add(nil, "https://pith.science/pith/"+v.Suffix, "cite-as", "") // the address that the number stands for, whoever serves it
	links = add(links, "https://schema.org/AboutPage", "type", "")
	links = add(links, "https://schema.org/ScholarlyArticle", "type", "")
	for _, o := range v.offers()[1:] {
		links = add(links, base+o.URL, "describedby", o.Type)
	}
	links = add(links, here+"/bundle.json", "item", "application/json")
	links = add(links, here+"/state.json", "item", "application/json")
	if v.License.URL != "" && !strings.ContainsAny(v.License.URL, "<>\"\\\r\n ,;") {
		links = add(links, v.License.URL, "license", "")
	}
	for _, a := range v.Attestations {
		if a.Trusted && a.Identity.Scheme == "orcid" {
			links = add(links, a.IdentityURL, "author", "")
		}
	}
	return links
}

func (s *Site) recordPage(r *http.Request, v *recordView) ([]byte, error) {
	v, err := s.surrounded(r.Context(), v)
	if err != nil {
		return nil, err
	}
	base := s.base(r)
	here := base + "/pith/" + v.Suffix
	p := recordPage{Record: v, Page: s.page("", takenBack(v)+v.Title+" · Pith record", clip(cmp.Or(v.Abstract, v.Title), 300)), Recipe: recipe(base, v.Suffix)}
	p.Page.Canonical = "https://pith.science/pith/" + v.Suffix
	for _, o := range v.offers()[1:] {
		p.Page.Alternates = append(p.Page.Alternates, o)
		switch o.Name {
		case "Badge", "LaTeX", "Record":
		default:
			p.Exports = append(p.Exports, o)
		}
	}
	if v.export != nil {
		p.LaTeX = strings.TrimSpace(string(v.export.LaTeX()))
		p.Embed = fmt.Sprintf(`<a href="%[1]s"><img src="%[1]s.svg" alt="%[2]s"></a>`, here, v.Number)
	}
	return render("record", p)
}

// takenBack stands before a title, as publishers write it.
func takenBack(v *recordView) string {
	if word := v.TakenBack(); word != "" {
		return strings.ToUpper(word) + ": "
	}
	return ""
}

// recipe is the check that needs nobody's word, as lines for a shell. A test
// runs them.
func recipe(base, suffix string) string {
	return "curl -sO " + base + "/pith/" + suffix + "/bundle.json\n" +
		"pith verify bundle.json\n" +
		"jq -cjS .canonical_record bundle.json | sha256sum"
}

// otherName leads from an arXiv id, a DOI or an address of either to the record.
func (s *Site) otherName(w http.ResponseWriter, r *http.Request) error {
	text := r.PathValue("rest")
	n, ok := parseName(text)
	if id, part, more := strings.Cut(text, "/"); !ok && more {
		if number, is := pithID(id); is {
			return &problem{status: http.StatusNotFound, heading: "The record has no such part", text: clip(part, 80) + " is not one of bundle.json, state.json, claims.json and graph.json.", elsewhere: link{"The record itself:", "/pith/" + number}}
		}
	}
	if !ok {
		return &problem{status: http.StatusBadRequest, heading: "This is no name that a paper could have", text: "arXiv ids look like 1805.07898, 1805.07898v3 or hep-th/9309160, and DOIs like 10.48550/arXiv.1805.07898.", elsewhere: link{"Search by title, author or id:", "/search"}}
	}
	suffix, err := s.only(r.Context(), n)
	if err != nil {
		return err
	}
	return redirect(w, r, "/pith/"+suffix, http.StatusFound)
}

// alias leads from a name of a given kind to the record, for kinds that cannot be
// told by their look.
func (s *Site) alias(w http.ResponseWriter, r *http.Request) error {
	n := name{r.PathValue("kind"), r.PathValue("rest")}
	// Short numbers stand among the aliases of a bundle, but follow from the number:
	// stores find them by that.
	if number, ok := pithID(n.value); ok && n.kind == "pith_short_"+strconv.Itoa(len(number)) {
		n = name{"pith", number}
	}
	suffix, err := s.only(r.Context(), n)
	if err != nil {
		return err
	}
	return redirect(w, r, "/pith/"+suffix, http.StatusFound)
}

// surrounded adds to a record what else is known about it here, for its page: other
// forms of it show nothing of that, and up to twenty records are verified for it.
func (s *Site) surrounded(ctx context.Context, kept *recordView) (*recordView, error) {
	v := *kept // others read it, too
	v.History = slices.Clone(kept.History)
	return &v, s.surroundings(ctx, &v)
}

// viewBytes is how much memory the views of records may take that were asked for
// lately, makingBytes how much those that are being made, and viewWeight how many
// times the size of its bundle a view takes.
const (
	viewBytes   = 64 << 20
	makingBytes = 256 << 20
	viewWeight  = 6
)

// A viewKey is what the view of a bundle follows from: its bytes and the policy.
type viewKey struct{ bundle, policy resolver.Digest }

// verified loads a record and verifies it, unless these very bytes were verified
// lately under this very policy. Nobody may change what it returns.
func (s *Site) verified(ctx context.Context, suffix string) (*recordView, error) {
	tag, err := s.quick.Tag(ctx, suffix)
	if err != nil {
		return nil, s.missing(err, suffix)
	}
	trust := s.trust()
	key := viewKey{tag, s.policyDigest(trust)}
	if v, ok := s.views.Get(key); ok {
		return v, nil
	}
	// Whoever else wants it waits for this one, and whoever goes does not stop it.
	made := s.flights.DoChan(suffix+string(tag[:])+string(key.policy[:]), func() (any, error) {
		if v, ok := s.views.Get(key); ok {
			return v, nil
		}
		return s.verify(context.WithoutCancel(ctx), suffix, key, trust)
	})
	select {
	case r := <-made:
		v, _ := r.Val.(*recordView)
		return v, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// verify makes the view of a record, as soon as there is memory for it.
func (s *Site) verify(ctx context.Context, suffix string, key viewKey, trust *pith.Trust) (*recordView, error) {
	tag, packed, err := s.quick.Packed(ctx, suffix)
	if err != nil {
		return nil, s.missing(err, suffix)
	}
	weight := min(int64(viewWeight)*resolver.UnpackedSize(packed), makingBytes)
	if err := s.memory.Acquire(ctx, weight); err != nil {
		return nil, err
	}
	defer s.memory.Release(weight)
	bundle, err := unpack(suffix, tag, packed)
	if err != nil {
		return nil, err
	}
	v, err := newRecordView(bundle, trust)
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", suffix, err)
	}
	key.bundle = tag // it may be newer by now
	s.views.Put(key, v, int64(viewWeight*len(bundle)), nil)
	return v, nil
}

// policyDigest names a policy by what it says.
func (s *Site) policyDigest(trust *pith.Trust) resolver.Digest {
	if named := s.policy.Load(); named != nil && named.trust == trust {
		return named.digest
	}
	named := &namedPolicy{trust, sha256.Sum256(trust.JSON())}
	s.policy.Store(named)
	return named.digest
}

type namedPolicy struct {
	trust  *pith.Trust
	digest resolver.Digest
}
