package mirror

import (
	"flag"
	"os"
	"testing"
)

// TestMain makes property tests shorter than rapid's default, because here each
// case is three mirrors that talk HTTP. -rapid.checks=N makes them longer.
func TestMain(m *testing.M) {
	flag.Set("rapid.checks", "12")
	flag.Parse()
	os.Exit(m.Run())
}
