package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/experiment"
	"github.com/openpith/evidence/internal/atomicfile"
	"github.com/openpith/evidence/internal/cli"
)

func exportCommand() *cobra.Command {
	var out, format, weights, data string
	cmd := &cobra.Command{
		Use:   "export DIR",
		Short: "Write the weights of a run to a file that other tools read",
		Long: `Writes the variables of the network, weights and batch-norm statistics, to one
safetensors file. Kernels are as GoMLX has them: dense [in, out], convolutions
[height, width, in, out]. smoothout train --init takes the file as initial weights.

In Python:  from safetensors.numpy import load_file; load_file("weights.safetensors")`,
		Args:    cobra.ExactArgs(1),
		Example: "  smoothout export runs/quick --weights best --out weights.safetensors",
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "safetensors" {
				return cli.Hint(fmt.Errorf("--format %q is not known", format), "there is safetensors")
			}
			dir := experiment.Dir(args[0])
			run, err := experiment.Open(dir, dataDir(data))
			if err != nil {
				return explainRun(cmd, err, dir)
			}
			_, newBackend, err := backendOr(defaultBackend)
			if err != nil {
				return err
			}
			backend, err := newBackend()
			if err != nil {
				return err
			}
			defer backend.Finalize()
			m, err := run.Model(backend, weights)
			if err != nil {
				return explainRun(cmd, err, dir)
			}
			digest, err := m.Digest()
			if err != nil {
				return err
			}
			file, err := m.Weights(map[string]string{
				"format": "evidence-weights-1", "network": run.Config.Network.Name, "dataset": run.Config.Data.Name,
				"weights_sha256": digest, "config_sha256": run.Config.SHA256(),
			})
			if err != nil {
				return err
			}
			if out == "-" {
				_, err = os.Stdout.Write(file)
				return err
			}
			if err := atomicfile.Write(out, file, 0o644); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), out)
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "weights.safetensors", "`file` to write, - for standard output")
	cmd.Flags().StringVar(&format, "format", "safetensors", "`format` of the file")
	cmd.Flags().StringVar(&weights, "weights", "", "`weights`: final, best, last, or the number of an epoch that was kept")
	cmd.Flags().StringVar(&data, "data", "", dataUsage)
	return cmd
}
