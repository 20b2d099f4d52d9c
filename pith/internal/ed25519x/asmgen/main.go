// Command asmgen writes the assembly of package ed25519x. Run it through
// "go generate" in that package; a test checks that the committed files are what
// it writes.
package main

import "github.com/openpith/evidence/internal/asmfile"

func main() { asmfile.Main(generate) }
