package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/ots"
)

// templates are what an editor shows. What is left empty is left out.
var templates = map[string]string{
	pith.TypeAuthorAttestation: `{
  "name": "",
  "identity": {"scheme": "orcid", "value": ""},
  "position": null,
  "statement": ""
}
# scheme: orcid, email, x or apple. position: your place in the byline, from 1.
`,
	pith.TypeTimestampAnchor: `{
  "method": "opentimestamps",
  "of": "record",
  "digest_sha256": "",
  "proof_b64": ""
}
# --proof FILE.ots fills in all of this.
`,
	pith.TypeStorageAttestation: `{
  "archive": "internet_archive",
  "url": "https://web.archive.org/web/",
  "stored_at": "",
  "content_sha256": "",
  "media_type": ""
}
`,
	pith.TypeCitationSignature: `{
  "relation": "",
  "citing": {"kind": "arxiv", "id": "", "title": ""},
  "claim": "",
  "statement": ""
}
# relation: supports, refutes, extends, uses_method, depends_on, replaces,
# compares or cites. kind: pith, arxiv, doi or url.
`,
	pith.TypeCorrection: `{
  "kind": "erratum",
  "text": "",
  "claim": "",
  "about": "",
  "url": ""
}
# kind: erratum, clarification, metadata, withdrawal or retraction.
# about: the id of the event that is meant, if it is one.
`,
	pith.TypeMirrorHint: `{
  "name": "",
  "mirror_type": "https",
  "bundle_url": "https://",
  "status": "mirror"
}
`,
	pith.TypeReplicationRecord: `{
  "claim": {"id": "", "text": "", "source": ""},
  "outcome": "",
  "statement": "",
  "plan_sha256": "",
  "results_sha256": ""
}
# outcome: successful, failed, mixed or inconclusive. The digests are those of
# what was planned and of what came out; smoothout replicate fills in all of this.
`,
	pith.TypeGraphSnapshot: "", // made from the record
	pith.TypeRecordCreated: "", // says nothing of its own
}

func eventNewCommand() *cobra.Command {
	var (
		a         appending
		set       []string
		proof     string
		edit      bool
		from      string
		eventType string
	)
	cmd := &cobra.Command{
		Use:   "new TYPE BUNDLE --out FILE",
		Short: "Write, sign and append an event",
		Long: `new makes an event of one of the types author_attestation, timestamp_anchor,
storage_attestation, citation_signature, correction, mirror_hint, replication_record,
graph_snapshot and record_created. What it says comes from --set NAME=VALUE
(NAME:=JSON for what is no text; a dot leads into an object), or from your editor
($VISUAL or $EDITOR) when there is no --set or with --edit. It prints the id of the
event. What you wrote in the editor is kept when nothing comes of it, and --from
opens it again. What a graph_snapshot repeats of the record is filled in; a
record_created has nothing else. smoothout replicate writes replication records of
its own.`,
		Example: "  pith event new citation_signature bundle.json --set relation=extends --set citing.kind=arxiv --set citing.id=2601.00001 --out new.json",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			eventType = args[0]
			payload, ok := pith.NewPayload(eventType)
			if !ok {
				return cli.Hint(fmt.Errorf("no template for events of type %q", eventType), "one of %s; pith event add signs a payload of any type from a file", strings.Join(slices.Sorted(maps.Keys(templates)), ", "))
			}
			bundle, err := readBundle(cmd, args[1])
			if err != nil {
				return err
			}
			switch graph, isGraph := payload.(*pith.GraphSnapshot); {
			case eventType == pith.TypeRecordCreated:
				if len(set) > 0 || edit || from != "" {
					return cli.Hint(errors.New("a record_created says nothing of its own"), "leave --set, --edit and --from out: all of it follows from the record")
				}
				return a.reopen(cmd, args[1], bundle)
			case isGraph:
				if *graph, err = pith.NewGraphSnapshot(recordOf(bundle), "", "", ""); err != nil {
					return failedOn(args[1], err)
				}
			}
			values := map[string]any{}
			for _, s := range set {
				if err := setValue(values, s); err != nil {
					return cli.Hint(err, "write NAME=TEXT, or NAME:=JSON, each name once")
				}
			}
			if proof != "" {
				if err := fillProof(cmd, proof, values); err != nil {
					return err
				}
			}
			text, err := json.Marshal(values)
			if err != nil {
				return err
			}
			sign := func(text []byte) error {
				if err := decodePayload(text, payload); err != nil {
					return err
				}
				at, err := timeOrNow(a.now)
				if err != nil {
					return err
				}
				if err := a.say(cmd, payload, at); err != nil {
					return err
				}
				return a.append(cmd, args[1], bundle)
			}
			if !edit && from == "" && len(values) > 0 {
				return sign(text)
			}
			// Nobody should write for nothing.
			if r := pith.Verify(bundle, nil); r.Structure() != pith.Valid {
				return failedOn(args[1], &pith.RefusedError{What: "the bundle", Check: r.Failures()[0]})
			}
			template, err := templateFor(cmd, payload, values, from)
			if err != nil {
				return err
			}
			written, err := fromEditor(eventType, template, from == "" && len(values) == 0)
			if err != nil {
				return err
			}
			if text, err = withoutEmpty(written.text); err == nil {
				err = sign(text)
			}
			return written.done(cmd, err, a.dryRun)
		},
	}
	a.flags(cmd)
	cmd.Flags().StringArrayVar(&set, "set", nil, "say `NAME=VALUE` (repeatable)")
	cmd.Flags().BoolVar(&edit, "edit", false, "open an editor on what --set gave")
	cmd.Flags().StringVar(&from, "from", "", "open the editor on what `FILE` holds")
	cmd.Flags().StringVar(&proof, "proof", "", "for timestamp_anchor: the proof, a `FILE` in .ots format")
	return cmd
}

