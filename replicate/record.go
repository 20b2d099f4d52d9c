package replicate

import (
	"fmt"
	"slices"
	"time"

	"github.com/openpith/evidence/internal/provenance"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/replicate/study"
)

// RecordSchema names the format of the payload of a replication_record event:
// spec/replication-record.md.
const RecordSchema = "replication_record/1"

// RecordTarget is the target of a replication_record event.
const RecordTarget = "replication"

// A Record is the payload that is signed: what was claimed, what was run, what
// was seen. Everything it leaves out can be recomputed from the files whose
// digests it holds. The fields follow spec/replication-record.md.
type Record struct {
	Schema        string              `json:"schema"`
	Claim         RecordClaim         `json:"claim"`
	Outcome       string              `json:"outcome"`
	Statement     string              `json:"statement"`
	PlanName      string              `json:"plan_name"`
	PlanSHA256    string              `json:"plan_sha256"`
	ResultsSHA256 string              `json:"results_sha256"`
	Rule          study.Outcome       `json:"rule"`
	Baseline      string              `json:"baseline"`
	Arms          []RecordArm         `json:"arms"`
	Comparisons   []study.Comparison  `json:"comparisons"`
	Correlations  []study.Correlation `json:"correlations"`
	// ByBatch and Landscapes are absent from records of earlier programs.
	ByBatch     []study.BatchCorrelations `json:"correlations_by_batch,omitempty"`
	Landscapes  []LandscapeFile           `json:"landscapes,omitempty"`
	Runs        []RecordRun               `json:"runs"`
	Code        []study.Code              `json:"code"` // every program that made a run; more than one when a study was continued
	Environment provenance.Environment    `json:"environment"`
	StartedAt   string                    `json:"started_at"`
	FinishedAt  string                    `json:"finished_at"`
}

// EventType returns pith.TypeReplicationRecord.
func (*Record) EventType() string { return pith.TypeReplicationRecord }

// RecordClaim is the claim under test, without the Pith Number: the event's
// subject says that.
type RecordClaim struct {
	ID     string `json:"id"`
	Text   string `json:"text"`
	Source string `json:"source"`
}

// RecordArm is one way to train, in full, and its numbers over the complete
// runs.
type RecordArm struct {
	study.Arm
	Done              int                    `json:"done"`
	Failed            int                    `json:"failed"`
	TestAccuracy      *study.Summary         `json:"test_accuracy,omitempty"`
	TrainLoss         *study.Summary         `json:"train_loss,omitempty"`
	GeneralizationGap *study.Summary         `json:"generalization_gap,omitempty"`
	Measures          []study.MeasureSummary `json:"measures"`
}

// A LandscapeFile is a survey that lay in landscapes/ when the record was signed.
type LandscapeFile struct {
	Name   string `json:"name"`   // of the file in that folder
	SHA256 string `json:"sha256"` // of its bytes
}

// RecordRun is one run with its clean-weight metrics, or the reason why it has
// none.
type RecordRun struct {
	Arm               string   `json:"arm"`
	Seed              int64    `json:"seed"`
	Status            string   `json:"status"`
	Error             string   `json:"error,omitempty"`
	TakenOver         bool     `json:"taken_over,omitempty"` // trained before the plan was written
	TestAccuracy      *float64 `json:"test_accuracy,omitempty"`
	TestLoss          *float64 `json:"test_loss,omitempty"`
	TrainAccuracy     *float64 `json:"train_accuracy,omitempty"`
	TrainLoss         *float64 `json:"train_loss,omitempty"`
	GeneralizationGap *float64 `json:"generalization_gap,omitempty"`
	WeightsSHA256     string   `json:"weights_sha256,omitempty"`
}

// newRecord assembles the payload from a finished study.
func newRecord(p *study.Plan, res *study.Results, files []study.RunFile, landscapes []LandscapeFile, env provenance.Environment, finished time.Time) (*Record, error) {
	r := &Record{
		Schema:        RecordSchema,
		Claim:         RecordClaim{ID: p.Claim.ID, Text: p.Claim.Text, Source: p.Claim.Source},
		Outcome:       res.Outcome,
		Statement:     res.Statement,
		PlanName:      p.Name,
		PlanSHA256:    p.SHA256(),
		ResultsSHA256: res.SHA256(),
		Rule:          p.Outcome,
		Baseline:      p.Baseline(),
		Comparisons:   res.Comparisons,
		Correlations:  res.Correlations,
		ByBatch:       res.ByBatch,
		Landscapes:    landscapes,
		Environment:   env,
		FinishedAt:    finished.UTC().Format(time.RFC3339),
	}
	for i, a := range p.Arms {
		s := res.Arms[i]
		r.Arms = append(r.Arms, RecordArm{
			Arm: a, Done: s.Done, Failed: s.Failed,
			TestAccuracy: s.TestAccuracy, TrainLoss: s.TrainLoss, GeneralizationGap: s.Gap, Measures: s.Measures,
		})
	}
	for _, run := range res.Runs {
		rr := RecordRun{Arm: run.Arm, Seed: run.Seed, Status: run.Status, Error: run.Error, TakenOver: run.TakenOver, WeightsSHA256: run.WeightsSHA256}
		if f := run.Final; f != nil {
			gap := f.Gap()
			rr.TestAccuracy, rr.TestLoss = &f.TestAccuracy, &f.TestLoss
			rr.TrainAccuracy, rr.TrainLoss = &f.TrainAccuracy, &f.TrainLoss
			rr.GeneralizationGap = &gap
		}
		r.Runs = append(r.Runs, rr)
	}
	for _, f := range files {
		for _, c := range f.Code {
			if !slices.Contains(r.Code, c) {
				r.Code = append(r.Code, c)
			}
		}
		if _, err := time.Parse(time.RFC3339, f.Timing.StartedAt); err != nil {
			return nil, fmt.Errorf("%s: started_at: %w", study.RunName(f.Run.Arm, f.Run.Seed), err)
		}
		if r.StartedAt == "" || f.Timing.StartedAt < r.StartedAt {
			r.StartedAt = f.Timing.StartedAt
		}
	}
	return r, nil
}
