package rest

import (
	"context"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
	"github.com/certctl/certctl/bus"
)

// readerLife is how long a reader's credentials last unless the request says so.
const readerLife = 90 * certctl.Day

func readerOf(r certctl.Reader) gen.Reader {
	return gen.Reader{
		ID: r.ID, Name: r.Name, Team: r.Team, Owner: r.Owner, Filters: r.Filters,
		ExpiresAt: r.ExpiresAt, RevokedAt: r.RevokedAt, CreatedAt: r.CreatedAt,
	}
}

// CreateReader makes credentials for the bus, shown this once. Those of a reader
// whose credentials could not be made are revoked again.
func (s *Server) CreateReader(ctx context.Context, r gen.CreateReaderRequestObject) (gen.CreateReaderResponseObject, error) {
	life, err := lifetime("/expires_in", r.Body.ExpiresIn, readerLife)
	if err != nil {
		return nil, err
	}
	reader, err := s.store.CreateReader(ctx, actorOf(ctx), certctl.Reader{
		Team: r.Body.Team, Name: r.Body.Name, Owner: r.Body.Owner, Filters: slices.Concat(r.Body.Aggregates, r.Body.Subjects),
		ExpiresAt: s.Now().Add(life).UTC().Truncate(time.Second),
	})
	if err != nil {
		return nil, err
	}
	credentials, err := s.Signer.Reader(ctx, reader)
	if err != nil {
		if undo := s.store.RevokeReader(context.WithoutCancel(ctx), actorOf(ctx), reader.ID.String()); undo != nil {
			s.Log.Error().Err(undo).Stringer("reader", reader.ID).Msg("a reader without credentials was not revoked")
		}
		return nil, err
	}
	out := readerOf(reader)
	return gen.CreateReader201JSONResponse{
		ID: out.ID, Name: out.Name, Team: out.Team, Owner: out.Owner, Filters: out.Filters, ExpiresAt: out.ExpiresAt,
		CreatedAt: out.CreatedAt, Credentials: credentials, Stream: bus.StreamEvent, Consumer: bus.ReaderConsumer(reader.ID),
		APIPrefix: bus.ReaderAPIPrefix, Urls: s.BusURLs,
	}, nil
}

// ListReaders shows one page.
func (s *Server) ListReaders(ctx context.Context, r gen.ListReadersRequestObject) (gen.ListReadersResponseObject, error) {
	page, err := s.store.ListReaders(ctx, actorOf(ctx), named(r.Params.Cursor, r.Params.Limit, ""))
	return gen.ListReaders200JSONResponse{Items: each(page.Items, readerOf), NextCursor: page.Next}, err
}

// RevokeReader ends credentials before their time.
func (s *Server) RevokeReader(ctx context.Context, r gen.RevokeReaderRequestObject) (gen.RevokeReaderResponseObject, error) {
	return gen.RevokeReader204Response{}, s.store.RevokeReader(ctx, actorOf(ctx), r.Reader)
}
