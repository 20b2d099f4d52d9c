package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/datasets"
	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/replicate"
	"github.com/openpith/evidence/replicate/study"
)

func planCommand() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "plan [NAME]",
		Short: "List the built-in plans, or print one to edit",
		Long: `Without an argument, lists the built-in plans. With one, prints it as JSON: save
it, change what you like, and run it with smoothout replicate --plan FILE.`,
		Args:    cobra.MaximumNArgs(1),
		Example: "  smoothout plan quick > my-plan.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkDataFlag(cmd, data); err != nil {
				return err
			}
			data = dataDir(data)
			if len(args) == 0 {
				t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 1, ' ', 0)
				for _, name := range replicate.PlanNames() {
					p, err := readPlan(name, data)
					if err != nil {
						return err
					}
					fmt.Fprintf(t, "%s\t%s\n", p.Name, p.Title)
				}
				return t.Flush()
			}
			p, err := readPlan(args[0], data)
			if err != nil {
				return err
			}
			cmd.OutOrStdout().Write(p.JSON())
			return nil
		},
	}
	cmd.Flags().StringVar(&data, "data", "", dataUsage)
	return cmd
}

// maxPlan is far above any plan that people write.
const maxPlan = 1 << 20

// readPlan finds a built-in plan or reads a plan file. The built-in plan
// "quick" runs on MNIST where that is found and on generated digits otherwise.
func readPlan(name, dataDir string) (*study.Plan, error) {
	haveMNIST := func() bool {
		_, err := datasets.Find("mnist", dataDir)
		return err == nil
	}
	if p := replicate.BuiltinPlan(name, haveMNIST); p != nil {
		return p, nil
	}
	text, err := cli.ReadFile(name, maxPlan)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("plan %q is neither built in nor a file", name)
		}
		return nil, cli.Hint(err, "the built-in plans are %s; print one to start from: smoothout plan quick", strings.Join(replicate.PlanNames(), ", "))
	}
	p, err := study.ParsePlan(text)
	if err != nil {
		return nil, cli.Hint(fmt.Errorf("%s: %w", name, err), "compare with a built-in plan: smoothout plan quick")
	}
	return p, nil
}
