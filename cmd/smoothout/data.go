package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/datasets"
	"github.com/openpith/evidence/internal/cli"
)

const dataUsage = "`directory` with data sets (default $" + datasets.DataVariable + ", or evidence/ in the user's cache directory)"

// dataDir is where data sets are looked for and downloaded to: the flag, the
// environment, the cache directory of the user.
func dataDir(flag string) string {
	if flag != "" {
		return flag
	}
	if env := os.Getenv(datasets.DataVariable); env != "" {
		return env
	}
	if cache, err := os.UserCacheDir(); err == nil {
		return filepath.Join(cache, "evidence")
	}
	return "data" // no home: then beside whatever is being worked on
}

func dataCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "data",
		Short:   "Find or fetch data sets",
		Example: "  smoothout data list\n  smoothout data get mnist",
	}
	var dir string
	get := &cobra.Command{
		Use:   "get NAME",
		Short: "Download a data set and check it against its published digests",
		Long: `Downloads one of ` + strings.Join(datasets.Names(), ", ") + ` into the data directory. Every file is
checked against its published SHA-256 before it takes its name. This is the only
command of smoothout that uses the network.`,
		Args:    cobra.ExactArgs(1),
		Example: "  smoothout data get mnist --data ~/data",
		RunE: func(cmd *cobra.Command, args []string) error {
			to := dataDir(dir)
			where, err := datasets.Download(cmd.Context(), args[0], to, downloadProgress(cmd.ErrOrStderr()))
			if err != nil {
				return cli.Hint(err, "files that you have already serve as well: put them into %s, or name their directory with --data", filepath.Join(to, args[0]))
			}
			fmt.Fprintln(cmd.OutOrStdout(), where)
			return nil
		},
	}
	list := &cobra.Command{
		Use:     "list",
		Short:   "Say which data sets are found, and where",
		Args:    cobra.NoArgs,
		Example: "  smoothout data list --data ~/data",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range datasets.Names() {
				where, err := datasets.Find(name, dataDir(dir))
				if err != nil {
					where = "not found"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s\n", name, where)
			}
			return nil
		},
	}
	cmd.PersistentFlags().StringVar(&dir, "data", "", dataUsage)
	cmd.AddCommand(get, list)
	return cmd
}
