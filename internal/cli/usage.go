package cli

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// What cobra and pflag say about a command line that makes no sense, and what we
// say instead: their words are for programmers.
var (
	wrongArguments = regexp.MustCompile(`^(?:accepts|requires) .*arg\(s\).* received (\d+)$`)
	noArguments    = regexp.MustCompile(`^unknown command (".*") for ".*"$`)
	missingFlags   = regexp.MustCompile(`^required flag\(s\) "(.*)" not set$`)
	missingOneOf   = regexp.MustCompile(`^at least one of the flags in the group \[(.*)\] is required$`)
	exclusiveFlags = regexp.MustCompile(`^if any flags in the group \[.*\] are set none of the others can be; \[(.*)\] were all set$`)
	wrongValue     = regexp.MustCompile(`(?s)^invalid argument (".*") for "(?:-\w, )?(--[\w-]+)" flag: (.*)$`)
)

// usage puts an error about the command line of cmd into words.
func usage(cmd *cobra.Command, err error) error {
	text := err.Error()
	flags := func(names, between, last string) string {
		list := strings.FieldsFunc(names, func(r rune) bool { return strings.ContainsRune(`", `, r) })
		for i := range list {
			list[i] = "--" + list[i]
		}
		if n := len(list) - 1; n > 0 {
			return strings.Join(list[:n], between) + last + list[n]
		}
		return list[0]
	}
	var m []string
	match := func(form *regexp.Regexp) bool { m = form.FindStringSubmatch(text); return m != nil }
	switch {
	case match(wrongArguments):
		_, wants, _ := strings.Cut(cmd.Use, " ")
		got := m[1] + " arguments"
		switch m[1] {
		case "0":
			got = "nothing"
		case "1":
			got = "1 argument"
		}
		return fmt.Errorf("%s wants %s, and got %s", cmd.CommandPath(), wants, got)
	case match(noArguments):
		return fmt.Errorf("%s takes no arguments, and got %s", cmd.CommandPath(), m[1])
	case match(missingFlags):
		return errors.New("missing: " + flags(m[1], ", ", " and "))
	case match(missingOneOf):
		return errors.New("missing: " + flags(m[1], ", ", " or "))
	case match(exclusiveFlags):
		return errors.New(flags(m[1], ", ", " and ") + " exclude each other")
	case match(wrongValue):
		return fmt.Errorf("%s: %w", m[2], WrongValue(err))
	}
	return err
}

// WrongValue says what is wrong with the value that a flag was set to, without the
// flag. Other errors it returns as they are.
func WrongValue(err error) error {
	m := wrongValue.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	for in, out := range map[string]string{"strconv.ParseInt:": "is no whole number", "strconv.ParseUint:": "is no whole number from 0 on", "strconv.ParseFloat:": "is no number", "strconv.ParseBool:": "is neither true nor false", "time: ": "is no duration like 30s or 5m"} {
		if strings.HasPrefix(m[3], in) {
			return fmt.Errorf("%s %s", m[1], out)
		}
	}
	return fmt.Errorf("%s: %s", m[1], m[3])
}

// helpCommand is cobra's, but for topics that there are none of: then nothing
// was told.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Tell about a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			about, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 && about.HasAvailableSubCommands() {
				return needCommand(about, rest)
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}
