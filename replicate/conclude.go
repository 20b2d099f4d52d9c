package replicate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/openpith/evidence/internal/provenance"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/replicate/study"
)

// conclude judges the finished runs, signs the record, and verifies the bundle
// that holds it. A study that was signed before is checked and returned as it
// is: a signed record is never replaced, whatever happened to the files since.
func (s *session) conclude() (*Result, error) {
	dir := s.opts.Dir
	// Every run is done and gone from here; a directory that holds something
	// stays.
	_ = os.Remove(filepath.Join(dir.Path(study.WorkName), "runs"))
	_ = os.Remove(dir.Path(study.WorkName))
	switch signed, err := dir.Signed(); {
	case err != nil:
		return nil, err
	case signed:
		return Check(dir, nil)
	}
	files, runs, err := readRuns(dir, s.plan)
	if err != nil {
		return nil, err
	}
	res, err := s.plan.Judge(runs)
	if err != nil {
		return nil, err
	}
	if err := dir.Write("results.json", res.JSON()); err != nil {
		return nil, err
	}
	surveys, err := landscapes(dir)
	if err != nil {
		return nil, err
	}
	if err := s.sign(res, files, surveys); err != nil {
		return nil, err
	}
	return Check(dir, nil)
}

// readRuns reads the runs of the directory, which must be of the plan's configurations.
func readRuns(dir study.Dir, p *study.Plan) ([]study.RunFile, []study.Run, error) {
	files, err := dir.Runs(p)
	if err != nil {
		return nil, nil, err
	}
	runs := make([]study.Run, len(files))
	for i, f := range files {
		runs[i] = f.Run
	}
	if err := sameConfigs(p, runs); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", dir, err)
	}
	return files, runs, nil
}

// landscapes are the surveys that lie beside the study, with their digests.
func landscapes(dir study.Dir) ([]LandscapeFile, error) {
	paths, err := dir.Landscapes()
	if err != nil {
		return nil, err
	}
	var out []LandscapeFile
	for _, path := range paths {
		name := filepath.Base(path)
		data, err := dir.Read(study.LandscapeFolder + "/" + name)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		out = append(out, LandscapeFile{name, hex.EncodeToString(sum[:])})
	}
	return out, nil
}

