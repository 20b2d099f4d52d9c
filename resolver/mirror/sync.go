package mirror

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/note"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/compare"
	"github.com/openpith/evidence/resolver/tlog"
)

// ErrStale reports a checkpoint with fewer events than the one before, of the same
// log: an old one that a cache or somebody on the way shows again, which
// contradicts nothing. Nothing is taken until it fits.
var ErrStale = errors.New("the mirror shows an older state of its log than before")

// ErrRemoved reports a mirror that the operator removed while it was copied.
var ErrRemoved = errors.New("the mirror is none of those that are copied any more")

// What a mirror can be convicted of. Each comes with what was said before and
// what is said now; nothing more is taken until it fits.
var (
	// ErrFork reports a log that is not a continuation of the one that was seen
	// before, or an export that is not what the log says.
	ErrFork = errors.New("the mirror's log is not the one that it showed before, or not the one of the events that it exports")
	// ErrOmitted reports an event that the log names and the mirror does not give.
	ErrOmitted = errors.New("the mirror's log names an event that the mirror does not give")
	// ErrUnsigned reports a checkpoint without the signature of the key that is
	// pinned for this mirror.
	ErrUnsigned = errors.New("the checkpoint is not signed by the key that this mirror is known by")
)

// An Upstream is a mirror that is copied, and how far. It is kept in the store.
type Upstream struct {
	URL        string    `json:"url"`
	LogKey     string    `json:"log_key,omitempty"`    // verifier key (golang.org/x/mod/sumdb/note); "" for a mirror without a log
	All        bool      `json:"all,omitempty"`        // take everything valid, also of signers that the policy does not know
	Bundles    bool      `json:"bundles,omitempty"`    // believe how it puts bundles together, as of a key whose trust file says "bundles"
	Policy     string    `json:"policy,omitempty"`     // what decided who got in, see Target
	Again      bool      `json:"again,omitempty"`      // it is read again, because something else decides now
	Next       int64     `json:"next"`                 // sequence number there to go on with
	Hashes     [][]byte  `json:"hashes,omitempty"`     // compact range of the leaves before Next
	Checkpoint string    `json:"checkpoint,omitempty"` // the newest one that was found right
	Proven     int64     `json:"proven"`               // Next when it was
	Base       [][]byte  `json:"base,omitempty"`       // Hashes when it was
	Convicted  bool      `json:"convicted,omitempty"`  // Error is what it can be convicted of
	Head       int64     `json:"head"`                 // events it had when last asked
	Records    int64     `json:"records"`              // bundles taken from it
	Refused    int64     `json:"refused"`              // bundles that were refused here
	Queued     int64     `json:"queued"`               // bundles that wait for a moderator, or did, or of which words were passed over
	Conflicts  int64     `json:"conflicts"`            // records with an equivocation after its bundle came
	SyncedAt   time.Time `json:"synced_at,omitzero"`   // when it last answered all questions well
	Error      string    `json:"error,omitempty"`      // what was wrong last time, for the operator; "" if nothing
	Trouble    string    `json:"trouble,omitempty"`    // the same for everybody, without addresses or words of others

	named string // see settings
}

// Evidence is two checkpoints of one mirror that are not of one log. It is kept
// for ever: no later answer makes a contradiction good.
type Evidence struct {
	URL    string    `json:"url"`
	At     time.Time `json:"at"`     // when it was found
	Proof  bool      `json:"proof"`  // they are of one size and have two roots; else the mirror has to prove that one log has both
	Before string    `json:"before"` // what was found right before, a signed note; "" for nothing
	Now    string    `json:"now"`    // what did not fit, a signed note
}

// An Outcome says what became of one bundle.
type Outcome struct {
	Number        string // "" if it could not be read
	New           int    // events that were not here before
	Equivocations int    // contradictions of one signer on this record, as the united state lists them
	Refused       error  // why nothing, or not everything, of it was taken
}

