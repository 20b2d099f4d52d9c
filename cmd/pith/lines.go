package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
)

// An answer is the result of one line: its JSON and the exit code it stands for.
type answer struct {
	json []byte
	code int
}

// verifyLines checks one bundle per line on all cores and answers in order, on
// stdout or in the file to resume. At most a few lines per core are in memory at
// a time.
func verifyLines(cmd *cobra.Command, paths []string, trust *pith.Trust, resume string) error {
	policy := fmt.Sprintf("%x", sha256.Sum256(trust.JSON()))
	out, done := cmd.OutOrStdout(), newEarlier()
	if resume != "" {
		f, err := os.OpenFile(resume, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return cli.Hint(err, "name a file that can be written")
		}
		defer f.Close()
		if done, err = readEarlier(f, policy); err != nil {
			if errors.Is(err, errOtherPolicy) {
				return cli.Hint(fmt.Errorf("resume %s: %w", resume, err), "name the same trust files as before, or a new file for the results")
			}
			return cli.Hint(fmt.Errorf("resume %s: %w", resume, err), "name a file that an earlier run wrote, or a new one")
		}
		out = f
	}

	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	workers := runtime.GOMAXPROCS(0)
	type job struct {
		line   []byte
		answer chan answer
	}
	jobs := make(chan job) // to the workers, in any order
	// Verifying makes much garbage and keeps little: this trades some memory for time.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	order := make(chan chan answer, 4*workers) // to the printer, in order
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for j := range jobs {
				j.answer <- verifyLine(j.line, trust, policy)
			}
		})
	}
	var (
		readErr error
		read    atomic.Int64 // bytes
	)
	group.Go(func() {
		defer close(jobs)
		defer close(order)
		n := 0
		for _, path := range paths {
			f, err := open(cmd, path)
			if err != nil {
				readErr = err
				return
			}
			readErr = eachLine(ctx, f, &read, func(line []byte, _ int) error {
				if line == nil || ctx.Err() != nil {
					return ctx.Err()
				}
				if n++; n <= done.lines {
					return done.check(n, line, trust, policy)
				}
				j := job{line, make(chan answer, 1)}
				select {
				case order <- j.answer:
					jobs <- j
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			f.Close()
			switch {
			case errors.Is(readErr, context.Canceled): // whoever stopped it says why
				readErr = nil
				return
			case errors.Is(readErr, syscall.EISDIR):
				readErr = cli.Hint(readErr, "name a file, not a directory")
			}
			if readErr != nil {
				return
			}
		}
		if n < done.lines {
			readErr = fmt.Errorf("%s holds %d results, the input only %d bundles: %w", resume, done.lines, n, errOtherInput)
		}
	})

	bar := newReading(cmd.ErrOrStderr(), paths)
	buffered := bufio.NewWriterSize(out, 64<<10)
	code, lines := done.code, done.lines
	var writeErr error
	for a := range order {
		got := <-a
		if writeErr == nil {
			if _, writeErr = buffered.Write(got.json); writeErr != nil {
				stop()
			}
		}
		code = worse(code, got.code)
		lines++
		bar.showRead(read.Load(), lines)
	}
	group.Wait()
	bar.close()
	var interrupted error
	if cmd.Context().Err() != nil {
		interrupted = errors.New("interrupted")
	}
	if err := errors.Join(writeErr, buffered.Flush(), readErr, interrupted); err != nil {
		var hinted *cli.Error
		if errors.As(err, &hinted) {
			return hinted
		}
		hint := "not every line was answered"
		switch {
		case errors.Is(err, errOtherInput):
			hint = "name the same inputs as before, in their order, or a new file for the results"
		case resume != "":
			hint = "not every line was answered; the same command goes on from here"
		}
		return cli.Hint(err, "%s", hint)
	}
	return cli.Exit(code)
}

// verifyLine answers one line. Its answer says of what it is and by which policy,
// so that it means something by itself, and a later run can tell whether it is
// its own.
func verifyLine(data []byte, trust *pith.Trust, policy string) answer {
	r := pith.Verify(data, trust)
	r.Checks = append(r.Failures(), r.Notes()...) // a million lists of passed checks help nobody
	if r.Checks == nil {
		r.Checks = []pith.Check{}
	}
	text, err := json.Marshal(r)
	if err != nil { // cannot happen: the result holds text and numbers
		text = []byte(`{"verdict":"unreadable"}`)
	}
	text = fmt.Appendf(text[:len(text)-1], `,"input_sha256":"%x","policy_sha256":"%s"}`+"\n", lineDigest(data), policy)
	return answer{json: text, code: exitCode(r.Verdict())}
}

// lineDigest is the SHA-256 of a line without its end, so for a bundle of one
// line the same as of a file that holds it and no newline.
func lineDigest(data []byte) [sha256.Size]byte { return sha256.Sum256(bytes.TrimRight(data, "\r\n")) }

// earlier is what a run that was cut off has left: the results file itself says
// how far it came.
type earlier struct {
	lines  int
	last   []byte    // the last result, with its newline
	code   int       // what all of them stand for
	inputs hash.Hash // over the digests of their inputs, as the results have them
	again  hash.Hash // the same, as the inputs have them now
}

func newEarlier() *earlier { return &earlier{inputs: sha256.New(), again: sha256.New()} }

// resultStart is how every result starts, and what is left of one that was cut off.
var resultStart = []byte(`{"result_type":"pith_verification_result","result_version":`)

var (
	// errOtherInput reports results that are not those of the bundles.
	errOtherInput = errors.New("these are results of other inputs, or of another version of pith")
	// errOtherPolicy reports results that another policy gave.
	errOtherPolicy = errors.New("these are results under another policy")
)

// maxResult is above any result. What a bundle of MaxSize says stands there once,
// each byte as up to six in JSON, but for what is short: of each code a result
// lists a thousand failures.
const maxResult = 16 * pith.MaxSize

// resultLine is ReadBytes to the end of a line, with a bound on its length.
func resultLine(in *bufio.Reader) (line []byte, err error) {
	err = bufio.ErrBufferFull
	for errors.Is(err, bufio.ErrBufferFull) {
		var part []byte
		part, err = in.ReadSlice('\n')
		if line = append(line, part...); len(line) > maxResult {
			return nil, errors.New("longer than any result")
		}
	}
	return line, err
}

// readEarlier reads the results in f, cuts off a last line that was not finished,
// and leaves f where writing goes on.
func readEarlier(f *os.File, policy string) (*earlier, error) {
	// A device has no end, and nothing can be cut off it.
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("not a file but a device or a pipe")
	}
	e := newEarlier()
	end := int64(0)
	in := bufio.NewReaderSize(f, 64<<10)
	for {
		line, err := resultLine(in)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("line %d: %w", e.lines+1, err)
		}
		if !bytes.HasPrefix(line, resultStart[:min(len(line), len(resultStart))]) {
			return nil, fmt.Errorf("line %d is no result", e.lines+1) // nor the start of one: whose file is it?
		}
		if err != nil {
			break
		}
		var result struct {
			Verdict *pith.Verdict `json:"verdict"`
			Input   string        `json:"input_sha256"`
			Policy  string        `json:"policy_sha256"`
		}
		if err := json.Unmarshal(line, &result); err != nil || result.Verdict == nil || result.Input == "" {
			return nil, fmt.Errorf("line %d is no result of verify --lines", e.lines+1)
		}
		if result.Policy != policy {
			return nil, fmt.Errorf("line %d: %w", e.lines+1, errOtherPolicy)
		}
		e.lines, e.last, end = e.lines+1, line, end+int64(len(line))
		e.code = worse(e.code, exitCode(*result.Verdict))
		io.WriteString(e.inputs, result.Input)
	}
	if err := f.Truncate(end); err != nil {
		return nil, err
	}
	_, err := f.Seek(end, io.SeekStart)
	return e, err
}

