package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/export"
)

// A recordView is a record as its page shows it. It is made from the bundle
// alone, by verifying it; what other records say about this one is added by
// those who can look them up.
type recordView struct {
	Suffix, Number, SHA256 string
	Title                  string // as text, TeX accents and simple formulas turned into Unicode
	Described              bool   // a trusted signer says who the authors are
	Authors                []string
	Abstract               string
	Excerpt                bool
	Source                 link // arXiv:1805.07898v3
	DOI                    link
	Categories             []string
	License                link
	Submitted              time.Time
	Built                  string // when the bundle was put together, as it says

	Verdict      pith.Verdict
	Failures     []pith.Check
	Status       []status
	Completeness []completeness
	Graph        *graphView       // what the newest trusted graph snapshot says beside the paper
	Withdrawn    []correctionView // by trusted signers: the paper, or a claim of it
	Doubtful     int              // how many others say that it is withdrawn or retracted
	Attestations []attestationView
	Replications []replicationView
	CitedBy      []citationView // works that say so in this record
	Cites        []citationView // records in which this work says so
	Corrections  []correctionView
	Copies       []copyView
	History      []eventView // newest first
	Cut          bool        // there are older events
	Signers      []pith.SignerSeen
	Aliases      []pith.Alias
	Versions     []link // other records of the same paper
	Events       pith.EventCounts
	StateSHA256  string
	BundleSHA256 string
	Strangers    int // signers of events whom the policy does not vouch for

	record json.RawMessage // the canonical record
	export *export.Record  // nil when no trusted signer describes the paper
	result *pith.Result
	bundle bundleParts
}

// A link is a text that may lead somewhere; URL is "" when it does not.
type link struct{ Text, URL string }

// A status is one of the four words about a record, after those that pith.science
// shows.
type status struct {
	Name, Word string
	Good       bool
	Title      string
}

type completeness struct {
	Name           string
	Asks           string // what would be there
	Valid, Trusted int
	Detail         string
}

type graphView struct {
	By         pith.Signer
	At         time.Time
	Claims     []claimView
	References int
	Resolved   int
	Formal     int // links to formal proofs
}

type claimView struct{ ID, Kind, Text, Status, Attestation string }

// A mark is what stands beside everything that a signer says: who it is and
// whether the policy of this mirror knows the key.
type mark struct {
	Signer      pith.Signer
	Fingerprint string
	Trusted     bool
	Superseded  bool
	Invalid     pith.Code
	EventID     string
	At          time.Time
}

type attestationView struct {
	mark
	pith.AuthorAttestation
	IdentityURL string
}

type citationView struct {
	mark
	Relation string // "extends"
	Work     link
	Claim    string
	Text     string
}

type correctionView struct {
	mark
	pith.Correction
}

type copyView struct {
	mark
	Archive string
	URL     string
	At      string
}

type replicationView struct {
	mark
	Outcome     string
	Claim       string
	Statement   string
	Comparisons []comparisonView
	Known       bool // the payload has a schema that is understood
}

// A comparisonView is one effect with its interval, in percentage points when
// the metric is a fraction. Lo, Hi, Mid and Zero are places between 0 and 100
// on an axis that the comparisons of one record share.
type comparisonView struct {
	Arm, Baseline, Metric string
	Outcome               string
	Effect                string // "+0.04 points, 95 % interval -0.21 to +0.28, n = 5"
	Lo, Hi, Mid, Zero     float64
	Drawn                 bool

	low, high, mean float64
}

type eventView struct {
	mark
	Type    string
	Label   string // in words
	Summary string
	Seq     string // in the log of this mirror, "" if it is not known
}

// bundleParts are members of a bundle that a result does not repeat.
type bundleParts struct {
	Number    string          `json:"pith_number"`
	Short     string          `json:"short_pith_number"`
	Record    json.RawMessage `json:"canonical_record"`
	SHA256    string          `json:"canonical_sha256"`
	Source    json.RawMessage `json:"source"`
	Aliases   json.RawMessage `json:"source_aliases"`
	Links     json.RawMessage `json:"links"`
	State     json.RawMessage `json:"state"`
	Keys      json.RawMessage `json:"public_keys"`
	Signature struct {
		SHA256 string `json:"bundle_sha256"`
	} `json:"bundle_signature"`
	MirrorHints []struct {
		Name      string `json:"name"`
		BundleURL string `json:"bundle_url"`
	} `json:"mirror_hints"`
}

