package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/openpith/evidence/internal/cli"
)

// runServe runs pith serve with its arguments and returns exit code and output.
func runServe(t testing.TB, ctx context.Context, s *serving, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	root := &cobra.Command{Use: "pith"}
	root.AddCommand(newServeCommand(s))
	var out, errs bytes.Buffer
	code = cli.Run(ctx, root, append([]string{"serve"}, args...), strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// TestConfigOrder: the command line goes before the environment, which goes
// before the file.
func TestConfigOrder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "serve.json")
	if err := os.WriteFile(file, []byte(`{"listen":"file:1","metrics":"file:2","name":"file","max-connections":7,"copy":false,"trust":["a.json","b.json"],"grace":"3s"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PITH_METRICS", "env:2")
	t.Setenv("PITH_NAME", "env")
	t.Setenv("PITH_AUTOCERT", "a.example,b.example")
	t.Setenv("PITH_DATA", "/env/data")
	code, out, errs := runServe(t, t.Context(), &serving{}, "--config", file, "--name", "flag", "--print-config")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"listen": "file:1", "metrics": "env:2", "name": "flag", "max-connections": 7.0, "copy": false, "grace": "3s",
		"trust": []any{"a.json", "b.json"}, "autocert": []any{"a.example", "b.example"}, "unknown": "queued", "data": "/env/data",
	}
	for name, w := range want {
		if fmt.Sprint(got[name]) != fmt.Sprint(w) {
			t.Errorf("%s is %v, want %v", name, got[name], w)
		}
	}
	// What is printed is a file that gives the same.
	again := filepath.Join(t.TempDir(), "again.json")
	if err := os.WriteFile(again, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"PITH_METRICS", "PITH_NAME", "PITH_AUTOCERT", "PITH_DATA"} {
		os.Unsetenv(name)
	}
	if _, second, errs := runServe(t, t.Context(), &serving{}, "--config", again, "--print-config"); second != out {
		t.Errorf("the printed file gives something else:\n%s\n%s%s", out, second, errs)
	}
}

// settings are a good value for each, and a bad one where not every text will do.
var settings = map[string]struct{ good, bad string }{
	"acme-directory":  {"https://ca.example/acme", "ca.example"},
	"archive":         {"/srv/archive", ""},
	"autocert":        {"a.example,b.example", "a.example,localhost"},
	"copy":            {"false", "perhaps"},
	"data":            {"/srv/pith", ""},
	"db":              {"sqlite:/srv/pith.db", ""},
	"grace":           {"3s", "-3s"},
	"key":             {"/srv/key.json", ""},
	"listen":          {"192.0.2.1:80", "80"},
	"log-format":      {"json", "xml"},
	"log-level":       {"warn", "loud"},
	"max-connections": {"7", "-7"},
	"metrics":         {"localhost:9017", "localhost:metrics?"},
	"moderator-file":  {"/srv/token", ""},
	"name":            {"a.example", ""},
	"operator":        {"Ada", ""},
	"trace":           {"http://localhost:4318", "localhost:4318"},
	"trust":           {"a.json,b.json", ""},
	"trusted-proxies": {"10.0.0.0/8,192.0.2.1", "10.0.0.0/99"},
	"unknown":         {"accepted", "ignored"},
	"url":             {"https://a.example", "a.example"},
}

// TestEverySetting: each can stand in each of three places, and what is wrong is
// said with the place.
func TestEverySetting(t *testing.T) {
	places := map[string]func(t *testing.T, name, value string) (args []string, where string){
		"command line": func(_ *testing.T, name, value string) ([]string, string) {
			return []string{"--" + name + "=" + value}, "--" + name
		},
		"environment": func(t *testing.T, name, value string) ([]string, string) {
			t.Setenv(envName(name), value)
			return nil, envName(name)
		},
		"file": func(t *testing.T, name, value string) ([]string, string) {
			file := filepath.Join(t.TempDir(), "serve.json")
			text, err := json.Marshal(map[string]any{name: strings.Split(value, ",")})
			if err == nil {
				err = os.WriteFile(file, text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			return []string{"--config", file}, file + ": \"" + name + "\""
		},
	}
	serveCommand().Flags().VisitAll(func(f *pflag.Flag) {
		if slices.Contains(notConfigured, f.Name) {
			return
		}
		example, ok := settings[f.Name]
		if !ok {
			t.Errorf("--%s has no examples here", f.Name)
		}
		for place, put := range places {
			if place == "environment" && envName(f.Name) == "" {
				continue
			}
			t.Run(f.Name+" "+place, func(t *testing.T) {
				args, _ := put(t, f.Name, example.good)
				code, out, errs := runServe(t, t.Context(), &serving{}, append(args, "--print-config")...)
				var got map[string]any
				if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil {
					t.Fatalf("exit code %d, %v: %s", code, err, errs)
				}
				want := example.good
				if _, list := f.Value.(pflag.SliceValue); list {
					want = "[" + strings.ReplaceAll(want, ",", " ") + "]"
				}
				if fmt.Sprint(got[f.Name]) != want {
					t.Errorf("%v, want %s", got[f.Name], want)
				}
				if example.bad == "" {
					return
				}
				args, where := put(t, f.Name, example.bad)
				// The command line says it in cobra's words where a value is none of its type.
				if code, _, errs := runServe(t, t.Context(), &serving{}, append(args, "--print-config")...); code != cli.ExitNotChecked || !strings.Contains(errs, where) || !strings.Contains(errs, "hint:") {
					t.Errorf("exit code %d, %q; want 2, %q and a hint", code, errs, where)
				}
			})
		}
	})
}

// TestSettingsMeanTheSame: a command that reads the settings of pith serve takes
// those alone that it shares with it, and no flag of its own that is called alike.
func TestSettingsMeanTheSame(t *testing.T) {
	shared := []string{"data", "db", "key", "name", "trust", "unknown"}
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Name() != "serve" && cmd.Flags().Lookup("config") != nil {
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				if serveCommand().Flags().Lookup(f.Name) != nil && !slices.Contains(shared, f.Name) && !slices.Contains(notConfigured, f.Name) {
					t.Errorf("%s --%s would be set by the setting of pith serve", cmd.CommandPath(), f.Name)
				}
			})
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root())
}

func TestConfigRefuses(t *testing.T) {
	tests := []struct{ name, file, env, want string }{
		{"no JSON", `listen = "x"`, "", "invalid character"},
		{"an unknown name", `{"lisen":"x"}`, "", `nothing is called "lisen"`},
		{"a list for one value", `{"listen":["x","y"]}`, "", "one value is wanted"},
		{"an object", `{"listen":{}}`, "", "is wanted"},
		{"a text for a number", `{"max-connections":"many"}`, "", `"many" is no whole number`},
		{"what belongs on the command line", `{"demo":true}`, "", "--demo belongs on the command line"},
		{"a bad variable", `{}`, "some", "PITH_MAX_CONNECTIONS"},
		{"a bad choice", `{"unknown":"perhaps"}`, "", "perhaps"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "serve.json")
			if err := os.WriteFile(file, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PITH_MAX_CONNECTIONS", tt.env)
			t.Setenv("PITH_DATA", t.TempDir())
			code, _, errs := runServe(t, t.Context(), &serving{}, "--config", file, "--db", "memory:")
			if code != cli.ExitNotChecked || !strings.Contains(errs, tt.want) || !strings.Contains(errs, "hint:") {
				t.Errorf("exit code %d, %q; want 2, %q and a hint", code, errs, tt.want)
			}
		})
	}
	if code, _, errs := runServe(t, t.Context(), &serving{}, "--config", "/does/not/exist", "--print-config"); code != cli.ExitNotChecked || !strings.Contains(errs, "no such file") {
		t.Errorf("a file that was named and is not there: exit code %d, %q", code, errs)
	}
}

// TestDemo runs the whole server as a newcomer would, reads from it, and ends
// it while a stream is open.
func TestDemo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	addresses := make(chan [2]string, 1)
	s := &serving{listening: func(address, metrics string) { addresses <- [2]string{address, metrics} }}
	type result struct {
		code      int
		out, errs string
	}
	done := make(chan result, 1)
	data, temporary := t.TempDir(), t.TempDir()
	t.Setenv("PITH_DATA", data)
	t.Setenv("TMPDIR", temporary)
	go func() {
		code, out, errs := runServe(t, ctx, s, "--demo", "--listen", "localhost:0", "--metrics", "localhost:0", "--log-format", "json", "--log-level", "debug")
		done <- result{code, out, errs}
	}()
	var at [2]string
	select {
	case at = <-addresses:
	case r := <-done:
		t.Fatalf("exit code %d: %s", r.code, r.errs)
	}
	get := func(address, path string) string {
		t.Helper()
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: status %d %s %v", path, resp.StatusCode, body, err)
		}
		if origin := resp.Header.Get("Access-Control-Allow-Origin"); (origin == "*") != (address == at[0]) {
			t.Errorf("%s: pages of the origin %q may read it", path, origin)
		}
		return string(body)
	}
	for path, want := range map[string]string{
		"/":        "html",
		"/_health": `"status":"ok","cursor":2`,
		"/export":  `{"next":2,"head":2}`,
		"/ranges":  `"suffix":"CWPYLZDW7AWAX7TQ5ZRNS3OHEM"`,
		"/log/key": "pith-mirror/",
		"/pith/CWPYLZDW7AWAX7TQ5ZRNS3OHEM/bundle.json": `"pith_number":"pith:2018:CWPYLZDW7AWAX7TQ5ZRNS3OHEM"`,
	} {
		if got := get(at[0], path); !strings.Contains(got, want) {
			t.Errorf("%s: %.200q lacks %q", path, got, want)
		}
	}
	// The event under its id: bytes that have this digest.
	var line struct {
		ID string `json:"event_id"`
	}
	first, _, _ := strings.Cut(get(at[0], "/export"), "\n")
	if err := json.Unmarshal([]byte(first), &line); err != nil {
		t.Fatal(err)
	}
	object := get(at[0], "/objects/sha256/"+strings.TrimPrefix(line.ID, "sha256:"))
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(object))); got != line.ID {
		t.Errorf("the object of %s has the digest %s", line.ID, got)
	}
	for _, method := range []string{"GET", "MADEUP"} {
		r, err := http.NewRequest(method, "http://"+at[0]+"/made-up", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	metrics := get(at[1], "/metrics")
	if strings.Contains(metrics, "made-up") || strings.Contains(metrics, "MADEUP") {
		t.Error("readers can put paths or methods of their own into the metrics")
	}
	for _, want := range []string{"pith_events 2", "pith_records 1", `route="GET /export"`, "pith_streams 0", "go_goroutines"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %q", want)
		}
	}
	if resp, err := http.Get("http://" + at[0] + "/metrics"); err != nil || resp.StatusCode != 404 {
		t.Errorf("/metrics is open to strangers: %v %v", resp.StatusCode, err)
	}
	// As its page about itself says.
	home := t.TempDir()
	must(t, 0, home, "mirror", "add", "http://"+at[0])
	must(t, 0, home, "mirror", "sync")
	stream, err := http.Get("http://" + at[0] + "/stream?after=0")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	cancel()
	text, err := io.ReadAll(stream.Body)
	if err != nil || !strings.HasSuffix(string(text), "event: close\ndata: {\"reason\":\"shutdown\"}\n\n") {
		t.Errorf("the stream ended with %q, %v; want the reason shutdown", text, err)
	}
	r := <-done
	if r.code != 0 || !strings.HasPrefix(r.out, "http://127.0.0.1:") {
		t.Errorf("exit code %d, stdout %q", r.code, r.out)
	}
	for line := range strings.Lines(r.errs) {
		if !json.Valid([]byte(line)) {
			t.Errorf("a log line that is no JSON: %q", line)
		}
	}
	for _, dir := range []string{data, temporary} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("the demo left %v in %s, %v", left, dir, err)
		}
	}
}

func TestTrustedProxies(t *testing.T) {
	tests := []struct {
		name, trusted, remote, forwarded, want string
	}{
		{"no proxy", "", "192.0.2.1:1234", "", "192.0.2.1"},
		{"a stranger who claims to forward", "", "192.0.2.1:1234", "10.0.0.9", "192.0.2.1"},
		{"a proxy", "10.0.0.0/8", "10.1.2.3:1", "192.0.2.7", "192.0.2.7"},
		{"a client that invents hops before", "10.0.0.0/8", "10.1.2.3:1", "198.51.100.9, 192.0.2.7", "192.0.2.7"},
		{"two proxies", "10.0.0.0/8", "10.1.2.3:1", "192.0.2.7, 10.9.9.9", "192.0.2.7"},
		{"nonsense", "10.0.0.0/8", "10.1.2.3:1", "unknown", "10.1.2.3"},
		{"nonsense before the client", "10.0.0.0/8", "10.1.2.3:1", "unknown, 192.0.2.7", "192.0.2.7"},
		{"nonsense that a proxy passes on", "10.0.0.0/8", "10.1.2.3:1", "192.0.2.7, unknown", "10.1.2.3"},
		{"a proxy that writes ports", "10.0.0.0/8", "10.1.2.3:1", "198.51.100.9, 192.0.2.7:4711", "192.0.2.7"},
		{"a zone that is invented", "fe80::/10", "[fe80::1%eth0]:1", "fe80::2%a, fe80::3%b", "fe80::2"},
		{"nothing", "10.0.0.0/8", "10.1.2.3:1", "", "10.1.2.3"},
		{"one address", "10.1.2.3", "10.1.2.3:1", "192.0.2.7", "192.0.2.7"},
		{"IPv6", "::1", "[::1]:1", "2001:db8::1", "2001:db8::1"},
		{"IPv4 in IPv6", "10.0.0.0/8", "[::ffff:10.1.2.3]:1", "192.0.2.7", "192.0.2.7"},
	}
	for _, tt := range tests {
		var networks []string
		if tt.trusted != "" {
			networks = []string{tt.trusted}
		}
		client, err := trustedProxies(networks)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = tt.remote
		if tt.forwarded != "" {
			r.Header.Set("X-Forwarded-For", tt.forwarded)
		}
		if got := client(r).String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if _, err := trustedProxies([]string{"everybody"}); err == nil {
		t.Error("a network that is none was taken")
	}
}

// TestTraces sends what it saw to a collector: routes, and nothing that tells who
// asked or what for.
func TestTraces(t *testing.T) {
	var mu sync.Mutex
	var got []*tracepb.ResourceSpans
	var raw []byte
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		data, err := io.ReadAll(r.Body)
		var m collectorpb.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(data, &m)
		}
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Api-Key") != "seven" {
			t.Errorf("%s: %v, key %q", r.URL.Path, err, r.Header.Get("Api-Key"))
		}
		got, raw = append(got, m.ResourceSpans...), append(raw, data...)
		answer, err := proto.Marshal(&collectorpb.ExportTraceServiceResponse{PartialSuccess: &collectorpb.ExportTracePartialSuccess{RejectedSpans: 1, ErrorMessage: "too many"}})
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.Write(answer)
	}))
	defer collector.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan string, 1)
	s := &serving{listening: func(address, _ string) { ready <- address }}
	done := make(chan string, 1)
	t.Setenv("PITH_DATA", t.TempDir())
	t.Setenv("PITH_MODERATOR", "the-token-of-moderators")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=seven")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=seven")
	go func() {
		_, _, errs := runServe(t, ctx, s, "--demo", "--listen", "localhost:0", "--trace", collector.URL+"/")
		done <- errs
	}()
	var address string
	select {
	case address = <-ready:
	case errs := <-done:
		t.Fatal(errs)
	}
	for _, ask := range []string{"GET /pith/CWPYLZDW7AWAX7TQ5ZRNS3OHEM?from=secret", "GET /search?q=secret", "GET /moderation", "POST /events", "BREW /about"} {
		verb, path, _ := strings.Cut(ask, " ")
		r, err := http.NewRequest(verb, "http://"+address+path, strings.NewReader("secret"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") // the caller wants it traced
		r.Header.Set("Authorization", "Bearer the-token-of-moderators")
		r.Header.Set("User-Agent", "secret")
		r.Header.Set("Cookie", "secret")
		r.Header.Set("X-Forwarded-For", "198.51.100.7")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	cancel()
	errs := <-done
	mu.Lock()
	defer mu.Unlock()
	for _, secret := range []string{"secret", "the-token", "198.51.100.7", "127.0.0.1", "::1"} {
		if bytes.Contains(raw, []byte(secret)) {
			t.Errorf("the collector was told %q", secret)
		}
	}
	for line := range strings.Lines(errs) {
		if !strings.HasPrefix(line, "time=") {
			t.Errorf("a line that is none of the log: %s", line)
		}
	}
	if strings.Count(errs, "too many") != 1 {
		t.Errorf("what the collector said is not in the log, or more than once: %s", errs)
	}
	spans := map[string]string{} // attributes by name
	for _, from := range got {
		if text := fmt.Sprint(from.Resource); !strings.Contains(text, "seven") || !strings.Contains(text, `"pith"`) {
			t.Errorf("traces of %s", text)
		}
		for _, scope := range from.ScopeSpans {
			for _, span := range scope.Spans {
				var attributes []string
				for _, a := range span.Attributes {
					if n, ok := a.Value.Value.(*commonpb.AnyValue_IntValue); a.Key != "http.response.body.size" {
						attributes = append(attributes, a.Key+"="+a.Value.GetStringValue())
						if ok {
							attributes[len(attributes)-1] += strconv.FormatInt(n.IntValue, 10)
						}
					}
				}
				spans[span.Name] = strings.Join(attributes, " ")
				if hex.EncodeToString(span.TraceId) != "0af7651916cd43dd8448eb211c80319c" || span.Kind != tracepb.Span_SPAN_KIND_SERVER {
					t.Errorf("span %s of trace %x, %s", span.Name, span.TraceId, span.Kind)
				}
			}
		}
	}
	want := map[string]string{
		"GET /pith/{id}":  "http.route=/pith/{id} http.request.method=GET url.path=/pith/CWPYLZDW7AWAX7TQ5ZRNS3OHEM http.response.status_code=200",
		"GET /search":     "http.route=/search http.request.method=GET url.path=/search http.response.status_code=200",
		"GET /moderation": "http.route=/moderation http.request.method=GET url.path=/moderation http.response.status_code=200",
		"POST /events":    "http.route=/events http.request.method=POST url.path=/events http.response.status_code=422",
		"other /":         "http.route=/ http.request.method=other url.path=/about http.response.status_code=405",
	}
	if d := cmp.Diff(want, spans); d != "" {
		t.Errorf("spans (-want +got):\n%s\nlog: %s", d, errs)
	}
}

// TestDelivery: a collector that is away is one line of the log, and so is its return.
func TestDelivery(t *testing.T) {
	var log bytes.Buffer
	e := &awayExporter{err: errors.New("away")}
	d := &delivery{SpanExporter: e, log: slog.New(slog.NewTextHandler(&log, nil))}
	for _, err := range []error{nil, e.err, e.err, e.err, nil, nil} {
		e.err = err
		if err := d.ExportSpans(t.Context(), nil); err != nil {
			t.Errorf("%v is for the log alone: OpenTelemetry prints what is returned", err)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), `level=WARN msg="traces are not delivered" error=away`) {
		t.Errorf("%d lines:\n%s", n, &log)
	}
}

type awayExporter struct {
	sdktrace.SpanExporter
	err error
}

func (e *awayExporter) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return e.err }
