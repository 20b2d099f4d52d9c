package ots

import (
	"fmt"
)

// A Budget bounds what reading many proofs costs together: a proof of 100 bytes
// can lead to 256 KiB of results, so a limit for each is not enough for whoever
// reads a stranger's thousands. Proofs that turn out to be none cost what was
// read of them. Whether a Budget suffices does not depend on the order of the
// proofs.
type Budget struct {
	Nodes int // operations and attestations that may still be read
	Held  int // bytes of results that may still be computed
}

// Parse reads a proof file. Errors wrap ErrFormat or ErrLimit.
func Parse(data []byte) (*Proof, error) {
	return (&Budget{MaxNodes + 1, MaxHeld + maxMessage}).Parse(data) // more than the limits of a proof let through
}

// Parse is the function Parse on account of b. Errors are those of Parse, and
// ErrBudget.
func (b *Budget) Parse(data []byte) (*Proof, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("more than %d bytes: %w", MaxSize, ErrLimit)
	}
	r := &reader{data: data, budget: b}
	if head, err := r.bytes(len(magic)); err != nil || string(head) != magic {
		return nil, fmt.Errorf("the file does not start as one: %w", ErrFormat)
	}
	if version, err := r.varuint(); err != nil || version != majorVersion {
		return nil, r.fail("version %d, known is %d", version, majorVersion)
	}
	tag, err := r.byte()
	if err != nil {
		return nil, err
	}
	size, ok := digestLengths[tag]
	if !ok {
		return nil, r.fail("%#02x is no hash", tag)
	}
	digest, err := r.bytes(size)
	if err != nil {
		return nil, err
	}
	t, err := r.whole(digest)
	if err != nil {
		return nil, err
	}
	return &Proof{Op{Tag: tag}, t}, nil
}

// parseTimestamp reads a timestamp of a message that stands for itself.
func parseTimestamp(message, data []byte) (*Timestamp, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("more than %d bytes: %w", MaxSize, ErrLimit)
	}
	if len(message) == 0 || len(message) > maxMessage {
		return nil, fmt.Errorf("a timestamp of %d bytes: %w", len(message), ErrFormat)
	}
	return (&reader{data: data, budget: &Budget{MaxNodes + 1, MaxHeld + maxMessage}}).whole(message)
}

type reader struct {
	data  []byte
	at    int
	nodes int
	held  int // bytes of all results

	budget *Budget
}

// spend takes from the budget.
func (r *reader) spend(nodes, held int) error {
	r.budget.Nodes -= nodes
	r.budget.Held -= held
	if r.budget.Nodes < 0 || r.budget.Held < 0 {
		return ErrBudget
	}
	return nil
}

// whole reads a timestamp and asks that nothing follows.
func (r *reader) whole(message []byte) (*Timestamp, error) {
	t, err := r.timestamp(message, 0)
	if err == nil && r.at < len(r.data) {
		err = r.fail("%d bytes follow the proof", len(r.data)-r.at)
	}
	if err != nil {
		return nil, err
	}
	t.tidy()
	return t, nil
}

func (r *reader) timestamp(message []byte, depth int) (*Timestamp, error) {
	t := &Timestamp{Message: message}
	for {
		tag, err := r.byte()
		if err != nil {
			return nil, err
		}
		more := tag == tagFork
		if more {
			if tag, err = r.byte(); err != nil {
				return nil, err
			}
		}
		if err := r.entry(t, tag, depth); err != nil {
			return nil, err
		}
		if !more {
			return t, nil
		}
	}
}

// entry reads one attestation of t's message or one operation on it.
func (r *reader) entry(t *Timestamp, tag byte, depth int) error {
	if err := r.spend(1, 0); err != nil {
		return err
	}
	if r.nodes++; r.nodes > MaxNodes {
		return fmt.Errorf("more than %d operations and attestations: %w", MaxNodes, ErrLimit)
	}
	if tag == tagAttestation {
		a, err := r.attestation()
		if err == nil {
			t.Attestations = append(t.Attestations, a)
		}
		return err
	}
	if depth >= maxDepth { // asked before anything is computed, so that all readers count alike (spec 11.5)
		return fmt.Errorf("more than %d operations deep: %w", maxDepth, ErrLimit)
	}
	op := Op{Tag: tag}
	if tag == Append || tag == Prepend {
		var err error
		if op.Arg, err = r.varbytes(1, maxMessage); err != nil {
			return err
		}
	}
	result, err := op.apply(t.Message)
	if err != nil {
		return fmt.Errorf("byte %d: %w", r.at, err)
	}
	// Every message stays in memory, and reversing a long one takes a single
	// byte of the proof.
	if err := r.spend(0, len(result)); err != nil {
		return err
	}
	if r.held += len(result); r.held > MaxHeld {
		return fmt.Errorf("messages of more than %d bytes together: %w", MaxHeld, ErrLimit)
	}
	then, err := r.timestamp(result, depth+1)
	if err == nil {
		t.Branches = append(t.Branches, Branch{op, then})
	}
	return err
}

func (r *reader) fail(format string, args ...any) error {
	return fmt.Errorf("byte %d: %s: %w", r.at, fmt.Sprintf(format, args...), ErrFormat)
}

func (r *reader) byte() (byte, error) {
	b, err := r.bytes(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

func (r *reader) bytes(n int) ([]byte, error) {
	if n > len(r.data)-r.at {
		return nil, r.fail("the proof ends early")
	}
	b := r.data[r.at : r.at+n : r.at+n]
	r.at += n
	return b, nil
}

// varuint reads an unsigned number in base 128, least significant digit first.
func (r *reader) varuint() (uint64, error) {
	var v uint64
	for shift := 0; ; shift += 7 {
		b, err := r.byte()
		if err != nil {
			return 0, err
		}
		digit := uint64(b & 0x7f)
		if shift >= 70 || shift == 63 && digit > 1 {
			return 0, r.fail("a number of more than 64 bits")
		}
		v |= digit << shift
		if b < 0x80 {
			return v, nil
		}
	}
}

func (r *reader) varbytes(least, most uint64) ([]byte, error) {
	n, err := r.varuint()
	if err != nil {
		return nil, err
	}
	if n < least || n > most {
		return nil, r.fail("%d bytes where %d to %d are allowed", n, least, most)
	}
	return r.bytes(int(n))
}