// A Target is the store that is filled.
type Target interface {
	// Submit verifies bundles and takes what is right, with one outcome for each. An
	// error says that the store failed; then nothing is known of any of them.
	Submit(ctx context.Context, from Upstream, bundles [][]byte) ([]Outcome, error)
	// Policy names what decides who gets in of what a mirror sends: with another name
	// something of what was kept out may get in. It ends with a space and LogKey where
	// bundles are believed that this key signed.
	Policy(from Upstream) string
	// Has tells of each event whether it is here.
	Has(ctx context.Context, events []Event) ([]bool, error)
	// Upstream returns what SaveUpstream saved.
	Upstream(ctx context.Context, url string) (Upstream, error)
	// SaveUpstream keeps how far a mirror was copied, not what the operator decides
	// about it. It is durable when it returns. Errors: ErrRemoved.
	SaveUpstream(ctx context.Context, u Upstream) error
	// Convict keeps evidence for ever. It is durable when it returns.
	Convict(ctx context.Context, e Evidence) error
}

// Sync copies mirrors into a target.
type Sync struct {
	Target Target
	Leaf   func(Event) []byte // the leaf of a mirror's log for an event
	Limits Limits
	Log    *slog.Logger

	Page     int // events asked for at once, default 2,000
	Batch    int // bundles submitted at once, default 256
	Progress func(Upstream)
	// MinWait and MaxWait bound the pause after a failure when following,
	// default 1 s and 5 min; it doubles with each one in a row.
	MinWait, MaxWait time.Duration
	// Alive is how often, when following, it is kept that a mirror still has
	// nothing new, default AliveEvery.
	Alive time.Duration
}

// AliveEvery is the default of Sync.Alive.
const AliveEvery = time.Minute

func (s *Sync) defaults() {
	setDefault(&s.Page, 2000)
	setDefault(&s.Batch, 256)
	setDefault(&s.MinWait, time.Second)
	setDefault(&s.MaxWait, 5*time.Minute)
	setDefault(&s.Alive, AliveEvery)
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Progress == nil {
		s.Progress = func(Upstream) {}
	}
}

// Run copies all of the mirrors, each in its own time: one that fails does not
// stop the others. Without follow it ends when each was copied or has failed, and
// returns the failures; with follow it goes on until ctx ends.
func (s *Sync) Run(ctx context.Context, urls []string, follow bool) error {
	s.defaults()
	failures := make([]error, len(urls))
	var group sync.WaitGroup
	for i, u := range urls {
		group.Go(func() {
			if follow {
				s.follow(ctx, u)
			} else if err := s.Once(ctx, u); err != nil {
				if failures[i] = err; !strings.HasPrefix(err.Error(), u) {
					failures[i] = fmt.Errorf("%s: %w", u, err)
				}
			}
		})
	}
	group.Wait()
	return errors.Join(failures...)
}

// Once copies what one mirror has now.
func (s *Sync) Once(ctx context.Context, address string) error {
	s.defaults()
	up, err := s.Target.Upstream(ctx, address)
	if err != nil {
		return err
	}
	client, err := NewClient(up.URL, s.Limits)
	if err != nil {
		return err
	}
	defer client.Close()
	return s.once(ctx, client, &up)
}

// once copies what the mirror has now and keeps what was found out about it.
func (s *Sync) once(ctx context.Context, client *Client, up *Upstream) error {
	err := s.copy(ctx, client, up)
	if ctx.Err() != nil {
		return context.Cause(ctx) // no fault of the mirror
	}
	if errors.Is(err, ErrRemoved) {
		return err
	}
	up.Error, up.Trouble, up.Convicted = "", "", Convicting(err)
	if err != nil {
		up.Error, up.Trouble = clip(err.Error(), 2000), publicly(err)
	} else {
		up.SyncedAt = time.Now().UTC().Truncate(time.Second)
	}
	return errors.Join(err, s.Target.SaveUpstream(ctx, *up))
}

