package conformance

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// clients are the command lines of our two clients; the second may be missing.
func goClient(t *testing.T) []string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "client-go")
	if out, err := exec.Command("go", "build", "-o", binary, "./client-go").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return []string{binary}
}

func python(t *testing.T, script string) []string {
	t.Helper()
	command, err := Python()
	if err != nil {
		t.Skip(err)
	}
	return []string{command, script}
}

func TestGoClient(t *testing.T)     { pass(t, goClient(t)) }
func TestPythonClient(t *testing.T) { pass(t, python(t, "client.py")) }

func pass(t *testing.T, client []string) {
	t.Helper()
	cases, err := Load("cases")
	if err != nil {
		t.Fatal(err)
	}
	ran, err := Run(cases, client, func(c Case, differences []string) {
		if len(differences) > 0 {
			t.Errorf("%s: %s\n\t%s", c.Name, c.Why, strings.Join(differences, "\n\t"))
		}
	})
	if err != nil || ran != Count {
		t.Fatalf("%d cases ran, want %d: %v", ran, Count, err)
	}
}

// TestNames: where the right answer is a refusal the name says so, and the
// other way round; and every case tells why.
func TestNames(t *testing.T) {
	cases, err := Load("cases")
	if err != nil {
		t.Fatal(err)
	}
	if readme, err := os.ReadFile("README.md"); err != nil || !strings.HasPrefix(string(readme), fmt.Sprintf("# Conformance kit\n\n%d cases ", Count)) {
		t.Errorf("README.md gives another number of cases than %d: %v", Count, err)
	}
	for _, c := range cases {
		var ok bool
		var verdict string
		switch c.Op {
		case "verify":
			if err := json.Unmarshal(c.Expect["verdict"], &verdict); err != nil {
				t.Fatal(err)
			}
			ok = verdict == "valid"
		default:
			if err := json.Unmarshal(c.Expect["ok"], &ok); err != nil {
				t.Fatal(err)
			}
		}
		if ok == strings.HasSuffix(c.Name, "_fail") {
			t.Errorf("%s: the name and the answer do not agree", c.Name)
		}
		if len(c.Why) < 8 {
			t.Errorf("%s does not tell why", c.Name)
		}
	}
}

// TestCompare: a wrong answer is found, whichever member is wrong.
func TestCompare(t *testing.T) {
	c := Case{Name: "x", Expect: map[string]json.RawMessage{"verdict": []byte(`"valid"`), "failures": []byte(`[]`), "notes": []byte(`["a"]`)}}
	for _, tt := range []struct {
		answer string
		wrong  int
	}{
		{`{"id":"x","verdict":"valid","failures":[],"notes":["b","a"],"more":1}`, 0},
		{`{"id":"y","verdict":"valid","failures":[],"notes":["a"]}`, 1},
		{`{"id":"x","verdict":"rejected","failures":[],"notes":["a"]}`, 1},
		{`{"id":"x","verdict":"valid","failures":["state"],"notes":["a"]}`, 1},
		{`{"id":"x","verdict":"valid","failures":[],"notes":[]}`, 1},
		{`{"id":"x"}`, 3},
		{`valid`, 1},
	} {
		if got := c.Compare([]byte(tt.answer)); len(got) != tt.wrong {
			t.Errorf("%s: %q", tt.answer, got)
		}
	}
	if _, err := Run([]Case{c}, []string{"false"}, func(Case, []string) {}); err == nil {
		t.Error("a client that says nothing passed")
	}
}
