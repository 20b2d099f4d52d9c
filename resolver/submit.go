package resolver

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"

	"github.com/openpith/evidence/pith"
)

// Reasons of refusals beside the codes of package pith. They are stable.
const (
	CodeSize        = "size"             // larger than this mirror takes
	CodeRateAddress = "rate_address"     // too many submissions from one address
	CodeRateSigner  = "rate_signer"      // too many events of one key
	CodeQueueFull   = "queue_full"       // too many submissions wait for a moderator
	CodeNoRecord    = "record_not_found" // an event about a record that is not here
	CodeKeyUnknown  = "key_not_declared" // an event of a key that nobody declared
	CodeMismatch    = "other_record"     // put where another record belongs
	CodeKeyDocument = "key_document"     // documents about keys wait for who keeps the policy
	CodeModerated   = "moderated"        // a moderator kept it out
	CodeCameIn      = "came_in"          // it waited, and came in when it was sent again
	CodeAfterAll    = "after_all"        // a moderator kept it out, and let it in later
	CodeStorageFull = "storage_full"     // the mirror has no room left
)

// commitTries is how often a batch is united again because somebody else
// changed a record of it meanwhile.
const commitTries = 16

// SubmitAll is Submit for many submissions at once, which is faster; they are
// judged as if they came one after the other. The error is the mirror's: then
// none of the submissions has an outcome, though some may have been let in.
func (s *Service) SubmitAll(ctx context.Context, subs []Submission) ([]Outcome, error) {
	jobs := make([]*job, len(subs))
	for i, sub := range subs {
		jobs[i] = &job{Submission: sub}
	}
	if err := s.letAll(ctx, jobs); err != nil {
		return nil, err
	}
	out := make([]Outcome, len(jobs))
	for i, j := range jobs {
		if j.refusal != nil {
			if err := s.hold(ctx, j); err != nil {
				return nil, err
			}
			if j.refusal != nil && j.receipt != nil && len(j.receipt.Events) > 0 {
				j.refusal.Detail += fmt.Sprintf("; of its %d events %d are here", len(j.entries), len(j.receipt.Events))
			}
		}
		if out[i].Receipt = j.receipt; j.refusal != nil {
			out[i].Err = j.refusal
		}
	}
	return out, s.cameIn(ctx, jobs)
}

// letAll lets jobs in, again where somebody else changed a record meanwhile.
func (s *Service) letAll(ctx context.Context, jobs []*job) error {
	for try := 1; ; try++ {
		// Who loads what is all new, batch after batch, need not ask the store for it: it
		// says so when it is not, and all of the batch is read again. What is new counts
		// against limits, so they must not apply.
		asNew := try == 1 && s.allNew.Load() >= 2 && !slices.ContainsFunc(jobs, func(j *job) bool { return !j.Unlimited })
		err := s.let(ctx, jobs, asNew)
		if err == nil || !errors.Is(err, ErrConflict) || try == commitTries {
			return err
		}
	}
}

// cameIn takes what got in out of the queue, where it waited from another time.
func (s *Service) cameIn(ctx context.Context, jobs []*job) error {
	jobs = slices.DeleteFunc(slices.Clone(jobs), func(j *job) bool { return j.refusal != nil })
	if len(jobs) == 0 {
		return nil
	}
	counts, err := s.store.Counts(ctx)
	if err != nil || counts.Queued == 0 {
		return err
	}
	// Of a batch it is quicker to ask for all that waits, where that is not too much.
	const few, most = 16, 1000
	waiting := map[Digest][]int64{} // by bytes
	if len(jobs) > few && counts.Queued <= most {
		queue, err := s.store.Held(ctx, Queued, 0, most)
		if err != nil {
			return err
		}
		for _, h := range queue {
			waiting[h.SHA256] = append(waiting[h.SHA256], h.ID)
		}
	}
	for _, j := range jobs {
		sum := sha256.Sum256(j.Data)
		if len(jobs) <= few || counts.Queued > most {
			if id, now, err := s.store.FindHeld(ctx, sum); err == nil && now == Queued {
				waiting[sum] = []int64{id}
			} else if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
		for _, id := range waiting[sum] {
			err := s.store.MoveHeld(ctx, id, Queued, Accepted, CodeCameIn, "it came in when it was sent again")
			if err != nil && !errors.Is(err, ErrNotFound) { // else somebody has decided
				return err
			}
		}
	}
	return nil
}

// A job is one submission on its way. What it holds open takes many times the
// space of the submission, so a batch is opened in windows.
type job struct {
	Submission
	suffix  string   // of its record
	entries []Digest // of the events that it holds
	ids     []string // their ids, "" for what is not valid
	waits   *Digest  // if it does not get in as a whole: see waitsFor
	charged bool     // to the limits of its signers
	settled bool     // judged by itself, whatever the store has
	part    bool     // of a bundle, without what only its signer vouches for

	moderated *Digest // somebody lets it in who has seen it, as what it is known by

	// While it is open:
	contents *pith.Contents
	result   *pith.Result
	event    *pith.LooseEvent // instead of contents, for an event without bundle

	refusal *Refusal
	receipt *Receipt // of what of it is here
	err     error    // of the mirror
}

func (j *job) close() { j.contents, j.result, j.event = nil, nil, nil }

// Of a batch at most so much is open at once.
const (
	openJobs  = 64
	openBytes = 4 << 20
)

// window returns how many of the jobs may be open together, one at least.
func window(jobs []*job) int {
	bytes := 0
	for i, j := range jobs {
		if bytes += len(j.Data); i > 0 && bytes > openBytes || i == openJobs {
			return i
		}
	}
	return len(jobs)
}

func (j *job) refuse(code, format string, args ...any) {
	j.refusal = &Refusal{Status: Refused, Code: code, Detail: fmt.Sprintf(format, args...)}
}

// parallel calls f with 0 to n-1 on all cores and returns the error of the first
// that has one.
func parallel(n int, f func(i int) error) error {
	errs := make([]error, n)
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				errs[i] = f(i)
			}
		})
	}
	group.Wait()
	return cmp.Or(errs...)
}

