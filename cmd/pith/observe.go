package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/openpith/evidence/internal/cli"
	"github.com/openpith/evidence/internal/httpserve"
	"github.com/openpith/evidence/resolver/mirror"
)

// observed is the handler of a node with whatever of logs, metrics and traces
// the settings ask for. Without any it is the handler itself.
func (s *serving) observed(ctx context.Context, n *node, clientIP func(*http.Request) netip.Addr) (h http.Handler, end func(), err error) {
	h, end = n.handler, func() {}
	if s.metrics != "" || n.log.Enabled(ctx, slog.LevelDebug) {
		h = n.watch(h, clientIP)
	}
	if s.trace == "" {
		return h, end, nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(strings.TrimRight(s.trace, "/")+"/v1/traces"))
	if err != nil {
		return nil, nil, cli.Hint(err, "--trace names a collector, like http://localhost:4318")
	}
	// The variables of OpenTelemetry name other attributes, such as those that tell
	// several processes from each other.
	from, err := resource.New(ctx, resource.WithAttributes(semconv.ServiceName("pith"), semconv.ServiceVersion(cli.Version())), resource.WithFromEnv())
	if err != nil {
		return nil, nil, cli.Hint(err, "look at the environment variables that begin with OTEL_")
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&delivery{SpanExporter: exporter, log: n.log}), // holds 2,048 spans, and drops what comes while it is full
		// A trace that a caller began is followed if the caller wants so; of our own one
		// in a hundred, as a busy mirror would drown its collector otherwise.
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(0.01))),
		sdktrace.WithResource(from),
	)
	var once sync.Once
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { // such as spans that a collector does not want
		once.Do(func() { n.log.Warn("traces are not taken as they are; said once", "error", err) })
	}))
	return traced(h, provider), func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := provider.Shutdown(end); err != nil {
			n.log.Warn("the last traces were not delivered", "error", err)
		}
	}, nil
}

// A delivery says once that the collector does not take traces, and once that it
// does again.
type delivery struct {
	sdktrace.SpanExporter
	log  *slog.Logger
	fail atomic.Bool
}

func (d *delivery) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := d.SpanExporter.ExportSpans(ctx, spans)
	if failed := err != nil; d.fail.Swap(failed) != failed {
		if failed {
			d.log.Warn("traces are not delivered", "error", err)
		} else {
			d.log.Info("traces are delivered again")
		}
	}
	return nil // it is said
}

// traced makes a span of each request, if it is sampled. Spans hold nothing that
// says who asked, or what was searched for: a collector keeps what it gets.
func traced(next http.Handler, provider trace.TracerProvider) http.Handler {
	tracer := provider.Tracer("github.com/openpith/evidence/cmd/pith")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := tracer.Start(ctx, method(r.Method), trace.WithSpanKind(trace.SpanKindServer))
		if !span.IsRecording() {
			next.ServeHTTP(w, r)
			return
		}
		r = r.WithContext(ctx)
		sent := &sentAnswer{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			if r.Pattern != "" { // set by the mux on the way
				route := r.Pattern[strings.Index(r.Pattern, "/"):] // without the method
				span.SetName(method(r.Method) + " " + route)
				span.SetAttributes(semconv.HTTPRoute(route))
			}
			span.SetAttributes(semconv.HTTPRequestMethodKey.String(method(r.Method)), semconv.URLPath(r.URL.Path),
				semconv.HTTPResponseStatusCode(sent.status), semconv.HTTPResponseBodySize(int(sent.bytes)))
			if sent.status >= 500 {
				span.SetStatus(codes.Error, "")
			}
			span.End()
		}()
		next.ServeHTTP(sent, r)
	})
}

// requests are the metrics of HTTP. Routes are patterns, never paths: strangers
// choose paths, and each new one would cost memory.
var requestLabels = []string{"method", "route", "code"}

// watch measures and logs every request.
func (n *node) watch(next http.Handler, clientIP func(*http.Request) netip.Addr) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		sent := &sentAnswer{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			took := time.Since(start)
			route := r.Pattern // set by the mux on the way
			if route == "" {
				route = "other"
			}
			n.requests.WithLabelValues(method(r.Method), route, strconv.Itoa(sent.status)).Observe(took.Seconds())
			n.log.Debug("request", "method", r.Method, "path", r.URL.Path, "status", sent.status, "bytes", sent.bytes, "took", took, "client", clientIP(r))
		}()
		next.ServeHTTP(sent, r)
	})
}

// method bounds the number of methods that metrics know.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodOptions:
		return m
	}
	return "other"
}

// A sentAnswer remembers what went out. ResponseController finds the writer below.
type sentAnswer struct {
	http.ResponseWriter
	status int
	bytes  int64
	wrote  bool
}

