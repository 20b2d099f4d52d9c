package canon

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

type vector struct {
	Comment   string
	Input     string
	InputHex  string `json:"input_hex"`
	Canonical *string
	Reason    Reason
}

func (v vector) bytes(t testing.TB) []byte {
	if v.InputHex == "" {
		return []byte(v.Input)
	}
	b, err := hex.DecodeString(v.InputHex)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func vectors(t testing.TB) []vector {
	data, err := os.ReadFile("../../../spec/vectors/canonical.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []vector }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	const want = 120 // so that a lost file or field cannot pass for success
	if len(file.Cases) != want {
		t.Fatalf("%d vectors, want %d", len(file.Cases), want)
	}
	return file.Cases
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Comment, func(t *testing.T) {
			got, err := Canonical(v.bytes(t))
			if v.Canonical != nil {
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(*v.Canonical, string(got)); d != "" {
					t.Fatal(d)
				}
				return
			}
			if !errors.Is(err, &Error{Reason: v.Reason}) {
				t.Fatalf("got %q, %v; want reason %s", got, err, v.Reason)
			}
		})
	}
}

func TestErrorsTellWhere(t *testing.T) {
	tests := []struct {
		in     string
		reason Reason
		offset int
	}{
		{`{"a":1,"a":2}`, ReasonDuplicateName, 11},
		{`{"a":1,"a":2,"b":3}`, ReasonDuplicateName, 11},
		{`[1,2`, ReasonTruncated, 4},
		{`[1,2]x`, ReasonTrailing, 5},
		{"[\"a\xff\"]", ReasonUTF8, 3},
		{`["ab\ud800"]`, ReasonSurrogate, 4},
		{`[1e999]`, ReasonNotFinite, 1},
		{`[1,?]`, ReasonSyntax, 3},
	}
	for _, tt := range tests {
		_, err := Parse([]byte(tt.in))
		var e *Error
		if !errors.As(err, &e) || e.Reason != tt.reason || e.Offset != tt.offset {
			t.Errorf("%s: %v; want %s at byte %d", tt.in, err, tt.reason, tt.offset)
		}
	}
}

func TestSizeAndValueLimits(t *testing.T) {
	if _, err := Parse(make([]byte, MaxSize+1)); !errors.Is(err, &Error{Reason: ReasonSize}) {
		t.Errorf("too many bytes: %v", err)
	}
	many := "[" + strings.Repeat("0,", MaxValues-2) + "0]"
	if _, err := Parse([]byte(many)); err != nil {
		t.Errorf("%d values: %v", MaxValues, err)
	}
	if _, err := Parse([]byte("[0," + many[1:])); !errors.Is(err, &Error{Reason: ReasonValues}) {
		t.Errorf("one value too many: %v", err)
	}
	// A float takes up to 18 bytes, of which the canonical form spares none: what is
	// accepted must be accepted again.
	const float = len("1000000000000000.0,")
	floats := strings.Repeat("1e15,", (MaxSize-1)/float-1) + "1e15]"
	once, err := Canonical([]byte("[" + floats))
	if err != nil {
		t.Errorf("a canonical form of %d bytes: %v", len(once), err)
	}
	if twice, err := Canonical(once); err != nil || !bytes.Equal(once, twice) {
		t.Errorf("it does not read back: %v", err)
	}
	if _, err := Parse([]byte("[1e15," + floats)); !errors.Is(err, &Error{Reason: ReasonSize}) {
		t.Errorf("a canonical form that is too large: %v", err)
	}
}

func TestValueAccess(t *testing.T) {
	doc, err := Parse([]byte(` {"b":[10,{"d":"é\n"}],"a":true,"c":null} `))
	if err != nil {
		t.Fatal(err)
	}
	root := doc.Root()
	var names []string
	for m := range root.Children() {
		names = append(names, m.Name()+"="+string(m.Canonical()))
	}
	if d := cmp.Diff([]string{"a=true", `b=[10,{"d":"é\n"}]`, "c=null"}, names); d != "" {
		t.Error(d)
	}
	if got := string(root.Without("a", "zz")); got != `{"b":[10,{"d":"é\n"}],"c":null}` {
		t.Errorf("Without: %s", got)
	}
	if got := string(root.Without("a", "b", "c")); got != `{}` {
		t.Errorf("Without all: %s", got)
	}
	b := root.Get("b")
	if b.Kind() != Array || b.Len() != 2 || b.Offset() != 6 {
		t.Errorf("b: %v of %d at %d", b.Kind(), b.Len(), b.Offset())
	}
	missing := root.Get("x").Get("y")
	if missing.Exists() || missing.Kind() != Invalid || missing.Text() != "" || missing.Len() != 0 || missing.Canonical() != nil {
		t.Errorf("a missing member is not empty: %+v", missing)
	}
	if root.Get("a").Text() != "" {
		t.Error("only strings have text")
	}
}