// read opens a job and judges it by itself.
func (s *Service) read(ctx context.Context, j *job) {
	if j.settled {
		return
	}
	j.refusal, j.receipt, j.waits = nil, nil, nil // of an earlier try
	if j.contents != nil || j.event != nil {
		return
	}
	j.entries, j.ids = nil, nil
	if j.Trust == nil {
		j.Trust = s.Trust()
	}
	size := pith.MaxSize
	if !j.Unlimited {
		if s.limits.Size > 0 {
			size = min(size, s.limits.Size)
		}
		if !j.asked {
			j.asked = true
			j.refusal = s.ask(j.From)
		}
	}
	if j.refusal == nil {
		s.inspect(ctx, j, size)
	}
	j.settled = j.contents == nil && j.event == nil
}

func (s *Service) inspect(ctx context.Context, j *job, size int) {
	if len(j.Data) > size {
		j.refuse(CodeSize, "%d bytes, this mirror takes %d", len(j.Data), size)
		return
	}
	j.result, j.contents = pith.Inspect(j.Data, j.Trust)
	if j.contents != nil {
		j.suffix = own(j.contents.Suffix)
		for i, sum := range j.contents.Entries {
			id := ""
			if st := &j.result.History[i]; st.Invalid == "" {
				id = own(st.EventID)
			}
			j.entries, j.ids = append(j.entries, sum), append(j.ids, id)
		}
		return
	}
	failure := j.result.Failures()[0]
	if failure.Code == pith.CodeBundleType {
		switch kind := kindOf(j.Data); kind {
		case "event_type":
			s.readEvent(ctx, j)
			return
		case "document_type":
			s.readDocument(ctx, j)
			return
		}
	}
	if _, suffix, ok := CutNumber(j.result.PithNumber); ok {
		j.suffix = suffix
	}
	detail := cmp.Or(failure.Detail, "expected "+failure.Expected+", got "+failure.Got)
	if failure.Path != "" {
		detail = failure.Path + ": " + detail
	}
	j.refuse(string(failure.Code), "%s", detail)
}

// kindOf returns which of the members that say what a document is it has at its
// top. The document has been read strictly before.
func kindOf(data []byte) string {
	var top struct {
		Bundle   *json.RawMessage `json:"bundle_type"`
		Event    *json.RawMessage `json:"event_type"`
		Document *json.RawMessage `json:"document_type"`
	}
	if pith.Decode(data, &top) != nil || top.Bundle != nil {
		return ""
	}
	switch {
	case top.Event != nil:
		return "event_type"
	case top.Document != nil:
		return "document_type"
	}
	return ""
}

func (s *Service) readEvent(_ context.Context, j *job) {
	event, err := pith.ReadEvent(j.Data)
	if err != nil {
		j.refuseError(err)
		return
	}
	_, suffix, ok := CutNumber(event.Number)
	if !ok {
		j.refuse(string(pith.CodeEventSubject), "%q is not a Pith Number", short(event.Number))
		return
	}
	j.event, j.suffix = event, own(suffix)
	j.entries, j.ids = []Digest{sha256.Sum256(event.Canonical)}, []string{own(event.ID)}
}

func (j *job) refuseError(err error) {
	var (
		syntax  *pith.SyntaxError
		check   *pith.CheckError
		refused *pith.RefusedError
	)
	switch {
	case errors.As(err, &syntax):
		j.refuse(string(syntax.Reason), "%v", err)
	case errors.As(err, &check):
		j.refuse(string(check.Check.Code), "%v", err)
	case errors.As(err, &refused):
		j.refuse(string(refused.Check.Code), "%v", err)
	default:
		j.refuse("unreadable", "%v", err)
	}
}

func short(s string) string { return s[:min(len(s), 64)] }

// let unites what the jobs bring with what the store has, in one commit. When
// it fails with ErrConflict it can be called again. With asNew it takes the store to
// have none of the records, and fails with ErrConflict where that would matter.
func (s *Service) let(ctx context.Context, jobs []*job, asNew bool) error {
	records := map[string]*record{}
	var order []*record
	for rest := jobs; len(rest) > 0; {
		open := rest[:window(rest)]
		rest = rest[len(open):]
		err := parallel(len(open), func(i int) error {
			s.read(ctx, open[i])
			return open[i].err
		})
		if err != nil {
			return err
		}
		var touched []*record
		for _, j := range open {
			if j.settled {
				continue
			}
			r := records[j.suffix]
			if r == nil {
				r = &record{suffix: j.suffix, service: s, ctx: ctx}
				records[j.suffix] = r
				order = append(order, r)
			}
			if len(r.open) == 0 {
				touched = append(touched, r)
			}
			r.open = append(r.open, j)
		}
		if !asNew {
			if err := s.load(ctx, touched); err != nil {
				return err
			}
		}
		if err := parallel(len(touched), func(i int) error { return touched[i].unite() }); err != nil {
			return err
		}
		if len(open) < len(jobs) { // else they stay open for the next try
			for _, j := range open {
				j.close()
			}
		}
	}
	if asNew && slices.ContainsFunc(jobs, func(j *job) bool { return j.refusal != nil && !j.settled }) {
		return ErrConflict // with what the store has it may come in
	}
	var (
		updates []Update
		changed []*record
		created = 0
	)
	for _, r := range order {
		if r.now.Revision == fresh {
			updates = append(updates, Update{Record: r.now, Base: r.base, Bundle: r.packed, Events: r.fresh, Keys: r.keys, Cites: r.cites})
			changed = append(changed, r)
			if r.base == 0 {
				created++
			}
		}
	}
	if len(updates) > 0 {
		committed, err := s.store.Commit(ctx, updates)
		if err != nil {
			return err
		}
		for i, c := range committed {
			changed[i].committed(c)
		}
		s.wake()
	}
	switch {
	case len(jobs) == 1: // of a reader who sends something it says nothing
	case created > 0 && created == len(order) && !slices.ContainsFunc(jobs, func(j *job) bool { return j.refusal != nil && !j.settled }):
		s.allNew.Add(1)
	default:
		s.allNew.Store(0)
	}
	for _, r := range order {
		r.receipts()
	}
	return nil
}