// errRejected reports a bundle that the verifier rejects: a store that holds
// one is damaged, and nothing of it is shown.
var errRejected = errors.New("the stored bundle does not verify")

// newRecordView verifies a bundle and arranges what it says.
func newRecordView(bundle []byte, trust *pith.Trust) (*recordView, error) {
	res, contents := pith.Inspect(bundle, trust)
	if contents == nil {
		var first string
		if f := res.Failures(); len(f) > 0 {
			first = f[0].String()
		}
		return nil, fmt.Errorf("%w: %s", errRejected, first)
	}
	v := &recordView{result: res, Number: res.PithNumber, Suffix: res.PithNumber[strings.LastIndexByte(res.PithNumber, ':')+1:]}
	if err := pith.Decode(bundle, &v.bundle); err != nil {
		return nil, fmt.Errorf("%w: %w", errRejected, err)
	}
	v.Verdict, v.Failures, v.Events, v.StateSHA256, v.Built = res.Verdict(), res.Failures(), res.Events, res.StateSHA256, res.BuiltAt
	v.SHA256, v.BundleSHA256, v.record = v.bundle.SHA256, v.bundle.Signature.SHA256, v.bundle.Record
	v.Signers = res.Signers
	for _, s := range res.Signers {
		if !s.Trusted && s.Events > 0 { // who only put the bundle together says nothing
			v.Strangers++
		}
	}
	v.paper()
	v.aliases(contents.Names)
	v.history()
	v.withdrawn()
	v.completeness()
	v.status()
	return v, nil
}

// paper fills in what is known about the paper: from the canonical record,
// which the number covers, and for names and abstract from a trusted signer.
func (v *recordView) paper() {
	var rec struct {
		Metadata struct {
			License   string   `json:"license"`
			Primary   string   `json:"primary_cat"`
			Cross     []string `json:"cross_cats_sorted"`
			Submitted string   `json:"submitted_at"`
		} `json:"metadata"`
	}
	_ = pith.Decode(v.record, &rec) // verified: it has this shape, or what is missing stays empty
	v.Submitted, _ = time.Parse(time.RFC3339, rec.Metadata.Submitted)
	v.Categories = append([]string{rec.Metadata.Primary}, rec.Metadata.Cross...)
	v.License = licenseLink(rec.Metadata.License)
	if kind, id, version := v.result.SourceKind, v.result.SourceID, v.result.Version; kind == "arxiv" {
		doi := "10.48550/arXiv." + id
		id += "v" + version
		v.Source = link{"arXiv:" + id, "https://arxiv.org/abs/" + pathEscape(id)}
		v.DOI = link{doi, "https://doi.org/" + pathEscape(doi)}
	} else {
		v.Source = link{Text: kind + ":" + id + " version " + version}
	}
	v.Title = plainTitle(v.result.Title)
	if e, err := export.New(v.result); err == nil {
		v.export, v.Described = e, true
		if e.Title != "" {
			v.Title = plainTitle(e.Title)
		}
		for _, a := range e.Authors {
			v.Authors = append(v.Authors, export.Plain(a))
		}
		v.Abstract, v.Excerpt = plainText(e.Abstract), e.Excerpt
	}
	if v.Title == "" {
		v.Title = v.Source.Text
	}
}

func (v *recordView) aliases(all []pith.Alias) {
	v.Aliases = all
	slices.SortStableFunc(v.Aliases, func(a, b pith.Alias) int { // short numbers, the shortest first
		if strings.HasPrefix(a.Kind, "pith_short_") && strings.HasPrefix(b.Kind, "pith_short_") {
			return len(a.Value) - len(b.Value)
		}
		return strings.Compare(a.Kind, b.Kind)
	})
}

// names are those by which others may cite the paper, beside the number.
func (v *recordView) names() []name {
	var out []name
	for _, a := range v.Aliases {
		switch a.Kind {
		case "arxiv", "arxiv_version", "doi":
			out = append(out, name{a.Kind, a.Value})
		}
	}
	return out
}