func TestBuild(t *testing.T) {
	got := Build(Member{"b", BuildArray(Quote("x\"<"), []byte("1"))}, Member{"a", Quote("é\xff")})
	if want := `{"a":"é�","b":["x\"<",1]}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if again, err := Canonical(got); err != nil || !bytes.Equal(again, got) {
		t.Errorf("what was built is not canonical: %s, %v", again, err)
	}
}

func TestSplitValues(t *testing.T) {
	in := " {\"a\":\"}\\\"\"}{}\n[1,[2]] 12 true\"x y\" null{\"é\":1} [1"
	want := []string{`{"a":"}\""}`, `{}`, `[1,[2]]`, `12`, `true`, `"x y"`, `null`, `{"é":1}`, `[1`}
	for size := 1; size < 8; size++ { // however the stream arrives
		s := bufio.NewScanner(&slowReader{in, size})
		s.Split(SplitValues())
		var got []string
		for s.Scan() {
			got = append(got, s.Text())
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("%d bytes at a time: %s", size, d)
		}
	}
}

type slowReader struct {
	rest string
	size int
}

func (r *slowReader) Read(p []byte) (int, error) {
	if r.rest == "" {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.size)], r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// value draws any JSON value, written carelessly: with spaces, escapes that
// are not needed, and members out of order.
func drawValue(t *rapid.T, depth int) string {
	kinds := 6
	if depth == 0 {
		kinds = 4
	}
	space := rapid.SampledFrom([]string{"", " ", "\n\t"}).Draw(t, "space")
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return space + rapid.SampledFrom([]string{"null", "true", "false"}).Draw(t, "word")
	case 1:
		return rapid.StringMatching(`-?(0|[1-9][0-9]{0,30})`).Draw(t, "integer") + space
	case 2:
		f := rapid.Custom(func(t *rapid.T) float64 { return math.Float64frombits(rapid.Uint64().Draw(t, "bits")) }).
			Filter(func(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }).Draw(t, "float")
		return fmt.Sprintf(rapid.SampledFrom([]string{"%e", "%.17e", "%.1f", "%.20f"}).Draw(t, "format"), f)
	case 3:
		return drawString(t)
	case 4:
		var parts []string
		for range rapid.IntRange(0, 4).Draw(t, "elements") {
			parts = append(parts, drawValue(t, depth-1))
		}
		return "[" + space + strings.Join(parts, ",") + "]"
	default:
		var parts []string
		seen := map[string]bool{}
		for range rapid.IntRange(0, 5).Draw(t, "members") {
			name := drawString(t)
			var plain string
			if json.Unmarshal([]byte(name), &plain) != nil || seen[plain] {
				continue
			}
			seen[plain] = true
			parts = append(parts, name+space+":"+drawValue(t, depth-1))
		}
		return "{" + strings.Join(parts, ",") + space + "}"
	}
}

func drawString(t *rapid.T) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range rapid.String().Draw(t, "string") {
		if r < 0x20 || r == '"' || r == '\\' || (r < 0x10000 && rapid.Bool().Draw(t, "escape")) {
			fmt.Fprintf(&b, "\\u%04X", r)
		} else {
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// TestAgreesWithPython compares with the definition itself: the json module of
// Python, on the valid vectors and on drawn documents.
func TestAgreesWithPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	const program = `
import json, sys
for line in sys.stdin.buffer:
    value = json.loads(bytes.fromhex(line.decode().strip()).decode())
    print(json.dumps(value, sort_keys=True, separators=(',', ':'), ensure_ascii=False).encode().hex())
`
	var inputs [][]byte
	for _, v := range vectors(t) {
		if v.Canonical != nil {
			inputs = append(inputs, v.bytes(t))
		}
	}
	draw := rapid.Custom(func(t *rapid.T) string { return drawValue(t, 3) })
	for seed := range 2000 {
		inputs = append(inputs, []byte(draw.Example(seed)))
	}
	var stdin strings.Builder
	for _, in := range inputs {
		fmt.Fprintf(&stdin, "%x\n", in)
	}
	cmd := exec.Command(python, "-c", program)
	cmd.Stdin = strings.NewReader(stdin.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(out))
	if len(lines) != len(inputs) {
		t.Fatalf("python answered %d of %d", len(lines), len(inputs))
	}
	for i, in := range inputs {
		want, _ := hex.DecodeString(lines[i])
		got, err := Canonical(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%q:\n got %s\nwant %s", in, got, want)
		}
	}
}

// FuzzCanonical: whatever is accepted has one canonical form, which reads back
// to itself, and encoding/json sees the same value.
func FuzzCanonical(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.bytes(f))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		once, err := Canonical(in)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Reason == "" || e.Offset < 0 || e.Offset > len(in) {
				t.Fatalf("error without reason or place: %#v", err)
			}
			return
		}
		if !json.Valid(in) {
			t.Fatalf("%q was accepted and is not JSON", in)
		}
		twice, err := Canonical(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q\nonce  %s\ntwice %s, %v", in, once, twice, err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	data, err := os.ReadFile("../../seed/CWPYLZDW7AWAX7TQ5ZRNS3OHEM.json")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}
