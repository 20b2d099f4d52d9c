package pith

import (
	"crypto/sha256"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/openpith/evidence/pith/internal/canon"
)

// Event types that this package looks into (spec §4). Events of other types
// are just as valid; their payloads are their signers' business.
const (
	TypeRecordCreated     = "record_created"
	TypeGraphSnapshot     = "graph_snapshot"
	TypeReplicationRecord = "replication_record"
)

// Outcomes of a replication, in the words of FORRT.
var Outcomes = []string{"successful", "failed", "mixed", "inconclusive"}

// payload asks whether the payload is what its event type promises.
func (c *checks) payload(path place, e *event, rec *record, keys keyring) {
	payload := e.value.Get("payload")
	switch e.kind {
	case TypeRecordCreated:
		c.equal(CodePayloadShape, e.path.at("target"), "record", e.value.Get("target").Text())
		c.recordCreated(path, payload, e, rec, keys)
	case TypeGraphSnapshot:
		c.equal(CodePayloadShape, e.path.at("target"), "graph", e.value.Get("target").Text())
		c.graphSnapshot(path, payload, e, rec)
	default:
		if fields, known := statementFields[e.kind]; known {
			c.statement(path, fields, e, rec)
		}
	}
}

var recordCreatedFields = []field{
	object("canonical_record"),
	hexDigest("canonical_sha256"),
	object("receipt"),
	word("source_kind"),
	word("source_id"),
	positive("source_version"),
	word("attestation_state"),
}

var receiptFields = append(signatureFields(signsRecord),
	constant("kind", "pith_receipt"),
	constant("receipt_version", "0.3"),
	word("builder_version"),
	hexDigest("canonical_sha256"),
	instant("first_computed_at"),
	instant("last_reissued_at"),
)

func (c *checks) recordCreated(path place, payload canon.Value, e *event, rec *record, keys keyring) {
	receipt, receiptPath := payload.Get("receipt"), path.at("receipt")
	if !c.shape(CodePayloadShape, path, payload, recordCreatedFields) || !c.shape(CodePayloadShape, receiptPath, receipt, receiptFields) {
		return
	}
	c.same(CodePayloadRecord, path.at("canonical_record"), rec.Value, payload.Get("canonical_record"))
	c.equal(CodePayloadRecord, path.at("canonical_sha256"), rec.sha256, payload.Get("canonical_sha256").Text())
	c.same(CodePayloadRecord, path.at("source_kind"), rec.kind, payload.Get("source_kind"))
	c.same(CodePayloadRecord, path.at("source_id"), rec.id, payload.Get("source_id"))
	c.same(CodePayloadRecord, path.at("source_version"), rec.version, payload.Get("source_version"))
	c.equal(CodeReceiptDigest, receiptPath.at("canonical_sha256"), rec.sha256, receipt.Get("canonical_sha256").Text())
	c.signedBy(receiptPath, receipt, e)
	c.signature(receiptPath, receipt, rec.digest, keys)
}

var graphPayloadFields = []field{object("graph_snapshot"), anything("verdict_id")}

var graphFields = []field{
	object("paper"),
	object("claims"),
	object("source"),
	object("verdict"),
	object("references"),
	object("formal_canon"),
	object("author_claims"),
	word("builder_version"),
}

var paperFields = []field{
	text("title"),
	text("license"),
	text("headline"),
	strs("cross_cats"),
	text("primary_cat"),
	text("authors_text"),
	instant("submitted_at"),
	text("abstract_excerpt"),
}

// Lengths that bound the work on a stranger's graph snapshot, in bytes of title
// and characters of excerpt.
const (
	maxTitle   = 16 << 10
	maxExcerpt = 600
)

func (c *checks) graphSnapshot(path place, payload canon.Value, e *event, rec *record) {
	if !c.shape(CodePayloadShape, path, payload, graphPayloadFields) {
		return
	}
	graph := payload.Get("graph_snapshot")
	path = path.at("graph_snapshot")
	if !c.shape(CodePayloadShape, path, graph, graphFields) {
		return
	}
	paper := graph.Get("paper")
	if !c.shape(CodePayloadShape, path.at("paper"), paper, paperFields) {
		return
	}
	c.same(CodePayloadRecord, path.at("source"), rec.source, graph.Get("source"))
	c.paper(path.at("paper"), paper, e, rec)
	c.snapshotDigest(path.at("claims"), graph.Get("claims"), "count", "items")
	c.snapshotDigest(path.at("references"), graph.Get("references"), "count", "sample")
	c.snapshotDigest(path.at("author_claims"), graph.Get("author_claims"), "count", "")
	c.snapshotDigest(path.at("formal_canon"), graph.Get("formal_canon"), "evidence_count", "")
}

// paper compares what readers see of a paper with the digests in its record.
func (c *checks) paper(path place, paper canon.Value, e *event, rec *record) {
	title := paper.Get("title").Text()
	if len(title) > maxTitle {
		c.fail(CodeGraphTitle, path.at("title"), "the title is longer than "+strconv.Itoa(maxTitle)+" bytes")
	} else {
		code := CodeGraphTitle
		if strings.IndexFunc(title, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
			code = CodeGraphTitleRaw
		}
		if c.textDigest(code, path.at("title"), rec.title.Text(), lower(title)) {
			e.title = title
		}
	}

	excerpt := paper.Get("abstract_excerpt").Text()
	switch n := utf8.RuneCountInString(excerpt); {
	case n > maxExcerpt:
		c.fail(CodeGraphAbstract, path.at("abstract_excerpt"), strconv.Itoa(n)+" characters, an excerpt has at most 600")
	case n == maxExcerpt:
		c.pass(CodeGraphAbstract, path.at("abstract_excerpt")) // cut off, so nothing is left to compare
	default: // then it is the whole abstract
		whole := strings.TrimSpace(strings.ReplaceAll(excerpt, "\n", " "))
		c.textDigest(CodeGraphAbstract, path.at("abstract_excerpt"), rec.abstract.Text(), lower(whole))
	}

	c.same(CodeGraphPaper, path.at("license"), rec.license, paper.Get("license"))
	c.same(CodeGraphPaper, path.at("primary_cat"), rec.primaryCat, paper.Get("primary_cat"))
	c.same(CodeGraphPaper, path.at("submitted_at"), rec.submittedAt, paper.Get("submitted_at"))
	c.same(CodeGraphPaper, path.at("cross_cats"), rec.crossCats, paper.Get("cross_cats"))
}

// emptySnapshot is the SHA-256 of {"payload":[]}.
const emptySnapshot = "258153158e38e3291e3d48162225fcdb2d5a3ed65a07baac614ab91432fd4f57"

// snapshotDigest compares snapshot_sha256 with the list it stands for. The rule
// is published for the empty list alone; where the list is not, or not wholly,
// in the bundle there is nothing to compare.
func (c *checks) snapshotDigest(path place, v canon.Value, count, items string) {
	got := v.Get("snapshot_sha256").Text()
	list := v.Get(items)
	switch {
	case string(v.Get(count).Canonical()) == "0":
		c.equal(CodeGraphEmpty, path.at("snapshot_sha256"), emptySnapshot, got)
	case items == "items" && list.Kind() == canon.Array:
		sum := sha256.Sum256(canon.Build(canon.Member{Name: "payload", Value: list.Canonical()}))
		c.digest(CodeGraphSnapshot, path.at("snapshot_sha256"), "", sum, got)
	}
}

// ReplicationSchema is the value of schema in the payload of a
// replication_record of the first version (spec/replication-record.md).
const ReplicationSchema = "replication_record/1"
