package store

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMigrateFromEveryVersion(t *testing.T) {
	steps, err := readMigrations(migrations())
	if err != nil {
		t.Fatal(err)
	}
	fresh := newConn(t)
	if err := migrate(t.Context(), fresh, migrations(), time.Now()); err != nil {
		t.Fatal(err)
	}
	want := schema(t, fresh)
	for version := range len(steps) + 1 {
		history := fstest.MapFS{}
		for _, s := range steps[:version] {
			history[s.name] = &fstest.MapFile{Data: []byte(s.sql)}
		}
		conn := newConn(t)
		for _, h := range []fs.FS{history, migrations(), migrations()} {
			if err := migrate(t.Context(), conn, h, time.Now()); err != nil {
				t.Errorf("from version %d: %v", version, err)
			}
		}
		if diff := cmp.Diff(want, schema(t, conn)); diff != "" {
			t.Errorf("from version %d the schema differs (-fresh +upgraded):\n%s", version, diff)
		}
	}
}

// What can be renewed before a flow has a family for each kind of access can be renewed after.
func TestMigrationKeepsFamilies(t *testing.T) {
	steps, err := readMigrations(migrations())
	if err != nil {
		t.Fatal(err)
	}
	history := fstest.MapFS{}
	for _, s := range steps[:7] {
		history[s.name] = &fstest.MapFile{Data: []byte(s.sql)}
	}
	conn := newConn(t)
	if err := migrate(t.Context(), conn, history, time.Now()); err != nil {
		t.Fatal(err)
	}
	_, err = conn.ExecContext(t.Context(), `INSERT INTO token_families
		(id, context, flow_id, access, generation, token, token_expires, unused, previous, issued, expires, started)
		VALUES ('A', 'c', 'f', 'read', 3, 't', 4, 1, 'p', 5, 6, 7)`)
	if err != nil {
		t.Fatal(err)
	}
	if err := migrate(t.Context(), conn, migrations(), time.Now()); err != nil {
		t.Fatal(err)
	}
	got := ""
	err = conn.QueryRowContext(t.Context(), `SELECT concat_ws(' ', id, context, flow_id, access, generation, token, token_expires, unused,
		previous, issued, expires, started) FROM token_families`).Scan(&got)
	if want := "A c f read 3 t 4 1 p 5 6 7"; got != want || err != nil {
		t.Errorf("the family is %q, %v; want %q", got, err, want)
	}
}