// copy takes pages until the export is as long as the log.
func (s *Sync) copy(ctx context.Context, client *Client, up *Upstream) error {
	cp, err := client.checkpoint(ctx, up.LogKey)
	if err != nil {
		return err
	}
	if policy := s.Target.Policy(*up); policy != up.Policy {
		before := up.believed()
		up.Policy = policy
		// What is said beside events counts as nothing where the events came from elsewhere.
		if up.Next > 0 && (up.Refused+up.Queued > 0 || up.believed() && !before) {
			s.Log.Info("another policy: what was kept out is read again", "upstream", up.URL)
			up.restart()
		}
	}
	if cp != nil {
		// Only what is signed is copied: what comes after the checkpoint is covered by
		// the next one in a moment.
		if err := s.continues(ctx, client, up, cp); err != nil {
			return err
		}
		if cp.Size < up.Next { // what is seen of a copy that was interrupted
			up.Next, up.Hashes = up.Proven, up.Base
		}
		skim := up.skims()
		for up.Next < cp.Size {
			before := up.Next
			if skim, err = s.page(ctx, client, up, cp.Size-up.Next, skim); err != nil {
				return err
			}
			if up.Next == before { // else it could be asked for ever
				return fmt.Errorf("%w: its checkpoint covers %d events, its export ends before event %d", ErrOmitted, cp.Size, before)
			}
		}
		up.Again = false
		return s.hold(ctx, up, cp)
	}
	for skim := up.skims(); ; {
		before := up.Next
		if skim, err = s.page(ctx, client, up, math.MaxInt64, skim); err != nil {
			return err
		}
		if up.Next == before {
			up.Again = false
			return nil
		}
	}
}

// restart goes back to the first event. What was found right about the log stays.
func (up *Upstream) restart() {
	up.Next, up.Hashes, up.Proven, up.Base = 0, nil, 0, nil
	up.Records, up.Refused, up.Queued, up.Conflicts = 0, 0, 0, 0
	up.Again = true
}

// skims reports whether to look for events that are here already before their
// bundles are asked for. Where something else decides now, or what bundles say beside
// events counts, the bundles are wanted.
func (up *Upstream) skims() bool { return up.Records == 0 && !up.Again && !up.believed() }

// believed reports whether the policy believes how the mirror puts bundles together, by
// the key of its log, with which the name of the policy ends then.
func (up *Upstream) believed() bool {
	return up.LogKey != "" && strings.HasSuffix(up.Policy, " "+up.LogKey)
}

// continues asks whether a checkpoint can be of the log of the one before. Of one
// size they have one root. Of a smaller one the mirror has to prove that it is a
// beginning: an old checkpoint that is shown again is, one of a log that was cut off
// and written anew is not. Of a larger one the events tell, when they are here.
func (s *Sync) continues(ctx context.Context, client *Client, up *Upstream, cp *tlog.Checkpoint) error {
	if up.Checkpoint == "" {
		return nil
	}
	before, err := tlog.ParseCheckpoint([]byte(up.Checkpoint), up.LogKey)
	switch {
	case err != nil:
		return fmt.Errorf("what is stored about %s: %w", up.URL, err)
	case cp.Size > before.Size, cp.Size == before.Size && cp.Root == before.Root:
		return nil
	case cp.Size == before.Size:
		return s.convict(ctx, up, cp, true, fmt.Errorf("%w: two logs of %d events, now:\n%s\nbefore it said:\n%s", ErrFork, cp.Size, cp.Text, up.Checkpoint))
	}
	gone := false // a tile that the log has to have
	err = tlog.VerifyConsistency(ctx, cp, before, func(ctx context.Context, level, index uint64, width uint8) ([]byte, error) {
		tile, err := client.tile(ctx, level, index, width)
		gone = gone || isNotFound(err)
		return tile, err
	})
	switch {
	case gone || errors.Is(err, tlog.ErrHistory):
		return s.convict(ctx, up, cp, false, fmt.Errorf("%w: it had %d events and does not show that the %d that it has now are the first of them (%v), now:\n%s\nbefore it said:\n%s",
			ErrFork, before.Size, cp.Size, err, cp.Text, up.Checkpoint))
	case err != nil:
		return fmt.Errorf("%w, with %d events after %d, and does not tell whether they are of one log: %w", ErrStale, cp.Size, before.Size, err)
	}
	return fmt.Errorf("%w: it had %d events, this checkpoint has the first %d of them:\n%s", ErrStale, before.Size, cp.Size, cp.Text)
}

// tile reads a tile of the mirror's log (c2sp.org/tlog-tiles): the part of it that a
// log of some size has, or the whole that it has become.
func (c *Client) tile(ctx context.Context, level, index uint64, width uint8) ([]byte, error) {
	const most = layout.TileWidth * 32
	data, err := c.getBytes(ctx, "/log/"+layout.TilePath(level, index, width), nil, "application/octet-stream", most)
	if width > 0 && isNotFound(err) {
		return c.getBytes(ctx, "/log/"+layout.TilePath(level, index, 0), nil, "application/octet-stream", most)
	}
	return data, err
}