// load reads what the store has of those records that were not read before.
func (s *Service) load(ctx context.Context, records []*record) error {
	suffixes := make([]string, 0, len(records))
	bySuffix := map[string]*record{}
	for _, r := range records {
		if !r.loaded {
			r.loaded, bySuffix[r.suffix] = true, r
			suffixes = append(suffixes, r.suffix)
		}
	}
	if len(suffixes) == 0 {
		return nil
	}
	slices.Sort(suffixes)
	have, err := s.store.Bundles(ctx, suffixes)
	if err != nil {
		return err
	}
	for _, h := range have {
		r := bySuffix[h.Record.Suffix]
		r.base, r.now, r.packed = h.Record.Revision, h.Record, h.Bundle
		if r.events, err = s.store.RecordEvents(ctx, r.suffix); err != nil {
			return err
		}
	}
	return nil
}

// A record is one record of a batch: what the store has, and what the batch
// makes of it.
type record struct {
	service *Service
	ctx     context.Context
	suffix  string
	jobs    []*job
	open    []*job // those of the window
	loaded  bool
	base    int64 // revision

	now    Record  // as it would be
	packed []byte  // its bundle, gzip; nil while there is none
	bundle []byte  // canonical; nil while nobody asked
	events []Event // all
	fresh  []Event // those that the store does not have
	keys   []Key
	cites  []Citation
	cited  map[Alias]map[string]bool // see citationsBy
}

// fresh is the revision of a record that changed: the store gives the number.
const fresh = -1

// unite lets the open jobs in one after the other.
func (r *record) unite() error {
	if stored := UnpackedSize(r.packed); stored > 0 { // what is new waits for nobody
		if err := r.service.uniting.Acquire(r.ctx, stored); err != nil {
			return err
		}
		defer r.service.uniting.Release(stored)
	}
	for _, j := range r.open {
		var err error
		if j.contents != nil {
			err = r.addBundle(j)
		} else {
			err = r.addEvent(j)
		}
		if err == nil && j.refusal != nil && !j.settled {
			err = r.turnAway(j)
		}
		if err != nil {
			return err
		}
	}
	if r.packed == nil && r.bundle != nil {
		r.packed = Gzip(r.bundle)
	}
	r.jobs = append(r.jobs, r.open...)
	r.open, r.bundle = nil, nil
	return nil
}

// turnAway finds out what of a submission waits. Where that is nothing it got in: other
// copies of what is here are not worth a moderator's time.
func (r *record) turnAway(j *job) error {
	waits, ok, err := r.waitsFor(j)
	if err != nil {
		return err
	}
	switch {
	case ok:
		j.waits = &waits
	case j.contents != nil:
		j.refusal = nil
	}
	return nil
}

// known are the entries that the store or the batch has.
func (r *record) known() map[Digest]bool {
	known := make(map[Digest]bool, len(r.events))
	for _, e := range r.events {
		known[e.SHA256] = true
	}
	return known
}

// validIDs are the ids of the valid events that the store or the batch has.
func (r *record) validIDs() map[string]bool {
	ids := make(map[string]bool, len(r.events))
	for _, e := range r.events {
		if e.Invalid == "" {
			ids[e.ID] = true
		}
	}
	return ids
}

// exists reports whether the store or the batch has the record.
func (r *record) exists() bool { return r.packed != nil || r.bundle != nil }

// unpack reads the bundle of a record that exists.
func (r *record) unpack() (err error) {
	if r.bundle == nil {
		if r.bundle, err = Gunzip(r.packed); err != nil {
			return fmt.Errorf("the bundle of %s in the store: %w; run pith fsck", r.suffix, err)
		}
	}
	return nil
}

