package web

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// TestAgents reads as an agent does, with the client of the official SDK over
// HTTP.
func TestAgents(t *testing.T) {
	l := newLab(t)
	server := httptest.NewServer(l)
	defer server.Close()
	ctx := context.Background()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: server.URL + "/mcp", DisableStandaloneSSE: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	tools, err := session.ListTools(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tool := range tools.Tools {
		names = append(names, tool.Name)
		if !tool.Annotations.ReadOnlyHint || tool.InputSchema == nil || tool.OutputSchema == nil {
			t.Errorf("%s does not say that it only reads, what it takes and what it gives", tool.Name)
		}
	}
	if got := strings.Join(names, " "); got != "history resolve search verify" {
		t.Errorf("tools: %s", got)
	}
	call := func(tool string, arguments map[string]any, into any) string {
		t.Helper()
		res, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: arguments})
		if err != nil {
			t.Fatalf("%s: %v", tool, err)
		}
		text := res.Content[0].(*mcp.TextContent).Text
		if res.IsError {
			return text
		}
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatalf("%s: %v in %s", tool, err, text)
		}
		return ""
	}

	var list struct {
		Records []struct {
			Number string `json:"pith_number"`
			Bundle string `json:"bundle_url"`
		} `json:"records"`
	}
	for _, name := range []string{"CWPYLZDW", "arXiv:1805.07898v3", "10.48550/arXiv.1805.07898", "https://pith.science/pith/" + seedSuffix} {
		if failed := call("resolve", map[string]any{"name": name}, &list); failed != "" || len(list.Records) != 1 || list.Records[0].Number != "pith:2018:"+seedSuffix ||
			list.Records[0].Bundle != "https://mirror.example/pith/"+seedSuffix+"/bundle.json" {
			t.Errorf("resolve %s: %s %v", name, failed, list)
		}
	}
	if failed := call("search", map[string]any{"query": "large batches"}, &list); failed != "" || len(list.Records) == 0 || list.Records[0].Number != numberOf(t, l.cited) {
		t.Errorf("search: %s %v", failed, list)
	}

	var verified struct {
		Verdict string `json:"verdict"`
		Events  struct {
			Total int `json:"total"`
		} `json:"events"`
		Signers      []map[string]any `json:"signers"`
		Completeness []map[string]any `json:"completeness"`
		Failures     []map[string]any `json:"failures"`
		Check        string           `json:"check_yourself"`
	}
	if failed := call("verify", map[string]any{"name": "CWPYLZDW"}, &verified); failed != "" || verified.Verdict != "untrusted" || verified.Events.Total != 11 ||
		len(verified.Signers) != 3 || len(verified.Completeness) != 5 || verified.Completeness[4]["present"] != true || len(verified.Failures) == 0 || !strings.Contains(verified.Check, "pith verify") {
		t.Errorf("verify: %s %+v", failed, verified)
	}

	var history struct {
		Events []struct {
			Type    string          `json:"event_type"`
			Trusted bool            `json:"trusted"`
			Payload json.RawMessage `json:"payload"`
		} `json:"events"`
	}
	if failed := call("history", map[string]any{"name": "1805.07898"}, &history); failed != "" || len(history.Events) != 11 || history.Events[0].Type != "future_type" ||
		history.Events[0].Trusted || string(history.Events[0].Payload) != `{"anything":"goes"}` || history.Events[10].Type != "record_created" || !history.Events[10].Trusted {
		t.Errorf("history: %s %+v", failed, history)
	}

	// What cannot be done is said in words that an agent can act on.
	for _, c := range []struct {
		tool      string
		arguments map[string]any
		says      string
	}{
		{"resolve", map[string]any{"name": "flat minima"}, "use search"},
		{"verify", map[string]any{"name": "AAAAAAAA"}, "does not have that record"},
		{"history", map[string]any{"name": "what?"}, "no Pith Number"},
		{"search", map[string]any{"query": strings.Repeat("a", 201)}, "200"},
		{"search", map[string]any{"query": "a", "offset": -1}, "offset"},
		{"search", map[string]any{}, "query"},
	} {
		if failed := call(c.tool, c.arguments, &list); !strings.Contains(failed, c.says) {
			t.Errorf("%s %v: %q", c.tool, c.arguments, failed)
		}
	}
	first := suffixOf(t, l.cited)
	l.use(twins{l.store, first, first[:8] + strings.Repeat("A", 18)})
	if failed := call("verify", map[string]any{"name": first[:8]}, &verified); !strings.Contains(failed, first) || !strings.Contains(failed, "AAAA") {
		t.Errorf("an ambiguous name: %q", failed)
	}

	large, err := http.NewRequest(http.MethodPost, server.URL+"/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"x","params":"`+strings.Repeat("a", maxAgentBody)+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	large.Header.Set("Content-Type", "application/json")
	large.Header.Set("Accept", "application/json, text/event-stream")
	r, err := http.DefaultClient.Do(large)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	if r.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a large call: %s", r.Status)
	}
}

// TestAgentsAreToldTheAddressTheyAsked: a mirror that was not told its address
// names the one of the request, and believes no header about it.
func TestAgentsAreToldTheAddressTheyAsked(t *testing.T) {
	l := newLab(t, func(c *Config) { c.BaseURL = "" })
	server := httptest.NewServer(l)
	defer server.Close()
	for tool, want := range map[string]string{
		"resolve": `"bundle_url":"` + server.URL + "/pith/" + seedSuffix + `/bundle.json"`,
		"verify":  "curl -sO " + server.URL + "/pith/",
	} {
		call, err := http.NewRequest(http.MethodPost, server.URL+"/mcp",
			strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+tool+`","arguments":{"name":"`+seedSuffix+`"}}}`))
		if err != nil {
			t.Fatal(err)
		}
		call.Header.Set("Content-Type", "application/json")
		call.Header.Set("Accept", "application/json, text/event-stream")
		call.Header.Set("Pith-Base", "https://evil.example")
		r, err := http.DefaultClient.Do(call)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Result struct {
				Structured json.RawMessage `json:"structuredContent"`
			} `json:"result"`
		}
		err = json.NewDecoder(r.Body).Decode(&answer)
		_ = r.Body.Close()
		if err != nil || !strings.Contains(string(answer.Result.Structured), want) {
			t.Errorf("%s: %s %v, want %s", tool, answer.Result.Structured, err, want)
		}
	}
}

// TestOneCallAtATime: a small body does not ask for hundreds of answers.
func TestOneCallAtATime(t *testing.T) {
	l := newLab(t)
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"history","arguments":{"name":"1805.07898v3"}}}`
	for body, want := range map[string]int{
		call:                                  http.StatusOK,
		"\n [" + call + "," + call + "]":      http.StatusBadRequest,
		call + strings.Repeat(" ", 64<<10):    http.StatusRequestEntityTooLarge,
		"[" + strings.Repeat(call+",", 1<<10): http.StatusBadRequest,
	} {
		r := httptest.NewRequest("POST", "/mcp", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		w := httptest.NewRecorder()
		l.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%.40q: status %d, want %d: %.80s", body, w.Code, want, w.Body)
		}
	}
}