func TestMigrateRefusesABrokenHistory(t *testing.T) {
	for name, files := range map[string][]string{
		"a gap":           {"0001_a.sql", "0003_c.sql"},
		"no beginning":    {"0002_b.sql"},
		"a number twice":  {"0001_a.sql", "0001_b.sql"},
		"no number":       {"a.sql"},
		"a short number":  {"1_a.sql"},
		"another file":    {"0001_a.sql", "README"},
		"a capital":       {"0001_A.sql"},
		"number 0":        {"0000_a.sql"},
		"another ending":  {"0001_a.sql.bak"},
		"broken SQL":      {"0001_broken.sql"},
		"a later failure": {"0001_a.sql", "0002_broken.sql"},
	} {
		history := fstest.MapFS{}
		for _, file := range files {
			history[file] = &fstest.MapFile{Data: []byte("CREATE TABLE t" + file[:4] + " (x)")}
			if file[4:] == "_broken.sql" {
				history[file].Data = []byte("CREATE TABLE half (x); CREATE TABLE (")
			}
		}
		if err := migrate(t.Context(), newConn(t), history, time.Now()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestFailedMigrationLeavesNothing(t *testing.T) {
	conn := newConn(t)
	history := fstest.MapFS{
		"0001_a.sql": {Data: []byte("CREATE TABLE a (x)")},
		"0002_b.sql": {Data: []byte("CREATE TABLE b (x); INSERT INTO missing VALUES (1)")},
	}
	if err := migrate(t.Context(), conn, history, time.Now()); err == nil {
		t.Fatal("no error")
	}
	applied, err := appliedMigrations(t.Context(), conn)
	if diff := cmp.Diff([]string{"0001_a.sql"}, applied); diff != "" || err != nil {
		t.Errorf("applied: %v (-want +got):\n%s", err, diff)
	}
	history["0002_b.sql"].Data = []byte("CREATE TABLE b (x)")
	if err := migrate(t.Context(), conn, history, time.Now()); err != nil {
		t.Errorf("after it was mended: %v", err)
	}
}

func TestMigrateRefusesAnotherPast(t *testing.T) {
	for name, tc := range map[string]struct {
		change string
		want   error
	}{
		"newer":    {`INSERT INTO migrations SELECT max(version) + 1, 'later', 0 FROM migrations`, ErrNewer},
		"a gap":    {`DELETE FROM migrations WHERE version = 2`, ErrCorrupt},
		"renamed":  {`UPDATE migrations SET name = '0001_other.sql' WHERE version = 1`, ErrForeign},
		"no table": {`DROP TABLE migrations`, nil},
	} {
		conn := newConn(t)
		if err := migrate(t.Context(), conn, migrations(), time.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.ExecContext(t.Context(), tc.change); err != nil {
			t.Fatal(err)
		}
		before := schema(t, conn)
		err := migrate(t.Context(), conn, migrations(), time.Now())
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		if diff := cmp.Diff(before, schema(t, conn)); diff != "" {
			t.Errorf("%s: the schema was changed (-before +after):\n%s", name, diff)
		}
	}
}

// newConn returns a connection to an empty database.
func newConn(t *testing.T) *sql.Conn {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(filepath.Join(t.TempDir(), "test.db")))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(conn.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func schema(t *testing.T, conn *sql.Conn) []string {
	t.Helper()
	rows, err := conn.QueryContext(t.Context(), `SELECT type, name, coalesce(sql, '') FROM sqlite_schema ORDER BY type, name`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var typ, name, text string
		if err := rows.Scan(&typ, &name, &text); err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprint(typ, " ", name, ": ", text))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// What was stored before there was the column leftover is looked at once more, and then not again.
func TestMigrateLeftover(t *testing.T) {
	conn := newConn(t)
	history := fstest.MapFS{}
	files, err := fs.ReadDir(migrations(), ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name() < "0007" {
			content, err := fs.ReadFile(migrations(), f.Name())
			if err != nil {
				t.Fatal(err)
			}
			history[f.Name()] = &fstest.MapFile{Data: content}
		}
	}
	if err := migrate(t.Context(), conn, history, time.Now()); err != nil {
		t.Fatal(err)
	}
	for i, state := range []string{"STARTED", "COMPLETED", "SUSPENDED", "TERMINATED"} {
		if _, err := conn.ExecContext(t.Context(), `INSERT INTO flows (context, flow_id, state, created, updated, content) VALUES ('', ?, ?, ?, 0, x'')`,
			state, state, i); err != nil {
			t.Fatal(err)
		}
	}
	if err := migrate(t.Context(), conn, migrations(), time.Now()); err != nil {
		t.Fatal(err)
	}
	var left string
	err = conn.QueryRowContext(t.Context(), `SELECT group_concat(flow_id, ' ' ORDER BY created) FROM flows WHERE leftover = 1`).Scan(&left)
	if err != nil || left != "COMPLETED TERMINATED" {
		t.Errorf("there may be something left of %q: %v", left, err)
	}
	var id, parent, unused int
	var detail string
	err = conn.QueryRowContext(t.Context(), `EXPLAIN QUERY PLAN `+selectFlows+`WHERE leftover = 1 ORDER BY created DESC LIMIT 1000`).
		Scan(&id, &parent, &unused, &detail)
	if err != nil || !strings.Contains(detail, "flows_with_leftover") {
		t.Errorf("they are found by %q: %v", detail, err)
	}
}
