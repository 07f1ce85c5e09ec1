package certctl

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
)

// MaxCSR bounds an encoded certificate request before anything of it is parsed.
const MaxCSR = 64 << 10

// CSR is a certificate request whose signature and key have been checked.
type CSR struct {
	DER       []byte
	Names     Names // may be empty: a request may leave the names to the order
	Algorithm KeyAlgorithm
	SPKI      Digest
}

// ParseCSR reads one PKCS#10 request (RFC 2986), PEM or DER, and proves that
// its sender holds the private key. Errors are Invalid.
func ParseCSR(encoded []byte) (*CSR, error) {
	if len(encoded) > MaxCSR {
		return nil, Errorf(Invalid, "a certificate request has at most %d bytes", MaxCSR)
	}
	der := encoded
	if block, rest := pem.Decode(encoded); block != nil {
		if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
			return nil, Errorf(Invalid, "this PEM block is a %s, not a CERTIFICATE REQUEST", Clip(block.Type, 40))
		}
		if next, _ := pem.Decode(rest); next != nil {
			return nil, Errorf(Invalid, "more than one PEM block: send one certificate request")
		}
		der = block.Bytes
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, Wrap(Invalid, err, "not a PKCS#10 certificate request")
	}
	csr, err := csrOf(request)
	if err != nil {
		return nil, err
	}
	if err := request.CheckSignature(); err != nil {
		return nil, Wrap(Invalid, err, "the request is not signed by the key that it is for")
	}
	return csr, nil
}

// RecordedCSR reads a request of DER that ParseCSR has proved before it was
// recorded: its signature, which costs ten times the rest, is not proved again.
func RecordedCSR(der []byte) (*CSR, error) {
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, Wrap(Invalid, err, "not a PKCS#10 certificate request")
	}
	return csrOf(request)
}

func csrOf(request *x509.CertificateRequest) (*CSR, error) {
	algorithm, err := AlgorithmOf(request.PublicKey)
	if err != nil {
		return nil, err
	}
	names, err := NamesOfCSR(request)
	if err != nil {
		return nil, err
	}
	return &CSR{DER: request.Raw, Names: names, Algorithm: algorithm, SPKI: DigestOf(request.RawSubjectPublicKeyInfo)}, nil
}

// KeyOfCSR returns the SubjectPublicKeyInfo of a request (DER) that ParseCSR has
// accepted when it came, and reads nothing else of it: that takes a twentieth of the
// time (RFC 2986 section 4.1).
func KeyOfCSR(der []byte) ([]byte, error) {
	var request, info, version, subject, key asn1.RawValue
	for _, step := range []struct {
		into *asn1.RawValue
		of   *[]byte
		tag  int
	}{
		{&request, &der, asn1.TagSequence}, {&info, &request.Bytes, asn1.TagSequence}, {&version, &info.Bytes, asn1.TagInteger},
		{&subject, &info.Bytes, asn1.TagSequence}, {&key, &info.Bytes, asn1.TagSequence},
	} {
		rest, err := asn1.Unmarshal(*step.of, step.into)
		if err != nil || step.into.Class != asn1.ClassUniversal || step.into.Tag != step.tag {
			return nil, Wrap(Invalid, err, "not a PKCS#10 certificate request")
		}
		*step.of = rest
	}
	return key.FullBytes, nil
}
