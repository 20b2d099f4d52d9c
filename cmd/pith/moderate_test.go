package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
	"github.com/openpith/evidence/resolver"
)

// TestModerate: what strangers signed is listed, shown as it came, let in and kept
// out, beside a mirror that serves, which shows what was decided.
func TestModerate(t *testing.T) {
	home := t.TempDir()
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	key := testNodeKey(t)
	var lines []string
	for _, text := range []string{"right", "spam"} {
		bundle, _, err := pith.Append(seed.Bundle(), key, at, pith.Draft{
			Type: pith.TypeCorrection, Target: "record", CreatedAt: at, Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"` + text + `"}`),
		})
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(bundle))
	}
	file := filepath.Join(home, "two.jsonl")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil { // one batch: in this order
		t.Fatal(err)
	}
	must(t, 2, home, "moderate", "list") // there is no mirror
	a := startServe(t, home)
	if out, errs, code := done(t, home, "moderate", "list"); out != "" || errs != "nothing is queued\n" || code != 0 {
		t.Fatalf("%q %q %d", out, errs, code)
	}
	var loaded ingestResult
	if err := json.Unmarshal([]byte(must(t, 3, home, "ingest", "--json", file)), &loaded); err != nil || loaded.NewEvents != 2 || loaded.Queued != 2 {
		t.Errorf("loaded: %+v %v", loaded, err)
	}

	var ids []string
	for line := range strings.Lines(must(t, 0, home, "moderate", "list")) {
		f := strings.Fields(line)
		if len(f) != 6 || f[1] != "CWPYLZDW7AWAX7TQ5ZRNS3OHEM" || f[2] != "trust_key" || f[3] != key.Public().Fingerprint() || !strings.HasPrefix(f[4], file+":") {
			t.Errorf("listed: %q", line)
		}
		ids = append(ids, f[0])
	}
	if len(ids) != 2 {
		t.Fatalf("%d wait", len(ids))
	}
	var report resolver.HeldReport
	first, _, _ := strings.Cut(must(t, 0, home, "moderate", "list", "--json"), "\n")
	if err := json.Unmarshal([]byte(first), &report); err != nil || fmt.Sprint(report.ID) != ids[0] || report.Status != resolver.Queued {
		t.Errorf("%+v %v", report, err)
	}
	if out, errs, code := done(t, home, "moderate", "show", ids[0]); code != 0 || strings.TrimSpace(out) != lines[0] || !strings.Contains(errs, "queued from "+file+":1 at ") || !strings.Contains(errs, "do it: "+key.Public().Fingerprint()) {
		t.Errorf("shown: %q %d\n%.200s", errs, code, out)
	}

	if out := must(t, 0, home, "moderate", "accept", ids[0]); out != ids[0]+"\tpith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM\t1\n" {
		t.Errorf("accepted: %q", out)
	}
	must(t, 0, home, "moderate", "reject", ids[1], "--reason", "spam")
	if out := must(t, 0, home, "moderate", "list", "--status", "rejected"); !strings.Contains(out, "moderated") {
		t.Errorf("rejected: %q", out)
	}
	for _, args := range [][]string{{"accept", ids[0]}, {"reject", ids[0]}, {"accept", "99"}, {"accept", "x"}, {"accept", "0"}, {"accept"}, {"show", "99"}, {"show", "-1"}, {"list", "--status", "lost"}} {
		must(t, 2, home, append([]string{"moderate"}, args...)...)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		body := get(t, a.url+"/pith/CWPYLZDW7AWAX7TQ5ZRNS3OHEM/bundle.json")
		if strings.Contains(body, `"right"`) && !strings.Contains(body, `"spam"`) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the mirror does not show what was accepted")
		}
	}
	must(t, 0, home, "moderate", "accept", ids[1]) // who kept it out may think again
	if out := must(t, 0, home, "moderate", "list", "--status", "accepted"); strings.Count(out, "\n") != 2 {
		t.Errorf("accepted: %q", out)
	}

	later, _, err := pith.Append(seed.Bundle(), key, at, pith.Draft{Type: pith.TypeCorrection, Target: "record", CreatedAt: at, Payload: json.RawMessage(`{"schema":"correction/1","kind":"erratum","text":"later"}`)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, later, 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, 3, home, "ingest", "--again", file)
	id := strings.Fields(must(t, 0, home, "moderate", "list"))[0]
	receipt := must(t, 0, home, "moderate", "accept", "--json", id)
	var signed struct{ Events []json.RawMessage }
	if err := json.Unmarshal([]byte(receipt), &signed); err != nil || len(signed.Events) != 3 {
		t.Errorf("receipt %s: %v", receipt, err)
	}
}
