package rest_test

import (
	"net/http"
	"testing"
)

func TestGuard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var guard struct {
		Share   float64 `json:"share"`
		Least   int     `json:"least"`
		Holding bool    `json:"holding"`
	}
	viewer := w.member("viewer", "", "viewer")
	w.do(http.MethodGet, "/api/v1/guard", viewer, nil).want(http.StatusOK).into(&guard)
	if guard.Share != 0.2 || guard.Least != 50 || guard.Holding {
		t.Errorf("%+v", guard)
	}
	w.do(http.MethodPost, "/api/v1/guard/release", viewer, nil).want(http.StatusForbidden)
	var released struct {
		N int `json:"released"`
	}
	w.as(http.MethodPost, "/api/v1/guard/release", nil).want(http.StatusOK).into(&released)
	if n := w.count(`select count(*) from event where name = 'guard_released'`); n != 1 || released.N != 0 {
		t.Errorf("%d events, %+v", n, released)
	}
}
