package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// defaultLimit is how many flows are listed unless the filter says otherwise.
const defaultLimit = 1000

const (
	selectFlows = `SELECT context, flow_id, state, created, updated, content FROM flows `
	selectFlow  = selectFlows + `WHERE context = ? AND flow_id = ?`
)

// Flow returns a flow.
func (db *DB) Flow(ctx context.Context, key flow.Key) (*flow.Flow, error) {
	f, epoch := db.write.fresh.get(key)
	if f != nil && ctx.Err() == nil {
		return f, nil
	}
	f, err := db.sealer.scanFlow(db.readFlow.QueryRowContext(ctx, key.Context, key.ID).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, flow.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read flow %s: %w", key, explain(err))
	}
	db.write.fresh.add(f, epoch)
	return f, nil
}

// View returns a flow that is not to be changed.
func (db *DB) View(ctx context.Context, key flow.Key) (*flow.Flow, error) {
	if f, _ := db.write.fresh.view(key); f != nil && ctx.Err() == nil {
		return f, nil
	}
	return db.Flow(ctx, key)
}

// Flows lists flows. One whose secrets do not open is left out and logged, so that it does not hold up the others.
func (db *DB) Flows(ctx context.Context, filter flow.Filter) ([]*flow.Flow, error) {
	where, args := conditions(filter)
	rows, err := db.read.QueryContext(ctx, selectFlows+where, args...)
	if err != nil {
		return nil, fmt.Errorf("list flows: %w", explain(err))
	}
	defer rows.Close()
	var flows []*flow.Flow
	for rows.Next() {
		f, err := db.sealer.scanFlow(rows.Scan)
		if errors.Is(err, ErrCorrupt) {
			db.logger.Error("a flow cannot be read", "err", err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list flows: %w", explain(err))
		}
		flows = append(flows, f)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list flows: %w", explain(err))
	}
	return flows, nil
}

// Count returns the number of flows in each state.
func (db *DB) Count(ctx context.Context) (map[flow.State]int64, error) {
	rows, err := db.read.QueryContext(ctx, `SELECT state, count(*) FROM flows GROUP BY state`)
	if err != nil {
		return nil, fmt.Errorf("count flows: %w", explain(err))
	}
	defer rows.Close()
	counts := map[flow.State]int64{}
	for _, state := range flow.States() {
		counts[state] = 0
	}
	for rows.Next() {
		var state flow.State
		var n int64
		if err := rows.Scan(&state, &n); err != nil {
			return nil, fmt.Errorf("count flows: %w", explain(err))
		}
		counts[state] = n
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("count flows: %w", explain(err))
	}
	return counts, nil
}

// Parts lists the parts of a flow by index.
func (db *DB) Parts(ctx context.Context, key flow.Key, from uint64, limit int) ([]flow.Part, error) {
	return db.parts(ctx, key, false, from, limit)
}

// ResponseParts lists what came on the response channel of a flow by index.
func (db *DB) ResponseParts(ctx context.Context, key flow.Key, from uint64, limit int) ([]flow.Part, error) {
	return db.parts(ctx, key, true, from, limit)
}

// partTable is where parts are.
func partTable(response bool) string {
	if response {
		return "response_parts"
	}
	return "parts"
}

func (db *DB) parts(ctx context.Context, key flow.Key, response bool, from uint64, limit int) ([]flow.Part, error) {
	if from > math.MaxInt64 {
		return nil, nil
	}
	parts, err := all(ctx, db.read, scanPart, `SELECT `+partColumns+` FROM `+partTable(response)+`
		WHERE flow = (SELECT id FROM flows WHERE context = ? AND flow_id = ?) AND idx >= ? ORDER BY idx, name LIMIT ?`, key.Context, key.ID, int64(from), max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("list parts of flow %s: %w", key, explain(err))
	}
	for i := range parts {
		parts[i].Response = response
	}
	return parts, nil
}

// conditions returns what follows FROM.
func conditions(filter flow.Filter) (where string, args []any) {
	var and []string
	add := func(condition string, values ...any) {
		and = append(and, condition)
		args = append(args, values...)
	}
	if filter.Context != "" {
		add(`context = ?`, filter.Context)
	}
	if filter.States != nil {
		var states []any
		for _, s := range filter.States {
			states = append(states, string(s))
		}
		add(`state IN (`+strings.TrimSuffix(strings.Repeat("?, ", len(states)), ", ")+`)`, states...)
	}
	if filter.Leftover {
		add(`leftover = 1`)
	}
	if !filter.Before.IsZero() {
		// The bound may be finer than what is stored: what lies within its microsecond is before it.
		before := filter.Before.UnixMicro()
		if filter.Before.Nanosecond()%1000 > 0 {
			before++
		}
		add(`created < ?`, before)
	}
	if len(and) > 0 {
		where = `WHERE ` + strings.Join(and, ` AND `)
	}
	limit := filter.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	return where + ` ORDER BY created DESC LIMIT ?`, append(args, limit)
}

// content is what is sealed of a flow: all its fields by name, but for those that hide a field of flow.Flow here. They are columns of
// their own, for memory only, or kept byte by byte as others wrote them.
type content struct {
	flow.Flow
	Context, ID, State, Created, Updated, Waiting, Redelivery struct{} `json:",omitzero"`

	Claims   []byte `json:",omitempty"`
	Metadata []byte `json:",omitempty"`
}

// sealFlow returns what the column content holds.
func (s *sealer) sealFlow(f *flow.Flow) ([]byte, error) {
	return s.sealJSON(content{Flow: *f, Claims: f.Claims, Metadata: f.Metadata}, "flows.content", f.Context, f.ID)
}

func (s *sealer) scanFlow(scan scanner) (*flow.Flow, error) {
	var key flow.Key
	var state flow.State
	var created, updated int64
	var sealed []byte
	if err := scan(&key.Context, &key.ID, &state, &created, &updated, &sealed); err != nil {
		return nil, err
	}
	var c content
	if err := s.openJSON(sealed, &c, "flows.content", key.Context, key.ID); err != nil {
		return nil, fmt.Errorf("flow %s: %w", key, err)
	}
	f := &c.Flow
	f.Claims, f.Metadata = c.Claims, c.Metadata
	f.Key, f.State, f.Created, f.Updated = key, state, fromMicros(created), fromMicros(updated)
	return f, nil
}

const partColumns = `idx, name, size, records, digests, location, finished`

func scanPart(scan scanner) (p flow.Part, err error) {
	var index, finished int64
	var digests []byte
	if err := scan(&index, &p.Name, &p.Size, &p.Records, &digests, &p.Location, &finished); err != nil {
		return p, err
	}
	p.Index, p.Finished = uint64(index), fromMicros(finished)
	if err := json.Unmarshal(digests, &p.Digests); err != nil {
		return p, fmt.Errorf("%w: digests of part %q: %w", ErrCorrupt, p.Name, err)
	}
	return p, nil
}

// all returns all rows of a query.
func all[T any](ctx context.Context, db *sql.DB, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []T
	for rows.Next() {
		v, err := scan(rows.Scan)
		if err != nil {
			return nil, err
		}
		found = append(found, v)
	}
	return found, rows.Err()
}
