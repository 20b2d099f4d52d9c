package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/openpith/evidence"

// Names for families of packages, so that the table reads like a sentence.
// A pattern is an import path; with a trailing "/..." it covers the tree.
var families = map[string][]string{
	"GoMLX":    {"github.com/gomlx/gomlx/..."},
	"compute":  {"github.com/gomlx/compute", "github.com/gomlx/compute/..."},
	"backends": {"github.com/gomlx/compute/gobackend/...", "github.com/gomlx/go-xla/...", module + "/cpu/..."},
	"drawing":  {"gonum.org/v1/plot/...", "git.sr.ht/~sbinet/gg/..."},
	"HTTP":     {"net/http"},
	"SQL":      {"database/sql", "modernc.org/...", "zombiezen.com/...", "github.com/jackc/..."},
	"cobra":    {"github.com/spf13/cobra", "github.com/spf13/pflag"},
	"gonum":    {"gonum.org/v1/gonum/..."},
	"ML": {
		module + "/smoothout/...", module + "/rivals/...", module + "/nets/...", module + "/datasets/...", module + "/train/...",
	},
	"jsontext":     {"github.com/go-json-experiment/json/jsontext"},
	"edwards25519": {"filippo.io/edwards25519/..."},
	"cli":          {module + "/internal/cli", module + "/internal/atomicfile", "github.com/spf13/cobra"},
}

// A rule says what one package may import itself, beyond the standard
// library, and what must not be reached even through others.
type rule struct {
	may  []string // families, import paths, or module-relative packages ("pith")
	free []string // never, not even indirectly
}

