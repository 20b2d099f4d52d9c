package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/schollz/progressbar/v3"
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
		Short:   "Find, check or fetch data sets",
		Example: "  smoothout data list\n  smoothout data get mnist\n  smoothout data check mnist",
	}
	var dir string
	cmd.PersistentFlags().StringVar(&dir, "data", "", dataUsage)
	cmd.AddCommand(dataGet(&dir), dataList(&dir), dataCheck(&dir))
	return cmd
}

func dataGet(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "get NAME",
		Short: "Download a data set and check it against its published digests",
		Long: `Downloads one of ` + strings.Join(datasets.Downloadable(), ", ") + `
into the data directory. Every file is checked against its published SHA-256
before it takes its name. This is the only command of smoothout that uses the
network.`,
		Args:    cobra.ExactArgs(1),
		Example: "  smoothout data get mnist --data ~/data",
		RunE: func(cmd *cobra.Command, args []string) error {
			to := dataDir(*dir)
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
}

func dataList(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Say which data sets are found, and where the others belong",
		Long: `Looks for the files of each data set. It does not read them: data check does, and
so does every command that uses a set. The set glyphs is generated and needs no
files. Folders of images are used by their path: a directory per class, in it PNG
and JPEG files.`,
		Args:    cobra.NoArgs,
		Example: "  smoothout data list --data ~/data",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range datasets.Names() {
				where, err := datasets.Find(name, dataDir(*dir))
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s\tfound, not checked\n", name, where)
					continue
				}
				files, err := datasets.Files(name)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s\tnot found\tput %s into %s\n", name, strings.Join(files, ", "), filepath.Join(dataDir(*dir), name))
			}
			return nil
		},
	}
}

// A checked set is what data check --json prints, one object per line.
type checked struct {
	Name      string `json:"name"` // of the set, or the path of the folder
	Directory string `json:"directory"`
	OK        bool   `json:"ok"`
	// Verified says that every file was compared with a published SHA-256; of
	// folders of images and of unpacked archives there is none.
	Verified bool   `json:"verified"`
	Source   string `json:"source,omitempty"`
	Train    int    `json:"train,omitempty"` // images
	Test     int    `json:"test,omitempty"`
	Classes  int    `json:"classes,omitempty"`
	Shape    []int  `json:"shape,omitempty"` // height, width, channels; not of folders, whose images may differ
	SHA256   string `json:"sha256,omitempty"`
	// Wrong says what is wrong, one line per file.
	Wrong []string `json:"wrong,omitempty"`
	// Skipped is the number of files of a folder that are no images of a class.
	Skipped int `json:"skipped,omitempty"`
}

func dataCheck(dir *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [NAME|FOLDER]...",
		Short: "Read data sets and check them against their published digests",
		Long: `Reads the named data sets, or all that are found, and compares every file with
its published SHA-256. Of a folder of images every file is decoded; it may hold
train/ and val/ (or test/), each with a directory per class, or the classes.

Exit code 1 says that a file is not what it should be.`,
		Example: "  smoothout data check\n  smoothout data check cifar-10 --data ~/data\n  smoothout data check ./my-images",
		RunE: func(cmd *cobra.Command, args []string) error {
			named := len(args) > 0
			if !named {
				args = datasets.Names()
			}
			code, found := cli.ExitOK, 0
			for _, name := range args {
				var c checked
				var err error
				if !slices.Contains(datasets.Names(), name) && isDirectory(name) {
					c, err = checkFolder(cmd, name)
				} else {
					c, err = checkSet(name, dataDir(*dir))
				}
				if errors.Is(err, datasets.ErrMissing) && !named {
					continue
				}
				if err != nil {
					return cli.Hint(err, "see smoothout data list")
				}
				if found++; !c.OK {
					code = cli.ExitRejected
				}
				if asJSON {
					if err := json.NewEncoder(cmd.OutOrStdout()).Encode(c); err != nil {
						return err
					}
					continue
				}
				printChecked(cmd.OutOrStdout(), c)
			}
			if found == 0 {
				return cli.Hint(fmt.Errorf("no data set in %s", dataDir(*dir)), "smoothout data list says which files belong where")
			}
			return cli.Exit(code)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object per set")
	return cmd
}

func printChecked(w io.Writer, c checked) {
	if !c.OK {
		fmt.Fprintf(w, "%s\t%s\twrong\n", c.Name, c.Directory)
		for _, wrong := range c.Wrong {
			fmt.Fprintf(w, "  %s\n", wrong)
		}
		return
	}
	how := "checked"
	if !c.Verified {
		how = "readable, no published digest"
	}
	fmt.Fprintf(w, "%s\t%s\t%s: %d training and %d test images in %d classes\t%s\n", c.Name, c.Directory, how, c.Train, c.Test, c.Classes, c.SHA256)
	if c.Skipped > 0 {
		fmt.Fprintf(w, "  %d other files are ignored\n", c.Skipped)
	}
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func checkSet(name, dir string) (checked, error) {
	at, err := datasets.Find(name, dir)
	if err != nil {
		return checked{}, err
	}
	c := checked{Name: name, Directory: at}
	s, err := datasets.Load(name, dir)
	if errors.Is(err, datasets.ErrDamaged) {
		c.Wrong = []string{err.Error()}
		return c, nil
	}
	if err != nil {
		return c, err
	}
	c.OK, c.Verified, c.Source, c.Train, c.Test = true, s.Verified, s.Source, s.Train.Len(), s.Test.Len()
	c.Classes, c.Shape, c.SHA256 = len(s.Classes), s.Train.Shape(), s.SHA256()
	return c, nil
}

// checkFolder decodes all images of a folder. Its digest is that of its part or,
// as for other sets, the hash of those of the two.
func checkFolder(cmd *cobra.Command, dir string) (checked, error) {
	c := checked{Name: dir, Directory: dir}
	var parts []*datasets.Folder
	if isDirectory(filepath.Join(dir, "train")) {
		train, test, err := datasets.OpenFolders(dir, datasets.FolderConfig{})
		if err != nil {
			return c, err
		}
		parts, c.Test = []*datasets.Folder{train, test}, test.Len()
	} else {
		all, err := datasets.OpenFolder(dir, datasets.FolderConfig{})
		if err != nil {
			return c, err
		}
		parts = []*datasets.Folder{all}
	}
	c.Train, c.Classes, c.OK = parts[0].Len(), parts[0].Classes(), true
	for _, f := range parts {
		var bar *progressbar.ProgressBar
		if w := cmd.ErrOrStderr(); isTerminal(w) {
			bar = progressbar.NewOptions(f.Len(), progressbar.OptionSetWriter(w), progressbar.OptionSetDescription("images"),
				progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())
		}
		c.Skipped += f.SkippedCount
		broken, err := f.Check(cmd.Context(), func(done int, broken error) {
			if broken != nil {
				c.Wrong = append(c.Wrong, broken.Error())
			}
			if bar != nil {
				bar.Set(done)
			}
		})
		if err != nil {
			return c, err
		}
		c.OK = c.OK && broken == 0
	}
	slices.Sort(c.Wrong)
	for _, f := range parts {
		digest, err := f.SHA256()
		if err != nil {
			return c, err
		}
		c.SHA256 += digest + "\n"
	}
	if len(parts) == 1 {
		c.SHA256 = strings.TrimSpace(c.SHA256)
	} else {
		sum := sha256.Sum256([]byte(c.SHA256))
		c.SHA256 = hex.EncodeToString(sum[:])
	}
	return c, nil
}
