package rest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// What a principal may do follows from its roles and its team.
func TestRolesAndTeams(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.Pool().Exec(t.Context(), `insert into team (id, name) values ($1, 'mail')`, certctl.NewID(time.Now()))
	w.must(err)
	viewer, operator := w.member("viewer", "", "viewer"), w.member("operator", "", "operator")
	stranger, auditor := w.member("stranger", "mail", "operator"), w.member("auditor", "", "auditor")
	body := map[string]any{"name": "shop", "issuer": "local", "key_mode": "csr", "dns_names": []string{"shop.example.com"}}
	w.do(http.MethodPost, "/api/v1/certificates", viewer, body).want(http.StatusForbidden)
	w.do(http.MethodPost, "/api/v1/certificates", auditor, body).want(http.StatusForbidden)
	w.do(http.MethodPost, "/api/v1/certificates", operator, body).want(http.StatusCreated)
	w.do(http.MethodGet, "/api/v1/certificates/shop", viewer, nil).want(http.StatusOK)
	for method, path := range map[string]string{
		http.MethodGet: "/api/v1/certificates/shop", http.MethodDelete: "/api/v1/certificates/shop", http.MethodPost: "/api/v1/certificates/shop/renew",
	} {
		w.do(method, path, stranger, nil).want(http.StatusNotFound)
	}
	var list struct {
		Items []certificate `json:"items"`
	}
	w.do(http.MethodGet, "/api/v1/certificates", stranger, nil).want(http.StatusOK).into(&list)
	if len(list.Items) != 0 {
		t.Errorf("another team sees %+v", list.Items)
	}
	w.do(http.MethodPost, "/api/v1/principals", operator, map[string]any{"name": "x", "roles": []string{"admin"}}).want(http.StatusForbidden)
	w.do(http.MethodPost, "/api/v1/issuers", operator, map[string]any{"name": "x", "kind": "local"}).want(http.StatusForbidden)
	w.do(http.MethodGet, "/metrics", viewer, nil).want(http.StatusOK)
	if n := w.count(`select count(*) from event where name = 'request_denied' and outcome = 'denied'`); n < 3 {
		t.Errorf("%d refusals are in the audit log", n)
	}
}

func TestKeysEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.member("someone", "", "viewer")
	var who struct {
		Name string `json:"name"`
	}
	w.do(http.MethodGet, "/api/v1/whoami", key, nil).want(http.StatusOK).into(&who)
	if who.Name != "someone" {
		t.Errorf("it is %+v", who)
	}
	var keys struct {
		Items []struct {
			ID  string `json:"id"`
			Key string `json:"key"`
		} `json:"items"`
	}
	w.as(http.MethodGet, "/api/v1/api-keys?principal=someone", nil).want(http.StatusOK).into(&keys)
	if len(keys.Items) != 1 || keys.Items[0].Key != "" {
		t.Fatalf("keys %+v", keys)
	}
	w.as(http.MethodPatch, "/api/v1/principals/someone", map[string]any{"disabled": true}).want(http.StatusOK)
	w.do(http.MethodGet, "/api/v1/whoami", key, nil).want(http.StatusUnauthorized)
	w.as(http.MethodPatch, "/api/v1/principals/someone", map[string]any{"disabled": false}).want(http.StatusOK)
	w.do(http.MethodGet, "/api/v1/whoami", key, nil).want(http.StatusOK)
	w.as(http.MethodDelete, "/api/v1/api-keys/"+keys.Items[0].ID, nil).want(http.StatusNoContent)
	w.do(http.MethodGet, "/api/v1/whoami", key, nil).want(http.StatusUnauthorized)
	w.as(http.MethodPatch, "/api/v1/principals/admin", map[string]any{"roles": []string{}}).want(http.StatusConflict)
}

// A signer that is away costs nothing but time.
func TestWithoutASigner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as(http.MethodPost, "/api/v1/events/readers", map[string]any{"name": "siem"}).want(http.StatusServiceUnavailable)
	if n := w.count(`select count(*) from reader where revoked_at is null`); n != 0 {
		t.Errorf("%d readers without credentials", n)
	}
}
