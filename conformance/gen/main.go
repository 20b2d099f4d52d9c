// Command gen writes the cases of the conformance kit into conformance/cases.
//
// It shares no code with package pith. What a case expects stands in its
// table, written by hand from the specification: which events are applied, in
// which order, which are invalid and why. From that the generator lays out
// states and signs bundles, so a reader that disagrees with the table finds a
// wrong state or a wrong digest. Keys and times are fixed: the same cases come
// out byte for byte.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	dir := filepath.Join("conformance", "cases")
	if err := write(dir, allCases()); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// A testCase is one directory of the kit.
type testCase struct {
	name, why string
	op        string
	inputs    []input
	expect    obj
}

// An input is one argument of the operation: a file, or a list of files, or a
// document that would make a large one.
type input struct {
	name   string
	list   bool
	files  []file
	repeat list // of lists of a text and how often it stands there
}

type file struct {
	name string
	data []byte
}

// A suite collects cases.
type suite struct{ cases []testCase }

func (s *suite) add(c testCase) { s.cases = append(s.cases, c) }

// allCases makes every case, in the order of the specification.
func allCases() []testCase {
	s := &suite{}
	s.canonicalForm()
	s.identity()
	s.bundles()
	s.signatures()
	s.curve()
	s.envelope()
	s.payloads()
	s.graph()
	s.timestamps()
	s.links()
	s.order()
	s.trust()
	s.rotation()
	s.merging()
	seen := map[string]bool{}
	for _, c := range s.cases {
		if seen[c.name] {
			panic("two cases are called " + c.name)
		}
		seen[c.name] = true
	}
	return s.cases
}

// files lays a case out as the files of its directory.
func (c testCase) files() map[string][]byte {
	out := map[string][]byte{}
	inputs := obj{}
	for _, in := range c.inputs {
		var names list
		for _, f := range in.files {
			names = append(names, f.name)
			out[f.name] = f.data
		}
		switch {
		case in.repeat != nil:
			inputs[in.name] = obj{"repeat": in.repeat}
		case in.list:
			inputs[in.name] = names
		default:
			inputs[in.name] = names[0]
		}
	}
	expect := obj{"op": c.op, "input": inputs, "expect": c.expect}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, canon(expect), "", "  "); err != nil {
		panic(err)
	}
	pretty.WriteByte('\n')
	out["expect.json"] = pretty.Bytes()
	out["README.md"] = []byte("# " + c.name + "\n\n" + c.why + "\n")
	return out
}

// write replaces the directory of cases.
func write(dir string, cases []testCase) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	for _, c := range cases {
		sub := filepath.Join(dir, c.name)
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		for name, data := range c.files() {
			if err := os.WriteFile(filepath.Join(sub, name), data, 0o644); err != nil {
				return err
			}
		}
	}
	fmt.Printf("%d cases in %s\n", len(cases), dir)
	return nil
}

// Kinds of case. A name ends in _fail where the right answer is a refusal.

func (s *suite) verify(name, why string, bundle []byte, trust [][]byte, expect obj) {
	c := testCase{name: name, why: why, op: "verify", expect: expect}
	c.inputs = append(c.inputs, input{name: "bundle", files: []file{{"bundle.json", bundle}}})
	if trust != nil {
		in := input{name: "trust", list: true}
		for i, t := range trust {
			in.files = append(in.files, file{fmt.Sprintf("trust-%d.json", i+1), t})
		}
		c.inputs = append(c.inputs, in)
	}
	s.add(c)
}

// ok expects a valid bundle with the history that b was given by hand.
func (s *suite) ok(name, why string, b *bundle, notes ...string) {
	expect := b.want()
	if notes != nil {
		expect["notes"] = sorted(notes)
	}
	s.verify(name, why, b.json(), b.trust, expect)
}

// reject expects a bundle to be rejected with exactly these codes.
func (s *suite) reject(name, why string, b *bundle, codes ...string) {
	s.verify(name+"_fail", why, b.json(), b.trust, obj{"verdict": "rejected", "failures": sorted(codes)})
}

func (s *suite) untrusted(name, why string, b *bundle, codes ...string) {
	expect := b.want()
	expect["verdict"], expect["failures"] = "untrusted", sorted(codes)
	s.verify(name+"_fail", why, b.json(), b.trust, expect)
}

func (s *suite) unreadable(name, why string, bundle []byte, code string) {
	s.verify(name+"_fail", why, bundle, [][]byte{trustAll()}, obj{"verdict": "unreadable", "failures": list{code}})
}

// invalid makes two cases of one bad event: in the first the state lists it, so
// the bundle tells the truth and is valid (7.5); in the second the state counts
// it as valid, so the bundle is rejected, for that and for codes.
func (s *suite) invalid(name, why, reason string, make func(*bundle) *event, more ...string) {
	b := newBundle()
	e := make(b)
	e.reason = reason
	s.ok(name+"_kept", why+" The state lists the event as invalid, so the bundle is valid.", b, reason)
	s.undeclared(name, why, reason, make, more...)
}

// undeclared is the second of these two cases.
func (s *suite) undeclared(name, why, reason string, make func(*bundle) *event, more ...string) {
	b := newBundle()
	make(b)
	s.reject(name, why+" The state counts the event as valid.", b, append(more, reason, "state")...)
}

func sorted(words []string) list {
	words = slices.Clone(words)
	slices.Sort(words)
	out := list{}
	for _, w := range slices.Compact(words) {
		out = append(out, w)
	}
	return out
}

// edit replaces text that must be there, once.
func edit(data []byte, old, new string) []byte {
	if strings.Count(string(data), old) == 0 {
		panic("the text to edit is not there: " + old)
	}
	return bytes.Replace(data, []byte(old), []byte(new), 1)
}