// rules is the may-import table of docs/map.md. Every package of the module
// stands here; most specific first is not needed, each path is exact.
var rules = map[string]rule{
	"pith":                   {may: []string{"pith/internal/canon", "pith/internal/ed25519x", "pith/ots"}, free: []string{"HTTP", "SQL", "GoMLX", "compute", "cobra", "ML"}},
	"pith/internal/canon":    {may: []string{"jsontext"}, free: []string{"HTTP", "SQL", "GoMLX", "compute"}},
	"pith/internal/ed25519x": {may: []string{"edwards25519", "golang.org/x/sys/..."}, free: []string{"HTTP", "SQL", "GoMLX", "compute"}},

	"internal/asmfile":              {may: []string{"github.com/mmcloughlin/avo/..."}, free: []string{"HTTP", "SQL", "GoMLX", "compute", "pith"}},
	"pith/internal/ed25519x/asmgen": {may: []string{"internal/asmfile", "github.com/mmcloughlin/avo/..."}, free: []string{"HTTP", "SQL", "GoMLX", "compute", "pith"}},
	"pith/ots":                      {may: []string{"golang.org/x/crypto/ripemd160", "golang.org/x/crypto/sha3"}, free: []string{"HTTP", "SQL", "GoMLX", "compute", "cobra"}},
	"pith/export":                   {may: []string{"pith", "golang.org/x/text/unicode/norm"}, free: []string{"HTTP", "SQL", "GoMLX", "compute", "cobra"}},
	"pith/seed":                     {},
	"spec/schema":                   {},

	"resolver":                 {may: []string{"pith", "internal/lru", "golang.org/x/time/rate", "golang.org/x/sync/semaphore", "golang.org/x/text/unicode/norm", "github.com/klauspost/compress/..."}, free: []string{"SQL", "GoMLX", "compute", "cobra"}},
	"resolver/memstore":        {may: []string{"resolver"}, free: []string{"SQL", "GoMLX", "compute", "cobra"}},
	"resolver/web":             {may: []string{"resolver", "pith", "internal/lru", "golang.org/x/sync/...", "pith/export", "spec/schema", "github.com/modelcontextprotocol/go-sdk/mcp"}, free: []string{"SQL", "GoMLX", "compute", "cobra"}},
	"resolver/sqlite":          {may: []string{"resolver", "zombiezen.com/go/sqlite/...", "github.com/gofrs/flock"}, free: []string{"resolver/memstore", "resolver/postgres", "GoMLX", "compute", "cobra"}},
	"resolver/postgres":        {may: []string{"resolver", "github.com/jackc/pgx/v5/..."}, free: []string{"resolver/memstore", "resolver/sqlite", "GoMLX", "compute", "cobra"}},
	"resolver/postgres/pgtest": {may: []string{"github.com/jackc/pgx/v5"}, free: []string{"resolver", "GoMLX", "compute", "cobra"}},
	"resolver/tlog":            {may: []string{"resolver", "pith", "internal/atomicfile", "github.com/gofrs/flock", "github.com/transparency-dev/...", "golang.org/x/mod/sumdb/note", "golang.org/x/sync/errgroup"}, free: []string{"SQL", "GoMLX", "compute", "cobra"}},
	"resolver/storetest":       {may: []string{"resolver", "resolver/memstore", "pith", "pith/seed", "bench/pith/plain", "github.com/google/go-cmp/cmp/..."}, free: []string{"SQL", "GoMLX", "compute", "cobra"}},
	"resolver/compare":         {may: []string{"golang.org/x/sync/errgroup"}, free: []string{"HTTP", "SQL", "GoMLX", "compute", "cobra"}},
	"resolver/mirror": {
		may:  []string{"resolver", "resolver/compare", "resolver/tlog", "pith", "internal/httpserve", "github.com/klauspost/compress/zstd", "github.com/transparency-dev/...", "golang.org/x/mod/sumdb/note"},
		free: []string{"SQL", "GoMLX", "compute", "cobra"},
	},
	"resolver/archive": {may: []string{"pith", "internal/atomicfile", "github.com/klauspost/compress/zstd"}, free: []string{"HTTP", "SQL", "GoMLX", "compute", "cobra"}},

	"smoothout": {may: []string{"GoMLX", "compute", "internal/seed"}, free: []string{"backends", "pith", "nets", "datasets", "train", "HTTP"}},
	"rivals":    {may: []string{"GoMLX", "compute", "smoothout"}, free: []string{"backends", "pith", "nets", "datasets", "train", "HTTP"}},
	"nets":      {may: []string{"GoMLX", "compute", "internal/seed"}, free: []string{"backends", "pith", "smoothout", "datasets", "train", "HTTP"}},
	"datasets":  {may: []string{"internal/atomicfile", "internal/seed", "golang.org/x/image/draw"}, free: []string{"backends", "pith", "smoothout", "nets", "train"}},
	"train":     {may: []string{"GoMLX", "compute", "smoothout", "rivals", "internal/atomicfile", "internal/safetensors", "internal/seed"}, free: []string{"backends", "pith", "nets", "datasets", "HTTP"}},

	"objective":         {free: []string{"GoMLX", "compute", "pith", "drawing", "HTTP"}},
	"objective/network": {may: []string{"objective", "GoMLX", "compute", "smoothout"}, free: []string{"backends", "pith", "nets", "datasets", "train", "HTTP", "drawing"}},
	"sharpness":         {may: []string{"objective", "gonum", "internal/seed"}, free: []string{"GoMLX", "compute", "pith", "ML", "HTTP", "drawing"}},
	"landscape":         {may: []string{"objective", "gonum", "internal/seed"}, free: []string{"GoMLX", "compute", "pith", "ML", "HTTP", "drawing"}},

	"experiment": {
		may:  []string{"ML", "compute", "internal/atomicfile", "internal/provenance", "internal/stats", "internal/tensorboard", "rivals", "objective/network", "internal/seed", "github.com/gofrs/flock", "golang.org/x/sync/errgroup", "GoMLX"},
		free: []string{"backends", "pith", "drawing", "SQL", "cobra"},
	},
	"replicate/study": {may: []string{"pith", "sharpness", "internal/atomicfile", "internal/stats"}, free: []string{"GoMLX", "compute", "drawing", "HTTP", "SQL"}},
	"replicate": {
		may:  []string{"experiment", "sharpness", "objective", "compute", "pith", "replicate/study", "internal/provenance", "github.com/gofrs/flock"},
		free: []string{"backends", "drawing", "SQL"},
	},
	"report": {may: []string{"internal/stats", "replicate/study", "landscape", "objective", "sharpness", "drawing", "gonum"}, free: []string{"GoMLX", "compute", "HTTP", "SQL"}},

	"examples/flat":        {may: []string{"GoMLX", "compute", "cpu", "smoothout"}, free: []string{"pith", "nets", "datasets", "train", "HTTP", "SQL"}},
	"examples/transformer": {may: []string{"GoMLX", "compute", "cpu", "smoothout"}, free: []string{"pith", "nets", "datasets", "train", "HTTP", "SQL"}},

	"bench":        {may: []string{"GoMLX", "compute", "cpu", "smoothout", "train"}, free: []string{"pith", "HTTP", "SQL"}},
	"bench/tables": {may: []string{"bench", "cpu", "smoothout"}, free: []string{"pith", "HTTP", "SQL"}},
	"cpu": {
		may:  []string{"compute", "cpu/internal/kernels", "cpu/internal/winograd", "github.com/pkg/errors", "golang.org/x/sys"},
		free: []string{"GoMLX", "pith", "ML", "HTTP", "SQL"},
	},
	"cpu/internal/kernels":  {may: []string{"cpu/internal/winograd", "golang.org/x/sys/..."}, free: []string{"GoMLX", "compute"}},
	"cpu/internal/winograd": {free: []string{"GoMLX", "compute"}},
	"cpu/internal/asmgen":   {may: []string{"internal/asmfile", "cpu/internal/winograd", "github.com/mmcloughlin/avo/..."}, free: []string{"GoMLX", "compute"}},

	"cmd/pith": {
		may: []string{"pith", "pith/export", "pith/ots", "pith/seed", "cli", "cobra", "internal/keyfile", "internal/httpserve",
			"resolver", "resolver/memstore", "resolver/sqlite", "resolver/postgres", "resolver/tlog", "resolver/web", "resolver/compare", "resolver/archive", "resolver/mirror",
			"github.com/prometheus/client_golang/...", "go.opentelemetry.io/...", "golang.org/x/term", "github.com/schollz/progressbar/v3"},
		free: []string{"GoMLX", "compute", "drawing", "ML"},
	},
	"cmd/smoothout": {
		may: []string{"experiment", "smoothout", "objective", "objective/network", "sharpness", "landscape", "replicate", "replicate/study", "report", "datasets", "nets", "train", "pith", "pith/seed", "cli", "internal/keyfile",
			"compute", "backends", "github.com/guptarohit/asciigraph", "github.com/schollz/progressbar/v3", "golang.org/x/term"},
		free: []string{"SQL"},
	},

	"bench/pith":       {may: []string{"pith", "pith/seed", "bench/pith/plain"}, free: []string{"GoMLX", "compute", "HTTP"}},
	"bench/pith/gen":   {may: []string{"pith", "pith/seed", "bench/pith/plain"}, free: []string{"GoMLX", "compute", "HTTP"}},
	"bench/pith/plain": {},
	"bench/mirror":     {may: []string{"bench/pith/plain", "internal/httpserve", "pith", "pith/seed", "resolver/..."}, free: []string{"GoMLX", "compute", "cobra"}},

	"conformance":           {free: []string{"pith", "HTTP", "SQL", "GoMLX", "cobra"}},
	"conformance/run":       {may: []string{"conformance"}, free: []string{"pith", "HTTP", "SQL", "GoMLX", "cobra"}},
	"conformance/gen":       {free: []string{"pith", "HTTP", "SQL", "GoMLX", "cobra"}}, // expectations never come from what is tested
	"conformance/client-go": {may: []string{"pith", "pith/ots"}, free: []string{"HTTP", "SQL", "GoMLX", "cobra"}},
	"conformance/mutants":   {may: []string{"conformance", "pith", "pith/ots", "pith/seed"}, free: []string{"HTTP", "SQL", "GoMLX", "cobra"}},

	"internal/archtest":    {},
	"internal/atomicfile":  {},
	"internal/cli":         {may: []string{"cobra"}, free: []string{"GoMLX", "HTTP", "SQL"}},
	"internal/keyfile":     {may: []string{"pith", "internal/atomicfile", "filippo.io/age"}, free: []string{"GoMLX", "HTTP", "SQL", "cobra"}},
	"internal/provenance":  {},
	"internal/safetensors": {},
	"internal/lru":         {},
	"internal/seed":        {},
	"internal/stats":       {may: []string{"gonum"}},
	"internal/tensorboard": {may: []string{"google.golang.org/protobuf/encoding/protowire"}},
	"internal/httpserve":   {may: []string{"golang.org/x/crypto/acme/...", "golang.org/x/net/idna", "golang.org/x/net/netutil"}, free: []string{"GoMLX", "SQL", "cobra", "pith"}},
}

