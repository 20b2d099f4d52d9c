package cpu

import "io"

// SetDumpOutput redirects what the option "dump" writes, until restore is called.
func SetDumpOutput(w io.Writer) (restore func()) {
	old := dumpOutput
	dumpOutput = w
	return func() { dumpOutput = old }
}