func isNotFound(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Status == http.StatusNotFound
}

// convict keeps the evidence for an error and returns it.
func (s *Sync) convict(ctx context.Context, up *Upstream, cp *tlog.Checkpoint, proof bool, err error) error {
	return errors.Join(err, s.Target.Convict(ctx, Evidence{
		URL: up.URL, At: time.Now().UTC().Truncate(time.Second), Proof: proof, Before: up.Checkpoint, Now: string(cp.Text),
	}))
}

// hold compares the log with the leaves that were seen.
func (s *Sync) hold(ctx context.Context, up *Upstream, cp *tlog.Checkpoint) error {
	r, err := up.leaves()
	if err != nil {
		return err
	}
	root, err := rootOf(r)
	if err != nil {
		return err
	}
	if !bytes.Equal(root, cp.Root[:]) {
		// Back to what was proven: if it was somebody on the way who changed a page, the
		// next attempt succeeds; if it is the mirror, it fails again.
		up.Next, up.Hashes = up.Proven, up.Base
		return s.convict(ctx, up, cp, false, fmt.Errorf("%w: the %d events that it gave have the root %x, its checkpoint says:\n%s\nbefore it said:\n%s", ErrFork, r.End(), root, cp.Text, up.Checkpoint))
	}
	up.Checkpoint, up.Proven, up.Base = string(cp.Text), up.Next, up.Hashes
	return nil
}

var (
	ranges    = compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	emptyRoot = rfc6962.DefaultHasher.EmptyRoot()
)

// leaves is the compact range of what was seen.
func (up *Upstream) leaves() (*compact.Range, error) {
	// A copy, because appending to the range writes into the list.
	r, err := ranges.NewRange(0, uint64(up.Next), slices.Clone(up.Hashes))
	if err != nil {
		return nil, fmt.Errorf("what is stored about %s does not fit together: %w", up.URL, err)
	}
	return r, nil
}

// page takes one export of at most limit events. The cursor moves on when all of
// it is stored, so an interruption anywhere repeats at most a page.
//
// Where all that it gave so far was here already, from an archive or from another
// mirror, it skims: it asks for the events without their bundles, and takes the
// bundles only when one of the events is not here. It returns whether the next
// page is worth skimming.
func (s *Sync) page(ctx context.Context, client *Client, up *Upstream, limit int64, skim bool) (skimNext bool, err error) {
	most := min(limit, int64(s.Page)*bareEvents)
	for try := 0; skim && most > 0 && try < 2; try++ {
		known, err := s.export(ctx, client, up, most, true)
		if missing := new(missingError); errors.As(err, &missing) {
			most = min(most-1, missing.seq-up.Next) // what comes before it
			continue
		}
		return known, err
	}
	return s.export(ctx, client, up, min(limit, int64(s.Page)), false)
}

// A missingError is the end of a bare export in which an event is not here.
type missingError struct{ seq int64 }

func (e *missingError) Error() string { return fmt.Sprintf("event %d is not here", e.seq) }

// export takes one export. It reports whether all of its events were here before.
// Of a bare one they all must be, or nothing is taken, for a *missingError.
func (s *Sync) export(ctx context.Context, client *Client, up *Upstream, limit int64, bare bool) (known bool, err error) {
	query := url.Values{"limit": {strconv.FormatInt(limit, 10)}}
	if bare {
		query.Set("bundles", "no")
	}
	if up.Next > 0 {
		query.Set("after", strconv.FormatInt(up.Next-1, 10))
	}
	leaves, err := up.leaves()
	if err != nil {
		return false, err
	}
	next := *up
	p := &page{s: s, up: &next, leaves: leaves, limit: limit, open: map[string][]Event{}}
	if err := client.lines(ctx, "/export", query, "application/jsonl", func(line []byte) error { return p.line(ctx, line) }); err != nil {
		return false, err
	}
	if bare {
		if err := p.known(ctx); err != nil {
			return false, err
		}
	}
	if err := p.end(ctx); err != nil {
		return false, err
	}
	next.Hashes = leaves.Hashes()
	if err := s.Target.SaveUpstream(ctx, next); err != nil {
		return false, err
	}
	*up = next
	s.Progress(next)
	return p.news == 0, nil
}