// check compares the first inputs with those of the results, all together when
// the last is there: a digest of each would not fit into constant memory. The
// last is answered again as well, which shows whether this is the same pith.
func (e *earlier) check(n int, line []byte, trust *pith.Trust, policy string) error {
	fmt.Fprintf(e.again, "%x", lineDigest(line))
	switch {
	case n < e.lines:
		return nil
	case !bytes.Equal(e.inputs.Sum(nil), e.again.Sum(nil)):
		return fmt.Errorf("the first %d bundles: %w", n, errOtherInput)
	case !bytes.Equal(verifyLine(line, trust, policy).json, e.last):
		return fmt.Errorf("result %d: %w", n, errOtherInput)
	}
	return nil
}

// until is r until ctx ends, also while r waits for a pipe, which nothing wakes.
func until(ctx context.Context, r io.Reader) io.Reader {
	out, in := io.Pipe()
	stop := context.AfterFunc(ctx, func() { in.CloseWithError(ctx.Err()) })
	go func() {
		defer stop()
		_, err := io.CopyBuffer(in, struct{ io.Reader }{r}, make([]byte, 256<<10))
		in.CloseWithError(err)
	}()
	return out
}

// eachLine calls visit with a copy of every line, nil for blank ones, and the bytes
// that it took, which it counts. Of a line that is longer than the format allows it
// keeps a byte or two too many, so that the reader refuses it, and drops the rest.
func eachLine(ctx context.Context, r io.Reader, read *atomic.Int64, visit func(line []byte, size int) error) error {
	in := bufio.NewReaderSize(r, 256<<10)
	for {
		var line []byte
		size, err := 0, bufio.ErrBufferFull
		for errors.Is(err, bufio.ErrBufferFull) {
			if ctx.Err() != nil { // a line can go on forever
				return ctx.Err()
			}
			var part []byte
			part, err = in.ReadSlice('\n')
			size += len(part)
			line = append(line, part[:min(len(part), pith.MaxSize+2-len(line))]...)
		}
		read.Add(int64(size))
		if err != nil && !errors.Is(err, io.EOF) {
			return err // which names the file
		}
		// Only the white space of JSON makes a line blank, and a line that was
		// too long to keep is none: what is skipped here gets no answer.
		if size <= pith.MaxSize && len(bytes.Trim(line, " \t\r\n")) == 0 {
			line = nil
		}
		if size > 0 {
			if err := visit(line, size); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}
