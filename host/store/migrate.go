package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"time"
)

//go:embed migrations/*.sql
var embedded embed.FS

// migrations returns the schema's history.
func migrations() fs.FS {
	sub, err := fs.Sub(embedded, "migrations")
	if err != nil {
		panic(err) // the name is a constant
	}
	return sub
}

// applicationID marks the file as ours: "Towp".
const applicationID = 0x546f7770

// migration is one step from a schema to the next.
type migration struct {
	version int
	name    string // of its file
	sql     string
}

// migrate applies what a database lacks of a history, every step in a transaction of its own.
func migrate(ctx context.Context, conn *sql.Conn, history fs.FS, now time.Time) error {
	known, err := readMigrations(history)
	if err != nil {
		return err
	}
	if err := claim(ctx, conn); err != nil {
		return err
	}
	applied, err := appliedMigrations(ctx, conn)
	if err != nil {
		return err
	}
	if len(applied) > len(known) {
		return fmt.Errorf("%w: its schema has version %d, this one knows up to %d", ErrNewer, len(applied), len(known))
	}
	for i, m := range known {
		if i < len(applied) {
			if applied[i] != m.name {
				return fmt.Errorf("%w: its schema has step %s where this program has %s", ErrForeign, applied[i], m.name)
			}
			continue
		}
		if err := apply(ctx, conn, m, now); err != nil {
			return fmt.Errorf("migrate to %s: %w", m.name, err)
		}
	}
	return nil
}

var migrationName = regexp.MustCompile(`^(\d{4})_[a-z0-9_]+\.sql$`)

// readMigrations returns the steps in order. Their numbers go from 1 without a gap.
func readMigrations(history fs.FS) ([]migration, error) {
	files, err := fs.ReadDir(history, ".") // sorted
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	var steps []migration
	for i, file := range files {
		match := migrationName.FindStringSubmatch(file.Name())
		if match == nil {
			return nil, fmt.Errorf("migration %s: the name is not of the form 0001_words.sql", file.Name())
		}
		if version, _ := strconv.Atoi(match[1]); version != i+1 {
			return nil, fmt.Errorf("migration %s: want number %04d", file.Name(), i+1)
		}
		content, err := fs.ReadFile(history, file.Name())
		if err != nil {
			return nil, fmt.Errorf("read migrations: %w", err)
		}
		steps = append(steps, migration{version: i + 1, name: file.Name(), sql: string(content)})
	}
	return steps, nil
}

// claim marks an empty database as ours and refuses that of another program.
func claim(ctx context.Context, conn *sql.Conn) error {
	var id, tables int
	err := conn.QueryRowContext(ctx, `SELECT application_id, (SELECT count(*) FROM sqlite_schema) FROM pragma_application_id`).Scan(&id, &tables)
	if err != nil {
		return err
	}
	if id == applicationID {
		return nil
	}
	if id != 0 || tables != 0 {
		return ErrForeign
	}
	return transact(ctx, conn, func() error {
		_, err := conn.ExecContext(ctx, fmt.Sprintf(`
			PRAGMA application_id = %d;
			CREATE TABLE migrations (
				version INTEGER PRIMARY KEY,
				name    TEXT    NOT NULL,
				applied INTEGER NOT NULL
			) STRICT`, applicationID))
		return err
	})
}

// appliedMigrations returns the names of the steps that were applied, in order.
func appliedMigrations(ctx context.Context, conn *sql.Conn) ([]string, error) {
	rows, err := conn.QueryContext(ctx, `SELECT version, name FROM migrations ORDER BY version`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var version int
		var name string
		if err := rows.Scan(&version, &name); err != nil {
			return nil, err
		}
		if version != len(names)+1 {
			return nil, fmt.Errorf("%w: step %d of its schema is missing", ErrCorrupt, len(names)+1)
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

func apply(ctx context.Context, conn *sql.Conn, m migration, now time.Time) error {
	return transact(ctx, conn, func() error {
		if _, err := conn.ExecContext(ctx, m.sql); err != nil {
			return err
		}
		_, err := conn.ExecContext(ctx, `INSERT INTO migrations (version, name, applied) VALUES (?, ?, ?)`, m.version, m.name, micros(now))
		return err
	})
}

func transact(ctx context.Context, conn *sql.Conn, fn func() error) error {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := fn()
	if err == nil {
		_, err = conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		// Not with ctx, which may be why the work failed. SQLite may have rolled back already.
		conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	}
	return err
}
