package rest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
	"software.sslmate.com/src/go-pkcs12"
)

// imported is what an import brings, whatever its form.
type imported struct {
	leaf  *x509.Certificate
	chain []*x509.Certificate
	key   crypto.PrivateKey // nil: without
}

// ImportCertificate takes in a certificate that exists. Its key is sealed before
// anything is stored, and never shown.
func (s *Server) ImportCertificate(ctx context.Context, r gen.ImportCertificateRequestObject) (gen.ImportCertificateResponseObject, error) {
	request, err := s.importRequest(*r.Body)
	if err != nil {
		return nil, err
	}
	certificate, err := s.store.ImportCertificate(ctx, actorOf(ctx), request)
	if err != nil {
		return nil, err
	}
	body, err := s.certificateWithStatus(ctx, certificate)
	return gen.ImportCertificate201JSONResponse{Body: body, Headers: gen.ImportCertificate201ResponseHeaders{
		Location: "/api/v1/certificates/" + certificate.ID.String(), ETag: etag(certificate.Revision),
	}}, err
}

func (s *Server) importRequest(b gen.ImportRequest) (certctl.ImportRequest, error) {
	request := certctl.ImportRequest{CertificateRequest: certctl.CertificateRequest{
		Team: b.Team, Name: b.Name, Profile: b.Profile, RenewalPolicy: b.RenewalPolicy, Owner: b.Owner, Labels: b.Labels,
		Bindings: bindings(b.Targets, b.Bindings), Origin: certctl.OriginImport,
	}, Issued: b.IssuedByIssuer}
	if b.Issuer != "" {
		request.Issuers = []string{b.Issuer}
	}
	read, err := readImport(b)
	if err != nil {
		return request, err
	}
	request.Leaf = read.leaf.Raw
	for _, c := range read.chain {
		request.Chain = append(request.Chain, c.Raw)
	}
	if read.key == nil {
		return request, nil
	}
	encoded, err := read.pkcs8()
	if err != nil {
		return request, err
	}
	request.Holder = certctl.NewID(s.Now())
	request.SealedKey, err = s.Seal("holder", request.Holder, "sealed_key", encoded)
	return request, err
}

// readImport reads either of the two forms.
func readImport(b gen.ImportRequest) (imported, error) {
	switch {
	case b.Pkcs12 != "" && (b.Certificate != "" || b.PrivateKey != ""):
		return imported{}, certctl.InvalidField("/pkcs12", "give this or certificate and private_key, not both")
	case b.Pkcs12 != "":
		return readPKCS12(b.Pkcs12, b.Password)
	case b.Certificate == "":
		return imported{}, certctl.InvalidField("/certificate", "is missing")
	}
	read, err := readChainPEM([]byte(b.Certificate))
	if err != nil || b.PrivateKey == "" {
		return read, err
	}
	read.key, err = readKeyPEM([]byte(b.PrivateKey))
	return read, err
}

func readPKCS12(encoded, password string) (imported, error) {
	der, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return imported{}, certctl.InvalidField("/pkcs12", "is not base64")
	}
	key, leaf, chain, err := pkcs12.DecodeChain(der, password)
	if err != nil {
		return imported{}, certctl.InvalidField("/pkcs12", "cannot be opened: wrong password, or not a key with its certificate")
	}
	return imported{leaf: leaf, chain: withoutRoots(chain), key: key}, nil
}

// readChainPEM reads the leaf and the certificates after it.
func readChainPEM(text []byte) (imported, error) {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return imported{}, certctl.InvalidField("/certificate", "holds a %s: only certificates belong here", certctl.Clip(block.Type, 40))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return imported{}, certctl.InvalidField("/certificate", "certificate %d cannot be read", len(all)+1)
		}
		all = append(all, c)
	}
	if len(all) == 0 || len(bytes.TrimSpace(text)) > 0 {
		return imported{}, certctl.InvalidField("/certificate", "is not PEM: certificates, leaf first")
	}
	return imported{leaf: all[0], chain: withoutRoots(all[1:])}, nil
}

// withoutRoots leaves out what nobody sends: relying parties have it.
func withoutRoots(chain []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range chain {
		if !bytes.Equal(c.RawSubject, c.RawIssuer) {
			out = append(out, c)
		}
	}
	return out
}

// readKeyPEM reads a private key in any of its three usual forms.
func readKeyPEM(text []byte) (crypto.PrivateKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, certctl.InvalidField("/private_key", "must be one PEM block")
	}
	var key crypto.PrivateKey
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, certctl.InvalidField("/private_key", "is a %s, not an unencrypted private key", certctl.Clip(block.Type, 40))
	}
	if err != nil {
		return nil, certctl.InvalidField("/private_key", "cannot be read")
	}
	return key, nil
}

// pkcs8 encodes the key after proving that it is the leaf's.
func (i imported) pkcs8() ([]byte, error) {
	signer, ok := i.key.(crypto.Signer)
	if !ok {
		return nil, certctl.InvalidField("/private_key", "this kind of key cannot sign")
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(i.leaf.PublicKey) {
		return nil, certctl.InvalidField("/private_key", "is not the key of this certificate")
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the key cannot be encoded")
	}
	return encoded, nil
}
