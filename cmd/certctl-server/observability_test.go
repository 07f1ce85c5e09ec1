package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"
)

const observability = "../../deploy/observability/"

// metricName finds what a query reads: alerts and panels read what we export, what
// Prometheus' own library exports, and up.
var metricName = regexp.MustCompile(`\b(certctl|process|go)_[a-z0-9_]+`)

// exported returns what the collectors of a process describe, whether or not it
// has happened yet.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	descriptions := make(chan *prometheus.Desc)
	go func() {
		newMetrics(nil).registry.Describe(descriptions)
		close(descriptions)
	}()
	named := regexp.MustCompile(`fqName: "([^"]+)"`)
	names := map[string]bool{}
	for description := range descriptions {
		name := named.FindStringSubmatch(description.String())[1]
		names[name] = true
		if strings.HasSuffix(name, "_duration_seconds") {
			names[name+"_bucket"], names[name+"_count"], names[name+"_sum"] = true, true, true
		}
	}
	return names
}

// queries returns what is asked of Prometheus, by what asks it.
func queries(t *testing.T) map[string]string {
	t.Helper()
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				Labels      map[string]string `yaml:"labels"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	var board struct {
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	read(t, "alerts.yml", yaml.Unmarshal, &rules)
	read(t, "dashboard.json", json.Unmarshal, &board)
	all := map[string]string{}
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			all["alert "+rule.Alert] = rule.Expr
			if rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.Annotations["remedy"] == "" {
				t.Errorf("the alert %s lacks its severity, summary or remedy", rule.Alert)
			}
		}
	}
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			all["panel "+panel.Title+": "+target.Expr] = target.Expr
		}
	}
	return all
}

func read(t *testing.T, file string, decode func([]byte, any) error, into any) {
	t.Helper()
	text, err := os.ReadFile(observability + file)
	if err == nil {
		err = decode(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAlertsAndDashboardReadWhatIsExported(t *testing.T) {
	t.Parallel()
	names, all := exported(t), queries(t)
	if len(names) < 20 || len(all) < 25 {
		t.Fatalf("only %d metrics and %d queries", len(names), len(all))
	}
	for by, query := range all {
		found := metricName.FindAllString(query, -1)
		if len(found) == 0 && !strings.Contains(query, "up{") {
			t.Errorf("%s reads nothing", by)
		}
		for _, name := range found {
			if !names[name] {
				t.Errorf("%s reads %s, which nobody exports", by, name)
			}
		}
	}
}

// docs/monitoring.md lists what is exported, and each alert.
func TestMonitoringIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, name := range regexp.MustCompile("`(certctl_[a-z0-9_]+|Certctl[A-Za-z]+)").FindAllStringSubmatch(string(text), -1) {
		documented[name[1]] = true
	}
	wanted := map[string]bool{}
	for name := range exported(t) {
		if strings.HasPrefix(name, "certctl_") && !regexp.MustCompile(`_seconds_(bucket|count|sum)$`).MatchString(name) {
			wanted[name] = true
		}
	}
	for by := range queries(t) {
		if name, ok := strings.CutPrefix(by, "alert "); ok {
			wanted[name] = true
		}
	}
	for name := range wanted {
		if !documented[name] {
			t.Errorf("%s is not in docs/monitoring.md", name)
		}
	}
	for name := range documented {
		if !wanted[name] {
			t.Errorf("docs/monitoring.md names %s, which does not exist", name)
		}
	}
}
