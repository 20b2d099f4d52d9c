// Package conformance runs the cases of the conformance kit against a client
// in any language. README.md has the protocol; [Load] reads the cases, [Run]
// puts them to a client.
package conformance

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Count is the number of cases of the kit. A run of fewer proves less than it
// seems to, so the runner compares.
const Count = 581

// A Case is one question with the answer that the specification gives.
type Case struct {
	Name   string
	Why    string
	Op     string                     // canonical, number, verify, merge or timestamp
	Inputs map[string]any             // base64, or a list of it
	Expect map[string]json.RawMessage // members that the answer must have
}

// Load reads the cases below dir, sorted by name.
func Load(dir string) ([]Case, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*", "expect.json"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no cases below %s", dir)
	}
	slices.Sort(files)
	cases := make([]Case, len(files))
	for i, f := range files {
		if cases[i], err = load(filepath.Dir(f)); err != nil {
			return nil, err
		}
	}
	return cases, nil
}

func load(dir string) (Case, error) {
	c := Case{Name: filepath.Base(dir), Inputs: map[string]any{}}
	data, err := os.ReadFile(filepath.Join(dir, "expect.json"))
	if err != nil {
		return c, err
	}
	var file struct {
		Op     string
		Input  map[string]json.RawMessage
		Expect map[string]json.RawMessage
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return c, fmt.Errorf("%s: %w", dir, err)
	}
	c.Op, c.Expect = file.Op, file.Expect
	for name, value := range file.Input {
		if c.Inputs[name], err = input(dir, value); err != nil {
			return c, err
		}
	}
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		return c, err
	}
	_, why, _ := strings.Cut(string(readme), "\n\n")
	c.Why = strings.TrimSpace(why)
	return c, nil
}

// input reads the file, or the files, that an input names. A document as large as
// the limits is not kept as a file: {"repeat": [[TEXT, N], ...]} stands for each
// TEXT so many times.
func input(dir string, value json.RawMessage) (any, error) {
	var document struct{ Repeat [][2]any }
	if json.Unmarshal(value, &document) == nil && document.Repeat != nil {
		var text strings.Builder
		for _, part := range document.Repeat {
			piece, ok := part[0].(string)
			n, isNumber := part[1].(float64)
			if !ok || !isNumber || n < 0 {
				return nil, fmt.Errorf("%s: repeat wants [TEXT, N], got %v", dir, part)
			}
			text.WriteString(strings.Repeat(piece, int(n)))
		}
		return base64.StdEncoding.EncodeToString([]byte(text.String())), nil
	}
	var names []string
	var one string
	if json.Unmarshal(value, &one) == nil {
		names = []string{one}
	} else if err := json.Unmarshal(value, &names); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	out := make([]string, len(names))
	for i, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		out[i] = base64.StdEncoding.EncodeToString(data)
	}
	if one != "" {
		return out[0], nil
	}
	return out, nil
}

// Request is the line that asks a client about the case.
func (c Case) Request() []byte {
	request := map[string]any{"id": c.Name, "op": c.Op}
	for name, value := range c.Inputs {
		request[name] = value
	}
	line, err := json.Marshal(request)
	if err != nil { // cannot happen: strings and lists of them
		panic(err)
	}
	return append(line, '\n')
}

// Compare tells where an answer is not what the case expects: every member of
// expect must be in the answer with the same value. Of notes the answer may
// hold more.
func (c Case) Compare(answer []byte) []string {
	var got map[string]json.RawMessage
	if err := json.Unmarshal(answer, &got); err != nil {
		return []string{"the answer is no JSON object: " + err.Error()}
	}
	var out []string
	if id := string(plain(got["id"])); id != string(plain(must(c.Name))) {
		out = append(out, "the answer is for "+id)
	}
	names := make([]string, 0, len(c.Expect))
	for name := range c.Expect {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		want, have := plain(c.Expect[name]), plain(got[name])
		if bytes.Equal(want, have) || name == "notes" && includes(have, want) {
			continue
		}
		out = append(out, fmt.Sprintf("%s: want %s, got %s", name, want, have))
	}
	return out
}

func must(v any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// plain brings JSON into one spelling.
func plain(data json.RawMessage) []byte {
	var v any
	if json.Unmarshal(data, &v) != nil {
		return []byte("nothing")
	}
	return must(v)
}

func includes(have, want []byte) bool {
	var all, some []string
	if json.Unmarshal(have, &all) != nil || json.Unmarshal(want, &some) != nil {
		return false
	}
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// Run starts the client once, asks about one case after the other, and reports
// each with the differences found. ran counts the answers that were compared.
func Run(cases []Case, command []string, report func(Case, []string)) (ran int, err error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	answers := bufio.NewReader(out)
	for _, c := range cases {
		if _, err := in.Write(c.Request()); err != nil {
			return ran, stopped(cmd, c, err)
		}
		answer, err := answers.ReadBytes('\n')
		if err != nil {
			return ran, stopped(cmd, c, err)
		}
		ran++
		report(c, c.Compare(answer))
	}
	if err := in.Close(); err != nil {
		return ran, err
	}
	if _, err := io.Copy(io.Discard, answers); err != nil {
		return ran, err
	}
	return ran, cmd.Wait()
}

// ErrNoPython reports that the Python clients cannot run here.
var ErrNoPython = errors.New("no python3 with the package cryptography")

// Python returns a Python 3 that has the package cryptography: the one on the
// PATH, or the system's, for which Debian packages it.
func Python() (string, error) {
	for _, command := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(command, "-c", "import cryptography").Run() == nil {
			return command, nil
		}
	}
	return "", ErrNoPython
}

func stopped(cmd *exec.Cmd, c Case, err error) error {
	_ = cmd.Process.Kill() // it answers no more
	_ = cmd.Wait()
	return fmt.Errorf("the client stopped at %s: %w", c.Name, err)
}