// history turns every event into a line, and those of types that readers look
// for into views of their own. Invalid and superseded events stand in the
// history alone.
func (v *recordView) history() {
	for _, s := range v.result.History {
		m := mark{s.Signer, s.Fingerprint, s.Trusted, s.Superseded, s.Invalid, s.EventID, s.CreatedAt}
		e := eventView{mark: m, Type: s.Type, Label: eventLabel(s.Type)}
		stands := s.Invalid == "" && !s.Superseded
		switch payload, ok := s.Typed(); p := payload.(type) {
		case *pith.AuthorAttestation:
			e.Summary = p.Name + " (" + identityScheme(p.Identity.Scheme) + " " + p.Identity.Value + ") says to be an author"
			if stands {
				v.Attestations = append(v.Attestations, attestationView{m, *p, identityURL(p.Identity)})
			}
		case *pith.TimestampAnchor:
			e.Summary = "OpenTimestamps proof of " + p.Of
		case *pith.StorageAttestation:
			e.Summary = "a copy in " + p.Archive
			if stands {
				v.Copies = append(v.Copies, copyView{m, p.Archive, p.URL, p.StoredAt})
			}
		case *pith.CitationSignature:
			work := workLink(p.Citing)
			e.Summary = work.Text + " " + relationWords(p.Relation) + " this work"
			if stands {
				v.CitedBy = append(v.CitedBy, citationView{m, p.Relation, work, p.Claim, p.Statement})
			}
		case *pith.Correction:
			e.Summary = p.Kind + ": " + p.Text
			if stands {
				v.Corrections = append(v.Corrections, correctionView{m, *p})
			}
		case *pith.MirrorHint:
			e.Summary = "the bundle is also at " + p.Name
			if stands {
				v.Copies = append(v.Copies, copyView{m, p.Name, p.BundleURL, ""})
			}
		default:
			_ = ok
			switch s.Type {
			case pith.TypeRecordCreated:
				e.Summary = "With a receipt for the digest of the canonical record."
			case pith.TypeGraphSnapshot:
				e.Summary = "Title, authors, abstract and what was extracted."
				if stands && s.Trusted {
					v.Graph = newGraphView(s)
				}
			case pith.TypeReplicationRecord:
				r := newReplicationView(m, s.Payload)
				e.Summary = firstNonEmpty(r.Statement, "a replication")
				if stands {
					v.Replications = append(v.Replications, r)
				}
			}
		}
		e.Summary = firstUpper(clip(e.Summary, 240))
		v.History = append(v.History, e)
	}
	slices.Reverse(v.History)
	// A record may hold tens of thousands of events. A page does not.
	v.Cut = len(v.History) > maxListed
	v.History = v.History[:min(len(v.History), maxListed)]
	v.Attestations, v.Replications = newest(v.Attestations), newest(v.Replications)
	v.CitedBy, v.Corrections, v.Copies = newest(v.CitedBy), newest(v.Corrections), newest(v.Copies)
	placeEffects(v.Replications)
}

// withdrawn finds what a reader must not miss: that the paper was taken back.
func (v *recordView) withdrawn() {
	for _, w := range v.result.Withdrawals() {
		if !w.Trusted { // anybody can say so
			v.Doubtful++
			continue
		}
		s := w.Statement
		v.Withdrawn = append(v.Withdrawn, correctionView{mark{s.Signer, s.Fingerprint, s.Trusted, s.Superseded, s.Invalid, s.EventID, s.CreatedAt}, w.Correction})
	}
	v.Withdrawn = newest(v.Withdrawn)
}

// TakenBack is "Retracted" or "Withdrawn" when a trusted signer takes the whole
// paper back, else "".
func (v *recordView) TakenBack() string {
	word := ""
	for _, w := range v.Withdrawn {
		switch {
		case w.Claim != "":
		case w.Kind == "retraction":
			return "Retracted"
		default:
			word = "Withdrawn"
		}
	}
	return word
}

// withdrawalText is a withdrawal for programs.
type withdrawalText struct {
	EventID   string `json:"event_id"`
	Kind      string `json:"correction_kind" jsonschema:"withdrawal or retraction"`
	Claim     string `json:"claim_id,omitempty" jsonschema:"the claim that is taken back; without it the whole paper is"`
	Text      string `json:"text"`
	SignerID  string `json:"signer_id"`
	Trusted   bool   `json:"trusted" jsonschema:"the policy of this mirror lets this key sign this; anybody else may lie"`
	CreatedAt string `json:"created_at"`
}

