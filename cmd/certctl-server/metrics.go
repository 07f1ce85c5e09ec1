package main

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/cmd/internal/edition"
	"github.com/certctl/certctl/store"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what this process counts itself, and what the tables say.
type metrics struct {
	registry *prometheus.Registry
	work     *prometheus.HistogramVec
	requests *prometheus.CounterVec
}

// gaugeHelp describes the store's measures, with the name of their label.
var gaugeHelp = map[store.Measure]struct{ label, help string }{
	store.MeasureOrders:       {"reason", "Open orders by what they wait for, or their state."},
	store.MeasureDueAge:       {"verb", "How long the oldest due row has been due; above a minute, nobody takes that work."},
	store.MeasureEventOutAge:  {"", "Age of the oldest event that is not on the bus yet."},
	store.MeasureCertificates: {"status", "Certificates by status."},
	store.MeasureAgents:       {"state", "Agents by state."},
	store.MeasurePresence:     {"presence", "Active agents by presence: online, offline, never."},
	store.MeasureIssuerUp:     {"issuer", "0 while the issuer's circuit breaker is open, else 1."},
	store.MeasureExpiry:       {"issuer", "When the first leaf that is served ends, as Unix time, by the certificate's first issuer."},
	store.MeasureServed:       {"left", "Certificates in use by what is left of the leaf that is served: none, 1d, 7d, 30d, 90d, more."},
	store.MeasureTold:         {"state", "Notifications that were not delivered: pending, or failed and waiting for a person."},
	store.MeasureDeadLetters:  {"", "Messages that were given up and wait for a person."},
	store.MeasureDeployments:  {"state", "Deployments that are not finished."},
}

func newMetrics(st *store.Store) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		work: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "certctl_hint_duration_seconds", Help: "Time to carry out one hint, by verb and outcome.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"verb", "outcome"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certctl_api_requests_total", Help: "Requests that the API has answered, by status code.",
		}, []string{"code"}),
	}
	for _, code := range []int{http.StatusOK, http.StatusInternalServerError} { // a rate needs a series before the first one
		m.requests.WithLabelValues(strconv.Itoa(code))
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "certctl_build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": edition.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m.work, m.requests, build)
	m.registry.MustRegister(newTables(st))
	return m
}

// done is told of each hint.
func (m *metrics) done(verb certctl.HintVerb, outcome bus.Outcome, took time.Duration) {
	m.work.WithLabelValues(string(verb), string(outcome)).Observe(took.Seconds())
}

// answered is told of each request of the API.
func (m *metrics) answered(status int) {
	m.requests.WithLabelValues(strconv.Itoa(status)).Inc()
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// tables reads the store's measures at each scrape.
type tables struct {
	store        *store.Store
	descriptions map[store.Measure]*prometheus.Desc
	up           *prometheus.Desc
}

func newTables(st *store.Store) *tables {
	t := &tables{
		store: st, descriptions: map[store.Measure]*prometheus.Desc{},
		up: prometheus.NewDesc("certctl_database_up", "Whether the tables could be read for this scrape.", nil, nil),
	}
	for measure, about := range gaugeHelp {
		var labels []string
		if about.label != "" {
			labels = []string{about.label}
		}
		t.descriptions[measure] = prometheus.NewDesc("certctl_"+string(measure), about.help, labels, nil)
	}
	return t
}

// Describe is part of prometheus.Collector.
func (t *tables) Describe(out chan<- *prometheus.Desc) {
	out <- t.up
	for _, description := range t.descriptions {
		out <- description
	}
}

// Collect is part of prometheus.Collector.
func (t *tables) Collect(out chan<- prometheus.Metric) {
	gauges, err := t.store.Gauges(context.Background())
	up := 1.0
	if err != nil {
		up = 0
	}
	out <- prometheus.MustNewConstMetric(t.up, prometheus.GaugeValue, up)
	for _, gauge := range gauges {
		var labels []string
		if gaugeHelp[gauge.Measure].label != "" {
			labels = []string{gauge.Label}
		}
		out <- prometheus.MustNewConstMetric(t.descriptions[gauge.Measure], prometheus.GaugeValue, gauge.Value, labels...)
	}
}