func (a *sentAnswer) WriteHeader(status int) {
	if !a.wrote && status >= 200 {
		a.status, a.wrote = status, true
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *sentAnswer) Write(b []byte) (int, error) {
	a.wrote = true
	n, err := a.ResponseWriter.Write(b)
	a.bytes += int64(n)
	return n, err
}

func (a *sentAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// newRequests makes the histogram of requests.
func newRequests() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "pith_http_request_seconds", Help: "Time to answer a request.",
		Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 30},
	}, requestLabels)
}

// registry holds all metrics of a node. What the store knows is read when
// somebody asks.
func (n *node) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(n.requests, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), storeMetrics{n})
	counter := func(name, help string, value func() int64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) }))
	}
	stats := &n.mirror.Stats
	counter("pith_exports_total", "Exports that were begun.", stats.Exports.Load)
	counter("pith_exported_events_total", "Events in them.", stats.ExportedEvents.Load)
	counter("pith_exported_bytes_total", "Bytes in them, before compression.", stats.ExportedBytes.Load)
	counter("pith_streamed_events_total", "Events that streams sent.", stats.StreamedEvents.Load)
	counter("pith_slow_clients_total", "Streams that were closed because the client did not read.", stats.SlowClients.Load)
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "pith_streams", Help: "Streams that are open."}, func() float64 { return float64(stats.Streams.Load()) }))
	return r
}

// storeMetrics collects what the store and the mirrors that are copied tell.
type storeMetrics struct{ n *node }

var (
	gaugeRecords  = prometheus.NewDesc("pith_records", "Records in the store.", nil, nil)
	gaugeEvents   = prometheus.NewDesc("pith_events", "Accepted events: the next sequence number.", nil, nil)
	gaugeRefused  = prometheus.NewDesc("pith_refused", "Refused submissions that are kept.", nil, nil)
	gaugeQueued   = prometheus.NewDesc("pith_queued", "Submissions that wait for a moderator.", nil, nil)
	gaugeLogLag   = prometheus.NewDesc("pith_log_lag_events", "Accepted events that the signed checkpoint does not cover yet.", nil, nil)
	gaugeUpLag    = prometheus.NewDesc("pith_upstream_lag_events", "Events that a copied mirror has and this one has not.", []string{"upstream"}, nil)
	gaugeUpFailed = prometheus.NewDesc("pith_upstream_failing", "1 if the last attempt to copy failed.", []string{"upstream"}, nil)
	gaugeUpAt     = prometheus.NewDesc("pith_upstream_synced_timestamp_seconds", "When a mirror was copied last.", []string{"upstream"}, nil)
)

func (m storeMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{gaugeRecords, gaugeEvents, gaugeRefused, gaugeQueued, gaugeLogLag, gaugeUpLag, gaugeUpFailed, gaugeUpAt} {
		ch <- d
	}
}

func (m storeMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counts, err := m.n.store.Counts(ctx)
	if err != nil {
		m.n.log.Error("metrics: the store could not be read", "error", err)
		return
	}
	gauge(gaugeRecords, float64(counts.Records))
	gauge(gaugeEvents, float64(counts.Events))
	gauge(gaugeRefused, float64(counts.Refused))
	gauge(gaugeQueued, float64(counts.Queued))
	if size := m.n.logSize(); size >= 0 {
		gauge(gaugeLogLag, float64(max(0, counts.Events-size)))
	}
	ups, err := mirror.Upstreams(ctx, m.n.store)
	if err != nil {
		m.n.log.Error("metrics: the list of upstreams could not be read", "error", err)
	}
	for _, u := range ups {
		failing := 0.0
		if u.Error != "" {
			failing = 1
		}
		gauge(gaugeUpLag, float64(u.Lag()), u.URL)
		gauge(gaugeUpFailed, failing, u.URL)
		if !u.SyncedAt.IsZero() {
			gauge(gaugeUpAt, float64(u.SyncedAt.Unix()), u.URL)
		}
	}
}

// serveMetrics answers Prometheus at its own address, which strangers do not
// reach, until ctx ends. It returns the address.
func (s *serving) serveMetrics(ctx context.Context, n *node) (string, error) {
	if s.metrics == "" {
		return "", nil
	}
	o := httpserve.Options{Listen: s.metrics, MaxConns: 100, Log: n.log, Grace: time.Second}
	l, err := httpserve.Listen(ctx, o)
	if err != nil {
		return "", cli.Hint(err, "name another address with --metrics")
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.registry(), promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelError)}))
	n.background = append(n.background, func(ctx context.Context) {
		if err := httpserve.Serve(ctx, l, mux, o); err != nil && !errors.Is(err, context.Canceled) {
			n.log.Error("metrics are not served any more", "error", err)
		}
	})
	return l.Addr().String(), nil
}
