package main

import (
	"errors"
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

// checkDataFlag refuses a --data that is no directory, also for plans that need
// none: whoever names one means it.
func checkDataFlag(cmd *cobra.Command, dir string) error {
	if !cmd.Flags().Changed("data") {
		return nil
	}
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory", dir)
	}
	if err != nil {
		return cli.Hint(fmt.Errorf("--data: %w", err), "name the directory that has the files, or fetch them: smoothout data get NAME")
	}
	return nil
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
			switch {
			case errors.Is(err, datasets.ErrDownload):
				return cli.Hint(err, "files that you have already serve as well: put them into %s, or name their directory with --data", filepath.Join(to, args[0]))
			case errors.Is(err, datasets.ErrUnknown):
				return cli.Hint(err, "glyphs are generated and need no files; see smoothout data list")
			case err != nil:
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), where)
			return nil
		},
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "Say which data sets are found, and where",
		Long: `Looks for the files of each data set. It does not read them: replicate checks
their digests when it uses them, and data get when it fetches them.`,
		Args:    cobra.NoArgs,
		Example: "  smoothout data list --data ~/data",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range datasets.Names() {
				line := name + "\tnot found"
				if where, err := datasets.Find(name, dataDir(dir)); err == nil {
					line = name + "\t" + where + "\tfound, not checked"
				}
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
			return nil
		},
	}
	cmd.PersistentFlags().StringVar(&dir, "data", "", dataUsage)
	cmd.AddCommand(get, list)
	return cmd
}
