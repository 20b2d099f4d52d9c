package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/experiment"
	"github.com/openpith/evidence/internal/cli"
)

func recipesCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "recipes [NAME]",
		Short: "List the named recipes with their sources, or print one to edit",
		Long: `Without an argument, lists the named recipes: network, data and how it is trained.
With one, prints it as JSON: save it, change what you like, and train by it with
smoothout train --recipe FILE. The config.json of a run is such a file as well.`,
		Args:    cobra.MaximumNArgs(1),
		Example: "  smoothout recipes\n  smoothout recipes paper/f1-lb > my.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			if len(args) == 1 {
				c, err := experiment.RecipeByName(args[0])
				if err != nil {
					return cli.Hint(err, "see smoothout recipes")
				}
				_, err = out.Write(c.JSON())
				return err
			}
			all := experiment.Recipes()
			if asJSON {
				enc := json.NewEncoder(out)
				enc.SetEscapeHTML(false)
				enc.SetIndent("", "  ")
				return enc.Encode(all)
			}
			for _, c := range all {
				r := c.Recipe
				fmt.Fprintf(out, "%-22s %s\n", c.Name, c.Title)
				rates := fmt.Sprintf("lr %g", r.LearningRate)
				for _, m := range r.Milestones {
					rates += fmt.Sprintf(", %g@%g", m.LearningRate, m.Epoch)
				}
				if r.Multiple() > 1 {
					rates += fmt.Sprintf(", × %s(%d)", r.Scaling, r.Multiple())
				}
				fmt.Fprintf(out, "%22s %d epochs; %s; momentum %g, weight decay %g, clip %g\n", "", r.Epochs, rates, r.Momentum, r.WeightDecay, r.ClipNorm)
				fmt.Fprintf(out, "%22s %s\n", "", c.Source)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "the whole recipes, as a JSON array")
	return cmd
}