// addBundle unites the record with a bundle.
func (r *record) addBundle(j *job) error {
	if !r.exists() {
		if r.admit(j, j.result, j.contents, true) {
			return r.become(j.result, j.contents, false)
		}
		if j.settled {
			return nil
		}
		return r.addTrusted(j)
	}
	if sha256.Sum256(j.contents.Canonical) == r.now.Digest {
		return nil // word for word what is here
	}
	if err := r.unpack(); err != nil {
		return err
	}
	if j.moderated != nil && *j.moderated != sha256.Sum256(j.Data) {
		if missing := r.missing(j); len(missing) > 0 {
			return r.addMissing(j, missing)
		}
		// What a moderator has decided about may be here by now; the rest is something else.
		if waits, ok, err := r.waitsFor(j); err != nil || !ok || waits != *j.moderated {
			return err
		}
	}
	merged, err := pith.Merge(r.bundle, j.contents.Canonical)
	if err != nil {
		j.refuseError(err) // the union would break a limit
		return nil
	}
	if same, err := r.nothingNew(merged); err != nil || same {
		return err
	}
	if r.now.United && believesSigner(j.result) {
		// Where somebody whom the policy trusts vouches for all of it, this mirror need not.
		all, err := pith.Merge(j.contents.Canonical)
		if err != nil {
			return err
		}
		if covers, err := sameContents(all, merged); err != nil {
			return err
		} else if covers && r.admit(j, j.result, j.contents, true) {
			return r.become(j.result, j.contents, false)
		}
		if j.settled {
			return nil
		}
		j.refusal = nil
	}
	if err := r.adopt(j, merged, true); err != nil || j.refusal == nil || j.settled {
		return err
	}
	return r.addTrusted(j)
}

// addMissing lets in those events of a bundle that are not here, as a moderator decided
// who has seen them, and not what its packer says besides: others may have sent the same
// events in another packing, and wait with them.
func (r *record) addMissing(j *job, missing map[int]bool) error {
	events := map[Digest]*pith.Statement{}
	for i := range missing {
		events[j.entries[i]] = &j.result.History[i]
	}
	union, err := r.partOf(j, events, false)
	if err != nil {
		j.refuseError(err) // the union would break a limit
		return nil
	}
	return r.adopt(j, union, true)
}

// addTrusted lets in what the policy trusts of a bundle that does not get in as a
// whole: events, and everything else if it trusts who put them together. Else one event
// of a stranger, in whatever bundle it is passed on, would keep out for ever what others
// sign, and whoever packs a record could keep all of it out. What is left then, see
// turnAway.
func (r *record) addTrusted(j *job) error {
	trusted, err := r.trusted(j)
	believed := believesSigner(j.result)
	if err != nil || len(trusted) == 0 && !believed {
		return err
	}
	if !r.exists() { // else it was asked for
		if err := r.service.uniting.Acquire(r.ctx, int64(len(j.Data))); err != nil {
			return err
		}
		defer r.service.uniting.Release(int64(len(j.Data)))
	}
	union, err := r.partOf(j, trusted, believed)
	if err != nil {
		return nil // a limit, or nobody trusted opens the record; what waits says why it waits
	}
	if r.exists() {
		if same, err := r.nothingNew(union); err != nil || same {
			return err // they are copies of what is here
		}
	}
	part := &job{Submission: j.Submission, suffix: j.suffix, charged: j.charged, part: true}
	if err := r.adopt(part, union, true); err != nil {
		return err
	}
	if part.refusal != nil {
		j.refusal.Retry = part.refusal.Retry
		return nil
	}
	j.charged = part.charged
	return nil
}

// trusted are the events of a bundle, by their digests, that are not here, that the
// policy trusts, and that are valid without those that it does not trust.
func (r *record) trusted(j *job) (map[Digest]*pith.Statement, error) {
	known, have := r.known(), r.validIDs() // what can be superseded
	trusted := map[Digest]*pith.Statement{}
	var order []Digest
	for i := range j.result.History {
		if st := &j.result.History[i]; st.Trusted && st.Invalid == "" && !known[j.contents.Entries[i]] {
			trusted[j.contents.Entries[i]] = st
			order = append(order, j.contents.Entries[i])
			have[st.EventID] = true
		}
	}
	if len(trusted) == len(j.entries) {
		return trusted, nil
	}
	supersedes := map[Digest][]string{}
	events, err := eventsOf(j.contents.Canonical)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		if sum := Digest(sha256.Sum256(e)); trusted[sum] != nil {
			var of struct {
				Supersedes []string `json:"supersedes"`
			}
			if err := pith.Decode(e, &of); err != nil {
				return nil, err
			}
			supersedes[sum] = of.Supersedes
		}
	}
	// What replaces an event stands behind it mostly, so one pass drops most chains.
	for pass, dropped := 0, true; dropped && pass < 8; pass++ {
		dropped = false
		for _, sum := range order {
			if st := trusted[sum]; st != nil && slices.ContainsFunc(supersedes[sum], func(id string) bool { return !have[id] }) {
				delete(trusted, sum)
				delete(have, st.EventID)
				dropped = true
			}
		}
	}
	return trusted, nil
}

// partOf is the union of the record, if it is there, with some events of a bundle, and
// with everything else in it if its signer is believed.
func (r *record) partOf(j *job, events map[Digest]*pith.Statement, believed bool) ([]byte, error) {
	known := r.known()
	if believed {
		part, err := pith.Keep(j.contents.Canonical, func(entry [sha256.Size]byte) bool { return events[entry] != nil || known[entry] })
		if err == nil && r.exists() {
			part, err = pith.Merge(r.bundle, part)
		}
		return part, err
	}
	all, err := eventsOf(j.contents.Canonical)
	if err != nil {
		return nil, err
	}
	labels := map[string]string{} // of keys, as who signs with them says
	var some, keys [][]byte
	for _, e := range all {
		if st := events[sha256.Sum256(e)]; st != nil {
			if some = append(some, e); st.Invalid == "" {
				labels[st.Fingerprint] = st.Signer.KeyID
			}
		}
	}
	for _, k := range j.contents.Keys {
		if _, signed := labels[k.Fingerprint]; !signed {
			continue
		}
		key, _, err := pith.ReadKey(k.Entry)
		if err != nil {
			return nil, err
		}
		key.Signer.KeyID = labels[k.Fingerprint]
		entry, err := key.MarshalJSON() // nobody vouches for what else stands in that of the bundle
		if err != nil {
			return nil, err
		}
		keys = append(keys, entry)
	}
	if r.exists() {
		return pith.Adopt(r.bundle, some, keys)
	}
	var of struct {
		Record json.RawMessage `json:"canonical_record"`
	}
	if err := pith.Decode(j.contents.Canonical, &of); err != nil {
		return nil, err
	}
	return pith.Assemble(of.Record, some, keys)
}

