// Command run puts the cases of the conformance kit to a client and compares
// its answers with what they expect (conformance/README.md).
//
//	go run ./conformance/run [--cases DIR] CLIENT [ARGUMENT...]
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/openpith/evidence/conformance"
)

func main() {
	dir := flag.String("cases", "conformance/cases", "read the cases from `DIR`")
	quiet := flag.Bool("quiet", false, "print failures and the count alone")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: run [--quiet] [--cases DIR] CLIENT [ARGUMENT...]\n\n  go run ./conformance/run python3 conformance/client.py")
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	os.Exit(run(*dir, *quiet, flag.Args()))
}

func run(dir string, quiet bool, command []string) int {
	cases, err := conformance.Load(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		return 2
	}
	failed := 0
	ran, err := conformance.Run(cases, command, func(c conformance.Case, differences []string) {
		if len(differences) > 0 {
			failed++
			fmt.Printf("FAIL %s: %s\n", c.Name, c.Why)
			for _, d := range differences {
				fmt.Println("     " + d)
			}
		} else if !quiet {
			fmt.Println("ok   " + c.Name)
		}
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		return 2
	}
	fmt.Printf("%d cases ran, %d passed, %d failed\n", ran, ran-failed, failed)
	if ran != conformance.Count {
		fmt.Printf("but the kit has %d cases\n", conformance.Count)
		return 1
	}
	if failed > 0 {
		return 1
	}
	return 0
}