// withdrawals are all that stand, also those of signers who are not trusted.
func (v *recordView) withdrawals() []withdrawalText {
	out := []withdrawalText{}
	for _, w := range newest(v.result.Withdrawals()) {
		out = append(out, withdrawalText{w.EventID, w.Kind, w.Claim, w.Text, w.Signer.ID, w.Trusted, w.CreatedAt.UTC().Format(time.RFC3339)})
	}
	return out
}

// newest keeps the last entries of a list, as many as a page shows.
func newest[T any](list []T) []T { return list[max(0, len(list)-maxListed):] }

var completenessWords = map[string][2]string{
	"timestamps":   {"Bitcoin timestamp", "an OpenTimestamps proof that the record existed at a time"},
	"attestations": {"Author's word", "somebody who signs as an author of the paper"},
	"storage":      {"Stored copy", "an address in a web archive, with its time"},
	"citations":    {"Citations", "another work that supports, extends or refutes this one"},
	"replications": {"Replications", "somebody who ran a claim again and signed what came out"},
}

func (v *recordView) completeness() {
	for _, p := range v.result.Completeness {
		words := completenessWords[p.Kind]
		c := completeness{Name: firstNonEmpty(words[0], p.Kind), Asks: words[1], Valid: p.Valid, Trusted: p.Trusted}
		if p.Confirmed+p.Pending > 0 {
			c.Detail = fmt.Sprintf("%d with a Bitcoin attestation, %d still pending", p.Confirmed, p.Pending)
		}
		v.Completeness = append(v.Completeness, c)
	}
}

func (v *recordView) presence(kind string) pith.Presence {
	for _, p := range v.result.Completeness {
		if p.Kind == kind {
			return p
		}
	}
	return pith.Presence{Kind: kind}
}

func (v *recordView) status() {
	word := func(name, yes, no, title string, good bool) {
		s := status{name, no, good, title}
		if good {
			s.Word = yes
		}
		v.Status = append(v.Status, s)
	}
	attested := v.presence("attestations")
	word("Author", "attested", "not attested", "A trusted signer signs as an author.", attested.Trusted > 0)
	stamps := v.presence("timestamps")
	no := "not anchored"
	if stamps.Pending > 0 {
		no = "anchor pending"
	}
	word("Time", "anchored", no, "A timestamp with a Bitcoin attestation; block headers decide whether it is true (pith ots verify).", stamps.Confirmed > 0)
	word("Copy", "stored", "not stored", "A trusted signer says where an archived copy lies.", v.presence("storage").Trusted > 0)
	resolved := v.Graph != nil && v.Graph.References > 0 && v.Graph.Resolved == v.Graph.References
	word("References", "refs resolved", "refs pending", "All extracted references were found.", resolved)
}

func newGraphView(s pith.Statement) *graphView {
	var p struct {
		Graph struct {
			Claims struct {
				Items []struct {
					ID          string `json:"claim_id"`
					Kind        string `json:"kind"`
					Text        string `json:"text"`
					Status      string `json:"status"`
					Attestation string `json:"attestation"`
				} `json:"items"`
			} `json:"claims"`
			Verdict struct {
				Strongest string `json:"strongest_claim"`
				Weakest   string `json:"weakest_assumption"`
				Summary   string `json:"one_line_summary"`
			} `json:"verdict"`
			References struct {
				Count    float64 `json:"count"`
				Resolved float64 `json:"resolved_work"`
			} `json:"references"`
			Formal struct {
				Count float64 `json:"evidence_count"`
			} `json:"formal_canon"`
		} `json:"graph_snapshot"`
	}
	g := &graphView{By: s.Signer, At: s.CreatedAt}
	if err := pith.Decode(s.Payload, &p); err != nil {
		return g // a member has another type than we know: nothing is read from it
	}
	for i, c := range p.Graph.Claims.Items {
		if i == maxListed {
			break
		}
		g.Claims = append(g.Claims, claimView{c.ID, strings.ReplaceAll(c.Kind, "_", " "), plainText(c.Text), strings.ReplaceAll(c.Status, "_", " "), c.Attestation})
	}
	if len(g.Claims) == 0 {
		for _, c := range [][2]string{{"strongest claim", p.Graph.Verdict.Strongest}, {"weakest assumption", p.Graph.Verdict.Weakest}, {"summary", p.Graph.Verdict.Summary}} {
			if c[1] != "" {
				g.Claims = append(g.Claims, claimView{Kind: c[0], Text: plainText(c[1]), Status: "machine extracted"})
			}
		}
	}
	g.References, g.Resolved, g.Formal = count(p.Graph.References.Count), count(p.Graph.References.Resolved), count(p.Graph.Formal.Count)
	return g
}