// sign makes the record, appends it to the paper's bundle, and leaves next to
// it what a reader needs to verify it.
func (s *session) sign(res *study.Results, files []study.RunFile, surveys []LandscapeFile) error {
	dir, key := s.opts.Dir, s.opts.Key
	now := time.Now().UTC()
	rec, err := newRecord(s.plan, res, files, surveys, provenance.CurrentEnvironment(), now)
	if err != nil {
		return err
	}
	draft, err := pith.NewDraft(rec, now)
	if err != nil {
		return err
	}
	bundle, ids, err := pith.Append(s.opts.Bundle, key, now, draft)
	if err != nil {
		return fmt.Errorf("appending the record to the bundle: %w", err)
	}
	event, err := findEvent(bundle, ids[0])
	if err != nil {
		return err
	}
	pub, err := findKey(bundle, key.Public().Fingerprint())
	if err != nil {
		return err
	}
	trust := pith.TrustFor(key.Public(), []string{pith.TypeReplicationRecord}, true)
	// bundle.json comes last: while it is missing, the study is not concluded.
	for _, f := range []struct {
		name string
		data []byte
	}{
		{"key.pub", pub},
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

// findEvent returns the event of that id from a bundle, and findKey the public
// key of that fingerprint; both indented for people.
func findEvent(bundle []byte, id string) ([]byte, error) {
	return find(bundle, "events", "event_id", id)
}

func findKey(bundle []byte, fingerprint string) ([]byte, error) {
	return find(bundle, "public_keys", "fingerprint_sha256_hex", fingerprint)
}

func find(bundle []byte, list, name, value string) ([]byte, error) {
	var b map[string]json.RawMessage
	var entries []json.RawMessage
	if err := json.Unmarshal(bundle, &b); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b[list], &entries); err != nil {
		return nil, err
	}
	for _, raw := range entries {
		var entry map[string]any
		if json.Unmarshal(raw, &entry) == nil && entry[name] == value {
			var out bytes.Buffer
			if err := json.Indent(&out, raw, "", "  "); err != nil {
				return nil, err
			}
			out.WriteByte('\n')
			return out.Bytes(), nil
		}
	}
	return nil, fmt.Errorf("%s of the bundle has none with %s %s", list, name, value)
}

// ErrCheck reports a study whose files do not follow from one another.
var ErrCheck = errors.New("the study does not check out")

// Check verifies a signed study from its files alone, without training: every
// run belongs to the plan, the results follow from plan and runs up to rounding
// ([study.Results.Follows]), the bundle verifies, and it holds a valid record,
// trusted and not superseded, that says exactly what plan, runs and results say.
// record.json and key.pub must be those of the bundle, and landscapes that the
// record names must be as they were; [Result.Uncovered] names others. The
// report, the README and runs.csv are made from these files and are not checked.
//
// The bundle is verified under trust or, if trust is nil, under the study's own
// trust.json: then the answer is only that the files agree with one another and
// with the word of whoever signed. No check can tell that the runs took place;
// that takes another replication.
//
// Errors: [study.ErrNoStudy] when the study is not signed yet; [ErrCheck],
// [study.ErrRunFile], [study.ErrPlan] when something does not fit.
func Check(dir study.Dir, trust *pith.Trust) (*Result, error) {
	plan, err := dir.Plan()
	if err != nil {
		return nil, err
	}
	bundle, err := dir.Read("bundle.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w that is signed: bundle.json is missing", dir, study.ErrNoStudy)
	}
	if err != nil {
		return nil, err
	}
	c := checker{dir: dir, plan: plan}
	var runs []study.Run
	if c.files, runs, err = readRuns(dir, plan); err != nil {
		return nil, err
	}
	if c.results, err = dir.Results(); err != nil {
		return nil, c.fail("%v", err)
	}
	_, err = c.results.Follows(plan, runs)
	switch {
	case errors.Is(err, study.ErrIncomplete), errors.Is(err, study.ErrResults):
		return nil, c.fail("%v", err)
	case err != nil:
		return nil, err
	}
	if trust == nil {
		if trust, err = c.ownTrust(); err != nil {
			return nil, err
		}
	}
	verified := pith.Verify(bundle, trust)
	switch {
	case verified.Verdict() != pith.Valid:
		return nil, c.fail("bundle.json is %s%s", verified.Verdict(), firstFailure(verified))
	case verified.PithNumber != plan.Claim.PithNumber:
		return nil, c.fail("bundle.json is about %s, the plan about %s", verified.PithNumber, plan.Claim.PithNumber)
	}
	record, err := c.record(verified)
	if err != nil {
		return nil, err
	}
	if err := c.copies(bundle, record); err != nil {
		return nil, err
	}
	return &Result{Plan: plan, Results: c.results, Record: *record, Bundle: verified, Uncovered: c.uncovered}, nil
}

// A checker holds what the steps of Check share.
type checker struct {
	dir       study.Dir
	plan      *study.Plan
	files     []study.RunFile
	results   *study.Results // as they were signed
	uncovered []string
}

func (c *checker) fail(format string, args ...any) error {
	return fmt.Errorf("%s: %w: %s", c.dir, ErrCheck, fmt.Sprintf(format, args...))
}

// ownTrust is the pinned policy and the study's own.
func (c *checker) ownTrust() (*pith.Trust, error) {
	data, err := c.dir.Read("trust.json")
	if err != nil {
		return nil, c.fail("%v", err)
	}
	own, err := pith.ParseTrust(data)
	if err != nil {
		return nil, c.fail("trust.json: %v", err)
	}
	trust, err := pith.PinnedTrust().Merge(own)
	if err != nil {
		return nil, c.fail("trust.json: %v", err)
	}
	return trust, nil
}