// known asks whether all events that came without a bundle are here.
func (p *page) known(ctx context.Context) error {
	var events []Event
	for _, some := range p.open {
		events = append(events, some...)
	}
	slices.SortFunc(events, func(a, b Event) int { return cmp.Compare(a.Seq, b.Seq) })
	here, err := p.s.Target.Has(ctx, events)
	if err != nil {
		return err
	}
	if i := slices.Index(here, false); i >= 0 {
		return &missingError{events[i].Seq}
	}
	clear(p.open)
	return nil
}

// A page is one export on its way in.
type page struct {
	s      *Sync
	up     *Upstream
	leaves *compact.Range
	limit  int64
	open   map[string][]Event // per record: events that its bundle must have
	batch  [][]byte
	names  []string // of the records of the batch
	bytes  int
	news   int // events that were not here before
	ended  bool
}

func (p *page) line(ctx context.Context, data []byte) error {
	if p.ended {
		return fmt.Errorf("%w: a line after the last one", ErrProtocol)
	}
	// The bundle is most of what comes: it is looked into only once, below.
	if rest, ok := bytes.CutPrefix(data, []byte(`{"bundle":`)); ok && len(rest) > 0 && rest[len(rest)-1] == '}' {
		return p.bundle(ctx, bytes.Clone(rest[:len(rest)-1]))
	}
	var line Line
	if err := json.Unmarshal(data, &line); err != nil {
		return fmt.Errorf("%w: %v in the line %q", ErrProtocol, err, clip(string(data), 80))
	}
	switch {
	case line.Next != nil && line.Head != nil:
		p.ended = true
		if *line.Next != p.up.Next {
			return fmt.Errorf("%w: it gave events before %d and says to go on with %d", ErrProtocol, p.up.Next, *line.Next)
		}
		p.up.Head = max(*line.Head, p.up.Next)
		return nil
	case line.Seq != nil:
		return p.event(line)
	}
	return fmt.Errorf("%w: the line %q says nothing", ErrProtocol, clip(string(data), 80))
}

func (p *page) event(line Line) error {
	digest, err := compare.ParseDigest(line.SHA256)
	switch {
	case *line.Seq != p.up.Next:
		return fmt.Errorf("%w: event %d where %d should come", ErrProtocol, *line.Seq, p.up.Next)
	case p.limit == 0:
		return fmt.Errorf("%w: more events than asked for", ErrProtocol)
	case err != nil || len(line.Suffix) != compare.SuffixLen || !compare.ValidPrefix(line.Suffix) || len(line.Event) > 100:
		return fmt.Errorf("%w: event %d is %.100q of %.100q with digest %.100q", ErrProtocol, *line.Seq, line.Event, line.Suffix, line.SHA256)
	}
	p.limit--
	p.up.Next++
	e := Event{Seq: *line.Seq, ID: line.Event, Suffix: line.Suffix, SHA256: digest}
	p.open[e.Suffix] = append(p.open[e.Suffix], e)
	return p.leaves.Append(rfc6962.DefaultHasher.HashLeaf(p.s.Leaf(e)), nil)
}

// bundle holds a bundle to the events that it must have.
func (p *page) bundle(ctx context.Context, data []byte) error {
	number, entries, err := contents(data)
	if err != nil {
		return fmt.Errorf("%w: a bundle that is not in canonical form: %v", ErrProtocol, err)
	}
	suffix := suffixOf(number)
	wanted, ok := p.open[suffix]
	if !ok {
		return fmt.Errorf("%w: the bundle of %.40q, of which no event is in this export", ErrProtocol, number)
	}
	if e, missing := omitted(wanted, entries); missing {
		return fmt.Errorf("%w: event %d, %s of %s", ErrOmitted, e.Seq, e.ID, suffix)
	}
	delete(p.open, suffix)
	p.batch, p.names = append(p.batch, data), append(p.names, suffix)
	if p.bytes += len(data); len(p.batch) >= p.s.Batch || p.bytes >= 32<<20 {
		return p.submit(ctx)
	}
	return nil
}