// eventsOf are the events of a verified bundle as they stand in it.
func eventsOf(bundle []byte) ([]json.RawMessage, error) {
	var of struct {
		Events []json.RawMessage `json:"events"`
	}
	return of.Events, pith.Decode(bundle, &of)
}

// nothingNew reports whether a union differs from what is here in nothing but
// the keys of mirrors and the date of packing.
func (r *record) nothingNew(merged []byte) (bool, error) {
	alone, err := pith.Merge(r.bundle)
	if err != nil {
		return false, fmt.Errorf("the bundle of %s in the store: %w; run pith fsck", r.suffix, err)
	}
	return sameContents(alone, merged)
}

// sameContents reports whether two results of Merge differ in nothing but the keys of
// mirrors and the date of packing.
func sameContents(a, b []byte) (bool, error) {
	var both [2]map[string]json.RawMessage
	for i, data := range [][]byte{a, b} {
		if err := json.Unmarshal(data, &both[i]); err != nil {
			return false, err
		}
		delete(both[i], "built_at")
		delete(both[i], "public_keys")
	}
	if len(both[0]) != len(both[1]) {
		return false, nil
	}
	for name, value := range both[0] {
		if !bytes.Equal(value, both[1][name]) {
			return false, nil
		}
	}
	return true, nil
}

// adopt signs a union and makes the record become it, if the policy agrees.
func (r *record) adopt(j *job, merged []byte, isBundle bool) error {
	signed, err := pith.Sign(merged, r.service.key, r.service.now())
	if err != nil {
		j.refuseError(err)
		return nil
	}
	result, contents := pith.Inspect(signed, j.Trust)
	if contents == nil {
		return fmt.Errorf("the union of %s with a valid submission is not valid: %v", r.suffix, result.Failures())
	}
	if !r.admit(j, result, contents, isBundle) {
		return nil
	}
	return r.become(result, contents, true)
}

// addEvent unites the record with an event that came alone.
func (r *record) addEvent(j *job) error {
	if !r.exists() {
		j.refuse(CodeNoRecord, "%s is not here; send a bundle of the record first", r.suffix)
		return nil
	}
	for _, e := range r.events {
		if e.ID == j.event.ID && e.SHA256 == j.entries[0] {
			return nil // it is here
		}
	}
	if err := r.unpack(); err != nil {
		return err
	}
	var entries [][]byte
	if declares, err := declaresKey(r.bundle, j.event.Fingerprint); err != nil {
		return fmt.Errorf("the bundle of %s in the store: %w; run pith fsck", r.suffix, err)
	} else if !declares {
		key, err := r.service.store.Key(r.ctx, j.event.Fingerprint)
		if errors.Is(err, ErrNotFound) {
			j.refuse(CodeKeyUnknown, "the key %s is not declared here; declare it with POST /keys", j.event.Fingerprint)
			return nil
		}
		if err != nil {
			return err
		}
		entries = append(entries, key.Entry)
	}
	merged, err := pith.Adopt(r.bundle, [][]byte{j.event.Canonical}, entries)
	if err != nil {
		j.refuseError(err)
		return nil
	}
	if same, err := r.nothingNew(merged); err != nil || same {
		return err // the same event under another signature of its author (spec §5.1)
	}
	return r.adopt(j, merged, false)
}

// declaresKey reports whether a key is one of the public_keys of a bundle.
func declaresKey(bundle []byte, fingerprint string) (bool, error) {
	var top map[string]json.RawMessage
	var keys []map[string]json.RawMessage
	err := json.Unmarshal(bundle, &top)
	if err == nil && top["public_keys"] != nil {
		err = json.Unmarshal(top["public_keys"], &keys)
	}
	return slices.ContainsFunc(keys, func(key map[string]json.RawMessage) bool {
		return string(key["fingerprint_sha256_hex"]) == `"`+fingerprint+`"`
	}), err
}

// admit asks whether what is new in a verified bundle may come in. Events that
// are here already were let in before, whatever the policy says of them now.
func (r *record) admit(j *job, result *pith.Result, contents *pith.Contents, isBundle bool) bool {
	known, ids := r.known(), r.validIDs()
	buckets := map[string]int{} // what is new, by whom it is charged to
	var doubt *pith.Statement
	for i := range result.History {
		st := &result.History[i]
		if known[contents.Entries[i]] {
			continue
		}
		if !isBundle && st.Invalid != "" {
			if st.EventID == j.event.ID {
				j.refuse(string(st.Invalid), "the event is not valid: %s", explain(st.Invalid))
				return false
			}
			continue
		}
		// An event that is not valid proves nothing about the key that it claims, and
		// anybody can make another copy of one that is: with both, a signer could be
		// silenced by others.
		if st.Invalid == "" && !ids[st.EventID] {
			buckets[keyBucket+st.Fingerprint]++
		} else {
			buckets["events from "+j.From]++
		}
		if doubt == nil && !st.Trusted {
			doubt = st
		}
	}
	code, detail, signer := "", "", ""
	if doubt != nil {
		if doubt.Invalid == "" {
			signer = doubt.Fingerprint
		}
		code, detail = distrust(result, doubt)
	} else if isBundle && !j.part {
		// The bundle's signer vouches for what no event covers.
		code, detail, signer = bundleDistrust(j.result)
	}
	if code == "" || r.service.unknown == Accepted {
		return r.charge(j, buckets)
	}
	j.refusal = &Refusal{Status: r.service.unknown, Code: code, Detail: detail, signer: signer}
	return false
}

