package handlers

import (
	"context"
	"time"

	"github.com/rs/zerolog"
)

// AnalyzeStore knows which tables have outgrown what the database's planner knows
// of them.
type AnalyzeStore interface {
	AnalyzeGrown(ctx context.Context) (tables []string, err error)
}

// Analyze keeps the planner's knowledge of growing tables true, so that an
// installation that fills up within a minute is as fast as one that is full.
// Every replica of the scheduler runs one; one that finds a table taken passes
// it over.
type Analyze struct {
	store AnalyzeStore
	log   zerolog.Logger
	every time.Duration
}

// NewAnalyze returns it with the shipped pace.
func NewAnalyze(store AnalyzeStore, log zerolog.Logger) *Analyze {
	return &Analyze{store: store, log: log, every: 2 * time.Second}
}

// Run looks now and then, until ctx ends. A failure costs speed only.
func (a *Analyze) Run(ctx context.Context) error {
	ticker := time.NewTicker(a.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		switch tables, err := a.store.AnalyzeGrown(ctx); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			a.log.Warn().Err(err).Msg("tables that have grown could not be analysed")
		case len(tables) > 0:
			a.log.Debug().Strs("tables", tables).Msg("analysed")
		}
	}
}
