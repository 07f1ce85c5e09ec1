package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// limitTime is how long a limit of the machine is measured.
const limitTime = 3 * time.Second

// signLimit measures how many certificates a second all cores of this machine
// could issue if nothing but this had to be done: read a CSR, check its
// signature, build a leaf of the usual extensions and sign it.
func signLimit() (float64, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, err
	}
	parent := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "limit"}, NotBefore: time.Now(), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte("limit"),
	}
	requests, err := makeRequests("limit", 64)
	if err != nil {
		return 0, err
	}
	var done atomic.Int64
	var group sync.WaitGroup
	errs := make([]error, runtime.GOMAXPROCS(0))
	began := time.Now()
	for core := range errs {
		group.Go(func() {
			for n := core; time.Since(began) < limitTime && errs[core] == nil; n++ {
				errs[core] = issueOne([]byte(requests[n%len(requests)]), parent, key, int64(n+2))
				done.Add(1)
			}
		})
	}
	group.Wait()
	took := time.Since(began)
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return float64(done.Load()) / took.Seconds(), nil
}

func issueOne(text []byte, parent *x509.Certificate, key *ecdsa.PrivateKey, serial int64) error {
	block, _ := pem.Decode(text)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	if err := request.CheckSignature(); err != nil {
		return err
	}
	_, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: request.DNSNames[0]}, DNSNames: request.DNSNames,
		NotBefore: time.Now(), NotAfter: time.Now().AddDate(0, 0, 47), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, SubjectKeyId: []byte("subject"),
		OCSPServer: []string{"http://pki.example.com/ocsp"}, CRLDistributionPoints: []string{"http://pki.example.com/crl/0.crl"},
		IssuingCertificateURL: []string{"http://pki.example.com/ca.crt"},
	}, parent, request.PublicKey, key)
	return err
}

// makeRequests makes CSRs on all cores, each with a key and a name of its own.
func makeRequests(prefix string, total int) ([]string, error) {
	requests := make([]string, total)
	var group sync.WaitGroup
	cores := runtime.GOMAXPROCS(0)
	errs := make([]error, cores)
	for core := range cores {
		group.Go(func() {
			for n := core; n < total; n += cores {
				if requests[n], errs[core] = makeRequest(fmt.Sprintf("%s-%d.bench.localhost", prefix, n)); errs[core] != nil {
					return
				}
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return requests, nil
}

func makeRequest(name string) (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}