// keyBucket is what the names of the buckets of keys begin with.
const keyBucket = "key "

// charge takes what comes in out of the buckets of its signers. What is turned
// away costs a signer nothing: others can send it, as often as they like.
func (r *record) charge(j *job, buckets map[string]int) bool {
	if j.Unlimited || j.charged {
		return true
	}
	name, wait, ok := r.service.limits.takeAll(buckets, r.service.limits.PerSigner)
	if ok {
		j.charged = true
		return true
	}
	of := "that are not valid, " + name
	if key, is := strings.CutPrefix(name, keyBucket); is {
		of = "of the key " + key
	}
	j.refuse(CodeRateSigner, "more than %g events per second %s", r.service.limits.PerSigner, of)
	j.refusal.Retry, j.settled = wait, true
	return false
}

func explain(code pith.Code) string {
	asks, _, _ := pith.Explain(code)
	return asks
}

// distrust says why the policy does not vouch for an event.
func distrust(result *pith.Result, st *pith.Statement) (code, detail string) {
	if st.Invalid != "" { // nobody vouches for what is not valid
		return string(st.Invalid), "the bundle brings an event that is not valid, " + st.EventID
	}
	for _, s := range result.Signers {
		if s.Fingerprint == st.Fingerprint && s.SignerID == st.Signer.ID && !s.Trusted {
			return string(s.Reason), fmt.Sprintf("the policy does not let the key %s sign %s as %s", st.Fingerprint, st.Type, st.Signer.ID)
		}
	}
	return string(pith.CodeTrustKey), "the policy does not know the key " + st.Fingerprint
}

// bundleDistrust says why the policy does not vouch for a bundle's signer, and whose
// key that is. code is "" where it does.
func bundleDistrust(result *pith.Result) (code, detail, signer string) {
	for _, c := range result.Checks {
		if !c.OK && c.IfFailed == pith.Untrusted && strings.HasPrefix(c.Path, "/bundle_signature") {
			i := slices.IndexFunc(result.Signers, func(s pith.SignerSeen) bool { return s.Bundle })
			signer = result.Signers[i].Fingerprint
			return string(c.Code), "the policy does not let the key " + signer + ", which signed the bundle, put bundles together", signer
		}
	}
	return "", "", ""
}

// believesSigner reports whether the policy vouches for a bundle's signer.
func believesSigner(result *pith.Result) bool {
	code, _, _ := bundleDistrust(result)
	return code == ""
}

// become makes the record what a bundle says.
func (r *record) become(result *pith.Result, contents *pith.Contents, united bool) error {
	now := r.service.now().UTC().Truncate(1e9)
	known := r.known()
	declared := map[string]string{} // who says to own a key
	rec := recordOf(result, contents, united)
	for i := range result.History {
		st := &result.History[i]
		if st.Invalid == "" && declared[st.Fingerprint] == "" {
			declared[st.Fingerprint] = st.Signer.ID
		}
		if known[contents.Entries[i]] {
			if err := r.citesNow(st, contents, i); err != nil {
				return err
			}
			continue
		}
		e := eventOf(st, contents, i)
		e.ReceivedAt = now
		r.events, r.fresh = append(r.events, e), append(r.fresh, e)
		if c, ok := citationOf(st, contents.Suffix); ok {
			r.cites = append(r.cites, c)
		}
	}
	for _, k := range contents.Keys {
		if !slices.ContainsFunc(r.keys, func(have Key) bool { return have.Fingerprint == k.Fingerprint }) {
			r.keys = append(r.keys, Key{Fingerprint: own(k.Fingerprint), SignerID: own(declared[k.Fingerprint]), Entry: bytes.Clone(k.Entry), DeclaredAt: now})
		}
	}
	rec.Revision = fresh
	r.now, r.bundle, r.packed = rec, contents.Canonical, nil
	return nil
}

// citesNow adds the row of a citation that was not valid when it came and is now,
// since what it needs has come after it.
func (r *record) citesNow(st *pith.Statement, contents *pith.Contents, i int) error {
	c, ok := citationOf(st, contents.Suffix)
	if !ok {
		return nil
	}
	at := slices.IndexFunc(r.events, func(e Event) bool { return e.SHA256 == contents.Entries[i] })
	if r.events[at].Invalid == "" { // it has its row since it came
		return nil
	}
	if first := len(r.events) - len(r.fresh); at >= first { // nobody has seen it yet
		r.events[at].Invalid, r.fresh[at-first].Invalid = "", ""
		r.cites = append(r.cites, c)
		return nil
	}
	have, err := r.citationsBy(Alias{c.Kind, c.ID})
	if err != nil || have[c.EventID] {
		return err
	}
	have[c.EventID] = true
	c.Seq = r.events[at].Seq
	r.cites = append(r.cites, c)
	return nil
}

