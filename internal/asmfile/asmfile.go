// Package asmfile turns kernels that are written with avo into the files of a
// package: assembly and the declarations of its functions.
package asmfile

import (
	"fmt"
	"go/token"
	"go/types"
	"os"
	"path/filepath"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
)

// Files are contents by name.
type Files map[string][]byte

// Add compiles kernels and adds their two files, which are called after name, for
// a package.
func (f Files) Add(kernels *build.Context, pkg, name string) error {
	file, err := kernels.Result()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := pass.Compile.Execute(file); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	config := printer.Config{Name: "asmgen", Pkg: pkg}
	for ending, p := range map[string]printer.Printer{"_amd64.s": printer.NewGoAsm(config), "_amd64.go": printer.NewStubs(config)} {
		if f[name+ending], err = p.Print(file); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// Types stands for a package that does not compile before its assembly exists: it
// declares the types that signatures refer to.
func Types(path, name string, typeNames ...string) *types.Package {
	pkg := types.NewPackage(path, name)
	for _, t := range typeNames {
		name := types.NewTypeName(token.NoPos, pkg, t, nil)
		types.NewNamed(name, types.NewStruct(nil, nil), nil)
		pkg.Scope().Insert(name)
	}
	return pkg
}

// Main writes what generate returns to the directory that the command line names.
func Main(generate func() (Files, error)) {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: asmgen DIRECTORY")
		os.Exit(2)
	}
	files, err := generate()
	for name, content := range files {
		if err == nil {
			err = os.WriteFile(filepath.Join(os.Args[1], name), content, 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "asmgen:", err)
		os.Exit(1)
	}
}

// A TB is a testing.TB.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// Committed asks that the files in a directory are those that generate returns, n of
// them.
func Committed(t TB, generate func() (Files, error), dir string, n int) {
	t.Helper()
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != n {
		t.Fatalf("generated %d files, want %d: assembly and declarations", len(files), n)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) || len(want) == 0 {
			t.Errorf("%s differs from what asmgen writes; run go generate in %s", name, dir)
		}
	}
}
