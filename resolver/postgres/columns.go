package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/openpith/evidence/resolver"
)

// columns are rows for a table, as arrays that one statement inserts. Their types
// follow from the first row.
type columns struct {
	table string
	rows  int
	cols  []any // slices
}

func newColumns(table string, n int) *columns { return &columns{table: table, cols: make([]any, n)} }

func (c *columns) add(values ...any) {
	if len(values) != len(c.cols) {
		panic(fmt.Sprintf("%d values for the %d columns of %s", len(values), len(c.cols), c.table))
	}
	c.rows++
	for i, v := range values {
		switch v := v.(type) {
		case string:
			c.cols[i] = grow(c.cols[i], v)
		case []byte:
			c.cols[i] = grow(c.cols[i], v)
		case int:
			c.cols[i] = grow(c.cols[i], int64(v))
		case int64:
			c.cols[i] = grow(c.cols[i], v)
		case bool:
			c.cols[i] = grow(c.cols[i], v)
		case time.Time:
			c.cols[i] = grow(c.cols[i], v)
		default:
			panic(fmt.Sprintf("%s: a column of %T", c.table, v))
		}
	}
}

func grow[T any](col any, v T) any {
	all, _ := col.([]T) // nil before the first row
	return append(all, v)
}

// types are the types of columns as SQL has them.
func (c *columns) types() []string {
	out := make([]string, len(c.cols))
	for i, col := range c.cols {
		switch col.(type) {
		case []string:
			out[i] = "text[]"
		case [][]byte:
			out[i] = "bytea[]"
		case []int64:
			out[i] = "bigint[]"
		case []bool:
			out[i] = "boolean[]"
		case []time.Time:
			out[i] = "timestamptz[]"
		}
	}
	return out
}

// queue adds the statement to a batch, unless there are no rows.
func (c *columns) queue(b *pgx.Batch, conflict string) *pgx.QueuedQuery {
	if c.rows == 0 {
		return nil
	}
	params, fields := c.types(), make([]string, len(c.cols))
	for i := range params {
		params[i] = fmt.Sprintf("$%d::%s", i+1, params[i])
		fields[i] = fmt.Sprintf("c%d", i+1)
	}
	all := strings.Join(fields, ", ")
	if c.table == "search" {
		fields[1] += "::tsvector"
	}
	return b.Queue(fmt.Sprintf(`INSERT INTO %s SELECT %s FROM unnest(%s) AS rows (%s) %s`, c.table, strings.Join(fields, ", "), strings.Join(params, ", "), all, conflict), c.cols...)
}

// excluded names columns of the row that could not be inserted.
func excluded(names string) string {
	return "EXCLUDED." + strings.ReplaceAll(names, ", ", ", EXCLUDED.")
}

// stand is what the database has of a record.
type stand struct{ id, revision int64 }

func revisions(ctx context.Context, tx pgx.Tx, updates []resolver.Update) (map[string]stand, error) {
	suffixes := make([]string, len(updates))
	for i := range updates {
		suffixes[i] = pack(updates[i].Suffix)
	}
	out := map[string]stand{}
	_, err := many(ctx, tx, func(row pgx.CollectableRow) (struct{}, error) {
		var suffix string
		var s stand
		err := row.Scan(&suffix, &s.id, &s.revision)
		out[unpack(suffix)] = s
		return struct{}{}, err
	}, `SELECT suffix, id, revision FROM record WHERE suffix = ANY($1)`, suffixes)
	return out, err
}
