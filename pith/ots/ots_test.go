package ots

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func example(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func parse(t testing.TB, data []byte) *Proof {
	t.Helper()
	p, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// helloRoot is the Merkle root of block 358391 as explorers print it.
const helloRoot = "8a1b66ecb7cbd07d8139a7e7d7f2c41aab1f5009b8364aaf61d03ad245e47e00"

func TestRealProofs(t *testing.T) {
	data := example(t, "hello-world.txt.ots")
	p := parse(t, data)
	want := sha256.Sum256([]byte("Hello World!\n"))
	if !bytes.Equal(p.Digest(), want[:]) || p.Hash.Tag != Sha256 {
		t.Errorf("digest %s %x, want %x", p.Hash, p.Digest(), want)
	}
	claims := p.Claims()
	if len(claims) != 1 || claims[0].Kind != Bitcoin || claims[0].Height != 358391 || reversedHex(claims[0].Message) != helloRoot {
		t.Errorf("claims %v, root %s", claims, reversedHex(claims[0].Message))
	}
	if !bytes.Equal(p.Bytes(), data) {
		t.Error("writing what was read gives other bytes")
	}
	if got := p.String(); !strings.Contains(got, "bitcoin block 358391\n  Merkle root "+helloRoot) {
		t.Errorf("printed as\n%s", got)
	}

	p = parse(t, example(t, "incomplete.txt.ots"))
	if got := fmt.Sprint(p.Claims()[0].Attestation); got != "pending at https://alice.btc.calendar.opentimestamps.org" {
		t.Error(got)
	}
}

func TestVerify(t *testing.T) {
	hello := parse(t, example(t, "hello-world.txt.ots"))
	pending := parse(t, example(t, "incomplete.txt.ots"))
	lines := func(text string) *Headers {
		h, err := ReadHeaders("blocks.txt", []byte(text), 0)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	tests := []struct {
		name    string
		proof   *Proof
		headers *Headers
		want    Status
		time    string
	}{
		{"good", hello, lines("# height root time\n358391 " + helloRoot + " 2015-05-28T15:41:18Z\n"), Confirmed, "2015-05-28T15:41:18Z"},
		{"seconds", hello, lines("358391 " + helloRoot + " 1432827678"), Confirmed, "2015-05-28T15:41:18Z"},
		{"no time", hello, lines("358391 " + helloRoot), Confirmed, "0001-01-01T00:00:00Z"},
		{"other root", hello, lines("358391 " + strings.Repeat("00", 32)), Wrong, "0001-01-01T00:00:00Z"},
		{"root in the order of the header", hello, lines("358391 " + hex.EncodeToString(hello.Claims()[0].Message)), Wrong, "0001-01-01T00:00:00Z"},
		{"other height", hello, lines("358392 " + helloRoot), NoHeader, "0001-01-01T00:00:00Z"},
		{"no headers", hello, nil, NoHeader, "0001-01-01T00:00:00Z"},
		{"pending", pending, lines("358391 " + helloRoot), Unchecked, "0001-01-01T00:00:00Z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := tt.proof.Verify(tt.headers)
			if len(f) != 1 || f[0].Status != tt.want || f[0].Time.Format(time.RFC3339) != tt.time {
				t.Errorf("got %+v", f)
			}
			if named := strings.Contains(f[0].Source, "blocks.txt"); named != (tt.want == Confirmed || tt.want == Wrong) {
				t.Errorf("source %q", f[0].Source)
			}
		})
	}
}

func TestHeaderLines(t *testing.T) {
	for _, bad := range []string{"1", "x " + helloRoot, "1 abcd", "1 " + helloRoot + " yesterday", "1 " + helloRoot + " 1 2",
		"1 " + helloRoot + "\n1 " + strings.Repeat("00", 32), "1 " + helloRoot + " " + strings.Repeat("9", 70000)} {
		if _, err := ReadHeaders("x", []byte(bad), 0); !errors.Is(err, ErrHeaders) {
			t.Errorf("%.80q: %v", bad, err)
		}
	}
}

// mine makes a chain of headers whose targets are so easy that anybody can.
func mine(n int, root [32]byte) []byte {
	var chain []byte
	var last [32]byte
	for i := range n {
		h := binary.LittleEndian.AppendUint32(nil, 2)
		h = append(append(h, last[:]...), root[:]...)
		h = binary.LittleEndian.AppendUint32(h, uint32(1700000000+600*i))
		h = binary.LittleEndian.AppendUint32(h, 0x207fffff)
		for nonce := uint32(0); ; nonce++ {
			full := binary.LittleEndian.AppendUint32(bytes.Clone(h), nonce)
			inner := sha256.Sum256(full)
			if last = sha256.Sum256(inner[:]); last[31] < 0x7f {
				chain = append(chain, full...)
				break
			}
		}
	}
	return chain
}

func TestRawHeaders(t *testing.T) {
	chain := mine(5, [32]byte(parse(t, example(t, "hello-world.txt.ots")).Claims()[0].Message))
	h, err := ReadHeaders("chain.bin", chain, 358389)
	if err != nil {
		t.Fatal(err)
	}
	f := parse(t, example(t, "hello-world.txt.ots")).Verify(h)[0]
	if f.Status != Confirmed || f.Time.Unix() != 1700001200 || !strings.Contains(f.Source, "blocks 358389 to 358393, linked and with work") {
		t.Errorf("%+v", f)
	}
	edit := func(at int, b byte) []byte {
		c := bytes.Clone(chain)
		c[at] = b
		return c
	}
	for name, bad := range map[string][]byte{
		"cut short":         chain[:399],
		"link":              edit(80+10, chain[90]^1),
		"work":              edit(72+3, 0x1d),
		"negative target":   edit(72+2, 0xff),
		"target too large":  edit(72+3, 0xff),
		"changed root":      edit(40, chain[40]^1),
		"a header too many": append(bytes.Clone(chain), chain[:80]...),
	} {
		if _, err := ReadHeaders("chain.bin", bad, 1); !errors.Is(err, ErrHeaders) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadHeaders("chain.bin", chain, 0); err == nil || !strings.Contains(err.Error(), "block 0") {
		t.Errorf("a chain from height 0 with another genesis: %v", err)
	}
	// The first block of Bitcoin, which is public knowledge.
	first, err := hex.DecodeString("0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadHeaders("genesis.bin", first, 0); err != nil {
		t.Error(err)
	}
}

func TestOperations(t *testing.T) {
	for _, tt := range []struct {
		op   Op
		want string
	}{
		{Op{Tag: Sha1}, "a9993e364706816aba3e25717850c26c9cd0d89d"},
		{Op{Tag: Ripemd160}, "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"},
		{Op{Tag: Sha256}, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{Op{Tag: Keccak256}, "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"},
		{Op{Append, []byte("d")}, "61626364"},
		{Op{Prepend, []byte("d")}, "64616263"},
		{Op{Tag: Reverse}, "636261"},
		{Op{Tag: Hexlify}, "363136323633"},
	} {
		got, err := tt.op.apply([]byte("abc"))
		if err != nil || hex.EncodeToString(got) != tt.want {
			t.Errorf("%s: %x, %v", tt.op, got, err)
		}
	}
	for _, op := range []Op{{Tag: Hexlify}, {Append, make([]byte, 2047)}, {Tag: 0x42}} {
		if _, err := op.apply(make([]byte, 2050)); !errors.Is(err, ErrFormat) {
			t.Errorf("%#x: %v", op.Tag, err)
		}
	}
}

// bytesOf writes a proof of 32 zero bytes by hand.
func bytesOf(hexTimestamp string) []byte {
	t, err := hex.DecodeString(strings.ReplaceAll(hexTimestamp, " ", ""))
	if err != nil {
		panic(err)
	}
	return append(append([]byte(magic), append([]byte{1, Sha256}, make([]byte, 32)...)...), t...)
}

func TestRefused(t *testing.T) {
	const pending = "00 83dfe30d2ef90c8e 03 02 6162"
	good := bytesOf(pending)
	parse(t, good)
	edit := func(at int, b byte) []byte {
		c := bytes.Clone(good)
		c[at] = b
		return c
	}
	deep := func(n int) []byte { return bytesOf(strings.Repeat("08", n) + pending) }
	parse(t, deep(255))
	wide := func(n int) []byte { return bytesOf(strings.Repeat("ff"+pending, n-1) + pending) }
	parse(t, wide(MaxNodes))
	tests := []struct {
		name string
		data []byte
		want error
	}{
		{"empty", nil, ErrFormat},
		{"magic", edit(3, 'x'), ErrFormat},
		{"version", edit(31, 2), ErrFormat},
		{"hash", edit(32, Append), ErrFormat},
		{"truncated", good[:len(good)-1], ErrFormat},
		{"trailing", append(bytes.Clone(good), 0), ErrFormat},
		{"no timestamp", bytesOf(""), ErrFormat},
		{"unknown operation", bytesOf("42" + pending), ErrFormat},
		{"fork of fork", bytesOf("ffff" + pending), ErrFormat},
		{"empty argument", bytesOf("f000" + pending), ErrFormat},
		{"long argument", bytesOf("f08120" + strings.Repeat("00", 4097) + pending), ErrFormat},
		{"long result", bytesOf("f0e11f" + strings.Repeat("00", 4065) + pending), ErrFormat},
		{"address with space", bytesOf("00 83dfe30d2ef90c8e 03 02 6120"), ErrFormat},
		{"address with non-ASCII", bytesOf("00 83dfe30d2ef90c8e 04 03 61c3a9"), ErrFormat},
		{"bytes after address", bytesOf("00 83dfe30d2ef90c8e 04 02 6162 00"), ErrFormat},
		{"bytes after height", bytesOf("00 0588960d73d71901 02 01 00"), ErrFormat},
		{"no height", bytesOf("00 0588960d73d71901 00"), ErrFormat},
		{"large height", bytesOf("00 0588960d73d71901 0b ffffffffffffffffffff01"), ErrFormat},
		{"long attestation", bytesOf("00 0102030405060708 8140" + strings.Repeat("00", 8193)), ErrFormat},
		{"deep", deep(256), ErrLimit},
		{"wide", wide(MaxNodes + 1), ErrLimit},
		// A small proof whose long message is reversed a hundred times.
		{"heavy", bytesOf("f0 e01f " + strings.Repeat("00", 4064) + strings.Repeat("f2", 100) + "00 0588960d73d71901 01 01"), ErrLimit},
		{"large", make([]byte, MaxSize+1), ErrLimit},
	}
	for _, tt := range tests {
		if _, err := Parse(tt.data); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestAttach(t *testing.T) {
	p := parse(t, example(t, "incomplete.txt.ots"))
	answer := []byte{Sha256, tagAttestation, 0x05, 0x88, 0x96, 0x0d, 0x73, 0xd7, 0x19, 0x01, 1, 42}
	upgraded, err := p.Attach(p.Claims()[0].Message, answer)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, c := range upgraded.Claims() {
		kinds = append(kinds, c.Attestation.String())
	}
	if diff := cmp.Diff([]string{"pending at https://alice.btc.calendar.opentimestamps.org", "bitcoin block 42"}, kinds); diff != "" {
		t.Error(diff)
	}
	if len(p.Claims()) != 1 {
		t.Error("Attach changed its receiver")
	}
	if _, err := p.Attach([]byte("elsewhere"), answer); !errors.Is(err, ErrDigest) {
		t.Errorf("elsewhere: %v", err)
	}
	if _, err := p.Attach(p.Digest(), answer[:4]); !errors.Is(err, ErrFormat) {
		t.Errorf("half an answer: %v", err)
	}
	// Zeros in front and zeros behind give one message on 2^8 ways.
	ways := "00 83dfe30d2ef90c8e 03 02 6162"
	for range 8 {
		ways = "ff f00100" + ways + "f10100" + ways
	}
	many := parse(t, bytesOf(ways))
	long := []byte(strings.Repeat("\x08", 100) + string(answer))
	if _, err := many.Attach(make([]byte, 40), long); !errors.Is(err, ErrLimit) {
		t.Errorf("attached everywhere: %v", err)
	}
	other := parse(t, example(t, "hello-world.txt.ots"))
	if _, err := Merge(p, other); !errors.Is(err, ErrDigest) {
		t.Errorf("two digests: %v", err)
	}
	fresh, err := New([32]byte(p.Digest()), p.Bytes()[65:])
	if err != nil || !bytes.Equal(fresh.Bytes(), p.Bytes()) {
		t.Errorf("a proof made from a calendar's answer: %v", err)
	}
}

// drawTimestamp draws a timestamp of a message, as few calendars would make it.
func drawTimestamp(t *rapid.T, message []byte, depth int) *Timestamp {
	ts := &Timestamp{Message: message}
	operations := []byte{Sha1, Ripemd160, Sha256, Append, Prepend, Reverse, Hexlify}
	for range rapid.IntRange(1, 3).Draw(t, "entries") {
		if depth == 0 || rapid.Bool().Draw(t, "attestation") {
			ts.Attestations = append(ts.Attestations, drawAttestation(t))
			continue
		}
		op := Op{Tag: rapid.SampledFrom(operations).Draw(t, "op")}
		if op.Tag == Append || op.Tag == Prepend {
			op.Arg = rapid.SliceOfN(rapid.Byte(), 1, 5).Draw(t, "arg")
		}
		if result, err := op.apply(message); err == nil {
			ts.Branches = append(ts.Branches, Branch{op, drawTimestamp(t, result, depth-1)})
		} else {
			ts.Attestations = append(ts.Attestations, drawAttestation(t))
		}
	}
	ts.tidy()
	return ts
}

func drawAttestation(t *rapid.T) Attestation {
	kind := rapid.SampledFrom([]Kind{Pending, Bitcoin, Unknown}).Draw(t, "kind")
	a := Attestation{Kind: kind, tag: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}
	for tag, k := range kinds {
		if k == kind {
			a.tag = tag
		}
	}
	switch kind {
	case Pending:
		a.URI = rapid.StringMatching(`https://[a-z.]{1,9}`).Draw(t, "uri")
	case Unknown:
		a.payload = string(rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "payload"))
	default:
		a.Height = rapid.Uint64Range(0, 1<<40).Draw(t, "height")
	}
	return a
}

func drawProof(t *rapid.T) *Proof {
	digest := bytes.Repeat([]byte{7}, 32)
	return &Proof{Op{Tag: Sha256}, drawTimestamp(t, digest, 4)}
}

func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		merge := func(a, b *Proof) *Proof {
			m, err := Merge(a, b)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		a, b, c := drawProof(t), drawProof(t), drawProof(t)
		same := func(law string, x, y *Proof) {
			if !bytes.Equal(x.Bytes(), y.Bytes()) {
				t.Fatalf("%s:\n%s\n%s", law, x, y)
			}
		}
		same("commutative", merge(a, b), merge(b, a))
		same("associative", merge(merge(a, b), c), merge(a, merge(b, c)))
		same("idempotent", merge(a, a), a)
		back, err := Parse(a.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		same("read back", back, a)
	})
}

// reference reads hex proofs, one per line, and answers with the hex of the
// proof written again, or "refused". It is told to unite an operation that
// stands twice behind one message, where the library alone keeps the last.
const reference = `
import sys, io, warnings
warnings.simplefilter("ignore")
from opentimestamps.core.timestamp import DetachedTimestampFile, OpSet
from opentimestamps.core.serialize import BytesSerializationContext, BytesDeserializationContext
def unite(self, op, new):
    if op in self: self[op].merge(new)
    else: dict.__setitem__(self, op, new)
OpSet.__setitem__ = unite
for line in sys.stdin:
    try:
        p = DetachedTimestampFile.deserialize(BytesDeserializationContext(bytes.fromhex(line.strip())))
        out = BytesSerializationContext()
        p.serialize(out)
        claims = sorted(m.hex() for m, _ in p.timestamp.all_attestations())
        print(out.getbytes().hex(), ",".join(claims))
    except Exception as e:
        print("refused")
`

func TestAgreesWithReference(t *testing.T) {
	python := "/usr/bin/python3" // the one that Debian's packages are for
	if err := exec.Command(python, "-c", "import opentimestamps.core.timestamp, hashlib; hashlib.new('ripemd160')").Run(); err != nil {
		t.Skip("python3-opentimestamps is not installed")
	}
	var proofs [][]byte
	random := rapid.Custom(drawProof)
	for seed := range 300 {
		good := random.Example(seed).Bytes()
		proofs = append(proofs, good)
		for i := range 5 { // behind the magic, so that there is something to disagree about
			mutant := bytes.Clone(good)
			at := 31 + (seed*131+i*i*977+i*13)%(len(mutant)-31)
			switch i {
			case 0:
				mutant = mutant[:at]
			case 1:
				mutant = append(mutant[:at], mutant[at+1:]...)
			default:
				mutant[at] ^= byte(1 << ((seed + i) % 8))
			}
			proofs = append(proofs, mutant)
		}
	}
	proofs = append(proofs, example(t, "hello-world.txt.ots"), example(t, "incomplete.txt.ots"))
	var in strings.Builder
	for _, p := range proofs {
		fmt.Fprintln(&in, hex.EncodeToString(p))
	}
	cmd := exec.Command(python, "-c", reference)
	cmd.Stdin = strings.NewReader(in.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	answers := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(answers) != len(proofs) {
		t.Fatalf("%d answers to %d proofs", len(answers), len(proofs))
	}
	accepted := 0
	for i, want := range answers {
		got := "refused"
		if p, err := Parse(proofs[i]); err == nil {
			accepted++
			var messages []string
			for _, c := range p.Claims() {
				messages = append(messages, hex.EncodeToString(c.Message))
			}
			got = hex.EncodeToString(p.Bytes()) + " " + strings.Join(slices.Sorted(slices.Values(messages)), ",")
		}
		if got != want {
			t.Errorf("%x:\n got %s\nwant %s", proofs[i], got, want)
		}
	}
	if accepted < 300 || accepted == len(proofs) {
		t.Errorf("%d of %d proofs accepted: the test does not test both answers", accepted, len(proofs))
	}
}

// TestRepeatedChains: a proof that goes one long way again and again says it once,
// and reading it costs what its length suggests. Memory stands for work here, as
// nobody can assert a time.
func TestRepeatedChains(t *testing.T) {
	const copies = 15
	way := strings.Repeat("\xf2", 250)
	file := magic + "\x01\x08" + strings.Repeat("d", 32)
	for i := range copies {
		if i < copies-1 {
			file += "\xff"
		}
		file += way + "\x00" + "unknown" + string(rune('z'-i)) + "\x00"
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p := parse(t, []byte(file))
	runtime.ReadMemStats(&after)
	if used := (after.TotalAlloc - before.TotalAlloc) >> 10; used > 2048 {
		t.Errorf("%d KiB for a proof of %d bytes", used, len(file))
	}
	if n := p.Timestamp.nodes(); n != 250+copies {
		t.Errorf("%d operations and attestations, want %d", n, 250+copies)
	}
	if again := parse(t, p.Bytes()); !bytes.Equal(again.Bytes(), p.Bytes()) {
		t.Error("what was written reads otherwise")
	}
}

// TestBudget: a budget is spent by all proofs together, to the byte and the node,
// and by broken ones for what was read of them.
func TestBudget(t *testing.T) {
	good := example(t, "hello-world.txt.ots")
	p := parse(t, good)
	nodes, held := p.Timestamp.nodes(), 0
	var walk func(*Timestamp)
	walk = func(t *Timestamp) {
		for _, b := range t.Branches {
			held += len(b.Then.Message)
			walk(b.Then)
		}
	}
	walk(p.Timestamp)
	for _, tt := range []struct {
		nodes, held int
		want        error // of the second proof
	}{{2 * nodes, 2 * held, nil}, {2*nodes - 1, 2 * held, ErrBudget}, {2 * nodes, 2*held - 1, ErrBudget}} {
		b := &Budget{tt.nodes, tt.held}
		if _, err := b.Parse(good); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Parse(good); !errors.Is(err, tt.want) {
			t.Errorf("%d nodes, %d bytes: %v, want %v", tt.nodes, tt.held, err, tt.want)
		}
	}
	b := &Budget{nodes, held}
	if _, err := b.Parse(good[:len(good)-1]); !errors.Is(err, ErrFormat) || b.Nodes != 0 || b.Held != 0 {
		t.Errorf("a broken proof leaves %+v: %v", *b, err)
	}
}

// FuzzParse: what is read is written and read again as the same, and unites with
// itself to itself.
func FuzzParse(f *testing.F) {
	f.Add(example(f, "hello-world.txt.ots"))
	f.Add(example(f, "incomplete.txt.ots"))
	f.Add(bytesOf("ff 00 83dfe30d2ef90c8e 03 02 6162 f00161 08 67 03 02 f2 f3 00 0588960d73d71901 01 05"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrLimit) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		out := p.Bytes()
		if len(out) > len(data) {
			t.Fatalf("%d bytes became %d", len(data), len(out))
		}
		again, err := Parse(out)
		if err != nil || !bytes.Equal(again.Bytes(), out) {
			t.Fatalf("read back: %v", err)
		}
		if twice, err := Merge(p, p); err != nil || !bytes.Equal(twice.Bytes(), out) {
			t.Fatalf("united with itself: %v", err)
		}
		_ = p.String()
	})
}

// TestOthersAreKept: what is neither a calendar nor Bitcoin is not read, even where another
// reader gives its tag (here Litecoin's) a meaning.
func TestOthersAreKept(t *testing.T) {
	for _, payload := range []string{"\x05\x05", "\x85\x00", ""} {
		encoded := "\x06\x86\x9a\x0d\x73\xd7\x1b\x45" + string(rune(len(payload))) + payload
		a, err := (&reader{data: []byte(encoded)}).attestation()
		if err != nil {
			t.Fatalf("%q: %v", payload, err)
		}
		if got := string(a.append(nil)[1:]); a.Kind != Unknown || got != encoded {
			t.Errorf("%q became %s, %q", encoded, a.Kind, got)
		}
	}
}
