package resolver

import (
	"context"
	"errors"
	"time"
)

// Errors of stores. Every method may also return the error of its context, and
// errors of the medium, which wrap none of these.
var (
	// ErrNotFound reports that the store does not hold what was asked for.
	ErrNotFound = errors.New("not found")

	// ErrConflict reports that a record changed since it was read. Nothing was
	// written; read again, unite again, commit again.
	ErrConflict = errors.New("the record has changed meanwhile")

	// ErrFull reports that there is no room to write: the disk, a quota or a
	// limit of the database is reached. Nothing was written; reading goes on.
	ErrFull = errors.New("there is no room left to write")

	// ErrNoStore reports a database that is not there, or has no mirror in it.
	ErrNoStore = errors.New("there is no such database")

	// ErrForeign reports a file that is a database of another program.
	ErrForeign = errors.New("not a database of pith")

	// ErrNewer reports a database whose schema is newer than this program.
	// Nothing was changed.
	ErrNewer = errors.New("the database was made by a newer version of this program")
)

// A Store keeps records and what a mirror knows about them. Its methods may be
// called from many goroutines and, where the medium is shared, from many
// processes. What Commit has returned without error survives a crash of the
// machine.
//
// Records are named by their suffix: the 26 characters behind "pith:YYYY:", in
// upper case. Times have the resolution of a second and are UTC. Slices that a
// store returns belong to the caller.
type Store interface {
	// Commit writes updates, all of them or none. It gives the events of the
	// updates the next sequence numbers, in the order of the updates and of
	// their events, and each record the next revision. The numbers are dense:
	// there are no gaps, and who sees one sees all before it. An event that the
	// store has in another record, or twice in the updates, is an error of the
	// caller and makes Commit fail.
	//
	// No suffix may occur twice in one call. Errors: ErrConflict when the
	// revision of a stored record is not the one that its update was made from.
	Commit(ctx context.Context, updates []Update) ([]Committed, error)

	// Record returns a record without its bundle. Errors: ErrNotFound.
	Record(ctx context.Context, suffix string) (Record, error)

	// Bundle returns a record and its bundle, gzip-compressed as it was
	// committed. Errors: ErrNotFound.
	Bundle(ctx context.Context, suffix string) (Record, []byte, error)

	// Bundles is Bundle for many records at once, in any order; those that the
	// store does not have are left out.
	Bundles(ctx context.Context, suffixes []string) ([]Stored, error)

	// Resolve returns, sorted, up to limit suffixes that begin with prefix,
	// which is upper-case base32. No match is no error.
	Resolve(ctx context.Context, prefix string, limit int) ([]string, error)

	// ByAlias returns, sorted, the suffixes of up to limit records that have an
	// alias. kind and value are compared as they are: FoldAlias makes them
	// comparable. No match is no error.
	ByAlias(ctx context.Context, kind, value string, limit int) ([]string, error)

	// ByDigest returns the suffix of the record whose bundle has a SHA-256 now.
	// Errors: ErrNotFound.
	ByDigest(ctx context.Context, digest Digest) (string, error)

	// Search finds records by words in title, authors, categories and abstract,
	// best first; a word finds words that begin with it, all words must be
	// found. What a word is, SearchWords says. Query syntax of the medium has no
	// meaning. total is the number of
	// matches, counted up to MaxCounted.
	Search(ctx context.Context, query string, limit, offset int) (found []Record, total int, err error)

	// Records returns up to limit records, without bundles, in the order of
	// their suffixes, from the first one after `after` ("" from the start) whose
	// suffix begins with prefix ("" for all).
	Records(ctx context.Context, prefix, after string, limit int) ([]Record, error)

	// ChangedAfter returns up to limit records with a revision greater than
	// `revision`, in the order of revisions: the last state of everything that
	// changed since.
	ChangedAfter(ctx context.Context, revision int64, limit int) ([]Record, error)

	// Fingerprints calls yield with the digests of all records whose suffix
	// begins with prefix, in the order of suffixes, until yield returns an
	// error, which is returned. It reads no bundles.
	Fingerprints(ctx context.Context, prefix string, yield func(Fingerprint) error) error

	// EventsFrom returns up to limit events in the order of their sequence
	// numbers, beginning with the number seq.
	EventsFrom(ctx context.Context, seq int64, limit int) ([]Event, error)

	// RecentEvents returns up to limit events before the number `before`,
	// newest first; before 0 or less means from the end.
	RecentEvents(ctx context.Context, before int64, limit int) ([]Event, error)

	// RecordEvents returns the events of a record in the order of their
	// sequence numbers. No such record is no error.
	RecordEvents(ctx context.Context, suffix string) ([]Event, error)

	// Event returns an event by its id, "sha256:...". Errors: ErrNotFound. Where
	// several entries have claimed the id, it is the valid one.
	Event(ctx context.Context, id string) (Event, error)

	// Citations returns up to limit citations that a work makes, by the work's
	// kind and id as FoldAlias leaves them, in the order of their events.
	Citations(ctx context.Context, kind, id string, limit int) ([]Citation, error)

	// Counts returns how much the store holds. It is cheap.
	Counts(ctx context.Context) (Counts, error)

	// Key returns a declared key. Errors: ErrNotFound.
	Key(ctx context.Context, fingerprint string) (Key, error)

	// PutKey declares a key, unless a bundle brought it; one that was declared
	// before is declared again. Keys that were declared before `forget` and of which
	// nothing came are removed: no bundle brought them, nothing that waits for a
	// moderator is signed by them.
	PutKey(ctx context.Context, key Key, forget time.Time) error

	// Keys returns up to limit keys in the order of their fingerprints, after
	// one ("" from the start).
	Keys(ctx context.Context, after string, limit int) ([]Key, error)

	// PutHeld keeps a submission that was not let in. One with the same digest, or
	// else with the same bytes, is there once: as Refused, or as Accepted with another
	// digest or other bytes, it becomes the new one; as Queued, when the new one shall
	// be Queued for something else, it takes the new digest, code, detail and signer;
	// otherwise it stays as it is. It returns the number and the status that it has
	// then.
	PutHeld(ctx context.Context, h Held) (id int64, now Status, err error)

	// FindHeld returns the number and the status of the submission with a digest, or
	// else of one with such bytes. Errors: ErrNotFound.
	FindHeld(ctx context.Context, digest Digest) (id int64, now Status, err error)

	// Held returns up to limit submissions of a status with a number greater
	// than `after`, in the order of their numbers, without their data, which may
	// be large and is strangers' choice.
	Held(ctx context.Context, status Status, after int64, limit int) ([]Held, error)

	// HeldByID returns one. Errors: ErrNotFound.
	HeldByID(ctx context.Context, id int64) (Held, error)

	// MoveHeld gives a submission another status, code and detail, when its
	// status is `from`. Errors: ErrNotFound when it is not there or has another.
	MoveHeld(ctx context.Context, id int64, from, to Status, code, detail string) error

	// Meta returns a small value that belongs to no record. Errors: ErrNotFound.
	Meta(ctx context.Context, key string) ([]byte, error)

	// SetMeta keeps one, whole or not at all; nil removes it.
	SetMeta(ctx context.Context, key string, value []byte) error

	// MetaKeys returns the keys that begin with prefix, sorted.
	MetaKeys(ctx context.Context, prefix string) ([]string, error)

	// Lock runs f while nobody else, in this or another process on the same
	// medium, runs a function under the same name. It waits for its turn.
	Lock(ctx context.Context, name string, f func(context.Context) error) error

	// Check asks the medium whether it is sound by its own means, and the store
	// whether its indexes agree with its records, and reports what it finds.
	Check(ctx context.Context, report func(Problem)) error

	// Close frees what the store holds. Calls that are under way may fail.
	Close() error
}