type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

// listPackages asks the go command, so that build constraints and generated
// files count exactly as they do in a build.
func listPackages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports,Deps", "./...")
	cmd.Dir = filepath.Join("..", "..")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func TestImportsFollowTheTable(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the go command is not on the PATH")
	}
	pkgs := listPackages(t)
	standard := map[string]bool{"C": true}
	for _, p := range pkgs {
		if p.Standard {
			standard[p.ImportPath] = true
		}
	}
	checked := 0
	for _, p := range pkgs {
		rel, ours := strings.CutPrefix(p.ImportPath, module+"/")
		if !ours {
			continue
		}
		checked++
		r, ok := rules[rel]
		if !ok {
			t.Errorf("%s is not in the table: add it to docs/map.md and to rules, with what it may lean on", rel)
			continue
		}
		for _, v := range violations(rel, r, p, standard) {
			t.Error(v)
		}
	}
	if checked != len(rules) {
		t.Errorf("the table has %d packages, the module %d: remove rows of packages that are gone", len(rules), checked)
	}
}

// violations compares one package with its rule.
func violations(rel string, r rule, p pkg, standard map[string]bool) []string {
	var out []string
	for _, imp := range p.Imports {
		if !standard[imp] && !matches(imp, r.may) {
			out = append(out, rel+" imports "+imp+", which the table does not allow")
		}
	}
	for _, dep := range p.Deps {
		if matches(dep, r.free) {
			out = append(out, rel+" depends on "+dep+", which it must stay free of")
		}
	}
	return out
}