// citationsBy are the events of the record that have rows as citations by a work. The
// store is asked once: there may be thousands of one work.
func (r *record) citationsBy(work Alias) (map[string]bool, error) {
	if have := r.cited[work]; have != nil {
		return have, nil
	}
	rows, err := r.service.store.Citations(r.ctx, work.Kind, work.Value, 1<<20)
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, c := range slices.Concat(rows, r.cites) {
		if c.Suffix == r.suffix && c.Kind == work.Kind && c.ID == work.Value {
			have[c.EventID] = true
		}
	}
	if r.cited == nil {
		r.cited = map[Alias]map[string]bool{}
	}
	r.cited[work] = have
	return have, nil
}

// own copies a text out of the bundle that it was read from, which may go then.
var own = strings.Clone

// recordOf is the row of a verified bundle. It follows from the bundle alone.
func recordOf(result *pith.Result, contents *pith.Contents, united bool) Record {
	rec := Record{
		Suffix: own(contents.Suffix), Number: own(result.PithNumber),
		Digest: sha256.Sum256(contents.Canonical), Size: len(contents.Canonical),
		Events: contents.EventSet, State: contents.State, United: united,
		EventCount: result.Events.Total,
		Source:     own(result.Source), Title: own(result.Title), Authors: own(contents.Authors), Abstract: own(contents.Abstract),
		Submitted: contents.SubmittedAt, BuiltAt: contents.BuiltAt,
	}
	for _, c := range contents.Categories {
		rec.Categories = append(rec.Categories, own(c))
	}
	rec.Aliases = aliasesOf(contents)
	for _, a := range contents.Names {
		if a := (Alias{own(a.Kind), own(a.Value)}); !isBeginning(a.Kind) && !slices.Contains(rec.Aliases, a) {
			rec.Aliases = append(rec.Aliases, a)
		}
	}
	for i := range result.History {
		st := &result.History[i]
		if st.Invalid != "" || st.Superseded {
			continue
		}
		if st.Type == pith.TypeReplicationRecord {
			rec.Replications++
		}
	}
	return rec
}

// aliasesOf are the aliases of a bundle, without those that Resolve finds.
func aliasesOf(contents *pith.Contents) (list []Alias) {
	for _, a := range contents.Aliases {
		if !isBeginning(a.Kind) {
			list = append(list, Alias{own(a.Kind), own(a.Value)})
		}
	}
	return list
}

// isBeginning reports whether aliases of a kind are beginnings of the number.
func isBeginning(kind string) bool { return strings.HasPrefix(kind, "pith_short_") }

// LoggedID is the id by which rows and the log name an event: the one that it
// says, "" where that is longer than any id can be, which only an invalid event
// says. No mirror passes such a text on.
func LoggedID(id string) string {
	if len(id) > maxEventID {
		return ""
	}
	return id
}

const maxEventID = 100 // bytes; "sha256:" and 64 digits are 71

// eventOf is the row of an event, without what the mirror adds.
func eventOf(st *pith.Statement, contents *pith.Contents, i int) Event {
	return Event{
		ID: own(LoggedID(st.EventID)), Suffix: own(contents.Suffix), SHA256: contents.Entries[i], Type: own(st.Type),
		SignerID: own(st.Signer.ID), Fingerprint: own(st.Fingerprint), CreatedAt: st.CreatedAt.UTC().Truncate(1e9), Invalid: string(st.Invalid),
	}
}

// citationOf is the row of a valid citation.
func citationOf(st *pith.Statement, suffix string) (Citation, bool) {
	if st.Type != pith.TypeCitationSignature || st.Invalid != "" {
		return Citation{}, false
	}
	p, ok := st.Typed()
	if !ok {
		return Citation{}, false
	}
	c, ok := p.(*pith.CitationSignature)
	if !ok {
		return Citation{}, false
	}
	id := c.Citing.ID
	if _, suffix, ok := CutNumber(id); ok && c.Citing.Kind == "pith" {
		id = suffix
	}
	citing := FoldAlias(c.Citing.Kind, id)
	return Citation{Kind: own(citing.Kind), ID: own(citing.Value), Suffix: own(suffix), EventID: own(st.EventID), Relation: own(c.Relation)}, true
}

// committed gives the events the numbers that the store gave.
func (r *record) committed(c Committed) {
	r.now.Revision = c.Revision
	first := len(r.events) - len(r.fresh)
	for i := range r.fresh {
		r.events[first+i].Seq = c.FirstSeq + int64(i)
		r.fresh[i].Seq = r.events[first+i].Seq
	}
}

// receipts answers the jobs, also those of which the record has only a part.
func (r *record) receipts() {
	if !r.exists() {
		return
	}
	at := r.service.now().UTC().Truncate(1e9)
	isNew := map[Digest]bool{}
	for _, e := range r.fresh {
		isNew[e.SHA256] = true
	}
	bySHA, byID := map[Digest]Event{}, map[string]Event{}
	for _, e := range r.events {
		bySHA[e.SHA256] = e
		if _, twice := byID[e.ID]; !twice && e.Invalid == "" {
			byID[e.ID] = e
		}
	}
	for _, j := range r.jobs {
		receipt := &Receipt{Number: r.now.Number, Revision: r.now.Revision, Digest: r.now.Digest, At: at}
		for i, sum := range j.entries {
			e, ok := bySHA[sum]
			if !ok { // another copy of the same event stays (spec §5.1)
				if e, ok = byID[j.ids[i]]; !ok {
					continue
				}
			}
			receipt.Events = append(receipt.Events, e)
			if isNew[sum] {
				receipt.New++
				delete(isNew, sum) // the first that brought it
			}
		}
		j.receipt = receipt
	}
}

