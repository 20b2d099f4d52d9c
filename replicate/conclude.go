package replicate

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"text/template"
	"time"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/replicate/study"
)

// conclude judges the finished runs, signs the record, and verifies the bundle
// that holds it. A study that was concluded before is verified and returned as
// it is: one set of runs is signed once.
func (s *session) conclude() (*Result, error) {
	dir := s.opts.Dir
	files, err := dir.Runs(s.plan)
	if err != nil {
		return nil, err
	}
	runs := make([]study.Run, len(files))
	for i, f := range files {
		runs[i] = f.Run
	}
	res, err := s.plan.Judge(runs)
	if err != nil {
		return nil, err
	}
	// Every run is done and its checkpoint gone; a directory that holds
	// something else stays.
	_ = os.Remove(dir.Path("checkpoints"))
	if done, err := Check(dir); err == nil && done.Results.SHA256() == res.SHA256() {
		return done, nil
	}
	if err := dir.Write("results.json", res.JSON()); err != nil {
		return nil, err
	}
	if err := s.sign(res, files); err != nil {
		return nil, err
	}
	return Check(dir)
}

// sign makes the record, appends it to the paper's bundle, and leaves next to
// it what a reader needs to verify it.
func (s *session) sign(res *study.Results, files []study.RunFile) error {
	dir, key := s.opts.Dir, s.opts.Key
	now := time.Now().UTC()
	rec, err := newRecord(s.plan, res, files, currentEnvironment(), now)
	if err != nil {
		return err
	}
	payload, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	bundle, ids, err := pith.Append(s.opts.Bundle, key, now, pith.Draft{
		Type: "replication_record", Target: RecordTarget, Payload: payload, CreatedAt: now,
	})
	if err != nil {
		return fmt.Errorf("appending the record to the bundle: %w", err)
	}
	event, err := findEvent(bundle, ids[0])
	if err != nil {
		return err
	}
	pub, err := json.MarshalIndent(key.Public(), "", "  ")
	if err != nil {
		return err
	}
	trust := pith.TrustFor(key.Public(), []string{"replication_record"}, true)
	readme, err := studyReadme(s.plan, res, ids[0], key.Public().Fingerprint())
	if err != nil {
		return err
	}
	// bundle.json comes last: while it is missing, the study is not concluded.
	for _, f := range []struct {
		name string
		data []byte
	}{
		{"README.md", readme},
		{"key.pub", append(pub, '\n')},
		{"trust.json", trust.JSON()},
		{"record.json", event},
		{"bundle.json", bundle},
	} {
		if err := dir.Write(f.name, f.data); err != nil {
			return err
		}
	}
	return nil
}

// findEvent returns the event of that id from a bundle, indented for people.
func findEvent(bundle []byte, id string) ([]byte, error) {
	var b struct {
		Events []json.RawMessage `json:"events"`
	}
	if err := json.Unmarshal(bundle, &b); err != nil {
		return nil, err
	}
	for _, raw := range b.Events {
		var e struct {
			ID string `json:"event_id"`
		}
		if json.Unmarshal(raw, &e) == nil && e.ID == id {
			var out bytes.Buffer
			if err := json.Indent(&out, raw, "", "  "); err != nil {
				return nil, err
			}
			out.WriteByte('\n')
			return out.Bytes(), nil
		}
	}
	return nil, fmt.Errorf("event %s is not in the bundle it was appended to", id)
}

// ErrCheck reports a study whose files do not follow from one another.
var ErrCheck = errors.New("the study does not check out")

// Check verifies a concluded study from its files alone, without training:
// that every run belongs to the plan, that the results follow from plan and
// runs, that the signed record tells of exactly these, and that the bundle
// verifies under the study's own trust file.
func Check(dir study.Dir) (*Result, error) {
	plan, err := dir.Plan()
	if err != nil {
		return nil, err
	}
	files, err := dir.Runs(plan)
	if err != nil {
		return nil, err
	}
	runs := make([]study.Run, len(files))
	for i, f := range files {
		runs[i] = f.Run
	}
	want, err := plan.Judge(runs)
	if err != nil {
		return nil, err
	}
	got, err := dir.Results()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: it is not concluded, results.json is missing", dir, study.ErrNoStudy)
	}
	if err != nil {
		return nil, err
	}
	if got.SHA256() != want.SHA256() {
		return nil, fmt.Errorf("%s: %w: results.json does not follow from plan.json and runs/", dir, ErrCheck)
	}
	bundle, err := os.ReadFile(dir.Path("bundle.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: it is not signed, bundle.json is missing", dir, study.ErrNoStudy)
	}
	if err != nil {
		return nil, err
	}
	verified, err := verifyOwn(dir, bundle)
	if err != nil {
		return nil, err
	}
	id, err := checkRecord(dir, bundle, plan, got)
	if err != nil {
		return nil, err
	}
	return &Result{Plan: plan, Results: got, EventID: id, Bundle: verified}, nil
}

// verifyOwn checks the bundle as the study's README tells a reader to.
func verifyOwn(dir study.Dir, bundle []byte) (*pith.Result, error) {
	data, err := os.ReadFile(dir.Path("trust.json"))
	if err != nil {
		return nil, err
	}
	own, err := pith.ParseTrust(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir.Path("trust.json"), err)
	}
	trust, err := pith.PinnedTrust().Merge(own)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir.Path("trust.json"), err)
	}
	res := pith.Verify(bundle, trust)
	if res.Verdict() != pith.Valid {
		return nil, fmt.Errorf("%s: %w: the bundle is %s%s", dir.Path("bundle.json"), ErrCheck, res.Verdict(), firstFailure(res))
	}
	return res, nil
}

// checkRecord finds the study's record in the bundle and compares its digests.
func checkRecord(dir study.Dir, bundle []byte, plan *study.Plan, res *study.Results) (id string, err error) {
	var b struct {
		Events []struct {
			ID      string          `json:"event_id"`
			Type    string          `json:"event_type"`
			Payload json.RawMessage `json:"payload"`
		} `json:"events"`
	}
	if err := json.Unmarshal(bundle, &b); err != nil {
		return "", fmt.Errorf("%s: %w", dir.Path("bundle.json"), err)
	}
	for _, e := range b.Events {
		if e.Type != "replication_record" {
			continue
		}
		var r struct {
			Plan    string `json:"plan_sha256"`
			Results string `json:"results_sha256"`
			Outcome string `json:"outcome"`
		}
		if err := json.Unmarshal(e.Payload, &r); err != nil {
			return "", fmt.Errorf("%s: event %s: %w", dir.Path("bundle.json"), e.ID, err)
		}
		if r.Plan == plan.SHA256() && r.Results == res.SHA256() && r.Outcome == res.Outcome {
			return e.ID, nil
		}
	}
	return "", fmt.Errorf("%s: %w: no record in the bundle tells of these results", dir.Path("bundle.json"), ErrCheck)
}

// firstFailure words the first check that did not pass.
func firstFailure(res *pith.Result) string {
	if f := res.Failures(); len(f) > 0 {
		return ": " + f[0].String()
	}
	return ""
}

//go:embed study_readme.gotmpl
var readmeText string

var readmeTemplate = template.Must(template.New("README.md").Parse(readmeText))

func studyReadme(p *study.Plan, res *study.Results, eventID, fingerprint string) ([]byte, error) {
	var b bytes.Buffer
	err := readmeTemplate.Execute(&b, struct {
		Plan        *study.Plan
		Results     *study.Results
		EventID     string
		Fingerprint string
	}{p, res, eventID, fingerprint})
	return b.Bytes(), err
}
