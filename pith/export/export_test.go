package export

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
)

func record(t testing.TB) *Record {
	t.Helper()
	r, err := New(pith.Verify(seed.Bundle(), nil))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestFormats compares with files that were read by people. UPDATE_EXPORTS=1
// writes them anew.
func TestFormats(t *testing.T) {
	r := record(t)
	for name, write := range map[string]func() ([]byte, error){
		"json-ld.json":           r.JSONLD,
		"csl.json":               r.CSLJSON,
		"ro-crate-metadata.json": r.ROCrate,
		"record.bib":             func() ([]byte, error) { return r.BibTeX(), nil },
		"record.ris":             func() ([]byte, error) { return r.RIS(), nil },
		"badge.svg":              func() ([]byte, error) { return r.SVG(), nil },
		"badge.tex":              func() ([]byte, error) { return r.LaTeX(), nil },
	} {
		got, err := write()
		if err != nil {
			t.Fatal(err)
		}
		path := "testdata/" + name
		if os.Getenv("UPDATE_EXPORTS") != "" {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		switch {
		case strings.HasSuffix(name, ".json"):
			if !json.Valid(got) {
				t.Errorf("%s is no JSON", name)
			}
		case strings.HasSuffix(name, ".svg"):
			for d := xml.NewDecoder(strings.NewReader(string(got))); ; {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
		}
	}
}

// TestNoByline: where a format reads authors as a byline there are none, and
// wherever names stand it is said in which order.
func TestNoByline(t *testing.T) {
	r := record(t)
	for _, format := range Formats {
		text, err := r.Format(format)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), Alphabetical) {
			t.Errorf("%s does not say in which order the authors stand", format)
		}
		for _, byline := range []string{"author        =", "AU  -", "A1  -", `"author": [{"family"`, `"given"`} {
			if strings.Contains(string(text), byline) {
				t.Errorf("%s has a byline: %s", format, byline)
			}
		}
	}
	if _, err := r.Format("word"); err == nil {
		t.Error("an unknown format was written")
	}
}

func TestOnlyWhatIsVouchedFor(t *testing.T) {
	damaged := []byte(strings.Replace(string(seed.Bundle()), "Smoothing", "smoothing", 1))
	if _, err := New(pith.Verify(damaged, nil)); !errors.Is(err, ErrRejected) {
		t.Errorf("a damaged bundle: %v", err)
	}
	key, err := pith.NewKey(make([]byte, 32), pith.Signer{ID: "eve", Type: "individual", KeyID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	result := pith.Verify(seed.Bundle(), nil)
	forged := strings.Replace(string(result.History[1].Payload), "Chunpeng Wu", "Eve", 1)
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	bundle, _, err := pith.Append(seed.Bundle(), key, at, pith.Draft{Type: "graph_snapshot", Target: "graph", Payload: []byte(forged), CreatedAt: at})
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(pith.Verify(bundle, nil))
	if err != nil || r.Authors[0] != "Chunpeng Wu" {
		t.Errorf("authors %v, %v: a stranger's word was taken", r, err)
	}
	if _, err := New(pith.Verify(seed.Bundle(), pith.TrustFor(key.Public(), nil, true))); !errors.Is(err, ErrNoMetadata) {
		t.Errorf("nobody trusted: %v", err)
	}
}

// TestRetraction: every form says that a trusted signer has taken the paper back,
// first of all where it is printed; of others it says that there are some, and not
// a word of theirs.
func TestRetraction(t *testing.T) {
	key, err := pith.NewKey(make([]byte, 32), pith.Signer{ID: "ada", Type: "individual", KeyID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	mine, err := pith.PinnedTrust().Merge(pith.TrustFor(key.Public(), []string{"*"}, true))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	bundle := func(c pith.Correction) []byte {
		d, err := pith.NewDraft(c, at)
		if err != nil {
			t.Fatal(err)
		}
		out, _, err := pith.Append(seed.Bundle(), key, at, d)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	const text = "the data were made up"
	opening := pith.Verify(seed.Bundle(), nil).History[0].EventID
	for _, tt := range []struct {
		name               string
		correction         pith.Correction
		trust              *pith.Trust
		marked, told, said bool // title and badge; by whom and why; that somebody says so
	}{
		{"retracted", pith.Correction{Kind: "retraction", Text: text}, mine, true, true, true},
		{"withdrawn", pith.Correction{Kind: "withdrawal", Text: text}, mine, true, true, true},
		{"a claim", pith.Correction{Kind: "retraction", Text: text, Claim: "C1"}, mine, false, true, true},
		{"by a stranger", pith.Correction{Kind: "retraction", Text: text}, nil, false, false, true},
		{"of an event", pith.Correction{Kind: "retraction", Text: text, About: opening}, mine, false, false, false},
		{"an erratum", pith.Correction{Kind: "erratum", Text: text}, mine, false, false, false},
	} {
		r, err := New(pith.Verify(bundle(tt.correction), tt.trust))
		if err != nil {
			t.Fatal(err)
		}
		forms := map[string]string{"svg": string(r.SVG()), "latex": string(r.LaTeX())}
		for _, format := range Formats {
			out, err := r.Format(format)
			if err != nil {
				t.Fatal(err)
			}
			forms[format] = string(out)
		}
		for format, out := range forms {
			word := regexp.MustCompile("RETRACTED|WITHDRAWN")
			if got := word.MatchString(out); got != tt.marked && format != "latex" {
				t.Errorf("%s, %s: marked is %v\n%s", tt.name, format, got, out)
			}
			if got := strings.Contains(out, text); got != tt.told {
				t.Errorf("%s, %s: told is %v\n%s", tt.name, format, got, out)
			}
			if got := regexp.MustCompile("RETRACTION|WITHDRAWAL|who is not trusted").MatchString(out); got != tt.said {
				t.Errorf("%s, %s: said is %v\n%s", tt.name, format, got, out)
			}
		}
	}
}

func TestPlain(t *testing.T) {
	for tex, want := range map[string]string{
		`Abell\'o`: "Abelló", `Ko\c{c}i`: "Koçi", `G\"{o}del`: "Gödel", `\O rsted`: "Ørsted", `\v{S}im\r{u}nek`: "Šimůnek",
		`na\"{\i}ve`: "naïve", `na\"\i ve`: "naï ve", `{\L}ukasz`: "Łukasz", `A {Deep} $x_{1}$ B`: "A Deep $x_{1}$ B", `50\% \& more`: "50% & more",
		`\unknown{x}`: `\unknownx`, `\`: `\`, `\'`: `\'`, `Stra\ss e`: "Straße", `a~b`: "a b", `Erd\H os`: "Erdős", "é": "é",
	} {
		if got := Plain(tex); got != want {
			t.Errorf("%s: %q, want %q", tex, got, want)
		}
	}
}

func TestTeXSafe(t *testing.T) {
	for in, want := range map[string]string{
		"R&D at 5%": `R\&D at 5\%`, `A {B} $x_1$`: `A {B} $x_1$`, "a}b": "ab", `a\}b`: `a\textbraceright{}b`, "a_b": `a\_b`, `x\`: `x\textbackslash{}`, "}{": "",
		`G\"{o}del, G\"odel, \'{\i}, \'\i x, Ko\c{c}i, \v Sim, {\L}ukasz, \O rsted`: `G\"{o}del, G\"{o}del, \'{\i}, \'{\i}x, Ko\c{c}i, \v{S}im, {{\L}}ukasz, {\O}rsted`,
		`\input{/etc/passwd}`: `\textbackslash{}input{/etc/passwd}`, `$\input{x}$`: `\$\textbackslash{}input{x}\$`, `a^b`: `a\textasciicircum{}b`,
		`$\mathcal{O}(n^2)$ and $5`: `$\mathcal{O}(n^2)$ and \$5`, `$}{$`: `\$\$`, `$a\}b$`: `$a\rbrace b$`, `{$}$`: `{\$}\$`, "a\nb": "a b", `c\{`: `c\textbraceleft{}`,
	} {
		if got := texSafe(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// strange is a record in whose every text somebody wants to write more than a text.
func strange(text string) *Record {
	return &Record{
		PithNumber: "pith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM", Title: visible(text), Authors: []string{visible(text)}, Abstract: visible(text),
		License: license(text), SourceKind: "arxiv", SourceID: text, Version: "1", Submitted: time.Date(2018, 5, 21, 0, 0, 0, 0, time.UTC),
		Withdrawals: []Withdrawal{{Kind: "retraction", Claim: visible(text), By: visible(text), Text: visible(text)}}, Doubtful: 1,
	}
}

// fieldsOf reads an entry as BibTeX does: values end with the brace that closes
// them, whatever stands before a brace.
func fieldsOf(t *testing.T, entry string) (names []string) {
	t.Helper()
	body, ok := strings.CutPrefix(entry, "@misc{pith-CWPYLZDW,\n")
	for ok && body != "}\n" {
		var name string
		name, body, _ = strings.Cut(body, " = {")
		names = append(names, strings.TrimSpace(name))
		depth, end := 1, 0
		for ; end < len(body) && depth > 0; end++ {
			switch body[end] {
			case '{':
				depth++
			case '}':
				depth--
			}
		}
		if body, ok = strings.CutPrefix(body[end:], ",\n"); !ok {
			break
		}
	}
	if !ok {
		t.Fatalf("no entry: %s", entry)
	}
	return names
}

// TestNobodyAddsAField: what a stranger writes stays inside the field it is in.
func TestNobodyAddsAField(t *testing.T) {
	fragments := []string{"{", "}", "^^5c", "^", `\{`, `\}`, `\`, "$", `\$`, "%", "\n", "\r\n", "\u2028", "\x85", "\x1b[2J", "\x00", "\u202e", "a", " ", ",", "=", "é", `\c{c}`, `\'`, `\"{o}`, `\alpha`, `\input{x}`, `{\L}`,
		"author = {Eve},\n", "AU  - Eve", "ER  - ", "TY  - ", "</script>", "<script>", `"`, "https://e.example/", "arxiv"}
	rapid.Check(t, func(rt *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(fragments), 0, 12).Draw(rt, "text"), "")
		r := strange(text)
		want := []string{"title", "year", "month", "url", "note"}
		if d := cmp.Diff(want, fieldsOf(t, string(r.BibTeX()))); d != "" {
			rt.Fatalf("%q: %s\n%s", text, d, r.BibTeX())
		}
		lines := strings.Split(strings.TrimSuffix(string(r.RIS()), "\r\n"), "\r\n")
		for i, line := range lines {
			if !tagged.MatchString(line) || strings.ContainsFunc(line, func(c rune) bool { return c < ' ' || unicode.IsControl(c) }) || strings.HasPrefix(line, "ER") != (i == len(lines)-1) {
				rt.Fatalf("%q: line %q", text, line)
			}
		}
		for i, line := range strings.Split(strings.TrimSuffix(string(r.LaTeX()), "\n"), "\n") {
			if i < 2 != strings.HasPrefix(line, "% ") || i > 3 {
				rt.Fatalf("%q: line %d of LaTeX is %q", text, i+1, line)
			}
		}
		for _, format := range Formats {
			out, err := r.Format(format)
			if err != nil {
				rt.Fatal(err)
			}
			switch format {
			case "json-ld", "csl-json", "ro-crate":
				if strings.Contains(string(out), "<") || !json.Valid(out) {
					rt.Fatalf("%q in %s: %s", text, format, out)
				}
			}
			if strings.ContainsAny(string(out), "\x1b\x00\u202e") {
				rt.Fatalf("%q steers the terminal in %s", text, format)
			}
		}
	})
}

var tagged = regexp.MustCompile(`^[A-Z][A-Z0-9]  - `)

// TestOddIdentifiers: ids and licences that are none are not linked to, and take
// nobody's name in a crate.
func TestOddIdentifiers(t *testing.T) {
	for id, want := range map[string]bool{"1805.07898": true, "0704.0001": true, "math.GT/0309136": true, "hep-th/9901001": true,
		"1805.07898}": false, "../x": false, "1805.07898?x=<": false, "": false} {
		r := strange("x")
		r.SourceID = id
		if got := r.DOI() != ""; got != want {
			t.Errorf("%q: DOI %q", id, r.DOI())
		}
	}
	for text, want := range map[string]bool{"http://arxiv.org/licenses/nonexclusive-distrib/1.0/": true, "https://creativecommons.org/licenses/by/4.0/": true,
		"javascript:alert(1)": false, "ro-crate-metadata.json": false, "https://": false, "https://e.example/\n": false, "": false} {
		if got := license(text) != ""; got != want {
			t.Errorf("license %q: %v", text, got)
		}
	}
	r := strange("x")
	for _, taken := range []string{r.URL(), r.URL() + "/bundle.json", r.URL() + "#article"} {
		r.License = taken
		var crate struct {
			Graph []struct {
				ID string `json:"@id"`
			} `json:"@graph"`
		}
		out, err := r.ROCrate()
		if err != nil || json.Unmarshal(out, &crate) != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, e := range crate.Graph {
			if seen[e.ID] {
				t.Errorf("license %s: two entities %s", taken, e.ID)
			}
			seen[e.ID] = true
		}
	}
}

// TestForgedNames: a stranger's record_created and a trusted signer's description
// hold further members that encoding/json takes for those that were checked.
func TestForgedNames(t *testing.T) {
	want := record(t)
	bundle, err := os.ReadFile("testdata/forged-identifiers.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := New(pith.Verify(bundle, nil))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}

	key, err := pith.NewKey([]byte(strings.Repeat("k", 32)), pith.Signer{ID: "ada", Type: "individual", KeyID: "ada-1"})
	if err != nil {
		t.Fatal(err)
	}
	trust, err := pith.PinnedTrust().Merge(pith.TrustFor(key.Public(), []string{"*"}, true))
	if err != nil {
		t.Fatal(err)
	}
	plain := string(pith.Verify(seed.Bundle(), nil).History[1].Payload)
	forged := `{"graph_\u017fnapshot":{"paper":{"title":"Not checked","authors_text":"Mallory"}},` + plain[1:]
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	bundle, _, err = pith.Append(seed.Bundle(), key, at, pith.Draft{Type: pith.TypeGraphSnapshot, Target: "graph", CreatedAt: at, Payload: json.RawMessage(forged)})
	if err != nil {
		t.Fatal(err)
	}
	if got, err = New(pith.Verify(bundle, trust)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