// maxListed bounds how many entries of one list a page shows.
const maxListed = 200

func newReplicationView(m mark, payload json.RawMessage) replicationView {
	r := replicationView{mark: m}
	var p struct {
		Schema    string `json:"schema"`
		Outcome   string `json:"outcome"`
		Statement string `json:"statement"`
		Claim     struct {
			Text string `json:"text"`
		} `json:"claim"`
		Arms []struct {
			Name  string `json:"name"`
			Label string `json:"label"`
		} `json:"arms"`
		Comparisons []struct {
			Arm      string `json:"arm"`
			Baseline string `json:"baseline"`
			Metric   string `json:"metric"`
			Outcome  string `json:"outcome"`
			Effect   *struct {
				N    float64 `json:"n"`
				Mean float64 `json:"mean"`
				Low  float64 `json:"low"`
				High float64 `json:"high"`
			} `json:"effect"`
			Adjusted *float64 `json:"p_adjusted"`
		} `json:"comparisons"`
	}
	err := pith.Decode(payload, &p)
	if err != nil || p.Schema != pith.ReplicationSchema {
		r.Outcome = clip(p.Outcome, 40)
		return r
	}
	r.Known, r.Outcome, r.Statement, r.Claim = true, p.Outcome, p.Statement, p.Claim.Text
	label := func(arm string) string {
		for _, a := range p.Arms {
			if a.Name == arm {
				return firstNonEmpty(a.Label, arm)
			}
		}
		return arm
	}
	for i, c := range p.Comparisons {
		if i == maxListed {
			break
		}
		view := comparisonView{Arm: label(c.Arm), Baseline: label(c.Baseline), Metric: strings.ReplaceAll(c.Metric, "_", " "), Outcome: c.Outcome}
		if e := c.Effect; e != nil {
			unit, scale := "", 1.0
			if strings.HasSuffix(c.Metric, "accuracy") || strings.HasSuffix(c.Metric, "gap") {
				unit, scale = " points", 100
			}
			view.mean, view.low, view.high = e.Mean*scale, e.Low*scale, e.High*scale
			view.Drawn = e.N > 1 && view.low <= view.mean && view.mean <= view.high
			view.Effect = fmt.Sprintf("%s%s", signed(view.mean), unit)
			if view.Drawn {
				view.Effect += fmt.Sprintf(", 95 %% interval %s to %s, n = %d", signed(view.low), signed(view.high), count(e.N))
			}
			if c.Adjusted != nil {
				view.Effect += fmt.Sprintf(", p = %.3g", *c.Adjusted)
			}
		}
		r.Comparisons = append(r.Comparisons, view)
	}
	return r
}

// placeEffects puts the intervals of all replications with one metric on one
// axis that has zero on it.
func placeEffects(replications []replicationView) {
	type span struct{ low, high float64 }
	axes := map[string]span{}
	each := func(f func(*comparisonView)) {
		for i := range replications {
			for j := range replications[i].Comparisons {
				if c := &replications[i].Comparisons[j]; c.Drawn {
					f(c)
				}
			}
		}
	}
	each(func(c *comparisonView) {
		s := axes[c.Metric]
		axes[c.Metric] = span{min(s.low, c.low), max(s.high, c.high)}
	})
	each(func(c *comparisonView) {
		s := axes[c.Metric]
		width := s.high - s.low
		if !(width > 0) || math.IsInf(width, 0) {
			c.Drawn = false
			return
		}
		place := func(x float64) float64 { return math.Round((3+94*(x-s.low)/width)*100) / 100 }
		c.Lo, c.Hi, c.Mid, c.Zero = place(c.low), place(c.high), place(c.mean), place(0)
	})
}

