package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/deploy/local"
	"github.com/jackc/pgx/v5"
)

// sharedFleet is a fleet whose agents share the key of the certificate "wild".
type sharedFleet struct {
	*fleet
	conn *pgx.Conn
}

func startShared(t *testing.T, agents ...string) *sharedFleet {
	t.Helper()
	f := newFleet(t)
	f.must(f.Start(t.Context(), 1))
	var targets []string
	for _, name := range agents {
		f.addAgent(name)
		targets = append(targets, "files-"+name)
	}
	conn, err := pgx.Connect(t.Context(), f.DatabaseURL)
	f.must(err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	f.must(f.API.Call(t.Context(), http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": "wild", "dns_names": []string{"*.example.com"}, "issuer": "local", "targets": targets, "sharing": "shared",
	}, nil))
	return &sharedFleet{f, conn}
}

// served is what a node has in place: its leaf with the chain, and its key.
func (f *sharedFleet) served(agent *local.Agent) (leaf, key []byte) {
	f.t.Helper()
	place := filepath.Join(agent.Dir, "live", "wild", "current")
	leaf, _ = os.ReadFile(filepath.Join(place, "fullchain.pem")) // nothing is nothing
	key, _ = os.ReadFile(filepath.Join(place, "privkey.pem"))
	return leaf, key
}

// same waits until agents serve one leaf with one key, which is not the one
// before, and returns it.
func (f *sharedFleet) same(before []byte, agents ...*local.Agent) (leaf, key []byte) {
	f.t.Helper()
	f.eventually(2*time.Minute, "all serve the same", func() bool {
		leaf, key = f.served(agents[0])
		return len(leaf) > 0 && len(key) > 0 && !bytes.Equal(leaf, before) && !slices.ContainsFunc(agents, func(a *local.Agent) bool {
			l, k := f.served(a)
			return !bytes.Equal(l, leaf) || !bytes.Equal(k, key)
		})
	})
	return leaf, key
}

func (f *sharedFleet) count(sql string, args ...any) (n int) {
	f.t.Helper()
	f.must(f.conn.QueryRow(f.t.Context(), sql, args...).Scan(&n))
	return n
}

// secret fails the test if the database holds a private key, in any column of any
// table, in one of the forms in which it could come there.
func (f *sharedFleet) secret(key []byte) {
	f.t.Helper()
	block, _ := pem.Decode(key)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	f.must(err)
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		f.t.Fatalf("a %T", parsed)
	}
	scalar, err := private.Bytes()
	f.must(err)
	if f.found(scalar) != 0 || f.found(block.Bytes) != 0 {
		f.t.Error("the database holds the private key")
	}
	leaf, _ := f.served(f.Agents[0])
	block, _ = pem.Decode(leaf)
	if f.found(block.Bytes) == 0 {
		f.t.Error("the search does not find the leaf, which is there")
	}
}

// found is in how many columns of all tables some bytes are.
func (f *sharedFleet) found(wanted []byte) (found int) {
	f.t.Helper()
	rows, err := f.conn.Query(f.t.Context(), `
		select format('select count(*) from %1$I.%2$I where position($1 in %3$I::text) > 0 or position($2 in %3$I::text) > 0', table_schema, table_name, column_name)
		from information_schema.columns join information_schema.tables using (table_schema, table_name)
		where table_schema = 'public' and table_type = 'BASE TABLE' and (data_type in ('bytea', 'text', 'jsonb') or udt_name in ('_bytea', '_text'))`)
	f.must(err)
	queries, err := pgx.CollectRows(rows, pgx.RowTo[string])
	f.must(err)
	if len(queries) < 50 {
		f.t.Fatalf("only %d columns were searched", len(queries))
	}
	for _, query := range queries {
		var n int
		f.must(f.conn.QueryRow(f.t.Context(), query, hex.EncodeToString(wanted), base64.StdEncoding.EncodeToString(wanted)).Scan(&n))
		found += n
	}
	return found
}

