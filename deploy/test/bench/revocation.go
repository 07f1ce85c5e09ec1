package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl/deploy/local"
	"golang.org/x/crypto/ocsp"
)

const (
	revocations  = 200
	ocspClients  = 32
	ocspDuration = 5 * time.Second
)

// revocation revokes, and asks OCSP and the lists, with a million revoked
// certificates in the tables.
func revocation(ctx context.Context, o options, r *result) error {
	requests, err := makeRequests("g", revocations)
	if err != nil {
		return err
	}
	return withStand(ctx, o, func(s *stand) error {
		if err := s.seedAgent(ctx); err != nil {
			return err
		}
		total := o.of(1_000_000)
		if err := s.seed(ctx, seeded{to: total, revoked: true}); err != nil {
			return err
		}
		if err := s.submitBulk(ctx, "g", requests); err != nil {
			return err
		}
		if err := s.await(ctx, `select not exists (select from due where kind = 'order')`); err != nil {
			return err
		}
		issued, err := s.issued(ctx, "g-0")
		if err != nil {
			return err
		}
		if err := s.measureOCSP(ctx, r, issued, total); err != nil {
			return err
		}
		return s.measureRevoke(ctx, r, issued)
	})
}

// issued fetches a certificate with its chain.
func (s *stand) issued(ctx context.Context, name string) ([]*x509.Certificate, error) {
	var text []byte
	if err := s.API.Call(ctx, http.MethodGet, "/api/v1/certificates/"+name+"/chain.pem", nil, &text); err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		chain = append(chain, certificate)
	}
	return chain, nil
}

// measureOCSP asks for a different serial number each time.
func (s *stand) measureOCSP(ctx context.Context, r *result, chain []*x509.Certificate, total int) error {
	api, err := s.clients(ocspClients)
	if err != nil {
		return err
	}
	url := s.API.URL + pathOf(chain[0].OCSPServer[0])
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var asked atomic.Int64
	var group sync.WaitGroup
	latencies := make([]times, ocspClients)
	began := time.Now()
	for client := range ocspClients {
		group.Go(func() {
			for time.Since(began) < ocspDuration && ctx.Err() == nil {
				serial, _ := new(big.Int).SetString(fmt.Sprintf("5e%038x", 1+int(asked.Add(1))*7919%total), 16) // digits only
				from := time.Now()
				if err := askOCSP(ctx, api, url, &x509.Certificate{SerialNumber: serial}, chain[1]); err != nil {
					cancel(err)
				}
				latencies[client] = append(latencies[client], time.Since(from))
			}
		})
	}
	group.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	var all times
	for _, some := range latencies {
		all = append(all, some...)
	}
	rate := float64(len(all)) / time.Since(began).Seconds()
	r.need(fmt.Sprintf("OCSP over HTTPS with %d revoked, %d clients", total, ocspClients), rate >= 5000, "≥ 5,000/s", "%.0f/s, %s", rate, all)
	return nil
}

// askOCSP asks for a status, which must be revoked and properly signed.
func askOCSP(ctx context.Context, api *local.API, url string, subject, issuer *x509.Certificate) error {
	request, err := ocsp.CreateRequest(subject, issuer, nil)
	if err != nil {
		return err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(request))
	if err != nil {
		return err
	}
	post.Header.Set("Content-Type", "application/ocsp-request")
	response, err := api.HTTP.Do(post)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return &local.StatusError{Status: response.StatusCode, Body: string(body)}
	}
	// Its signature is checked elsewhere: here the client's CPU is the server's.
	answer, err := ocsp.ParseResponse(body, nil)
	if err == nil && answer.Status != ocsp.Revoked {
		err = fmt.Errorf("the status of %x is %d", subject.SerialNumber, answer.Status)
	}
	return err
}

// measureRevoke revokes certificates one by one, and waits for the last one to be
// on its list.
func (s *stand) measureRevoke(ctx context.Context, r *result, chain []*x509.Certificate) error {
	api, err := s.clients(1)
	if err != nil {
		return err
	}
	var took times
	for n := 1; n < revocations; n++ {
		from := time.Now()
		if err := api.Call(ctx, http.MethodPost, fmt.Sprintf("/api/v1/certificates/g-%d/revoke", n), map[string]any{"reason": "superseded", "replace": "no"}, nil); err != nil {
			return err
		}
		took = append(took, time.Since(from))
	}
	r.need("revoke", took.at(0.99) < 20*time.Millisecond, "p99 < 20 ms", "%s", took)
	from := time.Now()
	if err := api.Call(ctx, http.MethodPost, "/api/v1/certificates/g-0/revoke", map[string]any{"reason": "superseded", "replace": "no"}, nil); err != nil {
		return err
	}
	url := s.API.URL + pathOf(chain[0].CRLDistributionPoints[0])
	if err := awaitListed(ctx, api, url, chain[0].SerialNumber); err != nil {
		return err
	}
	visible := time.Since(from)
	r.need("on the published list", visible < 2*time.Second, "< 2 s", "%s", short(visible))
	return nil
}

func awaitListed(ctx context.Context, api *local.API, url string, serial *big.Int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		list, err := fetchList(ctx, api, url)
		if err != nil {
			return err
		}
		for _, entry := range list.RevokedCertificateEntries {
			if entry.SerialNumber.Cmp(serial) == 0 {
				return nil
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func fetchList(ctx context.Context, api *local.API, url string) (*x509.RevocationList, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := api.HTTP.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	return x509.ParseRevocationList(body)
}

// pathOf is the path of a URL in a certificate: over HTTPS the same is served.
func pathOf(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	return rest[strings.IndexByte(rest, '/'):]
}