// omitted returns the first of the wanted events that no entry of a bundle is. An
// entry is an event if it has its bytes, or its content under another signature of
// its author, of which merging keeps one (spec §5.1). An invalid event may go by no
// id here, whatever it claims.
//
// Both lists are a stranger's choice, and long ones fit into a page: each entry is
// hashed once and read once at most, however many events are wanted.
func omitted(wanted []Event, entries []entry) (first Event, missing bool) {
	exact := map[compare.Digest]*entry{} // nil where none has those bytes
	for _, e := range wanted {
		exact[e.SHA256] = nil
	}
	for i := range entries {
		digest := digestOf(entries[i].data)
		if _, asked := exact[digest]; asked {
			exact[digest] = &entries[i]
		}
	}
	is := func(e Event) bool { x := exact[e.SHA256]; return x != nil && (e.ID == "" || e.ID == x.id) }
	content := map[string]bool{} // by id, whether an entry has what it is the digest of
	for _, e := range wanted {
		if !is(e) {
			content[e.ID] = false
		}
	}
	for _, x := range entries {
		if found, asked := content[x.id]; asked && !found {
			signed, err := pith.SignedBytes(x.data)
			content[x.id] = err == nil && "sha256:"+digestOf(signed).String() == x.id
		}
	}
	for _, e := range wanted {
		if !is(e) && !content[e.ID] {
			return e, true
		}
	}
	return Event{}, false
}

func digestOf(data []byte) compare.Digest { return sha256.Sum256(data) }

// submit hands over what was collected.
func (p *page) submit(ctx context.Context) error {
	if len(p.batch) == 0 {
		return nil
	}
	outcomes, err := p.s.Target.Submit(ctx, *p.up, p.batch)
	if err != nil {
		return err
	}
	for i, o := range outcomes {
		p.up.Records++
		p.news += o.New
		refusal := new(resolver.Refusal)
		switch {
		case o.Refused == nil:
		case errors.As(o.Refused, &refusal) && refusal.Status == resolver.Queued:
			p.up.Queued++
			what := "waits for a moderator"
			if refusal.ID == 0 {
				what = "all events are here; the words of who packed them are passed over, because the queue is full"
			}
			p.s.Log.Info(what, "upstream", p.up.URL, "record", p.names[i], "id", refusal.ID, "reason", o.Refused)
		default:
			p.up.Refused++
			p.s.Log.Warn("refused", "upstream", p.up.URL, "record", p.names[i], "reason", o.Refused)
		}
		if o.New > 0 && o.Equivocations > 0 {
			p.up.Conflicts++
			p.s.Log.Warn("equivocation", "upstream", p.up.URL, "number", o.Number, "count", o.Equivocations)
		}
	}
	p.batch, p.names, p.bytes = nil, nil, 0
	return nil
}

func (p *page) end(ctx context.Context) error {
	if !p.ended {
		return fmt.Errorf("%w: the export has no last line", ErrProtocol)
	}
	for suffix, events := range p.open {
		return fmt.Errorf("%w: event %d, %s of %s", ErrOmitted, events[0].Seq, events[0].ID, suffix)
	}
	return p.submit(ctx)
}

// checkpoint asks for the newest one. It is nil when no key is pinned.
func (c *Client) checkpoint(ctx context.Context, key string) (*tlog.Checkpoint, error) {
	if key == "" {
		return nil, nil
	}
	if _, err := note.NewVerifier(key); err != nil { // no fault of the mirror
		return nil, fmt.Errorf("log key %.100q: %w", key, err)
	}
	text, err := c.getBytes(ctx, "/log/checkpoint", nil, "text/plain", 64<<10)
	if err != nil {
		return nil, err
	}
	cp, err := tlog.ParseCheckpoint(text, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsigned, err)
	}
	if cp.Size > compare.MaxRecords<<8 {
		return nil, fmt.Errorf("%w: a log of %d events", ErrProtocol, cp.Size)
	}
	return cp, nil
}

// Convicting reports whether an error is a mirror's doing, against what it
// signed itself, and not one that passes by waiting.
func Convicting(err error) bool {
	return errors.Is(err, ErrFork) || errors.Is(err, ErrOmitted) || errors.Is(err, ErrUnsigned)
}

// publicly says what is wrong in words for everybody, without addresses of the
// inside, words of the store, or what a stranger chose to send.
func publicly(err error) string {
	for _, known := range []error{ErrFork, ErrOmitted, ErrUnsigned, ErrStale, ErrSlow, ErrTooLarge, ErrRedirect, ErrProtocol} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	var status *StatusError
	var refusal *resolver.Refusal
	var network *url.Error
	switch {
	case errors.As(err, &status):
		return fmt.Sprintf("the mirror answers %d", status.Status)
	case errors.As(err, &refusal):
		return "copying waits until a moderator has made room"
	case errors.As(err, &network):
		return "the mirror cannot be reached"
	}
	return "see the log of this mirror"
}

