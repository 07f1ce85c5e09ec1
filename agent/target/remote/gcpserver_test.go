package remote_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// gcpDiscovery is what Google publishes of an API.
type gcpDiscovery struct {
	Methods map[string]struct {
		HTTPMethod, FlatPath string
		Parameters           map[string]struct {
			Location string
			Required bool
		}
		Request, Response gcpSchema
	}
	Schemas map[string]gcpSchema
}

type gcpSchema struct {
	Ref                  string `json:"$ref"`
	Type                 string
	Properties           map[string]gcpSchema
	Items                *gcpSchema
	Enum                 []string
	ReadOnly             bool
	AdditionalProperties *gcpSchema
}

// check holds a value against a schema; in a request nothing that is read-only.
func (d *gcpDiscovery) check(s gcpSchema, value any, request bool, at string) (bad []string) {
	if s.Ref != "" {
		s = d.Schemas[s.Ref]
	}
	wrong := func(is string) []string { return []string{at + ": " + is + ", not " + s.Type} }
	switch v := value.(type) {
	case map[string]any:
		if s.Type != "object" {
			return wrong("object")
		}
		for name, member := range v {
			property, known := s.Properties[name]
			switch {
			case known && request && property.ReadOnly:
				bad = append(bad, at+"."+name+" is read-only")
			case known:
				bad = append(bad, d.check(property, member, request, at+"."+name)...)
			case s.AdditionalProperties == nil:
				bad = append(bad, at+" has no "+name)
			case s.AdditionalProperties.Type != "any":
				bad = append(bad, d.check(*s.AdditionalProperties, member, request, at+"."+name)...)
			}
		}
	case []any:
		if s.Type != "array" {
			return wrong("array")
		}
		for _, member := range v {
			bad = append(bad, d.check(*s.Items, member, request, at+"[]")...)
		}
	case string:
		if s.Type != "string" || len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
			return wrong("string " + v)
		}
	case bool:
		if s.Type != "boolean" {
			return wrong("boolean")
		}
	case float64:
		if s.Type != "integer" {
			return wrong("number")
		}
	default:
		return wrong(fmt.Sprintf("%T", value))
	}
	return bad
}

const (
	gcpParent = "projects/shop-1/locations/global"
	gcpMail   = "proxy@shop-1.iam.gserviceaccount.com"
)

// gcpServer stands in for Certificate Manager: it verifies tokens, holds requests and
// its own answers against Google's discovery document, and ends operations only when
// they are asked after twice.
type gcpServer struct {
	*testing.T
	*httptest.Server
	discovery *gcpDiscovery
	account   *rsa.PrivateKey
	machine   string // a token of a machine's account

	mu         sync.Mutex
	certs      map[string]*gcpHeld // by name
	operations map[string]*gcpDoing
	calls      []string
	refuse     map[string][]*gcpAnswer // what comes next, by method
	lost       bool                    // the next change is made, and its answer lost

	operationError object // of the next operation
}

type gcpHeld struct {
	pair    tls.Certificate
	about   object // labels, scope, description
	managed bool
	usedBy  []string
}

type gcpDoing struct {
	asked int
	do    func() object // returns an error as Google tells it
}

type gcpAnswer struct {
	status     int
	word       string
	retryAfter string
}

func startGCP(t *testing.T) *gcpServer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	content, err := os.ReadFile("testdata/certificatemanager-v1.json")
	must(t, err)
	s := &gcpServer{
		T: t, discovery: &gcpDiscovery{}, account: key,
		certs: map[string]*gcpHeld{}, operations: map[string]*gcpDoing{}, refuse: map[string][]*gcpAnswer{},
	}
	must(t, json.Unmarshal(content, s.discovery))
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

