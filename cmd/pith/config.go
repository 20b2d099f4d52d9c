package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/internal/httpserve"
)

// notConfigured are flags that only the command line has. PITH_KEY holds a key
// and not the name of a file, see loadKey.
var notConfigured = []string{"help", "config", "print-config", "demo", "new-log"}

// configure gives every flag that the command line leaves alone a value from the
// environment, else from the file: a JSON object whose members are called like
// the flags of pith serve. Other commands take of them what they have, too. The file
// may be absent unless it was asked for by name.
func configure(cmd *cobra.Command, file string, asked bool, getenv func(string) string) error {
	values, err := readConfig(file)
	if err != nil && (asked || !errors.Is(err, fs.ErrNotExist)) {
		return cli.Hint(err, "the file is a JSON object such as pith serve --print-config prints")
	}
	var failed error
	serveCommand().Flags().VisitAll(func(f *pflag.Flag) {
		value, inFile := values[f.Name]
		delete(values, f.Name)
		if slices.Contains(notConfigured, f.Name) {
			if inFile && failed == nil {
				failed = cli.Hint(fmt.Errorf("%s: --%s belongs on the command line", file, f.Name), "remove it from the file")
			}
			return
		}
		if f = cmd.Flags().Lookup(f.Name); f == nil || failed != nil {
			return
		}
		where, err := "--"+f.Name, error(nil)
		if name := envName(f.Name); f.Changed {
		} else if name != "" && getenv(name) != "" {
			where, err = "environment variable "+name, setFlag(cmd, f, envValues(f, getenv(name)))
		} else if inFile {
			var texts []string
			if texts, err = configTexts(value); err == nil {
				err = setFlag(cmd, f, texts)
			}
			where = fmt.Sprintf("%s: %q", file, f.Name)
		} else {
			return
		}
		if err == nil {
			err = checkFlag(f)
		}
		if err != nil {
			failed = cli.Hint(fmt.Errorf("%s: %w", where, err), "see pith serve --help for what --%s takes", f.Name)
		}
	})
	if failed == nil {
		for name := range values {
			return cli.Hint(fmt.Errorf("%s: nothing is called %q", file, name), "pith serve --print-config prints everything that can be set")
		}
	}
	return failed
}

// takes tells what flags take beyond their type. It is asked before anything is
// opened, so that the error can say where the value stands.
var takes = map[string]func(text string) error{
	"acme-directory": isURL,
	"autocert": func(text string) error {
		_, err := httpserve.HostName(text)
		return err
	},
	"grace": func(text string) error {
		if strings.HasPrefix(text, "-") {
			return fmt.Errorf("%s is no time to wait", text)
		}
		return nil
	},
	"listen":     isAddress,
	"log-format": oneOf("text", "json"),
	"log-level":  oneOf("debug", "info", "warn", "error"),
	"max-connections": func(text string) error {
		if n, err := strconv.Atoi(text); err != nil || n < 1 || n > 1<<20 {
			return fmt.Errorf("%s is not between 1 and %d", text, 1<<20)
		}
		return nil
	},
	"metrics": isAddress,
	"trace":   isURL,
	"trusted-proxies": func(text string) error {
		_, err := network(text)
		return err
	},
	"unknown": oneOf("queued", "accepted", "refused"),
	"url":     isURL,
}

// checkFlag checks the values of a flag. None is as good as the default.
func checkFlag(f *pflag.Flag) error {
	check, texts := takes[f.Name], []string{f.Value.String()}
	if check == nil || f.Value.String() == f.DefValue {
		return nil
	}
	if list, ok := f.Value.(pflag.SliceValue); ok {
		texts = list.GetSlice()
	}
	for _, text := range texts {
		if err := check(text); err != nil {
			return err
		}
	}
	return nil
}

func oneOf(words ...string) func(string) error {
	return func(text string) error {
		if !slices.Contains(words, text) {
			return fmt.Errorf("%q is none of %s", text, strings.Join(words, ", "))
		}
		return nil
	}
}

func isURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("%q is no address like https://example.org", text)
	}
	return nil
}

func isAddress(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return fmt.Errorf("%q is no address like localhost:8017 or :8017", text)
	}
	return nil
}

// envName is the variable for a flag, PITH_MAX_CONNECTIONS for --max-connections.
func envName(flag string) string {
	if flag == "key" {
		return ""
	}
	return "PITH_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// envValues splits a variable for a repeatable flag at commas.
func envValues(f *pflag.Flag, text string) []string {
	if _, list := f.Value.(pflag.SliceValue); list {
		return strings.Split(text, ",")
	}
	return []string{text}
}

func setFlag(cmd *cobra.Command, f *pflag.Flag, texts []string) error {
	if _, list := f.Value.(pflag.SliceValue); !list && len(texts) != 1 {
		return errors.New("one value is wanted, not a list")
	}
	for _, text := range texts {
		if err := cmd.Flags().Set(f.Name, text); err != nil {
			return cli.WrongValue(err)
		}
	}
	return nil
}

// readConfig reads the members of the file.
func readConfig(file string) (map[string]json.RawMessage, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	values := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &values); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return values, nil
}

// configTexts are the values that a member of the file stands for, as they would
// stand on the command line.
func configTexts(value json.RawMessage) ([]string, error) {
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	texts := []string{}
	for _, v := range list {
		switch v := v.(type) {
		case string:
			texts = append(texts, v)
		case bool, json.Number:
			texts = append(texts, fmt.Sprint(v))
		default:
			return nil, fmt.Errorf("a text, a number, true, false or a list of them is wanted, not %.40s", value)
		}
	}
	return texts, nil
}

// printConfig writes what holds after configure, as a file that configure reads.
func printConfig(cmd *cobra.Command) error {
	values := map[string]any{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if slices.Contains(notConfigured, f.Name) {
			return
		}
		var v any = f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			v = append([]string{}, list.GetSlice()...)
		} else if t := f.Value.Type(); t == "bool" || t == "int" || t == "int64" || t == "float64" {
			v = json.RawMessage(f.Value.String())
		}
		values[f.Name] = v
	})
	out := json.NewEncoder(cmd.OutOrStdout())
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(values)
}
