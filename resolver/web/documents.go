package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/export"
)

// A form is one of the ways in which a record can be had: at its own address, or
// at the record's address for those who ask for its media type.
type form struct {
	name   string
	media  mediaType
	suffix string // behind the 26 characters; "" for the page itself
	make   func(*recordView) ([]byte, error)
}

const roCrateProfile = "https://w3id.org/ro/crate"

// forms are in the order in which they are preferred when a reader takes
// several alike. The page is made by its own handler.
var forms = []form{
	{"Page", mediaType{"text/html", ""}, "", nil},
	{"JSON-LD", mediaType{"application/ld+json", ""}, ".jsonld", jsonLD},
	{"Record", mediaType{"application/json", ""}, ".json", numberRecord},
	{"BibTeX", mediaType{"application/x-bibtex", ""}, ".bib", exported((*export.Record).Format, "bibtex")},
	{"RIS", mediaType{"application/x-research-info-systems", ""}, ".ris", exported((*export.Record).Format, "ris")},
	{"CSL-JSON", mediaType{"application/vnd.citationstyles.csl+json", ""}, ".csl.json", exported((*export.Record).Format, "csl-json")},
	{"RO-Crate", mediaType{"application/ld+json", roCrateProfile}, ".ro-crate.json", exported((*export.Record).Format, "ro-crate")},
	{"Badge", mediaType{"image/svg+xml", ""}, ".svg", badge},
	{"LaTeX", mediaType{"application/x-latex", ""}, ".tex", latex},
}

// String is the media type as Content-Type names it.
func (m mediaType) String() string {
	if m.profile != "" {
		return m.essence + `; profile="` + m.profile + `"`
	}
	switch {
	case strings.HasPrefix(m.essence, "text/"), m.essence == "application/x-bibtex", m.essence == "application/x-research-info-systems", m.essence == "application/x-latex":
		return m.essence + "; charset=utf-8"
	}
	return m.essence
}

// needsDescription reports whether the form exists only for records that a
// trusted signer describes: the number, the digests and the events are there
// without one, title and authors are not.
func (f form) needsDescription() bool {
	switch f.suffix {
	case "", ".json", ".jsonld":
		return false
	}
	return true
}

// cut takes the suffix of a form from the last part of a path.
func cutForm(segment string) (id string, f *form) {
	dot := strings.IndexByte(segment, '.')
	if dot < 0 {
		return segment, nil
	}
	for i := range forms {
		if forms[i].suffix == segment[dot:] {
			return segment[:dot], &forms[i]
		}
	}
	return segment, nil
}

func exported(write func(*export.Record, string) ([]byte, error), name string) func(*recordView) ([]byte, error) {
	return func(v *recordView) ([]byte, error) {
		if v.export == nil {
			return nil, export.ErrNoMetadata
		}
		return write(v.export, name)
	}
}

func badge(v *recordView) ([]byte, error) {
	if v.export == nil {
		return nil, export.ErrNoMetadata
	}
	return v.export.SVG(), nil
}

func latex(v *recordView) ([]byte, error) {
	if v.export == nil {
		return nil, export.ErrNoMetadata
	}
	return v.export.LaTeX(), nil
}

// object is JSON under construction; encoding/json sorts its names.
type object = map[string]any

func indent(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return out.Bytes(), err
}

// jsonLD is the article in the vocabulary of schema.org, with the canonical
// record as a JSON value of its own: what pith.science answers to
// application/ld+json is published to have .canonical_record.
func jsonLD(v *recordView) ([]byte, error) {
	article := object{"@id": "https://pith.science/pith/" + v.Suffix, "@type": "ScholarlyArticle", "name": v.Title, "datePublished": v.Submitted.Format("2006-01-02")}
	if word := v.TakenBack(); word != "" {
		article["creativeWorkStatus"] = word
	}
	if v.export != nil {
		text, err := v.export.JSONLD()
		if err != nil {
			return nil, err
		}
		article = object{}
		if err := json.Unmarshal(text, &article); err != nil {
			return nil, err
		}
	}
	const here = "https://pith.science/schemas/pith-number/v1.json#"
	article["@context"] = []any{"https://schema.org", object{
		"canonical_record": object{"@id": here + "canonical_record", "@type": "@json"},
		"canonical_sha256": here + "canonical_sha256",
		"pith_number":      here + "pith_number",
	}}
	article["pith_number"], article["canonical_sha256"], article["canonical_record"] = v.Number, v.SHA256, v.record
	return indent(article)
}

// recordSchema is the schema that the published records name.
const recordSchema = "https://pith.science/schemas/pith-number/v1.json"

