// Command smoothout re-runs the claim of a paper and signs what it saw.
//
// Its commands are thin: they read flags, wire packages together and print.
// Data goes to stdout, words go to stderr; docs/cli.md promises the rest.
package main

import (
	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
)

func main() { cli.Main(root()) }

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "smoothout",
		Short: "Re-run a paper's claim and sign what was seen",
		Long: `smoothout trains networks with SmoothOut (arXiv:1805.07898), measures whether
that helps, and signs the answer as a replication record that anyone can verify.

It needs no network and no configuration. The backend that computes is chosen
by GOMLX_BACKEND (default ` + defaultBackend + `).`,
		Example: "  smoothout replicate",
	}
	cmd.AddCommand(
		trainCommand(),
		evalCommand(),
		sharpnessCommand(),
		landscapeCommand(),
		plotCommand(),
		sweepCommand(),
		watchCommand(),
		recipesCommand(),
		exportCommand(),
		netsCommand(),
		dataCommand(),
		replicateCommand(),
		checkCommand(),
		planCommand(),
	)
	return cmd
}
