package certctl_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func TestRetentionHasDefaultsAndBounds(t *testing.T) {
	t.Parallel()
	var hour, forever certctl.Keep
	if err := forever.UnmarshalText([]byte("forever")); err != nil || forever != certctl.KeepForever || forever.String() != "forever" {
		t.Fatalf("forever is %v, %v", forever, err)
	}
	if err := hour.UnmarshalText([]byte("1h")); err != nil || hour != certctl.Keep(time.Hour) {
		t.Fatalf("1h is %v, %v", hour, err)
	}
	if err := new(certctl.Keep).UnmarshalText([]byte("for ever")); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("nonsense was taken: %v", err)
	}
	r, err := certctl.Retention{certctl.RetainEvents: forever, certctl.RetainNonces: 0}.Complete()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	if _, ever := r.Before(certctl.RetainEvents, now); ever {
		t.Error("what is kept for ever is swept")
	}
	for _, kind := range certctl.SweptKinds {
		if before, ever := r.Before(kind, now); !ever || !before.Before(now) {
			t.Errorf("%s has no default", kind)
		}
	}
	if _, err := (certctl.Retention{certctl.RetainOrders: hour}).Complete(); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("orders kept for an hour were allowed: %v", err)
	}
}