// One key and one leaf for several nodes: those of the beginning, one that comes
// later, one that leaves. Somebody who adds himself in the database gets nothing,
// and the server never sees the key.
func TestSeveralNodesShareOneKey(t *testing.T) {
	t.Parallel()
	f := startShared(t, "a", "b", "c")
	leaf, key := f.same(nil, f.Agents...)
	if n := f.count(`select count(*) from cert_order`) + f.count(`select count(*) from version v join certificate c on c.id = v.certificate_id where c.purpose = 'user'`); n != 2 {
		t.Errorf("%d orders and versions", n)
	}
	f.eventually(time.Minute, "no ciphertext is left", func() bool {
		return f.count(`select count(*) from member_key where held_at is not null`) == 3 && f.count(`select count(*) from member_key where sealed is not null`) == 0
	})
	f.secret(key)

	thief := f.forgeMember()
	late := f.addAgent("late")
	f.must(f.API.Call(t.Context(), http.MethodPost, "/api/v1/certificates/wild/bindings", map[string]any{"target": "files-late"}, nil))
	if l, k := f.same(nil, append(slices.Clone(f.Agents), late)...); !bytes.Equal(l, leaf) || !bytes.Equal(k, key) {
		t.Error("a member that comes later made a new key necessary")
	}
	f.eventually(time.Minute, "the thief is refused", func() bool {
		return f.count(`select count(*) from holder_member where agent_id = $1 and refused = 'unproven'`, thief) == 1
	})

	f.must(f.API.Call(t.Context(), http.MethodDelete, "/api/v1/certificates/wild/bindings/files-a", nil, nil))
	f.must(f.API.Call(t.Context(), http.MethodPost, "/api/v1/certificates/wild/renew", map[string]any{}, nil))
	_, next := f.same(leaf, f.Agents[1:]...)
	if l, k := f.served(f.Agents[0]); !bytes.Equal(l, leaf) || !bytes.Equal(k, key) || bytes.Equal(next, key) {
		t.Error("who has left has the next key, or has lost what it served")
	}
	f.secret(next)
	f.eventually(time.Minute, "all is done", func() bool {
		return f.count(`select count(*) from member_key where sealed is not null`) == 0 && f.count(`select count(*) from due where kind = 'share'`) == 0
	})
	if n := f.count(`select count(*) from member_key where agent_id = $1`, thief); n != 0 {
		t.Errorf("%d keys for the thief", n)
	}
	var events struct {
		Items []event `json:"items"`
	}
	f.must(f.API.Call(t.Context(), http.MethodGet, "/api/v1/events?name=key_refused", nil, &events))
	if len(events.Items) == 0 {
		t.Error("nobody was told of the thief")
	}
	f.consistent()
}

// forgeMember adds an agent with keys of its own to the database, as a member,
// with a statement that the fleet key did not make.
func (f *sharedFleet) forgeMember() certctl.ID {
	f.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	f.must(err)
	_, sealing, err := certctl.NewSealingKey()
	f.must(err)
	var installation, holder, certificate certctl.ID
	scan := func(id *certctl.ID, sql string) {
		var text string
		f.must(f.conn.QueryRow(f.t.Context(), sql).Scan(&text))
		*id, err = certctl.ParseID(text)
		f.must(err)
	}
	scan(&installation, `select (statement->>'installation') from agent limit 1`)
	scan(&holder, `select id::text from holder where kind = 'shared'`)
	scan(&certificate, `select id::text from certificate where name = 'wild'`)
	id := certctl.NewID(time.Now())
	word, err := certctl.NewStatement(private, certctl.Statement{
		Domain: certctl.DomainEnrolment, Installation: installation, Agent: id, Kind: "agent", Time: time.Now(),
	}, certctl.AgentKeys{Bus: "U" + string(bytes.Repeat([]byte("A"), 55)), Signing: public, Sealing: sealing})
	f.must(err)
	exec := func(sql string, args ...any) {
		_, err := f.conn.Exec(f.t.Context(), sql, args...)
		f.must(err)
	}
	target := certctl.NewID(time.Now())
	exec(`insert into agent (id, team_id, name, state, machine_id, statement) select $1, id, 'thief', 'active', 'thief', $2 from team where name = 'default'`, id.String(), word)
	exec(`insert into agent_key (agent_id, kind, public) values ($1, 'sealing', $2), ($1, 'signing', $3)`, id.String(), sealing, []byte(public))
	exec(`insert into agent_contact (agent_id, at) values ($1, now() + interval '1 hour')`, id.String())
	exec(`insert into holder_member (holder_id, agent_id) values ($1, $2)`, holder.String(), id.String())
	exec(`insert into target (id, team_id, agent_id, name, kind, settings) select $1, id, $2, 'files-thief', 'files', '{}' from team where name = 'default'`, target.String(), id.String())
	exec(`insert into binding (id, certificate_id, target_id, holder_id, place) values ($1, $2, $3, $4, 'wild')`,
		certctl.NewID(time.Now()).String(), certificate.String(), target.String(), holder.String())
	return id
}