// checkToken verifies what the account's key has signed.
func (s *gcpServer) checkToken(r *http.Request) error {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if s.machine != "" && token == s.machine {
		return nil
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errors.New("no token")
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(&s.account.PublicKey, crypto.SHA256, sum[:], signature); err != nil {
		return err
	}
	var claims struct {
		Iss, Scope string
		Exp, Iat   int64
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	now := time.Now().Unix()
	if err != nil || claims.Iss != gcpMail || claims.Scope != "https://www.googleapis.com/auth/cloud-platform" || claims.Exp < now || claims.Exp-claims.Iat > 3600 {
		return fmt.Errorf("claims %s, %w", payload, err)
	}
	return nil
}

func (s *gcpServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.Error(err)
	}
	if err := s.checkToken(r); err != nil {
		s.fail(w, &gcpAnswer{status: http.StatusUnauthorized, word: "UNAUTHENTICATED"})
		return
	}
	method := ""
	for name, m := range s.discovery.Methods {
		path := regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(m.FlatPath), "[^/]+")
		if m.HTTPMethod == r.Method && regexp.MustCompile("^/"+path+"$").MatchString(r.URL.Path) {
			method = name
		}
	}
	m := s.discovery.Methods[method]
	for name := range r.URL.Query() {
		if p, known := m.Parameters[name]; !known || p.Location != "query" {
			s.Errorf("%s has no parameter %s", method, name)
		}
	}
	var in object
	if m.Request.Ref != "" {
		if err := json.Unmarshal(body, &in); err != nil || r.Header.Get("Content-Type") != "application/json" {
			s.Errorf("%s: %v", method, err)
		}
		if bad := s.discovery.check(m.Request, in, true, method); len(bad) > 0 {
			s.Errorf("%v", bad)
		}
	} else if method == "" || len(body) > 0 {
		s.Errorf("%s %s with %d bytes", r.Method, r.URL, len(body))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, method)
	if next := s.refuse[method]; len(next) > 0 {
		s.refuse[method] = next[1:]
		s.fail(w, next[0])
		return
	}
	out, refusal := s.do(method, strings.TrimPrefix(r.URL.Path, "/v1/"), r.URL.Query().Get("certificateId"), r.URL.Query().Get("updateMask"), in)
	if refusal != nil {
		s.fail(w, refusal)
		return
	}
	encoded, err := json.Marshal(out)
	must(s.T, err)
	var again any
	must(s.T, json.Unmarshal(encoded, &again))
	if bad := s.discovery.check(m.Response, again, false, method); len(bad) > 0 {
		s.Errorf("the answer: %v", bad)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(encoded) // a client that is gone reads nothing
}

func (*gcpServer) fail(w http.ResponseWriter, a *gcpAnswer) {
	if a.retryAfter != "" {
		w.Header().Set("Retry-After", a.retryAfter)
	}
	w.WriteHeader(a.status)
	_, _ = fmt.Fprintf(w, `{"error": {"code": %d, "message": "refused", "status": %q}}`, a.status, a.word) // a client that is gone reads nothing
}

func (s *gcpServer) do(method, path, id, mask string, in object) (object, *gcpAnswer) {
	if method == "operations.get" {
		doing := s.operations[path]
		if doing == nil {
			return nil, &gcpAnswer{status: http.StatusNotFound, word: "NOT_FOUND"}
		}
		if doing.asked++; doing.asked < 2 {
			return object{"name": path}, nil
		}
		refusal := s.operationError
		if s.operationError = nil; refusal == nil {
			refusal = doing.do()
		}
		if refusal != nil {
			return object{"name": path, "done": true, "error": refusal}, nil
		}
		return object{"name": path, "done": true, "response": object{}}, nil
	}
	if method == "certificates.create" {
		name := path + "/" + id
		if s.certs[name] != nil {
			return nil, &gcpAnswer{status: http.StatusConflict, word: "ALREADY_EXISTS"}
		}
		return s.change(func() object {
			pair, err := gcpPair(in)
			if err != nil {
				return object{"code": 3, "message": err.Error()}
			}
			s.certs[name] = &gcpHeld{pair: pair, about: object{"labels": in["labels"], "scope": in["scope"], "description": in["description"]}}
			return nil
		})
	}
	c := s.certs[path]
	switch {
	case c == nil:
		return nil, &gcpAnswer{status: http.StatusNotFound, word: "NOT_FOUND"}
	case method == "certificates.patch":
		if mask != "selfManaged" || len(in) != 1 {
			s.Errorf("the mask is %q, for %v", mask, in)
		}
		return s.change(func() object {
			pair, err := gcpPair(in)
			if err != nil {
				return object{"code": 3, "message": err.Error()}
			}
			c.pair = pair
			return nil
		})
	case method == "certificates.delete" && len(c.usedBy) > 0:
		return nil, &gcpAnswer{status: http.StatusBadRequest, word: "FAILED_PRECONDITION"}
	case method == "certificates.delete":
		return s.change(func() object { delete(s.certs, path); return nil })
	}
	out := object{"name": path, "labels": c.about["labels"], "scope": c.about["scope"], "pemCertificate": encodePEM(c.pair.Certificate)}
	if c.managed {
		out["managed"] = object{"state": "ACTIVE"}
	}
	var users []object
	for _, name := range c.usedBy {
		users = append(users, object{"name": name})
	}
	if users != nil {
		out["usedBy"] = users
	}
	return out, nil
}

// change begins an operation, or ends it at once where its answer is to be lost.
func (s *gcpServer) change(do func() object) (object, *gcpAnswer) {
	if s.lost {
		s.lost = false
		do()
		panic(http.ErrAbortHandler)
	}
	name := fmt.Sprintf("%s/operations/operation-%d", gcpParent, len(s.operations))
	s.operations[name] = &gcpDoing{do: do}
	return object{"name": name, "metadata": object{"@type": "type.googleapis.com/google.cloud.certificatemanager.v1.OperationMetadata"}}, nil
}

func gcpPair(in object) (tls.Certificate, error) {
	own, _ := in["selfManaged"].(object)
	certificate, _ := own["pemCertificate"].(string)
	key, _ := own["pemPrivateKey"].(string)
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err == nil {
		err = checkChain(pair)
	}
	return pair, err
}

// key is the account's, as Google hands it out.
func (s *gcpServer) key() []byte {
	encoded, err := x509.MarshalPKCS8PrivateKey(s.account)
	must(s.T, err)
	content, err := json.Marshal(object{
		"type": "service_account", "project_id": "shop-1", "private_key_id": "1", "client_email": gcpMail, "client_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})), "token_uri": "https://oauth2.googleapis.com/token",
	})
	must(s.T, err)
	return content
}
