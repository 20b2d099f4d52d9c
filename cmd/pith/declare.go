package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/resolver"
)

func keyDeclareCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "declare [URL]",
		Short: "Tell a mirror your public key",
		Long: `declare signs a document that says which key is yours, and sends it to the mirror at
URL. A mirror takes events of keys that were declared to it or that stand in the
bundle. It makes nobody trusted: that is up to who keeps the mirror's policy.

Without a URL the document is printed; nothing is sent. It is what POST /keys takes.`,
		Example: "  pith key declare https://pith.example.org",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := loadKey(cmd, path)
			if err != nil {
				return err
			}
			document, err := resolver.DeclareKey(key, time.Now())
			if err != nil {
				return err
			}
			if len(args) == 0 {
				_, err := cmd.OutOrStdout().Write(line(document))
				return err
			}
			receipt, err := sendTo(cmd, strings.TrimRight(args[0], "/")+"/keys", document)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(line(receipt))
			return err
		},
	}
	cmd.Flags().StringVar(&path, "key", "", "declare the public half of the key in `FILE` (default $PITH_KEY, then pith/key.json in your configuration directory)")
	return cmd
}

// sendTo posts a document to a mirror and returns what it answers.
func sendTo(cmd *cobra.Command, url string, document []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(cmd.Context(), http.MethodPost, url, bytes.NewReader(document))
	if err != nil || r.URL.Scheme != "https" && r.URL.Scheme != "http" || r.URL.Host == "" {
		return nil, cli.Hint(fmt.Errorf("%.200q is not the address of a mirror", url), "name it as https://HOST")
	}
	r.Header.Set("Content-Type", "application/json")
	client := &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		return nil, cli.Hint(err, "is the mirror running, and is this its address?")
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, cli.Hint(err, "send it again: what was taken is taken once")
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusCreated {
		return answer, nil
	}
	var refusal struct{ Code, Detail string }
	if json.Unmarshal(answer, &refusal) != nil || refusal.Code == "" {
		return nil, cli.Hint(fmt.Errorf("%s answers %s", url, resp.Status), "is it a mirror that takes keys?")
	}
	err = errors.New("the mirror refuses it: " + cli.Printable(refusal.Code) + ": " + cli.Printable(refusal.Detail))
	if wait := resp.Header.Get("Retry-After"); wait != "" {
		return nil, cli.Hint(err, "try again in %s s", cli.Printable(wait))
	}
	return nil, &cli.Error{Code: cli.ExitRejected, Err: err, Hint: "pith explain " + cli.Printable(refusal.Code) + " may tell more"}
}
