package store

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// Lists are read by key, newest first: a page holds what is older than the last
// item of the one before it, so page ten thousand costs what the first one does.

// cursorVersion is the first byte of a cursor; another one is not ours.
const cursorVersion = 1

// lastID is above every id.
func lastID() certctl.ID { return certctl.ID(bytes.Repeat([]byte{0xff}, 16)) }

// cursorAfter returns the cursor of the page after the item with the id.
func cursorAfter(id certctl.ID) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte{cursorVersion}, id[:]...))
}

// pageBounds reads a page's request: items have ids below before.
func pageBounds(request certctl.PageRequest) (before certctl.ID, limit int, err error) {
	limit = request.Limit
	if limit == 0 {
		limit = certctl.DefaultPage
	}
	if limit < 1 || limit > certctl.MaxPage {
		return before, 0, certctl.InvalidField("?limit", "must be 1 to %d", certctl.MaxPage)
	}
	if request.Cursor == "" {
		return lastID(), limit, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(request.Cursor)
	if err != nil || len(raw) != 1+len(before) || raw[0] != cursorVersion {
		return before, 0, certctl.InvalidField("?cursor", "not a cursor that a list has given")
	}
	return certctl.ID(raw[1:]), limit, nil
}

// pageOf makes a page of limit items out of what was read with one item more
// than that, which tells whether there is another page.
func pageOf[T any](items []T, limit int, id func(T) certctl.ID) certctl.Page[T] {
	if len(items) <= limit {
		return certctl.Page[T]{Items: items}
	}
	items = items[:limit]
	return certctl.Page[T]{Items: items, Next: cursorAfter(id(items[limit-1]))}
}

// conditions gathers the clauses of a WHERE and their arguments.
type conditions struct {
	clauses []string
	args    []any
}

// add adds a clause; each ? in it stands for the next argument.
func (c *conditions) add(clause string, args ...any) {
	for _, arg := range args {
		c.args = append(c.args, arg)
		clause = strings.Replace(clause, "?", "$"+strconv.Itoa(len(c.args)), 1)
	}
	c.clauses = append(c.clauses, "("+clause+")")
}

func (c *conditions) String() string {
	if len(c.clauses) == 0 {
		return "true"
	}
	return strings.Join(c.clauses, " and ")
}

// list runs a filtered query with a plan made for the very values of its
// filters: what is right for a rare label is wrong for a common one.
func (t *tx) list(ctx context.Context, query string, c *conditions) (pgx.Rows, error) {
	if err := errors.Join(t.put(ctx, planEach), t.flush(ctx)); err != nil {
		return nil, err
	}
	return t.conn.Query(ctx, query, append([]any{pgx.QueryExecModeCacheDescribe}, c.args...)...)
}

// listIDs returns the ids of a page's items, and one more if there are more. The
// table's alias in clauses is o, and what it is joined with is in from.
func (t *tx) listIDs(ctx context.Context, from string, c *conditions, request certctl.PageRequest) (ids []certctl.ID, limit int, err error) {
	before, limit, err := pageBounds(request)
	if err != nil {
		return nil, 0, err
	}
	c.add("o.id < ?", before)
	rows, err := t.list(ctx, "select o.id from "+from+" where "+c.String()+
		" order by o.id desc limit "+strconv.Itoa(limit+1), c)
	if err != nil {
		return nil, 0, err
	}
	ids, err = pgx.CollectRows(rows, pgx.RowTo[certctl.ID])
	return ids, limit, err
}

// inTeam restricts a list to the actor's team, and to the one that is asked for.
// team is the column that holds the object's team.
func (t *tx) inTeam(c *conditions, column, team string) {
	if own := t.actor.Principal.Team; own != "" {
		c.add(column+" = (select id from team where name = ?)", own)
	}
	if team != "" {
		c.add(column+" = (select id from team where name = ?)", team)
	}
}

// mayList authorises the actor to read objects of a kind at all.
func (t *tx) mayList(kind certctl.ObjectKind) error {
	return certctl.Authorize(t.actor.Principal, certctl.VerbRead, certctl.Object{Kind: kind, Team: t.actor.Principal.Team})
}

// inOrder returns the values of the ids in the order of the ids.
func inOrder[T any](ids []certctl.ID, values map[certctl.ID]T) []T {
	out := make([]T, 0, len(ids))
	for _, id := range ids {
		if value, ok := values[id]; ok {
			out = append(out, value)
		}
	}
	return out
}
