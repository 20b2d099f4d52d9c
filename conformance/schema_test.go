package conformance

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/seed"
)

// schemas are those of spec/schema, compiled, by path below that folder.
func schemas(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	const base = "https://github.com/openpith/evidence/spec/schema/"
	dir := filepath.Join("..", "spec", "schema")
	compiler := jsonschema.NewCompiler()
	var names []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		doc := parse(t, data)
		if id := doc.(map[string]any)["$id"]; id != base+filepath.ToSlash(name) {
			t.Errorf("%s has the $id %v", name, id)
		}
		names = append(names, filepath.ToSlash(name))
		return compiler.AddResource(base+filepath.ToSlash(name), doc)
	})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*jsonschema.Schema{}
	for _, name := range names {
		if out[name], err = compiler.Compile(base + name); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func parse(t *testing.T, data []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSchemasTakeWhatIsReal(t *testing.T) {
	all := schemas(t)
	take := func(schema, what string, data []byte) {
		t.Helper()
		if err := all[schema].Validate(parse(t, data)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	takeEvents(t, all, "the real bundle", seed.Bundle())

	// What we write ourselves.
	key, err := pith.NewKey(bytes.Repeat([]byte{1}, 32), pith.Signer{ID: "ada@example.org", Type: "individual", KeyID: "k"})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	draft, err := pith.NewDraft(pith.Correction{Kind: "erratum", Text: "x"}, at)
	if err != nil {
		t.Fatal(err)
	}
	extended, _, err := pith.Append(seed.Bundle(), key, at, draft)
	if err != nil {
		t.Fatal(err)
	}
	takeEvents(t, all, "an extended bundle", extended)
	trust := pith.TrustFor(key.Public(), []string{"*"}, true)
	take("trust.json", "a trust file", trust.JSON())
	merged, err := pith.Merge(extended, seed.Bundle())
	if err != nil {
		t.Fatal(err)
	}
	state, err := pith.State(merged)
	if err != nil {
		t.Fatal(err)
	}
	take("state.json", "the state of a merged bundle", state)
	results := 0
	for _, bundle := range [][]byte{seed.Bundle(), extended, bytes.Replace(extended, []byte("erratum"), []byte("error"), 1), []byte("{}"), []byte("[")} {
		for _, trust := range []*pith.Trust{nil, trust} {
			result, err := json.Marshal(pith.Verify(bundle, trust))
			if err != nil {
				t.Fatal(err)
			}
			take("verification-result.json", "a result", result)
			lines := append(result[:len(result)-1], `,"input_sha256":"`+strings.Repeat("0", 64)+`","policy_sha256":"`+strings.Repeat("1", 64)+`"}`...)
			take("verification-result.json", "a result of --lines", lines)
			results++
		}
	}
	if results != 10 {
		t.Errorf("%d results", results)
	}
}

// takeEvents asks the schemas about a bundle, its events and its state.
func takeEvents(t *testing.T, all map[string]*jsonschema.Schema, what string, bundle []byte) {
	t.Helper()
	doc := parse(t, bundle).(map[string]any)
	if err := all["bundle.json"].Validate(doc); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	state := doc["state"].(map[string]any)
	applied := state["applied_event_ids"].([]any)
	events := 0
	for _, e := range doc["events"].([]any) {
		if event, ok := e.(map[string]any); ok && slices.Contains(applied, event["event_id"]) {
			events++
			if err := all["event.json"].Validate(event); err != nil {
				t.Errorf("%s, event %v: %v", what, event["event_id"], err)
			}
		}
	}
	if events == 0 || events != len(applied) {
		t.Errorf("%s: the schema was asked about %d events of %d", what, events, len(applied))
	}
}

// TestSchemasAgreeWithTheKit: what a valid case holds passes, and what a case
// refuses for its shape does not, except for the rules that no schema can say.
func TestSchemasAgreeWithTheKit(t *testing.T) {
	all := schemas(t)
	cases, err := Load("cases")
	if err != nil {
		t.Fatal(err)
	}
	beyond := map[string]string{ // why a schema takes what a reader refuses
		"payload_author_orcid_digit_fail": "a check digit", "payload_storage_time_fail": "two members that agree", "payload_storage_host_fail": "two members that agree",
		"number_no_leap_day_fail": "the calendar", "number_leap_second_fail": "the calendar",
		"number_no_hour_24_fail": "the calendar", "number_year_0_fail": "the calendar", "number_long_id_fail": "bytes", "number_version_float_fail": "1.0 is an integer",
		"event_shape_long_type_kept": "bytes", "event_shape_no_april_31_kept": "the calendar",
		"trust_file_twice_fail": "two entries that agree", "trust_file_conflict_name_fail": "two files", "trust_file_conflict_window_fail": "two files",
		"trust_file_syntax_fail": "not JSON by 1.5",
	}
	counted := map[string]int{}
	for _, c := range cases {
		switch c.Op {
		case "number":
			good := string(c.Expect["ok"]) == "true"
			check(t, all["record.json"], c.Name, parse(t, input64(t, c.Inputs["input"])), good || beyond[c.Name] != "")
			counted["records"]++
		case "verify":
			bundle := input64(t, c.Inputs["bundle"])
			var verdict string
			var failures []string
			if err := json.Unmarshal(c.Expect["verdict"], &verdict); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(c.Expect["failures"], &failures); err != nil {
				t.Fatal(err)
			}
			switch {
			case verdict == "valid" || verdict == "untrusted":
				takeEvents(t, all, c.Name, bundle)
				for _, file := range inputs64(t, c.Inputs["trust"]) {
					doc := parse(t, file)
					schema := "trust.json"
					if _, ok := doc.(map[string]any)["document_type"]; ok {
						schema = "key-document.json"
					}
					check(t, all[schema], c.Name, doc, true)
				}
				counted["bundles"]++
				if strings.HasPrefix(c.Name, "event_shape_") {
					events := parse(t, bundle).(map[string]any)["events"].([]any)
					check(t, all["event.json"], c.Name, events[len(events)-1], beyond[c.Name] != "")
					counted["bad events"]++
				}
			case slices.Contains(failures, "bundle_shape") || slices.Contains(failures, "record_shape") || slices.Contains(failures, "key_shape"):
				check(t, all["bundle.json"], c.Name, parse(t, bundle), false)
				counted["bad bundles"]++
			case slices.Contains(failures, "payload_shape"):
				events := parse(t, bundle).(map[string]any)["events"].([]any)
				check(t, all["event.json"], c.Name, events[len(events)-1], beyond[c.Name] != "")
				counted["bad payloads"]++
			case slices.Contains(failures, "trust_file") && beyond[c.Name] == "":
				check(t, all["trust.json"], c.Name, parse(t, inputs64(t, c.Inputs["trust"])[0]), false)
				counted["bad trust files"]++
			case slices.Contains(failures, "key_document"):
				check(t, all["trust.json"], c.Name, parse(t, inputs64(t, c.Inputs["trust"])[0]), false)
				counted["bad key documents"]++
			}
		}
	}
	// A loop that looks at nothing would pass.
	for what, least := range map[string]int{"records": 30, "bundles": 150, "bad events": 15, "bad bundles": 5, "bad payloads": 20, "bad trust files": 6, "bad key documents": 3} {
		if counted[what] < least {
			t.Errorf("%d %s, want at least %d", counted[what], what, least)
		}
	}
}

func check(t *testing.T, schema *jsonschema.Schema, name string, doc any, good bool) {
	t.Helper()
	if err := schema.Validate(doc); (err == nil) != good {
		t.Errorf("%s: good is %v, the schema says %v", name, good, err)
	}
}

func TestSchemasTakePublishedRecords(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "spec", "vectors", "records.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct{ Record json.RawMessage }
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	schema := schemas(t)["record.json"]
	if len(file.Cases) != 13 {
		t.Errorf("%d records, want 13", len(file.Cases))
	}
	for _, c := range file.Cases {
		check(t, schema, string(c.Record), parse(t, c.Record), true)
	}
}

func input64(t *testing.T, v any) []byte {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(v.(string))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func inputs64(t *testing.T, v any) [][]byte {
	t.Helper()
	list, _ := v.([]string)
	var out [][]byte
	for _, s := range list {
		out = append(out, input64(t, s))
	}
	return out
}
