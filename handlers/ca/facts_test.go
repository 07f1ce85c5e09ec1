package ca

import (
	"crypto/sha256"
	"encoding/hex"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/zmap/zlint/v3/lint"
)

// varyingFields are the fields of a certificate that vary within a shape, with
// the fact that each is. An extension's value is named by its identifier.
var varyingFields = map[string]facts{
	"SerialNumber": factSerial,
	"Subject":      factSubject, "RawSubject": factSubject,
	"Subject.CommonName": factSubject, "Subject.CommonNames": factSubject, "Subject.Names": factSubject, "Subject.OriginalRDNS": factSubject,
	"RawSubjectPublicKeyInfo": factKey, "PublicKey": factKey, "SubjectKeyId": factKey, "value of SubjectKeyIdentityOID": factKey,
	"value of SubjectAlternateNameOID": factSAN, "IPAddresses": factSAN,
	"DNSNames": factDNS, "GetParsedDNSNames()": factDNS, "EmailAddresses": factEmail, "URIs": factURI,
	"CRLDistributionPoints": factList, "value of CrlDistOID": factList,
	"Extensions": factSAN | factKey | factList, "ExtensionsMap": factSAN | factKey | factList,
}

// fixedFields are those that follow from the key of a shape: cut keeps all octets
// that they are read from. Of the subject only the common name varies, so that its
// other attributes are never there.
var fixedFields = []string{
	"Version", "Issuer", "Issuer.Country", "RawIssuer", "SignatureAlgorithmOID", "PublicKeyAlgorithm", "PublicKeyAlgorithmOID",
	"IsCA", "BasicConstraintsValid", "KeyUsage", "ExtKeyUsage", "AuthorityKeyId", "IssuingCertificateURL", "IssuerUniqueId", "SubjectUniqueId",
	"PolicyIdentifiers", "ExplicitTexts", "NoticeRefNumbers", "NoticeRefOrgnization",
	"IANDNSNames", "IANEmailAddresses", "IANURIs",
	"PermittedDNSNames", "PermittedEmailAddresses", "PermittedURIs", "PermittedIPAddresses", "PermittedDirectoryNames", "PermittedEdiPartyNames",
	"PermittedRegisteredIDs", "PermittedX400Addresses", "ExcludedDNSNames", "ExcludedEmailAddresses", "ExcludedURIs", "ExcludedIPAddresses",
	"ExcludedDirectoryNames", "ExcludedEdiPartyNames", "ExcludedRegisteredIDs", "ExcludedX400Addresses",
	"value of AiaOID", "value of AuthkeyOID", "value of BasicConstOID", "value of CertPolicyOID", "value of EkuSynOid", "value of FreshCRLOID",
	"value of InhibitAnyPolicyOID", "value of IssuerAlternateNameOID", "value of KeyUsageOID", "value of NameConstOID", "value of PolicyConstOID",
	"value of PolicyMapOID", "value of SubjectDirAttrOID", "value of SubjectInfoAccessOID",
	"SelfSigned", // needs a signature, and what is linted has none
	"Subject.Country", "Subject.EmailAddress", "Subject.GivenName", "Subject.Locality", "Subject.Organization", "Subject.OrganizationalUnit",
	"Subject.PostalCode", "Subject.Province", "Subject.SerialNumber", "Subject.StreetAddress", "Subject.Surname",
}

// argued are rules that read a field which varies, but only such octets of it as
// belong to the shape. They were read as their source was then; when that changes,
// they must be read again.
var argued = map[string]struct {
	fields []string
	source string // the beginning of a hash of the functions that get the certificate
	why    string
}{
	"e_cert_ext_invalid_der":                            {[]string{"Raw"}, "d999e93a", "it looks at how extensions say that they are critical, which the key has"},
	"e_cert_sig_alg_not_match_tbs_sig_alg":              {[]string{"Raw"}, "91e13276", "the key has the one algorithm, and wrap copies it as the other"},
	"e_tbs_signature_rsa_encryption_parameter_not_null": {[]string{"RawTBSCertificate"}, "12db271c", "it looks at the signature's algorithm, which the key has"},
	"e_ext_duplicate_extension":                         {[]string{"Extensions"}, "7ebfab8b", "it compares identifiers, which the key has in their order"},
	"e_cert_extensions_version_not_3":                   {[]string{"Extensions"}, "ab594611", "it counts them, and the key has an entry for each"},
	"e_ext_subject_key_identifier_critical":             {[]string{"value of SubjectKeyIdentityOID"}, "516e9578", critical},
	"w_ext_crl_distribution_marked_critical":            {[]string{"value of CrlDistOID"}, "3921b4d5", critical},
	"e_distribution_point_incomplete":                   {[]string{"value of CrlDistOID"}, "bf4013dc", "a leaf has a shape only when its one distribution point has a name and no reasons"},
	"e_ext_cannot_be_empty_sequence": {
		[]string{"ExtensionsMap"}, "fe86ef80",
		"it looks whether sequences are empty: of names the key has the types, a leaf with a shape has one distribution point or no such extension, and the other extensions that it looks at do not vary",
	},
	"e_generalized_time_does_not_include_seconds":  {[]string{"RawTBSCertificate"}, "aa9eb6bb", form},
	"e_generalized_time_includes_fraction_seconds": {[]string{"RawTBSCertificate"}, "23a175fa", form},
	"e_generalized_time_not_in_zulu":               {[]string{"RawTBSCertificate"}, "9b7eac7f", form},
	"e_utc_time_does_not_include_seconds":          {[]string{"RawTBSCertificate"}, "eab1d312", form},
	"e_utc_time_not_in_zulu":                       {[]string{"RawTBSCertificate", "NotBefore", "NotAfter"}, "6df62089", form},
	"e_wrong_time_format_pre2050":                  {[]string{"RawTBSCertificate"}, "862c21a0", form},
}