// MaxCounted is the number up to which Search counts matches.
const MaxCounted = 1000

// An Update is one record as it shall be.
type Update struct {
	Record            // what shall be stored; Revision and FirstSeq are the store's
	Base   int64      // the revision that the update was made from, 0 for a new record
	Bundle []byte     // gzip
	Events []Event    // those that the store does not have yet; Seq is the store's
	Keys   []Key      // of the bundle: they stay
	Cites  []Citation // of the new events, whose Seq is the store's, and of others, with their Seq
}

// Committed tells what Commit gave to an update.
type Committed struct {
	Revision int64
	FirstSeq int64 // of the update's first new event; the others follow. Without events: the next number
}

// A Digest is a SHA-256.
type Digest [32]byte

// A Record is what lists, look-ups and comparisons want to know.
type Record struct {
	Suffix   string
	Number   string // "pith:2018:..."
	Revision int64  // grows with each change of any record; two records never share one

	Digest Digest // of the bundle's canonical bytes: the strong ETag
	Size   int    // bytes of the bundle before compression
	Events Digest // of the set of events, as pith.EventSet
	State  Digest // state_sha256
	United bool   // the bundle was united and signed here; false: served as it came

	EventCount   int // valid and invalid
	Replications int // valid replication records that are not superseded

	Aliases    []Alias // without the beginnings of its own suffix, which Resolve finds
	Source     string  // "arxiv:1805.07898v3"
	Title      string
	Authors    string
	Categories []string // the primary one first
	Abstract   string   // the excerpt
	Submitted  time.Time
	BuiltAt    time.Time
}