// numberRecord is the document behind .json. Its members and those of
// verification_status are the published ones; that the values of
// verification_status count trusted events alone is ours (the page and
// completeness give both counts).
func numberRecord(v *recordView) ([]byte, error) {
	var graph struct {
		Graph struct {
			Paper        json.RawMessage `json:"paper"`
			AuthorClaims struct {
				Count  float64 `json:"count"`
				Strong float64 `json:"strong_count"`
			} `json:"author_claims"`
		} `json:"graph_snapshot"`
	}
	paper := json.RawMessage("null")
	if s, ok := v.newest(pith.TypeGraphSnapshot); ok {
		if err := pith.Decode(s.Payload, &graph); err == nil && graph.Graph.Paper != nil {
			paper = graph.Graph.Paper
		}
	}
	var created struct {
		State   string          `json:"attestation_state"`
		Receipt json.RawMessage `json:"receipt"`
	}
	if s, ok := v.newest(pith.TypeRecordCreated); ok {
		_ = pith.Decode(s.Payload, &created)
	}
	trusted := func(kind string) int { return v.presence(kind).Trusted }
	strong := count(graph.Graph.AuthorClaims.Strong)
	resolved := v.Graph != nil && v.Graph.References > 0 && v.Graph.References == v.Graph.Resolved
	return indent(object{
		"record_type": "pith_number_record", "schema_url": recordSchema,
		"pith_number": v.Number, "short_pith_number": v.bundle.Short, "canonical_sha256": v.SHA256,
		"attestation_state": created.State, "receipt": orNull(created.Receipt), "paper": paper,
		"canonical_record": v.record, "source_aliases": orNull(v.bundle.Aliases), "links": orNull(v.bundle.Links),
		"completeness": v.result.Completeness, "withdrawals": v.withdrawals(),
		"verification_status": object{
			"content_addressed":    true, // else the store would not have it
			"pith_receipt":         created.Receipt != nil,
			"author_attested":      trusted("attestations") > 0,
			"weak_author_claims":   max(0, count(graph.Graph.AuthorClaims.Count)-strong),
			"strong_author_claims": strong,
			"externally_anchored":  v.presence("timestamps").Confirmed > 0,
			"storage_verified":     trusted("storage") > 0,
			"citation_signatures":  trusted("citations"),
			"replication_records":  trusted("replications"),
			"graph_snapshot":       v.Graph != nil,
			"references_resolved":  resolved,
			"formal_links_present": v.Graph != nil && v.Graph.Formal > 0,
		},
	})
}

func orNull(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	return raw
}

// newest finds the last valid event of a type that is not superseded; among
// descriptions and openings the last trusted one, if there is any.
func (v *recordView) newest(eventType string) (pith.Statement, bool) {
	var found *pith.Statement
	for i := range v.result.History {
		s := &v.result.History[i]
		if s.Type == eventType && s.Invalid == "" && !s.Superseded && (found == nil || s.Trusted || !found.Trusted) {
			found = s
		}
	}
	if found == nil {
		return pith.Statement{}, false
	}
	return *found, true
}

// errNothing reports that the record has nothing of the kind asked for.
var errNothing = errors.New("the record has nothing of that kind")

// graph is the bare graph snapshot that the newest trusted signer gave, in
// canonical form.
func graph(v *recordView) ([]byte, error) {
	s, ok := v.newest(pith.TypeGraphSnapshot)
	if !ok {
		return nil, fmt.Errorf("%w: nobody has described the paper", errNothing)
	}
	var p struct {
		Graph json.RawMessage `json:"graph_snapshot"`
	}
	if err := pith.Decode(s.Payload, &p); err != nil {
		return nil, err
	}
	return p.Graph, nil
}

// claims lists what was extracted, with where it comes from. pith.science
// publishes the address; the document is ours.
func claims(v *recordView) ([]byte, error) {
	out := object{"pith_number": v.Number, "count": 0, "items": []any{}}
	if s, ok := v.newest(pith.TypeGraphSnapshot); ok {
		var p struct {
			Graph struct {
				Claims map[string]json.RawMessage `json:"claims"`
			} `json:"graph_snapshot"`
		}
		if err := pith.Decode(s.Payload, &p); err != nil {
			return nil, err
		}
		for k, value := range p.Graph.Claims {
			out[k] = value
		}
		out["event_id"], out["signer_id"], out["trusted"], out["created_at"] = s.EventID, s.Signer.ID, s.Trusted, s.CreatedAt
	}
	return indent(out)
}

// offers lists the forms that this record has.
func (v *recordView) offers() []offer {
	var out []offer
	for _, f := range forms {
		if !f.needsDescription() || v.export != nil {
			out = append(out, offer{f.name, f.media.String(), "/pith/" + v.Suffix + f.suffix})
		}
	}
	return slices.Clip(out)
}
