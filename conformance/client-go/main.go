// Command client-go lets package pith answer the requests of the conformance
// kit (conformance/README.md). It uses nothing but what the package exports.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/pith/ots"
)

type request struct {
	ID      string   `json:"id"`
	Op      string   `json:"op"`
	Input   []byte   `json:"input"` // base64 in JSON, like the other two
	Bundle  []byte   `json:"bundle"`
	Trust   [][]byte `json:"trust"`
	Bundles [][]byte `json:"bundles"`
	Proof   []byte   `json:"proof"`
	Roots   []byte   `json:"roots"`
}

type answer map[string]any

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "client-go:", err)
		os.Exit(1)
	}
}

func serve() error {
	in := json.NewDecoder(bufio.NewReaderSize(os.Stdin, 1<<20))
	out := json.NewEncoder(os.Stdout)
	for in.More() {
		var r request
		if err := in.Decode(&r); err != nil {
			return err
		}
		a := r.answer()
		a["id"] = r.ID
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return nil
}

func (r request) answer() answer {
	switch r.Op {
	case "canonical":
		return r.canonical()
	case "number":
		return r.number()
	case "verify":
		return r.verify()
	case "merge":
		return r.merge()
	case "timestamp":
		return r.timestamp()
	}
	return answer{"error": "unknown operation " + r.Op}
}

func (r request) canonical() answer {
	canonical, err := pith.Canonical(r.Input)
	if err != nil {
		return answer{"ok": false, "reason": code(err)}
	}
	return answer{"ok": true, "canonical": canonical}
}

func (r request) number() answer {
	number, digest, err := pith.Number(r.Input)
	if err != nil {
		return answer{"ok": false, "reason": code(err)}
	}
	return answer{"ok": true, "pith_number": number, "canonical_sha256": digest}
}

// code is the reason code that an error stands for.
func code(err error) string {
	var (
		syntax *pith.SyntaxError
		check  *pith.CheckError
	)
	switch {
	case errors.As(err, &syntax):
		return string(syntax.Reason)
	case errors.As(err, &check):
		return string(check.Check.Code)
	case errors.Is(err, pith.ErrTrustConflict):
		return string(pith.CodeTrustFile)
	}
	return err.Error()
}

func (r request) verify() answer {
	trust := pith.PinnedTrust()
	for _, file := range r.Trust {
		more, err := pith.ParseTrust(file)
		if err == nil {
			trust, err = trust.Merge(more)
		}
		if err != nil {
			return answer{"verdict": pith.Unreadable, "failures": []string{code(err)}}
		}
	}
	result := pith.Verify(r.Bundle, trust)
	applied, invalid := []string{}, []string{}
	for _, s := range result.History {
		if s.Invalid == "" {
			applied = append(applied, s.EventID)
		} else {
			invalid = append(invalid, string(s.Invalid))
		}
	}
	slices.Sort(invalid)
	a := answer{
		"verdict": result.Verdict(), "failures": codes(result.Failures()), "notes": codes(result.Notes()),
		"pith_number": result.PithNumber, "title": result.Title, "state_sha256": result.StateSHA256, "applied": applied, "invalid": invalid,
		"superseded": result.Events.Superseded, "equivocations": result.Events.Equivocations,
	}
	for _, p := range result.Completeness {
		if p.Kind == "timestamps" {
			a["timestamps"] = map[string]any{"valid": p.Valid, "trusted": p.Trusted, "confirmed": p.Confirmed, "pending": p.Pending}
		}
	}
	return a
}

// codes lists the codes of checks, sorted, each once.
func codes(checks []pith.Check) []string {
	out := []string{}
	for _, c := range checks {
		out = append(out, string(c.Code))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (r request) merge() answer {
	merged, err := pith.Merge(r.Bundles...)
	if err != nil {
		return answer{"ok": false}
	}
	events, err := pith.EventSet(merged)
	if err != nil {
		return answer{"ok": false, "error": err.Error()}
	}
	var bundle struct {
		State struct {
			SHA256 string `json:"state_sha256"`
		}
	}
	if err := json.Unmarshal(merged, &bundle); err != nil {
		return answer{"ok": false, "error": err.Error()}
	}
	sum := sha256.Sum256(merged)
	return answer{"ok": true, "merged_sha256": hex.EncodeToString(sum[:]), "event_set_sha256": events, "state_sha256": bundle.State.SHA256}
}

func (r request) timestamp() answer {
	proof, err := ots.Parse(r.Proof)
	if err != nil {
		return answer{"ok": false}
	}
	headers, err := ots.ReadHeaders("roots", r.Roots, 0)
	if err != nil {
		return answer{"ok": false, "error": err.Error()}
	}
	found := []string{}
	for _, f := range proof.Verify(headers) {
		switch f.Kind {
		case ots.Bitcoin:
			found = append(found, fmt.Sprintf("bitcoin %d %s", f.Height, f.Status))
		case ots.Pending:
			found = append(found, "pending "+f.URI)
		default:
			found = append(found, "other")
		}
	}
	slices.Sort(found)
	return answer{"ok": true, "digest": hex.EncodeToString(proof.Digest()), "attestations": slices.Compact(found)}
}
