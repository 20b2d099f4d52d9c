package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/openpith/evidence/cpu"
)

func TestTransformer(t *testing.T) {
	backend, err := cpu.New("workers=1")
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Finalize()
	var table bytes.Buffer
	accuracy, err := run(backend, &table, 300)
	if err != nil {
		t.Fatal(err)
	}
	if !(accuracy > 0.95) { // by chance 1/12
		t.Errorf("accuracy %v", accuracy)
	}
	rows := strings.Split(strings.TrimSpace(table.String()), "\n")
	var noisy, quiet int
	for _, row := range rows[1:] {
		if strings.Contains(row, "none: rule 1") {
			quiet++
		} else {
			noisy++
		}
	}
	if noisy != 15 || quiet != 23 { // 2 embeddings, 2·(4 attention + 2 hidden), logits
		t.Errorf("%d tensors with noise and %d without:\n%s", noisy, quiet, &table)
	}
}
