package backup

import (
	"context"
	"net/url"
	"regexp"
	"strings"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// database is what a URL names, for our own connection and for programs.
type database struct {
	config   *pgx.ConnConfig
	conninfo string // without the password, and as libpq understands it
	password string
}

// ours matches parameters that only our driver knows; libpq refuses them.
var ours = regexp.MustCompile(`^(pool_.*|default_query_exec_mode|statement_cache_capacity|description_cache_capacity)$`)

// keyword matches one setting of a connection string that is no URL.
var keyword = regexp.MustCompile(`([a-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s']*)`)

func parse(text string) (database, error) {
	config, err := pgxpool.ParseConfig(text)
	if err != nil {
		return database{}, certctl.Wrap(certctl.Invalid, err, "the database URL cannot be read")
	}
	d := database{config: config.ConnConfig, password: config.ConnConfig.Password}
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		d.conninfo = keyword.ReplaceAllStringFunc(text, func(setting string) string {
			name := keyword.FindStringSubmatch(setting)[1]
			if name == "password" || ours.MatchString(name) {
				return ""
			}
			return setting
		})
		return d, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return database{}, certctl.Errorf(certctl.Invalid, "the database URL cannot be read")
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	query := u.Query()
	for name := range query {
		if name == "password" || ours.MatchString(name) {
			query.Del(name)
		}
	}
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20") // libpq reads no "+" as a space
	d.conninfo = u.String()
	return d, nil
}

func (d database) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, d.config)
	if err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "the database cannot be reached")
	}
	return conn, nil
}

// serverVersion is the server's major version.
func serverVersion(ctx context.Context, conn interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
},
) (major int, err error) {
	err = conn.QueryRow(ctx, `select current_setting('server_version_num')::int / 10000`).Scan(&major)
	return major, err
}
