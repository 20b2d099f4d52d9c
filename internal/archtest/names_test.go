package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// byOtherRules are the files that read JSON with encoding/json, which matches
// names without regard to case, although they belong to packages that read what
// strangers signed. Each says why nobody can show it another text than the checks
// saw. All others use pith.Decode.
var byOtherRules = map[string]string{
	"cmd/pith/config.go":            "a file of the user",
	"cmd/pith/declare.go":           "the answer of a mirror, printed and no more",
	"cmd/pith/ingest.go":            "a file that pith wrote itself",
	"cmd/pith/lines.go":             "results that pith wrote itself",
	"cmd/pith/new.go":               "what the user wants to sign",
	"cmd/pith/verify.go":            "into a map, which has exact names",
	"pith/decode.go":                "is the reader by exact names",
	"replicate/conclude.go":         "into maps, which have exact names",
	"resolver/archive/archive.go":   "its own list of files",
	"resolver/mirror/contents.go":   "numbers and strings alone",
	"resolver/mirror/fetch.go":      "the answers of a mirror, which nobody signed",
	"resolver/mirror/store.go":      "its own rows",
	"resolver/mirror/sync.go":       "the list of a mirror, which nobody signed; each record is verified",
	"resolver/postgres/postgres.go": "its own rows",
	"resolver/receipt.go":           "written anew and compared, so no other names get past",
	"resolver/sqlite/sqlite.go":     "its own rows",
	"resolver/tlog/proof.go":        "a proof, which is checked by what it proves",
	"resolver/web/documents.go":     "the output of the export",
	"resolver/web/site.go":          "the policy as pith wrote it",
	"resolver/write.go":             "a hint for honest senders; the strict reader decides",
	"resolver/submit.go":            "into maps, which have exact names",
}

// TestSignedTextIsReadByExactNames: where strangers' signatures are shown, no
// decoder folds the case of names (spec §1.8).
func TestSignedTextIsReadByExactNames(t *testing.T) {
	root := filepath.Join("..", "..")
	found := map[string]bool{}
	for _, tree := range []string{"pith", "cmd/pith", "resolver", "replicate/conclude.go"} {
		err := filepath.WalkDir(filepath.Join(root, tree), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, path)
			if err == nil && foldsNames(file) {
				found[filepath.ToSlash(rel)] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for path := range found {
		if _, ok := byOtherRules[path]; !ok {
			t.Errorf("%s reads JSON with encoding/json, which takes Kind for kind: use pith.Decode, or say in byOtherRules why nothing signed is read there", path)
		}
	}
	for path := range byOtherRules {
		if !found[path] {
			t.Errorf("%s no longer reads JSON with encoding/json: strike it from byOtherRules", path)
		}
	}
}

// foldsNames reports whether a file decodes with encoding/json.
func foldsNames(file *ast.File) bool {
	name := ""
	for _, imp := range file.Imports {
		if imp.Path.Value == `"encoding/json"` {
			if name = "json"; imp.Name != nil {
				name = imp.Name.Name
			}
		}
	}
	folds := false
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && name != "" {
			x, ok := sel.X.(*ast.Ident)
			folds = folds || ok && x.Name == name && (sel.Sel.Name == "Unmarshal" || sel.Sel.Name == "NewDecoder")
		}
		return true
	})
	return folds
}