// namedRoom is how many times more submissions may wait when they come from a
// mirror that the operator named.
const namedRoom = 10

// hold keeps a submission that was not let in, with the reason.
func (s *Service) hold(ctx context.Context, j *job) error {
	r := j.refusal
	if r.Code == CodeRateAddress || r.Code == CodeRateSigner || r.ID != 0 {
		return nil // a storm is not worth its disk
	}
	if r.Status == Queued && !j.Unlimited && len(j.Data) > MaxQueued {
		*r = Refusal{Status: Refused, Code: CodeSize, Detail: fmt.Sprintf("%d bytes, what waits for a moderator has %d at most: send the new events one by one; it waits because %s", len(j.Data), MaxQueued, r.Detail), signer: r.signer}
	}
	h := Held{
		Status: r.Status, SHA256: sha256.Sum256(j.Data), Suffix: j.suffix, Code: r.Code, Detail: clip(r.Detail, 1024), Signer: clip(r.signer, 64),
		From: clip(j.From, 256), ReceivedAt: s.now().UTC().Truncate(1e9),
	}
	if h.Digest = h.SHA256; j.waits != nil {
		h.Digest = *j.waits
	}
	id, now, err := s.store.FindHeld(ctx, h.Digest)
	if errors.Is(err, ErrNotFound) && r.Status == Queued {
		if id, now, err = s.store.FindHeld(ctx, h.SHA256); err == nil && now == Queued { // for something else now
			h.Data = Gzip(j.Data)
			id, now, err = s.store.PutHeld(ctx, h)
		}
	}
	if errors.Is(err, ErrNotFound) || err == nil && (now == Refused || now == Accepted) {
		if room, err := s.room(ctx, j); err != nil || !room {
			return err
		}
		data := j.Data
		if r.Status == Refused && len(data) > MaxHeld {
			data, h.Truncated = data[:MaxHeld], true
		}
		h.Data = Gzip(data)
		id, now, err = s.store.PutHeld(ctx, h)
	}
	r.ID = id
	switch {
	case err != nil:
		return err
	case now == Rejected:
		r.Status, r.Code, r.Detail = Refused, CodeModerated, "a moderator kept it out before"
	case now == Accepted && r.Code == CodeKeyDocument: // it is part of the policy
		j.refusal, j.receipt = nil, &Receipt{At: s.now().UTC().Truncate(1e9)}
	}
	return nil
}

// room reports whether there is room to keep what was not let in. What has to come
// again when there is, it refuses with that reason.
func (s *Service) room(ctx context.Context, j *job) (bool, error) {
	counts, err := s.store.Counts(ctx)
	if err != nil {
		return false, err
	}
	r := j.refusal
	if r.Status == Refused {
		full := s.limits.Refused >= 0 && counts.Refused >= s.limits.Refused
		if full {
			s.log.Warn("refused and not kept: there are too many", "code", r.Code, "from", j.From)
		}
		return !full, nil
	}
	room := s.limits.Queued
	if j.Unlimited { // from whom the operator named: strangers cannot take that room
		room *= namedRoom
	}
	switch {
	case room < 0 || counts.Queued < room:
		return true, nil
	case j.Unlimited && j.receipt != nil && len(j.receipt.Events) == len(j.entries):
		// All of it is here but the words of who packed it: for those a copy need not wait.
	default:
		*r = Refusal{Status: Refused, Code: CodeQueueFull, Detail: fmt.Sprintf("%d submissions wait for a moderator; was: %s", counts.Queued, r.Detail)}
	}
	return false, nil
}

// clip makes a stranger's text short and storable.
func clip(s string, n int) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s[:min(len(s), n)], "\x00", ""), "")
}

// packers are gzip writers at rest: a new one costs more than its work.
var packers = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// Gzip compresses data as a store keeps it. The same data gives the same bytes.
func Gzip(data []byte) []byte {
	w := packers.Get().(*gzip.Writer)
	defer packers.Put(w)
	var out bytes.Buffer
	out.Grow(len(data)/3 + 64)
	w.Reset(&out)
	_, err := w.Write(data)
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err) // a buffer takes everything
	}
	return out.Bytes()
}

// Gunzip is the inverse of Gzip. It gives no more than a document may hold.
func Gunzip(packed []byte) ([]byte, error) {
	data := bytes.NewBuffer(make([]byte, 0, UnpackedSize(packed)+bytes.MinRead))
	if err := GunzipTo(data, packed); err != nil {
		return nil, err
	}
	return data.Bytes(), nil
}

// GunzipTo writes what Gunzip gives, piece by piece.
func GunzipTo(w io.Writer, packed []byte) error {
	z, _ := unpackers.Get().(*gzip.Reader)
	if z == nil {
		z = new(gzip.Reader)
	}
	defer unpackers.Put(z)
	if err := z.Reset(bytes.NewReader(packed)); err != nil {
		return err
	}
	n, err := io.Copy(w, io.LimitReader(z, pith.MaxSize+1))
	if err == nil && n > pith.MaxSize {
		err = errors.New("more than a document may hold")
	}
	return err
}

var unpackers sync.Pool // of *gzip.Reader: a new one costs more than its work

// UnpackedSize is how much Gunzip gives, as the packed data says at its end (RFC
// 1952, ISIZE).
func UnpackedSize(packed []byte) int64 {
	if len(packed) < 4 {
		return 0
	}
	return min(int64(binary.LittleEndian.Uint32(packed[len(packed)-4:])), pith.MaxSize)
}
