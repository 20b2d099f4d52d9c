package pith

import (
	"os"
	"strings"
	"testing"
)

// TestSpecListsEveryCode holds spec §9 and the table of codes together.
func TestSpecListsEveryCode(t *testing.T) {
	data, err := os.ReadFile("../spec/09-reason-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		code := strings.Trim(cells[1], " `")
		listed[code] = true
		info, known := codes[Code(code)]
		if !known {
			t.Errorf("the specification lists %s, which does not exist", code)
			continue
		}
		failed := info.ifFailed.String()
		if failed == "valid" {
			failed = "note"
		}
		if strings.TrimSpace(cells[2]) != failed || strings.TrimSpace(cells[3]) != info.asks {
			t.Errorf("%s: the specification says %s, %s; the table %s, %s", code, cells[2], cells[3], failed, info.asks)
		}
	}
	for code := range codes {
		if !listed[string(code)] {
			t.Errorf("the specification lacks %s", code)
		}
	}
}