// fillProof says what a proof says about itself, where --set said nothing else: a
// proof about an event needs of=ID.
func fillProof(cmd *cobra.Command, path string, values map[string]any) error {
	file, err := read(cmd, path)
	if err != nil {
		return err
	}
	p, err := ots.Parse(file)
	if err != nil {
		return badProof(path, err)
	}
	for name, value := range map[string]any{"method": "opentimestamps", "of": "record", "digest_sha256": hex.EncodeToString(p.Digest()), "proof_b64": file} {
		if _, said := values[name]; !said {
			values[name] = value
		}
	}
	return nil
}

// setValue puts one NAME=VALUE into nested objects.
func setValue(values map[string]any, text string) error {
	name, value, found := strings.Cut(text, "=")
	if !found || name == "" {
		return fmt.Errorf("%q has no name and value", text)
	}
	var v any = value
	if inner, raw := strings.CutSuffix(name, ":"); raw {
		name = inner
		if err := json.Unmarshal([]byte(value), &v); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	path := strings.Split(name, ".")
	last := len(path) - 1
	for _, step := range path[:last] {
		inner, ok := values[step].(map[string]any)
		if !ok {
			if values[step] != nil {
				return fmt.Errorf("%s: %s was given a value already", text, step)
			}
			inner = map[string]any{}
			values[step] = inner
		}
		values = inner
	}
	if _, twice := values[path[last]]; twice {
		return fmt.Errorf("%s: %s was given a value already", text, name)
	}
	values[path[last]] = v
	return nil
}

// decodePayload reads what a person wrote, refusing names that mean nothing. The
// schema may be named, as in the payload of an event that somebody copied.
func decodePayload(text []byte, payload pith.Payload) error {
	kind := payload.EventType()
	members := func() string {
		return strings.Join(slices.DeleteFunc(memberNames(reflect.TypeOf(payload).Elem(), ""), func(n string) bool { return n == "proof_b64" }), ", ")
	}
	var v map[string]json.RawMessage
	if err := json.Unmarshal(text, &v); err != nil {
		return cli.Hint(fmt.Errorf("the payload is no JSON object: %w", err), "nothing was signed")
	}
	if schema, ok := v["schema"]; ok {
		if want := kind + "/1"; string(schema) != strconv.Quote(want) {
			return cli.Hint(fmt.Errorf("the payload has the schema %s, not %q", schema, want), "pith event add signs payloads of any schema from a file")
		}
		delete(v, "schema")
		text, _ = json.Marshal(v) // which was JSON before
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(payload)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong):
		name := strings.TrimPrefix(wrong.Field, ".")
		want, example := "a text", name+"=TEXT"
		switch wrong.Type.Kind() {
		case reflect.Int:
			want, example = "a whole number", name+":=1"
		case reflect.Struct:
			want, example = "an object", name+".NAME=TEXT"
		}
		return cli.Hint(fmt.Errorf("%s: want %s, got a %s", name, want, wrong.Value), "write it like --set %s", example)
	}
	if _, name, found := strings.Cut(err.Error(), "unknown field "); found { // the only words for it that encoding/json has
		err = fmt.Errorf("%s has no member %s", kind, name)
	} else {
		err = fmt.Errorf("the payload: %w", err)
	}
	return cli.Hint(err, "its members are %s", members())
}

