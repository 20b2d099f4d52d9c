package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/internal/keyfile"
	"github.com/openpith/evidence/pith"
	"github.com/openpith/evidence/resolver"
	"github.com/openpith/evidence/resolver/tlog"
)

// A home is where a mirror keeps its things, and what it lets in: the flags that
// all commands share which write to one.
type home struct {
	configFile    string
	db, data, key string
	trust         []string
	unknown       string
	name          string
	newLog        bool // begin one
}

// storeFlags are those of commands that only read.
func (h *home) storeFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&h.configFile, "config", "", "read settings from `FILE` (default pith/serve.json in your configuration directory, then /etc/pith/serve.json, if they are there)")
	cmd.Flags().StringVar(&h.db, "db", "", "the `DATABASE`: sqlite:FILE, postgres://USER@HOST/NAME or memory: (default sqlite:pith.db in the data directory)")
	cmd.Flags().StringVar(&h.data, "data", "", "keep database, log, key and certificates in `DIR` (default $PITH_DATA, then pith in your directory for data)")
}

// serviceFlags are those of commands that let something in.
func (h *home) serviceFlags(cmd *cobra.Command) {
	h.storeFlags(cmd)
	cmd.Flags().StringVar(&h.key, "key", "", "sign unions and checkpoints with the key in `FILE` (default $PITH_KEY, then one that is made in the data directory)")
	cmd.Flags().StringVar(&h.name, "name", "", "the `NAME` of this mirror on its pages and in its log, under which a key that is made signs (default its host)")
	cmd.Flags().StringSliceVar(&h.trust, "trust", nil, "let in what the signers in `FILE` say, beside pith.science (repeatable)")
	cmd.Flags().StringVar(&h.unknown, "unknown", "queued", "`WHAT` becomes of valid events by signers that no trust file names: queued, accepted or refused")
}

// configure fills in what the command line leaves open: every command that has to do
// with a mirror reads the settings of pith serve, so that all mean the same mirror.
func (h *home) configure(cmd *cobra.Command) error {
	path, asked := h.configFile, h.configFile != ""
	if !asked {
		path = defaultConfig()
	}
	return configure(cmd, path, asked, os.Getenv)
}

// defaultConfig is the file that is read when none is named: the user's own, else
// that of the system. It need not be there.
func defaultConfig() string {
	if dir, err := os.UserConfigDir(); err == nil {
		own := filepath.Join(dir, "pith", "serve.json")
		if _, err := os.Stat(own); err == nil {
			return own
		}
	}
	return "/etc/pith/serve.json"
}

// open opens the database of the mirror that the settings name, and makes a new one.
func (h *home) open(cmd *cobra.Command) (resolver.Store, error) {
	named, err := h.locate(cmd)
	if err != nil {
		return nil, err
	}
	if !named {
		if err := os.MkdirAll(h.data, 0o700); err != nil {
			return nil, cli.Hint(err, "name a directory that you may write to with --data")
		}
	}
	return openStore(cmd.Context(), h.db)
}

// openThere opens a database that is there: whoever checks, copies or lists
// what a mistyped name would make finds nothing wrong with nothing.
func (h *home) openThere(cmd *cobra.Command) (resolver.Store, error) {
	if _, err := h.locate(cmd); err != nil {
		return nil, err
	}
	return openStoreThere(cmd.Context(), h.db)
}

// locate finds out where the data directory and the database are, and whether the
// latter was named.
func (h *home) locate(cmd *cobra.Command) (named bool, err error) {
	if err := h.configure(cmd); err != nil {
		return false, err
	}
	if h.data == "" {
		if h.data, err = dataDir(); err != nil {
			return false, err
		}
	}
	if h.db != "" {
		return true, nil
	}
	h.db = "sqlite:" + filepath.Join(h.data, "pith.db")
	return false, nil
}

// dataDir is where mirrors keep their things by default.
func dataDir() (string, error) {
	if dir := os.Getenv("PITH_DATA"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "pith"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", cli.Hint(err, "set PITH_DATA to a directory, or name one with --data")
	}
	return filepath.Join(home, ".local", "share", "pith"), nil
}

