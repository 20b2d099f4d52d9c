package export

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
		"R&D at 5%": `R\&D at 5\%`, `A {B} $x_1$`: `A {B} $x_1$`, "a}b": "ab", `a\}b`: `a\}b`, "a_b": `a\_b`, `x\`: "x", "}{": "",
	} {
		if got := texSafe(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