// record finds the statement in the bundle that tells of these results, and
// compares all of it with what the files say.
func (c *checker) record(verified *pith.Result) (*pith.Statement, error) {
	why := "no record in the bundle tells of these results"
	for _, s := range verified.History {
		if s.Type != pith.TypeReplicationRecord || s.Target != RecordTarget {
			continue
		}
		var r Record
		if err := pith.Decode(s.Payload, &r); err != nil || r.PlanSHA256 != c.plan.SHA256() || r.ResultsSHA256 != c.results.SHA256() {
			continue // somebody else's replication
		}
		switch {
		case s.Invalid != "":
			why = fmt.Sprintf("the record %s is invalid (%s)", s.EventID, s.Invalid)
			continue
		case !s.Trusted:
			why = fmt.Sprintf("the record %s is signed by a key that the policy does not trust for it", s.EventID)
			continue
		case s.Superseded:
			why = fmt.Sprintf("the record %s was superseded by its signer", s.EventID)
			continue
		}
		finished, err := time.Parse(time.RFC3339, r.FinishedAt)
		if err != nil {
			return nil, c.fail("the record %s: finished_at: %v", s.EventID, err)
		}
		// Where it was run is the signer's word; all else follows. Of landscapes
		// it may name some or none.
		want, err := newRecord(c.plan, c.results, c.files, r.Landscapes, r.Environment, finished)
		if err != nil {
			return nil, err
		}
		payload, err := json.Marshal(want)
		if err != nil {
			return nil, err
		}
		canonical, err := pith.Canonical(payload)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(canonical, s.Payload) {
			why = fmt.Sprintf("the record %s says something else than plan, runs and results", s.EventID)
			continue
		}
		if err := c.surveys(r.Landscapes); err != nil {
			return nil, err
		}
		return &s, nil
	}
	return nil, c.fail("%s", why)
}

// surveys makes sure that the landscapes which the record names are as they
// were, and notes which others lie there.
func (c *checker) surveys(signed []LandscapeFile) error {
	have, err := landscapes(c.dir)
	if err != nil {
		return err
	}
	digests := map[string]string{}
	for _, f := range have {
		digests[f.Name] = f.SHA256
		if !slices.ContainsFunc(signed, func(s LandscapeFile) bool { return s.Name == f.Name }) {
			c.uncovered = append(c.uncovered, study.LandscapeFolder+"/"+f.Name)
		}
	}
	for _, f := range signed {
		switch got, ok := digests[f.Name]; {
		case !ok:
			return c.fail("%s/%s is missing, and the record names it", study.LandscapeFolder, f.Name)
		case got != f.SHA256:
			return c.fail("%s/%s is not the file that the record names: SHA-256 %s, want %s", study.LandscapeFolder, f.Name, got, f.SHA256)
		}
	}
	return nil
}

// copies makes sure that the files which repeat parts of the bundle repeat them.
func (c *checker) copies(bundle []byte, record *pith.Statement) error {
	event, err := findEvent(bundle, record.EventID)
	if err != nil {
		return c.fail("%v", err)
	}
	key, err := findKey(bundle, record.Fingerprint)
	if err != nil {
		return c.fail("%v", err)
	}
	for _, f := range []struct {
		name string
		want []byte
	}{{"record.json", event}, {"key.pub", key}} {
		data, err := c.dir.Read(f.name)
		if err != nil {
			return c.fail("%v", err)
		}
		got, err := pith.Canonical(data)
		if err != nil {
			return c.fail("%s: %v", f.name, err)
		}
		if want, err := pith.Canonical(f.want); err != nil || !bytes.Equal(got, want) {
			return c.fail("%s is not what bundle.json holds", f.name)
		}
	}
	return nil
}

// firstFailure words the first check that did not pass.
func firstFailure(res *pith.Result) string {
	if f := res.Failures(); len(f) > 0 {
		return ": " + f[0].String()
	}
	return ""
}
