package rest

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// RecordStore knows what is to be published so that names are proven.
type RecordStore interface {
	ListValidationRecords(ctx context.Context, actor certctl.Actor, ref string) ([]certctl.ValidationRecord, error)
}

// ListValidationRecords shows what is to be published for a certificate, and what
// was found.
func (s *Server) ListValidationRecords(ctx context.Context, r gen.ListValidationRecordsRequestObject) (gen.ListValidationRecordsResponseObject, error) {
	records, err := s.store.ListValidationRecords(ctx, actorOf(ctx), r.Certificate)
	if err != nil {
		return nil, err
	}
	return gen.ListValidationRecords200JSONResponse{Items: each(records, func(r certctl.ValidationRecord) gen.ValidationRecord {
		return gen.ValidationRecord{
			Issuer: refOf(r.Issuer), Name: r.Name, Record: r.Record, Type: "TXT", Value: r.Value,
			State: string(r.State), Until: r.Until, Message: r.Message, CheckedAt: r.CheckedAt,
		}
	})}, nil
}
