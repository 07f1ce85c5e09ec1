package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// registerTypes teaches a connection the root package's types, so that queries
// take and give certctl.ID, certctl.Digest and time.Time as they are, in UTC. The
// absent ID, the absent digest and the zero time are NULL.
func registerTypes(_ context.Context, conn *pgx.Conn) error {
	types := conn.TypeMap()
	types.TryWrapEncodePlanFuncs = append([]pgtype.TryWrapEncodePlanFunc{wrapEncode}, types.TryWrapEncodePlanFuncs...)
	types.TryWrapScanPlanFuncs = append([]pgtype.TryWrapScanPlanFunc{wrapScan}, types.TryWrapScanPlanFuncs...)
	return nil
}

// idValue adapts certctl.ID to PostgreSQL's uuid.
type idValue certctl.ID

func (v idValue) UUIDValue() (pgtype.UUID, error) {
	return pgtype.UUID{Bytes: v, Valid: certctl.ID(v) != certctl.NoID}, nil
}

func (v *idValue) ScanUUID(u pgtype.UUID) error {
	*v = idValue{}
	if u.Valid {
		*v = u.Bytes
	}
	return nil
}

// digestValue adapts certctl.Digest to bytea.
type digestValue certctl.Digest

func (v digestValue) BytesValue() ([]byte, error) {
	if certctl.Digest(v).IsZero() {
		return nil, nil
	}
	return v[:], nil
}

func (v *digestValue) ScanBytes(b []byte) error {
	*v = digestValue{}
	copy(v[:], b)
	return nil
}

// timeValue adapts time.Time to timestamptz, with the zero time as NULL.
type timeValue time.Time

func (v timeValue) TimestamptzValue() (pgtype.Timestamptz, error) {
	return pgtype.Timestamptz{Time: time.Time(v), Valid: !time.Time(v).IsZero()}, nil
}

func (v *timeValue) ScanTimestamptz(t pgtype.Timestamptz) error {
	*v = timeValue{}
	if t.Valid {
		*v = timeValue(t.Time.UTC())
	}
	return nil
}

type encodePlan[From, To any] struct {
	next    pgtype.EncodePlan
	convert func(From) To
}

func (p *encodePlan[From, To]) SetNext(next pgtype.EncodePlan) { p.next = next }

func (p *encodePlan[From, To]) Encode(value any, buf []byte) ([]byte, error) {
	return p.next.Encode(p.convert(value.(From)), buf)
}

type scanPlan[From, To any] struct {
	next    pgtype.ScanPlan
	convert func(From) To
}

func (p *scanPlan[From, To]) SetNext(next pgtype.ScanPlan) { p.next = next }

func (p *scanPlan[From, To]) Scan(src []byte, dst any) error {
	return p.next.Scan(src, p.convert(dst.(From)))
}

func wrapEncode(value any) (pgtype.WrappedEncodePlanNextSetter, any, bool) {
	switch value := value.(type) {
	case certctl.ID:
		return &encodePlan[certctl.ID, idValue]{convert: func(id certctl.ID) idValue { return idValue(id) }}, idValue(value), true
	case certctl.Digest:
		return &encodePlan[certctl.Digest, digestValue]{convert: func(d certctl.Digest) digestValue { return digestValue(d) }}, digestValue(value), true
	case time.Time:
		return &encodePlan[time.Time, timeValue]{convert: func(t time.Time) timeValue { return timeValue(t) }}, timeValue(value), true
	}
	return nil, nil, false
}

func wrapScan(target any) (pgtype.WrappedScanPlanNextSetter, any, bool) {
	switch target := target.(type) {
	case *certctl.ID:
		return &scanPlan[*certctl.ID, *idValue]{convert: func(id *certctl.ID) *idValue { return (*idValue)(id) }}, (*idValue)(target), true
	case *certctl.Digest:
		return &scanPlan[*certctl.Digest, *digestValue]{convert: func(d *certctl.Digest) *digestValue { return (*digestValue)(d) }}, (*digestValue)(target), true
	case *time.Time:
		return &scanPlan[*time.Time, *timeValue]{convert: func(t *time.Time) *timeValue { return (*timeValue)(t) }}, (*timeValue)(target), true
	}
	return nil, nil, false
}
