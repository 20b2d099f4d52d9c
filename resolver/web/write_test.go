package web

import (
	"net/http/httptest"
	"testing"
)

func TestTakesGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"gzip": true, "gzip, deflate, br": true, "br, GZIP;q=0.5": true, "*": true, "identity": false, "gzip;q=0": false,
		"*;q=0": false, "gzip;q=0, *": false, "br": false, "gzip;q=0.000": false, "x-gzip": true, "gzip ; q = 1": true, "gzip;q=x": false, ",,;": false,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Encoding", header)
		if got := takesGzip(r); got != want {
			t.Errorf("%q: %v", header, got)
		}
	}
	if takesGzip(httptest.NewRequest("GET", "/", nil)) {
		t.Error("no header takes gzip")
	}
}
