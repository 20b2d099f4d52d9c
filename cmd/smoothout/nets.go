package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/gomlx/compute"
	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/nets"
)

// A described network is what nets --json prints.
type described struct {
	nets.Net
	Classes      int          `json:"classes"`
	Width        int          `json:"width"`
	Parameters   int          `json:"parameters"`
	MultiplyAdds int64        `json:"multiply_adds"`
	Layers       []nets.Layer `json:"layers,omitempty"`
}

func netsCommand() *cobra.Command {
	var o nets.Options
	var input string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "nets [NAME]",
		Short: "List the networks, or the layers of one",
		Long: `Without a name, lists the networks of the reference. With one, lists its layers:
where their variables are, the shape of their output for one sample, and their
parameters. Beside the names listed, every resnetN with N = 6n+2 (resnet8,
resnet20, ...) and every wrn-N-K with N = 6n+4 is one.`,
		Args:    cobra.MaximumNArgs(1),
		Example: "  smoothout nets\n  smoothout nets resnet44 --classes 100\n  smoothout nets c1 --input 64x64x3 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, _, err := backend()
			if err != nil {
				return err
			}
			b, err := newBackend(name)
			if err != nil {
				return err
			}
			defer b.Finalize()
			w := cmd.OutOrStdout()
			if len(args) == 0 {
				for _, flag := range []string{"classes", "width", "input"} {
					if cmd.Flags().Changed(flag) {
						return cli.Hint(fmt.Errorf("--%s without a network", flag), "name one: smoothout nets NAME --%s ...", flag)
					}
				}
				return listNets(w, b, asJSON)
			}
			n, err := nets.Lookup(args[0])
			if err != nil {
				return cli.Hint(err, "smoothout nets lists them")
			}
			if n.Input, err = inputShape(input, n.Input); err != nil {
				return cli.Hint(err, "for example --input 32x32x3: height, width, channels")
			}
			d, err := describe(b, n, o)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(w, d)
			}
			return printNet(w, d)
		},
	}
	cmd.Flags().IntVar(&o.Classes, "classes", 0, "`number` of classes (default: the reference's)")
	cmd.Flags().IntVar(&o.Width, "width", 0, "`units` or channels of the first layer; the others follow in proportion (default: the reference's)")
	cmd.Flags().StringVar(&input, "input", "", "`HxWxC` of one image (default: the reference's)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// inputShape reads "32x32x3".
func inputShape(text string, otherwise []int) ([]int, error) {
	if text == "" {
		return otherwise, nil
	}
	const most = 1 << 14
	var shape []int
	for _, part := range strings.Split(text, "x") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 || n > most {
			return nil, fmt.Errorf("--input %q: want three numbers of 1 to %d with x between them", text, most)
		}
		shape = append(shape, n)
	}
	if len(shape) != 3 {
		return nil, fmt.Errorf("--input %q: want three numbers, have %d", text, len(shape))
	}
	return shape, nil
}

func describe(b compute.Backend, n nets.Net, o nets.Options) (described, error) {
	fn, err := n.New(o)
	if err != nil {
		return described{}, err
	}
	layers, err := nets.Describe(b, fn, n.Input...)
	if err != nil {
		// The first line says it; GoMLX adds a stack.
		first, _, _ := strings.Cut(err.Error(), "\n")
		return described{}, cli.Hint(fmt.Errorf("%s does not take this input: %w", n.Name, errors.New(first)), "its own input is %s", times(mustLookup(n.Name).Input))
	}
	d := described{Net: n, Classes: n.Default.Classes, Width: n.Default.Width, Layers: layers}
	if o.Classes > 0 {
		d.Classes = o.Classes
	}
	if o.Width > 0 {
		d.Width = o.Width
	}
	for _, l := range layers {
		d.Parameters += l.Parameters
		d.MultiplyAdds += l.MultiplyAdds
	}
	return d, nil
}

// mustLookup is for names that were found before.
func mustLookup(name string) nets.Net {
	n, err := nets.Lookup(name)
	if err != nil {
		panic(err)
	}
	return n
}

func listNets(w io.Writer, b compute.Backend, asJSON bool) error {
	var list []described
	for _, n := range nets.List() {
		d, err := describe(b, n, nets.Options{})
		if err != nil {
			return err
		}
		d.Layers = nil
		list = append(list, d)
	}
	if asJSON {
		return printJSON(w, list)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tINPUT\tCLASSES\tPARAMETERS\tMULTIPLY-ADDS\t")
	for _, d := range list {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\n", d.Name, times(d.Input), d.Classes, grouped(int64(d.Parameters)), grouped(d.MultiplyAdds), d.Title)
	}
	return t.Flush()
}

func printNet(w io.Writer, d described) error {
	fmt.Fprintf(w, "%s: %s\nreference: %s; input %s, %d classes, width %d\n\n", d.Name, d.Title, d.Reference, times(d.Input), d.Classes, d.Width)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "VARIABLES\tLAYER\tOUTPUT\tPARAMETERS\tMULTIPLY-ADDS")
	for _, l := range d.Layers {
		path := l.Path
		if l.Parameters == 0 {
			path = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", path, l.Kind, times(l.Output), grouped(int64(l.Parameters)), grouped(l.MultiplyAdds))
	}
	fmt.Fprintf(t, "total\t\t\t%s\t%s\n", grouped(int64(d.Parameters)), grouped(d.MultiplyAdds))
	return t.Flush()
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func times(shape []int) string {
	parts := make([]string, len(shape))
	for i, d := range shape {
		parts[i] = strconv.Itoa(d)
	}
	return strings.Join(parts, "x")
}

// grouped is 1234567 as 1,234,567; nothing for 0.
func grouped(n int64) string {
	if n == 0 {
		return ""
	}
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