const critical = "it looks whether the extension is critical, which the key has"

const form = "a leaf has a shape only when both times are UTCTime, 13 octets, with Z"

// Every rule is classified, and a rule that is said to read nothing of what varies
// reads nothing of it in its source: a new release of zlint with new or changed rules
// fails here until somebody has looked at them.
func TestRulesReadWhatTheTableSays(t *testing.T) {
	t.Parallel()
	set, err := rules()
	if err != nil {
		t.Fatal(err)
	}
	source := readSource(t)
	left := maps.Clone(reads)
	for _, rule := range set.rules {
		said, ok := reads[rule.Name]
		if !ok {
			t.Errorf("%s is not classified: it reads %q", rule.Name, slices.Sorted(maps.Keys(source.read(t, rule).fields)))
			continue
		}
		delete(left, rule.Name)
		r := source.read(t, rule)
		if is, was := r.digest(), argued[rule.Name].source; is != was && len(argued[rule.Name].fields) > 0 {
			t.Errorf("the source of %s is %s, and was %s: see whether it is still true that %s", rule.Name, is, was, argued[rule.Name].why)
		}
		for field := range r.fields {
			fact, varies := varyingFields[field]
			switch {
			case slices.Contains(argued[rule.Name].fields, field):
			case varies && said&fact != fact:
				t.Errorf("%s reads %s, which the table does not say", rule.Name, field)
			case !varies && !slices.Contains(fixedFields, field):
				t.Errorf("%s reads %s, of which nobody has said whether it varies", rule.Name, field)
			}
		}
	}
	for name := range left {
		t.Errorf("there is no rule %s", name)
	}
}

// source are the functions of zlint's packages for rules and their helpers.
type source struct {
	rules     map[string][]*ast.FuncDecl // by the rule's name: CheckApplies, Execute and further methods
	functions map[string]*ast.FuncDecl   // by package and name
}

func readSource(t *testing.T) *source {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/zmap/zlint/v3").Output()
	if err != nil {
		t.Fatal(err)
	}
	s := &source{rules: map[string][]*ast.FuncDecl{}, functions: map[string]*ast.FuncDecl{}}
	for name, folder := range map[string]string{"rfc": "lints/rfc", "util": "util"} {
		files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), folder, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no source in %s (%v)", folder, err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			s.add(name, file)
		}
	}
	return s
}

// add notes a file's functions, and its methods as those of the rule that it registers.
func (s *source) add(name string, file *ast.File) {
	var methods []*ast.FuncDecl
	for _, declaration := range file.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		switch {
		case ok && function.Recv != nil:
			methods = append(methods, function)
		case ok:
			s.functions[name+"."+function.Name.Name] = function
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		pair, ok := n.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		key, _ := pair.Key.(*ast.Ident)
		value, _ := pair.Value.(*ast.BasicLit)
		if key != nil && key.Name == "Name" && value != nil {
			if text, err := strconv.Unquote(value.Value); err == nil {
				s.rules[text] = methods
			}
		}
		return true
	})
}

// read follows the certificate through a rule.
func (s *source) read(t *testing.T, rule *lint.CertificateLint) *reader {
	t.Helper()
	r := &reader{T: t, source: s, rule: rule.Name, fields: map[string]bool{}, functions: map[string]bool{}}
	named := map[string]bool{}
	for _, method := range s.rules[rule.Name] {
		if named[method.Name.Name] {
			t.Errorf("%s: two rules in one file", rule.Name)
		}
		named[method.Name.Name] = true
		if method.Name.Name == "CheckApplies" || method.Name.Name == "Execute" {
			r.follow(method, 0)
		}
	}
	if !named["CheckApplies"] || !named["Execute"] {
		t.Errorf("%s: its source was not found", rule.Name)
	}
	return r
}