// matches reports whether path is covered by one of the names: a family, an
// import path, or a package of this module.
func matches(path string, names []string) bool {
	for _, name := range names {
		patterns := families[name]
		if patterns == nil {
			patterns = []string{name, module + "/" + name}
		}
		for _, pattern := range patterns {
			if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
				if path == tree || strings.HasPrefix(path, tree+"/") {
					return true
				}
			} else if path == pattern {
				return true
			}
		}
	}
	return false
}

// TestTheCheckCanFail proves the checker on packages that break their rule.
func TestTheCheckCanFail(t *testing.T) {
	standard := map[string]bool{"fmt": true, "net/http": true}
	r := rule{may: []string{"cli"}, free: []string{"GoMLX", "HTTP"}}
	tests := []struct {
		name string
		p    pkg
		want int
	}{
		{"clean", pkg{Imports: []string{"fmt", module + "/internal/cli"}, Deps: []string{"fmt"}}, 0},
		{"foreign import", pkg{Imports: []string{"example.com/x"}}, 1},
		{"sibling not allowed", pkg{Imports: []string{module + "/train"}}, 1},
		{"forbidden through another", pkg{Deps: []string{"github.com/gomlx/gomlx/core/graph"}}, 1},
		{"forbidden from the standard library", pkg{Imports: []string{"net/http"}, Deps: []string{"net/http"}}, 1},
	}
	for _, tt := range tests {
		if got := violations("x", r, tt.p, standard); len(got) != tt.want {
			t.Errorf("%s: %d violations %q, want %d", tt.name, len(got), got, tt.want)
		}
	}
}

// TestMapNamesEveryFolder keeps docs/map.md honest: a folder with Go code or
// documents has a line there, and every folder named there exists.
func TestMapNamesEveryFolder(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "map.md"))
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for line := range strings.Lines(string(text)) {
		if cell, ok := strings.CutPrefix(line, "| `"); ok {
			if name, _, ok := strings.Cut(cell, "`"); ok {
				named = append(named, strings.TrimSuffix(name, "/"))
			}
		}
	}
	for rel := range rules {
		if !slices.Contains(named, rel) {
			t.Errorf("docs/map.md has no line for %s", rel)
		}
	}
	for _, name := range named {
		if _, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(name))); err != nil {
			t.Errorf("docs/map.md names %s, which does not exist", name)
		}
	}
}
