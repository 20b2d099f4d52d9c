package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
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
}

func eventNewCommand() *cobra.Command {
	var (
		a         appending
		set       []string
		proof     string
		edit      bool
		eventType string
	)
	cmd := &cobra.Command{
		Use:   "new TYPE BUNDLE --out FILE",
		Short: "Write, sign and append an event",
		Long: `new makes an event of one of the types author_attestation, timestamp_anchor,
storage_attestation, citation_signature, correction and mirror_hint. What it says
comes from --set NAME=VALUE (NAME:=JSON for what is no text; a dot leads into an
object), or from your editor ($VISUAL or $EDITOR) when there is no --set or with
--edit. It prints the id of the event. Replication records come from smoothout
replicate.`,
		Example: "  pith event new citation_signature bundle.json --set relation=extends --set citing.kind=arxiv --set citing.id=2601.00001 --out new.json",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			eventType = args[0]
			payload, ok := pith.NewPayload(eventType)
			if !ok {
				return cli.Hint(fmt.Errorf("no template for events of type %q", eventType), "pith event add signs a payload of any type from a file")
			}
			values := map[string]any{}
			if proof != "" {
				if err := fillProof(cmd, proof, values); err != nil {
					return err
				}
			}
			for _, s := range set {
				if err := setValue(values, s); err != nil {
					return cli.Hint(err, "write NAME=TEXT, or NAME:=JSON")
				}
			}
			text, err := json.Marshal(values)
			if err != nil {
				return err
			}
			if edit || len(values) == 0 {
				if text, err = fromEditor(eventType, values); err != nil {
					return err
				}
			}
			if err := decodePayload(text, payload); err != nil {
				return cli.Hint(err, "spec/04-events.md has the members of %s", eventType)
			}
			at, err := timeOrNow(a.now)
			if err != nil {
				return err
			}
			target := a.draft.Target
			supersedes := a.draft.Supersedes
			if a.draft, err = pith.NewDraft(payload, at); err != nil {
				return failed(err)
			}
			a.draft.Target, a.draft.Supersedes = target, supersedes
			return a.append(cmd, args[1])
		},
	}
	a.flags(cmd)
	cmd.Flags().StringArrayVar(&set, "set", nil, "say `NAME=VALUE` (repeatable)")
	cmd.Flags().BoolVar(&edit, "edit", false, "open an editor on what --set gave")
	cmd.Flags().StringVar(&proof, "proof", "", "for timestamp_anchor: the proof, a `FILE` in .ots format")
	return cmd
}

// fillProof says what a proof says about itself.
func fillProof(cmd *cobra.Command, path string, values map[string]any) error {
	file, err := read(cmd, path)
	if err != nil {
		return err
	}
	p, err := ots.Parse(file)
	if err != nil {
		return &cli.Error{Code: cli.ExitRejected, Err: fmt.Errorf("%s: %w", path, err), Hint: "pith ots show prints a proof"}
	}
	values["method"], values["of"], values["digest_sha256"], values["proof_b64"] = "opentimestamps", "record", hex.EncodeToString(p.Digest()), file
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
	for _, step := range path[:len(path)-1] {
		inner, ok := values[step].(map[string]any)
		if !ok {
			inner = map[string]any{}
			values[step] = inner
		}
		values = inner
	}
	values[path[len(path)-1]] = v
	return nil
}

// decodePayload reads what a person wrote, refusing names that mean nothing.
func decodePayload(text []byte, payload pith.Payload) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(payload); err != nil {
		return fmt.Errorf("the payload: %w", err)
	}
	return nil
}

// fromEditor lets a person fill in the template, with these values in it.
func fromEditor(eventType string, values map[string]any) ([]byte, error) {
	editor := os.Getenv("VISUAL")
	if editor == "" {
		editor = os.Getenv("EDITOR")
	}
	if editor == "" {
		return nil, cli.Hint(errors.New("neither --set nor an editor says what the event says"), "set EDITOR, or give --set NAME=VALUE")
	}
	template := templates[eventType]
	if len(values) > 0 {
		text, err := json.MarshalIndent(values, "", "  ")
		if err != nil {
			return nil, err
		}
		template = string(text) + "\n"
	}
	file, err := os.CreateTemp("", eventType+"-*.json")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	if _, err := file.WriteString(template); err != nil {
		file.Close()
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	// As git does: EDITOR may hold arguments, so a shell reads it.
	cmd := exec.Command("sh", "-c", editor+` "$1"`, "sh", file.Name())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, cli.Hint(fmt.Errorf("the editor %s: %w", editor, err), "nothing was signed")
	}
	edited, err := os.ReadFile(file.Name())
	if err != nil {
		return nil, err
	}
	if string(edited) == template && len(values) == 0 {
		return nil, cli.Hint(errors.New("the template was left as it is"), "nothing was signed")
	}
	return withoutEmpty(edited)
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