// config is that of a service on the store.
func (h *home) config(cmd *cobra.Command, store resolver.Store, log *slog.Logger) (resolver.Config, error) {
	c := resolver.Config{Store: store, Unknown: resolver.Status(h.unknown), Log: log}
	var err error
	if c.Trust, err = loadTrust(cmd, h.trust); err != nil {
		return c, err
	}
	if _, err := os.Stat(filepath.Join(h.data, "log")); h.newLog && err == nil { // before a key is made
		return c, cli.Hint(fmt.Errorf("a new log cannot begin beside the old one in %s", h.data), "move mirror-key.json and log in it away, or start without --new-log")
	}
	owner := "" // of the log that this mirror has to go on with
	if !h.newLog {
		if owner, err = tlog.Owner(cmd.Context(), store); err != nil {
			return c, err
		}
	}
	if owner != "" && !h.hasKey() {
		return c, cli.Hint(fmt.Errorf("%s is not there, the key that signed the log of %s", h.keyPath(), shown(h.db)),
			"put it back, or name it with --key; if it is lost: pith serve --new-log")
	}
	if c.Key, err = h.mirrorKey(cmd, log); err != nil {
		return c, err
	}
	if mine := tlog.Name(c.Key); owner != "" && owner != mine {
		return c, cli.Hint(fmt.Errorf("the log of %s is %s, the key here is that of %s", shown(h.db), owner, mine),
			"name the key that signed it with --key; if it is lost: pith serve --new-log")
	}
	return c, nil
}

// mirrorKey is the key of the mirror: the one that was named, or one of its own
// that is made on the first start. A mirror in memory has a new one every time.
func (h *home) mirrorKey(cmd *cobra.Command, log *slog.Logger) (*pith.PrivateKey, error) {
	memory := h.db == "memory:"
	if _, ok := os.LookupEnv("PITH_KEY"); h.key != "" || ok && !memory {
		return loadKey(cmd, h.key)
	}
	path := h.keyPath()
	if !memory {
		key, err := keyfile.Load(path, func() (string, error) { return askPassphrase(cmd, path) })
		if !errors.Is(err, fs.ErrNotExist) {
			return key, cli.Hint(err, "name another key with --key")
		}
	}
	key, err := pith.GenerateKey(rand.Reader, pith.Signer{ID: h.signerName(), Type: "mirror", KeyID: "mirror-1"})
	if err != nil {
		return nil, cli.Hint(err, "give the mirror another --name")
	}
	if memory {
		return key, nil
	}
	if err := os.MkdirAll(h.data, 0o700); err != nil {
		return nil, cli.Hint(err, "name a directory that you may write to with --data")
	}
	if err := keyfile.Create(path, key, ""); errors.Is(err, keyfile.ErrExists) { // another process was quicker
		key, err := keyfile.Load(path, func() (string, error) { return askPassphrase(cmd, path) })
		return key, cli.Hint(err, "name another key with --key")
	} else if err != nil {
		return nil, cli.Hint(err, "name a directory that you may write to with --data")
	}
	log.Info("made a key for this mirror; keep a copy in a safe place", "file", path, "fingerprint", key.Public().Fingerprint())
	return key, nil
}

// keyPath is where the key lies that is made when none is named.
func (h *home) keyPath() string { return filepath.Join(h.data, "mirror-key.json") }

// hasKey reports whether there is a key, so that mirrorKey makes none.
func (h *home) hasKey() bool {
	if _, ok := os.LookupEnv("PITH_KEY"); h.key != "" || ok {
		return true
	}
	_, err := os.Stat(h.keyPath())
	return err == nil
}

// signerName is the name under which a new key signs.
func (h *home) signerName() string {
	if h.name != "" {
		return h.name
	}
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "mirror"
}

// services are those of a mirror: one that goes by its policy, and one for copies
// of mirrors of which everything valid is taken.
func services(c resolver.Config) (known, all *resolver.Service, err error) {
	if known, err = resolver.NewService(c); err != nil {
		return nil, nil, err
	}
	c.Unknown = resolver.Accepted
	all, err = resolver.NewService(c)
	return known, all, err
}