// Stored is a record with its bundle.
type Stored struct {
	Record Record
	Bundle []byte // gzip
}

// An Alias is another name of a record, as the bundle has it.
type Alias struct{ Kind, Value string }

// A Fingerprint is what two mirrors compare.
type Fingerprint struct {
	Suffix        string
	Events, State Digest
}

// An Event is one accepted event.
type Event struct {
	Seq         int64  // its place in the order of acceptance, from 0
	ID          string // "sha256:...", or "" where an invalid event claims none
	Suffix      string
	SHA256      Digest // of its canonical form, signature included (spec §6.6, entry_sha256)
	Type        string
	SignerID    string
	Fingerprint string    // of the signer's key
	CreatedAt   time.Time // as the signer says
	ReceivedAt  time.Time // as this mirror says
	Invalid     string    // why the event is invalid, "" if it is valid; as of acceptance
}

// A Citation says that a work cites a record.
type Citation struct {
	Kind, ID string // the citing work, folded
	Suffix   string // the cited record
	EventID  string
	Relation string
	Seq      int64
}

// A Key is one that was declared, so that what it signed can be checked.
type Key struct {
	Fingerprint string
	SignerID    string // "" where no event told
	Entry       []byte // as it stands in public_keys (spec §8.1), canonical
	DeclaredAt  time.Time
}

// A Status says what became of a submission that was not let in at once.
type Status string

// Statuses of held submissions.
const (
	Refused  Status = "refused"  // wrong, or too much
	Queued   Status = "queued"   // right, by somebody whom the policy does not know
	Accepted Status = "accepted" // let in by a moderator
	Rejected Status = "rejected" // kept out by a moderator
)

// Valid reports whether it is one of the statuses that submissions are held with.
func (s Status) Valid() bool {
	switch s {
	case Refused, Queued, Accepted, Rejected:
		return true
	}
	return false
}

// Held is a submission that was kept outside.
type Held struct {
	ID         int64
	Status     Status
	Digest     Digest // what it is known by: that of the bytes, or of what waits in a bundle
	SHA256     Digest // of the bytes as they came
	Suffix     string // "" where there was nothing to go on
	Code       string // stable reason
	Detail     string // words
	Signer     string // fingerprint of the first signer that the policy does not know, or ""
	From       string // who sent it: an address, a mirror or a file
	ReceivedAt time.Time
	Data       []byte // gzip; the first MaxHeld bytes of what came
	Truncated  bool
}

// Put returns what becomes of a submission that is held as h when another comes that
// PutHeld takes for it.
func (h Held) Put(other Held) Held {
	switch {
	case h.Status == Refused, h.Status == Accepted && (h.SHA256 != other.SHA256 || h.Digest != other.Digest):
		id := h.ID
		h = other
		h.ID = id
		return h
	case h.Status == Queued && other.Status == Queued && h.Digest != other.Digest:
		h.Digest = other.Digest
	default:
		return h
	}
	h.Code, h.Detail, h.Signer = other.Code, other.Detail, other.Signer
	return h
}

// MaxHeld is how many bytes of a refused submission are kept.
const MaxHeld = 64 << 10

// MaxQueued is how many bytes a submission may have that waits for a moderator, when
// a stranger sent it: who queues as much as there is room for does not fill the disk.
const MaxQueued = 256 << 10

// Counts tells how much a store holds.
type Counts struct {
	Records  int64
	Events   int64 // also the next sequence number
	Keys     int64
	Refused  int64
	Queued   int64
	Revision int64 // of the last change
}

// MoveHeld counts a submission that was held as one status and is held as another
// now. "" is nowhere.
func (c *Counts) MoveHeld(from, to Status) {
	of := map[Status]*int64{Refused: &c.Refused, Queued: &c.Queued}
	if n := of[from]; n != nil {
		*n--
	}
	if n := of[to]; n != nil {
		*n++
	}
}

// A Problem is something that a check found.
type Problem struct {
	Where  string // "record CWPYLZDW...", "event 17", "log"
	Code   string // stable
	Detail string
}

func (p Problem) String() string { return p.Where + ": " + p.Code + ": " + p.Detail }