func signed(x float64) string { return strings.Replace(fmt.Sprintf("%+.2f", x), "-", "−", 1) }

// count reads a number of things from JSON that may say anything.
func count(x float64) int {
	if !(x >= 0 && x < 1e9) {
		return 0
	}
	return int(x)
}

func firstNonEmpty(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// clip shortens s to at most n characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return strings.TrimRight(string(r[:n-1]), " ") + "…"
}

var eventLabels = map[string]string{
	pith.TypeRecordCreated:      "Record opened",
	pith.TypeGraphSnapshot:      "Description",
	pith.TypeReplicationRecord:  "Replication",
	pith.TypeAuthorAttestation:  "Author's word",
	pith.TypeTimestampAnchor:    "Timestamp",
	pith.TypeStorageAttestation: "Stored copy",
	pith.TypeCitationSignature:  "Citation",
	pith.TypeCorrection:         "Correction",
	pith.TypeMirrorHint:         "Mirror",
}

// eventLabel names a type of event; types that are not known keep their name.
func eventLabel(kind string) string { return firstNonEmpty(eventLabels[kind], clip(kind, 60)) }

// firstUpper begins a sentence.
func firstUpper(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError {
		return s
	}
	return string(unicode.ToUpper(r)) + s[n:]
}

func identityScheme(scheme string) string {
	switch scheme {
	case "orcid":
		return "ORCID"
	case "x":
		return "X"
	case "apple":
		return "Apple"
	}
	return scheme
}

func relationWords(relation string) string {
	switch relation {
	case "uses_method":
		return "uses the method of"
	case "depends_on":
		return "depends on"
	case "compares":
		return "compares itself with"
	}
	return relation // supports, refutes, extends, replaces, cites
}

func identityURL(id pith.Identity) string {
	if id.Scheme == "orcid" {
		return "https://orcid.org/" + pathEscape(id.Value)
	}
	return ""
}

// workLink leads to a work that somebody named. Addresses that are not https,
// which the verifier refuses in valid events, lead nowhere.
func workLink(w pith.Work) link {
	text := plainTitle(w.Title)
	switch w.Kind {
	case "pith":
		return link{firstNonEmpty(text, w.ID), "/pith/" + pathEscape(w.ID[strings.LastIndexByte(w.ID, ':')+1:])}
	case "arxiv":
		return link{firstNonEmpty(text, "arXiv:"+w.ID), "https://arxiv.org/abs/" + pathEscape(w.ID)}
	case "doi":
		return link{firstNonEmpty(text, "doi:"+w.ID), "https://doi.org/" + pathEscape(w.ID)}
	case "url":
		if u, err := url.Parse(w.ID); err == nil && u.Scheme == "https" && u.Host != "" {
			return link{firstNonEmpty(text, u.Host+u.Path), u.String()}
		}
	}
	return link{Text: firstNonEmpty(text, w.ID)}
}

// pathEscape escapes everything but what ids are made of, slashes included.
func pathEscape(s string) string {
	return strings.ReplaceAll(url.PathEscape(s), "%2F", "/")
}

// licenseLink names the licences that occur.
func licenseLink(address string) link {
	if address == "" {
		return link{Text: "no licence stated"}
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return link{Text: clip(address, 80)}
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	switch host := strings.TrimPrefix(u.Host, "www."); {
	case host == "creativecommons.org" && len(parts) == 3 && parts[0] == "licenses":
		return link{"CC " + strings.ToUpper(parts[1]) + " " + parts[2], address}
	case host == "creativecommons.org" && len(parts) >= 3 && parts[0] == "publicdomain" && parts[1] == "zero":
		return link{"CC0 " + parts[2], address}
	case host == "creativecommons.org" && strings.Contains(u.Path, "publicdomain"):
		return link{"public domain", address}
	case host == "arxiv.org" && strings.Contains(u.Path, "nonexclusive-distrib"):
		return link{"arXiv distribution licence", address}
	}
	return link{clip(u.Host+u.Path, 80), address}
}