// memberNames are the names of a struct in JSON, with dots into those inside it.
func memberNames(t reflect.Type, prefix string) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Type.Kind() == reflect.Struct {
			out = append(out, memberNames(f.Type, prefix+name+".")...)
		} else {
			out = append(out, prefix+name)
		}
	}
	return out
}

// templateFor is what the editor shows: an earlier text, these values, or what
// there is to say.
func templateFor(cmd *cobra.Command, payload pith.Payload, values map[string]any, from string) ([]byte, error) {
	switch {
	case from != "" && len(values) > 0:
		return nil, cli.Hint(errors.New("--from and --set both say what the event says"), "write it into the file that --from names")
	case from != "":
		return read(cmd, from)
	case len(values) > 0:
		text, err := json.MarshalIndent(values, "", "  ")
		return append(text, '\n'), err
	}
	if text := templates[payload.EventType()]; text != "" {
		return []byte(text), nil
	}
	text, err := json.MarshalIndent(payload, "", "  ")
	return append(text, '\n'), err
}

// A writing is what a person wrote in an editor, and the file that still has it.
type writing struct {
	text []byte
	path string
}

// done forgets the writing when it has become an event. Else it is kept: writing
// it again would be worse than a file too many.
func (w *writing) done(cmd *cobra.Command, err error, dryRun bool) error {
	if err == nil && !dryRun {
		return os.Remove(w.path)
	}
	kept := fmt.Sprintf("what you wrote is in %s; --from opens it again", w.path)
	if err == nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "pith: %s\n", kept)
		return nil
	}
	failure := &cli.Error{Code: cli.ExitNotChecked, Err: err, Hint: kept}
	var e *cli.Error
	if errors.As(err, &e) {
		failure.Code = e.Code
		if e.Hint != "" {
			failure.Hint = e.Hint + "; " + kept
		}
	}
	return failure
}

// fromEditor lets a person fill in the template, which says nothing yet if it is
// blank.
func fromEditor(eventType string, template []byte, blank bool) (*writing, error) {
	editor := os.Getenv("VISUAL")
	if editor == "" {
		editor = os.Getenv("EDITOR")
	}
	if editor == "" {
		hint := "set EDITOR, or give --set NAME=VALUE"
		if eventType == pith.TypeTimestampAnchor {
			hint = "name the proof with --proof FILE"
		}
		return nil, cli.Hint(errors.New("neither --set nor an editor says what the event says"), "%s", hint)
	}
	file, err := os.CreateTemp("", eventType+"-*.json")
	if err != nil {
		return nil, err
	}
	_, err = file.Write(template)
	if err := errors.Join(err, file.Close()); err != nil {
		os.Remove(file.Name())
		return nil, err
	}
	// As git does: EDITOR may hold arguments, so a shell reads it; and who presses
	// Ctrl-C in it speaks to the editor, not to us.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	cmd := exec.Command("sh", "-c", editor+` "$1"`, "sh", file.Name())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stderr, os.Stderr
	editErr := cmd.Run()
	edited, err := os.ReadFile(file.Name())
	if err != nil {
		return nil, err
	}
	w := &writing{edited, file.Name()}
	if string(edited) == string(template) && (editErr != nil || blank) {
		os.Remove(file.Name())
		if editErr == nil {
			editErr = errors.New("the template was left as it is")
		} else {
			editErr = fmt.Errorf("the editor %s: %w", editor, editErr)
		}
		return nil, cli.Hint(editErr, "nothing was signed")
	}
	if editErr != nil {
		return nil, w.done(nil, cli.Hint(fmt.Errorf("the editor %s: %w", editor, editErr), "nothing was signed"), false)
	}
	return w, nil
}

// withoutEmpty drops comment lines, and members that were left empty.
func withoutEmpty(text []byte) ([]byte, error) {
	var lines [][]byte
	for l := range bytes.Lines(text) {
		if !bytes.HasPrefix(bytes.TrimSpace(l), []byte("#")) {
			lines = append(lines, l)
		}
	}
	var v map[string]any
	if err := json.Unmarshal(slices.Concat(lines...), &v); err != nil {
		return nil, cli.Hint(fmt.Errorf("what the editor left is no JSON object: %w", err), "nothing was signed")
	}
	prune(v)
	return json.Marshal(v)
}

func prune(v map[string]any) {
	for name, value := range v {
		switch value := value.(type) {
		case nil:
			delete(v, name)
		case string:
			if value == "" {
				delete(v, name)
			}
		case map[string]any:
			prune(value)
		}
	}
}
