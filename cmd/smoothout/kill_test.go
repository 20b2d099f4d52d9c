package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openpith/evidence/experiment"
)

// tiny is a run of about a second: noise that follows a schedule, augmentation,
// momentum, several ghost batches, choice of the best epoch.
func tiny(dir string) []string {
	return strings.Fields("train --width 24 --train-samples 512 --validation 128 --test 256 --batch 128 --ghost 32 --epochs 24 " +
		"--augment pad=2,flip --method adasmoothout --strength 0.2 --noise-schedule cosine,factor=2 --select best --seed 3 --no-cost " +
		"--save-steps 1 --out " + dir)
}

// A run that is killed at any moment, as often as you like, ends with the bits
// of one that was left alone, and its logs lack nothing and repeat nothing.
//
// EVIDENCE_KILLS says how many kills to try; a few are enough every day.
func TestKilledRunsEndAlike(t *testing.T) {
	kills := 4
	if s := os.Getenv("EVIDENCE_KILLS"); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	} else if testing.Short() {
		t.Skip("-short")
	}
	type outcome struct {
		result experiment.Result
		logged []string
		files  map[string][]byte
	}
	read := func(dir string) (o outcome) {
		d := experiment.Dir(dir)
		r, err := d.Result()
		if err != nil {
			t.Fatal(err)
		}
		o.result = *r
		o.result.Timing = experiment.Timing{}
		lines, err := d.Lines()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines { // what the clock says differs
			l.Time, l.ImagesPerSecond, l.InputFraction = time.Time{}, nil, nil
			b, err := json.Marshal(l)
			if err != nil {
				t.Fatal(err)
			}
			o.logged = append(o.logged, string(b))
		}
		o.files = map[string][]byte{}
		for _, name := range []string{experiment.BestFile, experiment.FinalFile, experiment.ConfigFile} {
			if o.files[name], err = os.ReadFile(d.Path(name)); err != nil {
				t.Fatal(err)
			}
		}
		return o
	}
	start := func(dir string) (*exec.Cmd, *bytes.Buffer) {
		cmd := exec.Command("smoothout", tiny(dir)...)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &said
	}
	root := t.TempDir()
	whole := filepath.Join(root, "whole")
	began := time.Now()
	cmd, said := start(whole)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	length := time.Since(began)
	want := read(whole)

	seed := uint64(time.Now().UnixNano())
	t.Logf("a whole run takes %v; seed of the moments %d", length, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	done, midway := 0, 0
	for trial := 0; done < kills; trial++ {
		dir := filepath.Join(root, fmt.Sprint(trial))
		for range 1 + random.IntN(3) {
			cmd, said := start(dir)
			time.Sleep(time.Duration(random.Float64() * float64(length)))
			cmd.Process.Kill()
			cmd.Wait()
			if cmd.ProcessState.Success() { // it had finished
				break
			}
			if code := cmd.ProcessState.ExitCode(); code >= 0 {
				t.Fatalf("it ended by itself, with exit code %d: %s", code, said)
			}
			done++
			if s, err := os.Stat(experiment.Dir(dir).Path(experiment.CheckpointFile)); err == nil && s.Size() > 0 {
				midway++
			}
			if done == kills {
				break
			}
		}
		cmd, said := start(dir)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("after being killed: %v: %s", err, said)
		}
		got := read(dir)
		if d := cmp.Diff(want, got, cmp.AllowUnexported(outcome{})); d != "" {
			t.Fatalf("trial %d: differs from the run that was left alone:\n%s", trial, d)
		}
		if torn, _ := filepath.Glob(filepath.Join(dir, ".*.tmp")); len(torn) > 0 {
			t.Errorf("left behind: %v", torn)
		}
		os.RemoveAll(dir)
	}
	t.Logf("%d kills, %d of them after the first checkpoint", done, midway)
}