// follow copies a mirror until ctx ends.
func (s *Sync) follow(ctx context.Context, address string) {
	wait := s.MinWait
	for ctx.Err() == nil {
		up, err := s.Target.Upstream(ctx, address)
		var client *Client
		if err == nil {
			client, err = NewClient(address, s.Limits)
		}
		if err == nil {
			if err = s.once(ctx, client, &up); err == nil {
				wait = s.MinWait
				if up.LogKey == "" || up.Head <= up.Next {
					err = s.awaitEvent(ctx, client, &up)
				}
			}
			client.Close()
		}
		if ctx.Err() != nil {
			return
		}
		pause := s.MinWait // the checkpoint follows the events in about a second
		if err != nil {
			pause = wait
			wait = min(2*wait, s.MaxWait)
			var status *StatusError
			if errors.As(err, &status) {
				pause = max(pause, min(status.RetryAfter, s.MaxWait))
			}
			level := slog.LevelWarn
			if Convicting(err) {
				level = slog.LevelError
			}
			s.Log.Log(ctx, level, "sync failed", "upstream", address, "error", err, "again_in", pause.String())
		}
		// Not all mirrors at once, and not again in step.
		timer := time.NewTimer(pause + rand.N(pause/4+1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// errStop ends the reading of a stream that has told enough.
var errStop = errors.New("stop")

// awaitEvent returns when the mirror has an event that was not copied yet, or
// when it closes the stream for a reason that is none of ours.
func (s *Sync) awaitEvent(ctx context.Context, client *Client, up *Upstream) error {
	query := url.Values{}
	if up.Next > 0 {
		query.Set("after", strconv.FormatInt(up.Next-1, 10))
	}
	kept := time.Now()
	patient := *client
	patient.Limits.Stall, patient.Limits.Progress = 2*time.Minute, 1 // four heartbeats and more
	patient.Limits.Line = 64 << 10
	err := patient.lines(ctx, "/stream", query, "text/event-stream", func(line []byte) error {
		if bytes.HasPrefix(line, []byte("event: ")) {
			return errStop // an event, or the end
		}
		if time.Since(kept) < s.Alive {
			return nil
		}
		kept = time.Now() // it is alive, and all that it has is here
		up.SyncedAt = kept.UTC().Truncate(time.Second)
		return s.Target.SaveUpstream(ctx, *up)
	})
	if errors.Is(err, errStop) || isNotFound(err) {
		return nil
	}
	return err
}

// clip shortens what a stranger sent before it goes into a message.
func clip(text string, n int) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) > n {
		return strings.ToValidUTF8(text[:n], "") + "…"
	}
	return text
}

// Ranges asks the mirror about ranges, for package compare.
func (c *Client) Ranges(ctx context.Context, prefixes []string) ([]compare.Range, error) {
	var answers []compare.Range
	// An entry takes less than 200 bytes.
	limit := int64(len(prefixes))*compare.LeafSize*256 + 64<<10
	err := c.getJSON(ctx, "/ranges", url.Values{"prefix": prefixes}, limit, &answers)
	return answers, err
}

// Bundle returns the bundle of a record as the mirror serves it.
func (c *Client) Bundle(ctx context.Context, suffix string) ([]byte, error) {
	return c.getBytes(ctx, "/pith/"+suffix+"/bundle.json", nil, "application/json", int64(cmp.Or(c.Limits.Line, 17<<20)))
}

// LogKey asks the mirror for the verifier key of its log. Whoever pins it trusts
// that the first answer came from the mirror.
func (c *Client) LogKey(ctx context.Context) (string, error) {
	text, err := c.getBytes(ctx, "/log/key", nil, "text/plain", 1<<10)
	if err != nil {
		return "", err
	}
	key := strings.TrimSpace(string(text))
	if _, err := note.NewVerifier(key); err != nil {
		return "", fmt.Errorf("%w: %s/log/key: %v", ErrProtocol, c.Base, err)
	}
	return key, nil
}
