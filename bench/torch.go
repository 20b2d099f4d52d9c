package bench

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

//go:embed pytorch_nets.py
var torchScript string

// ErrNoTorch reports that PyTorch is not installed.
var ErrNoTorch = errors.New("PyTorch is absent: apt-get install python3-torch libopenblas0-pthread")

// A Torch trains one of the networks in PyTorch, in a process of its own.
type Torch struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
}

// A TorchTime is what PyTorch took for some steps.
type TorchTime struct {
	Milliseconds    float64 // least time of a step on the clock
	CPUMilliseconds float64 // mean processor time of a step
	PeakMB          float64 // largest resident memory of the process so far
}

// StartTorch starts PyTorch on a network such as "F1-256", in the memory layout
// "contiguous" or "channels_last", with the given number of threads; 0 is one for
// each processor. It returns ErrNoTorch where PyTorch is absent.
func StartTorch(network, layout string, threads int) (*Torch, error) {
	const python = "/usr/bin/python3" // the one that Debian's packages are for
	if exec.Command(python, "-c", "import torch").Run() != nil {
		return nil, ErrNoTorch
	}
	t := &Torch{command: exec.Command(python, "-c", torchScript, network, layout)}
	t.command.Stderr = os.Stderr
	if threads > 0 {
		t.command.Env = append(os.Environ(), fmt.Sprint("TORCH_THREADS=", threads))
	}
	var err error
	if t.in, err = t.command.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := t.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	t.out = bufio.NewScanner(out)
	return t, t.command.Start()
}

// Steps takes training steps.
func (t *Torch) Steps(n int) (r TorchTime, err error) {
	if _, err := fmt.Fprintln(t.in, n); err != nil {
		return r, err
	}
	if !t.out.Scan() {
		return r, errors.Join(errors.New("PyTorch ended early"), t.out.Err())
	}
	return r, json.Unmarshal(t.out.Bytes(), &r)
}

// Stop ends the process.
func (t *Torch) Stop() error { return errors.Join(t.in.Close(), t.command.Wait()) }
