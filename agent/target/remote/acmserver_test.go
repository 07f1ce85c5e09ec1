package remote_test

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

const (
	acmRegion = "eu-central-1"
	acmKeyID  = "AKIAIOSFODNN7EXAMPLE"
	acmSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// acmServer stands in for ACM: it verifies signatures, holds requests and its own
// answers against what AWS publishes, and keeps the rules of its documentation on
// what may be imported, and over what.
type acmServer struct {
	*testing.T
	*httptest.Server
	model *awsModel

	mu     sync.Mutex
	made   int
	certs  map[string]*acmCertificate // by ARN
	order  []string
	calls  []string
	fails  map[string][]string // codes that come next, by operation
	lost   bool                // the next import is made, and its answer lost
	denied map[string]bool     // operations that the identity may not
}

type acmCertificate struct {
	pair    tls.Certificate
	kind    string // IMPORTED or AMAZON_ISSUED
	tags    map[string]string
	inUseBy []string
}

func startACM(t *testing.T) *acmServer {
	t.Helper()
	s := &acmServer{
		T: t, model: readAWSModel(t, "testdata/acm-2015-12-08.json"),
		certs: map[string]*acmCertificate{}, fails: map[string][]string{}, denied: map[string]bool{},
	}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

type acmRefusal struct{ code, message string }

func (s *acmServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.Error(err)
	}
	operation, _ := strings.CutPrefix(r.Header.Get("X-Amz-Target"), s.model.Metadata.TargetPrefix+".")
	op, known := s.model.Operations[operation]
	if !known || r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("Content-Type") != "application/x-amz-json-"+s.model.Metadata.JSONVersion {
		s.Errorf("%s %s %q %q", r.Method, r.URL, r.Header.Get("X-Amz-Target"), r.Header.Get("Content-Type"))
	}
	if err := checkSignature(r, body, acmRegion, "acm", map[string]string{acmKeyID: acmSecret}, time.Now()); err != nil {
		s.refuse(w, acmRefusal{"InvalidSignatureException", err.Error()})
		return
	}
	var in object
	if err := json.Unmarshal(body, &in); err != nil {
		s.Errorf("%s: %v", operation, err)
	}
	if bad := s.model.check(op.Input.Shape, in); len(bad) > 0 {
		s.Errorf("%s: %v", operation, bad)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, operation)
	if next := s.fails[operation]; len(next) > 0 {
		s.fails[operation] = next[1:]
		s.refuse(w, acmRefusal{next[0], "as the test wants it"})
		return
	}
	if s.denied[operation] {
		s.refuse(w, acmRefusal{"AccessDeniedException", "not authorized to perform acm:" + operation})
		return
	}
	out, refusal := s.do(operation, in)
	if refusal != nil {
		if !slices.ContainsFunc(op.Errors, func(e awsRef) bool { return e.Shape == refusal.code }) {
			s.Errorf("%s does not refuse with %s", operation, refusal.code)
		}
		s.refuse(w, *refusal)
		return
	}
	if operation == "ImportCertificate" && s.lost {
		s.lost = false
		panic(http.ErrAbortHandler)
	}
	s.answer(w, op.Output.Shape, out)
}

func (s *acmServer) answer(w http.ResponseWriter, shape string, out object) {
	encoded, err := json.Marshal(out)
	if err != nil {
		s.Error(err)
	}
	if shape == "" {
		encoded = nil
	} else {
		var again any
		if err := json.Unmarshal(encoded, &again); err != nil {
			s.Error(err)
		}
		if bad := s.model.check(shape, again); len(bad) > 0 {
			s.Errorf("the answer: %v", bad)
		}
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_, _ = w.Write(encoded) // a client that is gone reads nothing
}

func (*acmServer) refuse(w http.ResponseWriter, r acmRefusal) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = fmt.Fprintf(w, `{"__type": %q, "message": %q}`, r.code, r.message) // a client that is gone reads nothing
}

func (s *acmServer) do(operation string, in object) (object, *acmRefusal) {
	switch operation {
	case "ImportCertificate":
		return s.importCertificate(in)
	case "ListCertificates":
		return s.list(in), nil
	}
	arn, _ := in["CertificateArn"].(string)
	c := s.certs[arn]
	if c == nil {
		return nil, &acmRefusal{"ResourceNotFoundException", arn}
	}
	switch operation {
	case "DescribeCertificate":
		leaf := c.pair.Leaf
		return object{"Certificate": object{
			"CertificateArn": arn, "Type": c.kind, "Status": "ISSUED", "InUseBy": append([]string{}, c.inUseBy...), "KeyAlgorithm": acmAlgorithm(leaf),
			"Serial": leaf.SerialNumber.Text(16), "NotAfter": leaf.NotAfter.Unix(), "DomainName": leaf.DNSNames[0],
		}}, nil
	case "GetCertificate":
		out := object{"Certificate": encodePEM(c.pair.Certificate[:1])}
		if len(c.pair.Certificate) > 1 {
			out["CertificateChain"] = encodePEM(c.pair.Certificate[1:])
		}
		return out, nil
	case "ListTagsForCertificate":
		var tags []object
		for _, key := range slices.Sorted(maps.Keys(c.tags)) {
			tags = append(tags, object{"Key": key, "Value": c.tags[key]})
		}
		if tags == nil {
			return object{}, nil
		}
		return object{"Tags": tags}, nil
	}
	if len(c.inUseBy) > 0 {
		return nil, &acmRefusal{"ResourceInUseException", c.inUseBy[0]}
	}
	delete(s.certs, arn)
	s.order = slices.DeleteFunc(s.order, func(have string) bool { return have == arn })
	return nil, nil
}

// list has two to a page, and without a filter only small RSA keys, as ACM.
func (s *acmServer) list(in object) object {
	types := []string{"RSA_1024", "RSA_2048"}
	if includes, given := in["Includes"].(object); given {
		types = nil
		for _, name := range includes["keyTypes"].([]any) {
			types = append(types, name.(string))
		}
	}
	var all []object
	for _, arn := range s.order {
		if c := s.certs[arn]; slices.Contains(types, acmAlgorithm(c.pair.Leaf)) {
			all = append(all, object{"CertificateArn": arn, "Type": c.kind, "DomainName": c.pair.Leaf.DNSNames[0], "InUse": len(c.inUseBy) > 0})
		}
	}
	from := 0
	if token, given := in["NextToken"].(string); given {
		from, _ = strconv.Atoi(token)
	}
	to := min(from+2, len(all))
	out := object{"CertificateSummaryList": append([]object{}, all[from:to]...)}
	if to < len(all) {
		out["NextToken"] = strconv.Itoa(to)
	}
	return out
}

func (s *acmServer) importCertificate(in object) (object, *acmRefusal) {
	pair, err := tls.X509KeyPair(append(blob(in["Certificate"]), blob(in["CertificateChain"])...), blob(in["PrivateKey"]))
	if err == nil {
		err = checkChain(pair)
	}
	if err != nil {
		return nil, &acmRefusal{"InvalidParameterException", err.Error()}
	}
	arn, again := in["CertificateArn"].(string)
	if !again {
		s.made++
		arn = fmt.Sprintf("arn:aws:acm:%s:123456789012:certificate/00000000-0000-4000-8000-%012d", acmRegion, s.made)
		c := &acmCertificate{pair: pair, kind: "IMPORTED", tags: map[string]string{}}
		tags, _ := in["Tags"].([]any)
		for _, tag := range tags {
			c.tags[tag.(object)["Key"].(string)], _ = tag.(object)["Value"].(string)
		}
		s.certs[arn], s.order = c, append(s.order, arn)
		return object{"CertificateArn": arn}, nil
	}
	c := s.certs[arn]
	switch {
	case c == nil:
		return nil, &acmRefusal{"ResourceNotFoundException", arn}
	case in["Tags"] != nil:
		return nil, &acmRefusal{"InvalidParameterException", "tagging is not permitted on re-import"}
	case c.kind != "IMPORTED":
		return nil, &acmRefusal{"InvalidParameterException", "not imported"}
	case acmAlgorithm(c.pair.Leaf) != acmAlgorithm(pair.Leaf):
		return nil, &acmRefusal{"InvalidParameterException", "the key type and size cannot be changed"}
	case slices.ContainsFunc(c.pair.Leaf.ExtKeyUsage, func(u x509.ExtKeyUsage) bool { return !slices.Contains(pair.Leaf.ExtKeyUsage, u) }):
		return nil, &acmRefusal{"InvalidParameterException", "extended key usages cannot be removed"}
	}
	c.pair = pair
	return object{"CertificateArn": arn}, nil
}

// checkChain is what ACM's documentation says of a certificate and its chain.
func checkChain(pair tls.Certificate) error {
	now, child := time.Now(), pair.Leaf
	if now.Before(child.NotBefore) || now.After(child.NotAfter) {
		return fmt.Errorf("not valid now")
	}
	for _, der := range pair.Certificate[1:] {
		parent, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		if err := child.CheckSignatureFrom(parent); err != nil {
			return err
		}
		child = parent
	}
	return nil
}

func acmAlgorithm(leaf *x509.Certificate) string {
	switch public := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		return "RSA_" + strconv.Itoa(public.N.BitLen())
	case *ecdsa.PublicKey:
		return map[int]string{256: "EC_prime256v1", 384: "EC_secp384r1"}[public.Params().BitSize]
	}
	return ""
}

func blob(value any) []byte {
	text, _ := value.(string)
	content, _ := base64.StdEncoding.DecodeString(text) // the model has checked it
	return content
}

func encodePEM(ders [][]byte) string {
	return string(certctl.Chain(ders[1:]).PEM(ders[0]))
}

// roots is a file with the server's certificate.
func (s *acmServer) roots() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}