// reader follows a certificate through functions.
type reader struct {
	*testing.T
	source    *source
	rule      string
	fields    map[string]bool // that are read
	functions map[string]bool // that get it: their source
}

// digest is short: it need not withstand anybody, only notice changes.
func (r *reader) digest() string {
	hash := sha256.New()
	for _, function := range slices.Sorted(maps.Keys(r.functions)) {
		hash.Write([]byte(function))
	}
	return hex.EncodeToString(hash.Sum(nil)[:4])
}

// follow notes what a function does with its argument n.
func (r *reader) follow(function *ast.FuncDecl, n int) {
	var text strings.Builder
	if err := format.Node(&text, token.NewFileSet(), function); err != nil {
		r.Fatal(err)
	}
	r.functions[text.String()] = true
	var parameters []*ast.Ident
	for _, field := range function.Type.Params.List {
		parameters = append(parameters, field.Names...)
	}
	if n >= len(parameters) {
		if n > 0 || len(function.Type.Params.List) != 1 {
			r.Errorf("%s: %s has no parameter %d", r.rule, function.Name, n)
		}
		return // it does not even name it
	}
	var above []ast.Node
	ast.Inspect(function.Body, func(node ast.Node) bool {
		if node == nil {
			above = above[:len(above)-1]
			return true
		}
		if selector, ok := node.(*ast.SelectorExpr); ok {
			if x, _ := selector.X.(*ast.Ident); x != nil && x.Name == "time" && selector.Sel.Name == "Now" {
				r.Errorf("%s: %s asks for the time", r.rule, function.Name)
			}
		}
		if name, ok := node.(*ast.Ident); ok && name.Obj != nil && name.Obj == parameters[n].Obj {
			r.use(function, name, above)
		}
		above = append(above, node)
		return true
	})
}

// use notes one use of the certificate: a field, a method, or that it is handed on.
func (r *reader) use(function *ast.FuncDecl, name *ast.Ident, above []ast.Node) {
	up := func(n int) ast.Node { return above[max(0, len(above)-n)] }
	switch parent := up(1).(type) {
	case *ast.SelectorExpr:
		field := parent.Sel.Name
		switch outer := up(2).(type) {
		case *ast.SelectorExpr:
			if field == "Subject" || field == "Issuer" {
				field += "." + outer.Sel.Name
			}
		case *ast.CallExpr:
			if outer.Fun == parent {
				field += "()"
			}
		}
		r.fields[field] = true
		return
	case *ast.CallExpr:
		if r.call(function, parent, slices.Index(parent.Args, ast.Expr(name))) {
			return
		}
	case *ast.BinaryExpr:
		if other, _ := parent.Y.(*ast.Ident); other != nil && other.Name == "nil" {
			return
		}
	}
	r.Errorf("%s: what %s does with the certificate is not understood", r.rule, function.Name)
}

// call follows a certificate into the function that it is handed to.
func (r *reader) call(in *ast.FuncDecl, call *ast.CallExpr, argument int) bool {
	switch callee := call.Fun.(type) {
	case *ast.Ident:
		for _, name := range []string{"rfc.", "util."} {
			if function := r.source.functions[name+callee.Name]; function != nil {
				if callee.Name == "GetExtFromCert" && in.Name.Name == "IsExtInCert" {
					return true // which extensions there are belongs to the shape
				}
				r.follow(function, argument)
				return true
			}
		}
	case *ast.SelectorExpr:
		of, _ := callee.X.(*ast.Ident)
		if of == nil {
			return false
		}
		if function := r.source.functions["util."+callee.Sel.Name]; of.Name == "util" && function != nil {
			if id, ok := extensionAsked(call); ok {
				if callee.Sel.Name == "GetExtFromCert" {
					r.fields["value of "+id] = true
				}
				return true
			}
			r.follow(function, argument)
			return true
		}
		for _, method := range r.source.rules[r.rule] {
			if method.Name.Name == callee.Sel.Name {
				r.follow(method, argument)
				return true
			}
		}
	}
	return false
}

// extensionAsked is the extension that IsExtInCert and GetExtFromCert are asked for.
func extensionAsked(call *ast.CallExpr) (string, bool) {
	name := call.Fun.(*ast.SelectorExpr).Sel.Name
	if name != "IsExtInCert" && name != "GetExtFromCert" || len(call.Args) != 2 {
		return "", false
	}
	id, ok := call.Args[1].(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	return id.Sel.Name, true
}
