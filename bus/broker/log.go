package broker

import (
	"fmt"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
)

var _ server.Logger = (*logger)(nil)

// logger passes the broker's words to zerolog. Its notices are the steps of
// starting and stopping: debug here, since the process logs its own. Nothing it
// says ends the process.
type logger struct {
	log   zerolog.Logger
	first atomic.Pointer[string] // the first fatal statement
}

func newLogger(log zerolog.Logger) *logger {
	return &logger{log: log.With().Str("component", "nats").Logger()}
}

// debug reports whether debug statements would be written at all.
func (l *logger) debug() bool { return l.log.GetLevel() <= zerolog.DebugLevel }

// fatal returns why the broker cannot run, or "".
func (l *logger) fatal() string {
	if first := l.first.Load(); first != nil {
		return *first
	}
	return ""
}

func (l *logger) Noticef(format string, v ...any) { l.log.Debug().Msgf(format, v...) }
func (l *logger) Warnf(format string, v ...any)   { l.log.Warn().Msgf(format, v...) }
func (l *logger) Errorf(format string, v ...any)  { l.log.Error().Msgf(format, v...) }
func (l *logger) Debugf(format string, v ...any)  { l.log.Debug().Msgf(format, v...) }
func (l *logger) Tracef(format string, v ...any)  { l.log.Trace().Msgf(format, v...) }

func (l *logger) Fatalf(format string, v ...any) {
	message := fmt.Sprintf(format, v...)
	l.first.CompareAndSwap(nil, &message)
	l.log.Error().Msg(message)
}
