package remote_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// awsModel is what AWS publishes of an API.
type awsModel struct {
	Metadata   struct{ TargetPrefix, JSONVersion string }
	Operations map[string]struct {
		Input, Output awsRef
		Errors        []awsRef
	}
	Shapes map[string]awsShape
}

type awsRef struct{ Shape string }

type awsShape struct {
	Type     string
	Required []string
	Members  map[string]awsRef
	Member   awsRef
	Enum     []string
	Min, Max *float64
	Pattern  string
}

func readAWSModel(t *testing.T, path string) *awsModel {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	m := &awsModel{}
	must(t, json.Unmarshal(content, m))
	return m
}

// check holds a value against a shape, and returns what is wrong.
func (m *awsModel) check(shape string, value any) (bad []string) {
	s, known := m.Shapes[shape]
	if !known {
		return []string{"there is no shape " + shape}
	}
	note := func(format string, args ...any) { bad = append(bad, shape+": "+fmt.Sprintf(format, args...)) }
	size := -1.0
	switch v := value.(type) {
	case map[string]any:
		if s.Type != "structure" {
			note("an object, not a %s", s.Type)
		}
		for _, name := range s.Required {
			if v[name] == nil {
				note("%s is missing", name)
			}
		}
		for name, member := range v {
			if ref, known := s.Members[name]; known {
				bad = append(bad, m.check(ref.Shape, member)...)
			} else {
				note("has no %s", name)
			}
		}
	case []any:
		if size = float64(len(v)); s.Type != "list" {
			note("a list, not a %s", s.Type)
		}
		for _, member := range v {
			bad = append(bad, m.check(s.Member.Shape, member)...)
		}
	case string:
		var wrong string
		if size, wrong = s.checkText(v); wrong != "" {
			note("%s", wrong)
		}
	case float64:
		if size = v; !slices.Contains([]string{"integer", "long", "timestamp", "float"}, s.Type) {
			note("a number, not a %s", s.Type)
		}
	case bool:
		if s.Type != "boolean" {
			note("a boolean, not a %s", s.Type)
		}
	default:
		note("%T", value)
	}
	if s.Min != nil && size >= 0 && size < *s.Min || s.Max != nil && size > *s.Max {
		note("the size %v is out of bounds", size)
	}
	return bad
}

func (s awsShape) checkText(text string) (size float64, wrong string) {
	size = float64(len(text))
	switch s.Type {
	case "blob":
		decoded, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return size, "no base64"
		}
		return float64(len(decoded)), ""
	case "string":
	default:
		return size, "a text, not a " + s.Type
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, text) {
		return size, strconv.Quote(text) + " is not one of its values"
	}
	// Names of domains have an expression that Go's do not know.
	if s.Pattern != "" && !strings.Contains(s.Pattern, "(?!") {
		if !awsPattern(s.Pattern).MatchString(text) {
			return size, strconv.Quote(text) + " does not match " + s.Pattern
		}
	}
	return size, ""
}

var (
	awsPatterns sync.Map // they are long: each is compiled once
	awsUnicode  = regexp.MustCompile(`\\u([0-9A-F]{4})`)
)

func awsPattern(pattern string) *regexp.Regexp {
	if known, ok := awsPatterns.Load(pattern); ok {
		return known.(*regexp.Regexp)
	}
	compiled := regexp.MustCompile(`^(?:` + awsUnicode.ReplaceAllString(pattern, `\x{$1}`) + `)$`)
	awsPatterns.Store(pattern, compiled)
	return compiled
}

// A model that finds nothing proves nothing.
func TestAWSModelFindsMistakes(t *testing.T) {
	t.Parallel()
	m := readAWSModel(t, "testdata/acm-2015-12-08.json")
	arn := "arn:aws:acm:eu-central-1:123456789012:certificate/x"
	for body, want := range map[string]string{
		`{"Certificate": "eA==", "PrivateKey": "eA==", "CertificateArn": "` + arn + `", "Tags": [{"Key": "a", "Value": "b c"}]}`: "",
		`{"Certificate": "eA=="}`:                    "PrivateKey is missing",
		`{"Certificate": "x", "PrivateKey": "eA=="}`: "no base64",
		`{"Certificate": "", "PrivateKey": "eA=="}`:  "out of bounds",
		`{"Certificate": "eA==", "PrivateKey": {}}`:  "an object, not a blob",
		`{"Certificate": "eA==", "PrivateKey": "` + base64.StdEncoding.EncodeToString(make([]byte, 5121)) + `"}`: "out of bounds",
		`{"Certificate": "eA==", "PrivateKey": "eA==", "Tags": []}`:                                              "out of bounds",
		`{"Certificate": "eA==", "PrivateKey": "eA==", "Tags": [{"Key": "a*"}]}`:                                 "does not match",
		`{"Certificate": "eA==", "PrivateKey": "eA==", "CertificateArn": "arn:aws:iam::1:certificate/x-------"}`: "does not match",
		`{"Certificate": "eA==", "PrivateKey": "eA==", "Passphrase": "x"}`:                                       "has no Passphrase",
	} {
		var value any
		must(t, json.Unmarshal([]byte(body), &value))
		got := strings.Join(m.check("ImportCertificateRequest", value), "; ")
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
	if got := m.check("ListCertificatesRequest", map[string]any{"Includes": map[string]any{"keyTypes": []any{"RSA_1"}}}); len(got) != 1 {
		t.Errorf("%v", got)
	}
}
