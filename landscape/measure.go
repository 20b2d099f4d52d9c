package landscape

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"slices"
	"sync"

	"github.com/openpith/evidence/objective"
)

// Format names the form of a landscape file: JSON lines, first a header (the
// JSON of [Header]), then one [Cell] per line in any order.
const Format = "landscape/1"

// An Axis is where a direction is measured: N coordinates from From to To.
type Axis struct {
	From, To float64
	N        int
}

// A Series is one function that is measured, such as the loss on test data.
type Series struct {
	Name string
	Data string // which examples it is a mean over: cells of other ones are not taken for its own
	objective.Func
}

// Options of a survey.
type Options struct {
	// Workers measure that many cells at once; 0 is 1. The result does not
	// depend on it.
	Workers int
	// Refine adds lines to the grid: so many times, the cells beside the least
	// loss of the first series are halved.
	Refine int
	// Note is kept in the header: the command, the data, the checkpoints.
	Note map[string]string
	// Progress, if not nil, is told after each cell, from one goroutine at a
	// time. Refinement adds to the total when its turn comes.
	Progress func(done, total int)
}

// A Header says what a file holds. Two surveys with equal headers but for Note
// would hold the same cells.
type Header struct {
	Format     string      `json:"format"`
	Kind       string      `json:"kind"`
	Names      []string    `json:"names"`      // of the axes
	Axes       [][]float64 `json:"axes"`       // coordinates before refinement
	Refine     int         `json:"refine"`     //
	Series     []string    `json:"series"`     // names, first the one that is refined
	Examples   []int       `json:"examples"`   // per series, their number
	Data       []string    `json:"data"`       // and which; nil in files of old
	Origin     string      `json:"origin"`     // SHA-256 of the weights at 0, little-endian float32
	Directions []string    `json:"directions"` // SHA-256 of each, likewise
	// Norm is what random directions are measured against ("" in files of old and for
	// other kinds), Selection what they move.
	Norm      objective.Norm      `json:"norm,omitempty"`
	Selection objective.Selection `json:"selection,omitzero"`
	Path      [][]float64         `json:"path,omitempty"`
	Explained []float64           `json:"explained,omitempty"`
	Note      map[string]string   `json:"note,omitempty"`
}

// A Cell is one point of the grid.
type Cell struct {
	At     []float64         `json:"at"`     // one coordinate per axis
	Values []objective.Value `json:"values"` // one per series
}

// A Grid is a finished survey.
type Grid struct {
	Header
	// Coordinates are those of the axes after refinement, ascending.
	Coordinates [][]float64
	// Values are [series][cell]; of a plane, cells of the first axis lie
	// together: cell = i + j·len(Coordinates[0]).
	Values [][]objective.Value
}

// Least is the index of the cell with the least loss of a series; -1 if none
// is a number.
func (g *Grid) Least(series int) int {
	best := -1
	for i, v := range g.Values[series] {
		if !math.IsNaN(v.Loss) && (best < 0 || v.Loss < g.Values[series][best].Loss) {
			best = i
		}
	}
	return best
}

var (
	// ErrFile reports a file that is no landscape, or a damaged one.
	ErrFile = errors.New("not a landscape file")
	// ErrForeign reports the file of another survey.
	ErrForeign = errors.New("the file holds another landscape")
)

// Measure evaluates every series on the grid and returns it. Cells are appended
// to the file as they come; if the file is there already, cells it holds are
// not measured again, provided that it is of the same survey: the same points,
// by their digests, and the same functions, by their names and data. A file of
// another survey is ErrForeign and stays as it is.
//
// When ctx ends, the error is its cause and the file keeps what was done.
func Measure(ctx context.Context, s *Slice, axes []Axis, series []Series, file string, opts Options) (*Grid, error) {
	h, err := header(s, axes, series, opts)
	if err != nil {
		return nil, err
	}
	book, err := open(file, h)
	if err != nil {
		return nil, err
	}
	defer book.Close()

	coordinates := slices.Clone(h.Axes)
	for level := 0; ; level++ {
		if err := survey(ctx, s, series, book, coordinates, opts); err != nil {
			return nil, err
		}
		g := &Grid{Header: h, Coordinates: coordinates, Values: book.values(coordinates, len(series))}
		if level == opts.Refine {
			return g, book.Close()
		}
		coordinates = refined(g)
	}
}

func header(s *Slice, axes []Axis, series []Series, opts Options) (Header, error) {
	h := Header{
		Format: Format, Kind: s.Kind, Names: s.Names, Refine: opts.Refine,
		Origin: digest(s.Origin), Norm: s.Norm, Selection: s.Selection, Path: s.Path, Explained: s.Explained, Note: opts.Note,
	}
	if len(axes) != len(s.Directions) || len(axes) < 1 || len(axes) > 2 {
		return h, fmt.Errorf("%w: %d axes for %d directions", ErrSlice, len(axes), len(s.Directions))
	}
	if len(series) == 0 || opts.Refine < 0 {
		return h, fmt.Errorf("%w: %d series, refined %d times", ErrSlice, len(series), opts.Refine)
	}
	for _, a := range axes {
		if a.N < 2 || !(a.From < a.To) || math.IsInf(a.To-a.From, 0) {
			return h, fmt.Errorf("%w: %d points from %v to %v: want 2 or more, upwards", ErrSlice, a.N, a.From, a.To)
		}
		c := make([]float64, a.N)
		for i := range c {
			c[i] = a.From + (a.To-a.From)*float64(i)/float64(a.N-1)
		}
		h.Axes = append(h.Axes, c)
	}
	for _, d := range s.Directions {
		h.Directions = append(h.Directions, digest(d))
	}
	for _, f := range series {
		if f.Layout().Size() != len(s.Origin) {
			return h, fmt.Errorf("%w: %s takes %d weights, the slice has %d", ErrSlice, f.Name, f.Layout().Size(), len(s.Origin))
		}
		h.Series = append(h.Series, f.Name)
		h.Examples = append(h.Examples, f.Examples())
		h.Data = append(h.Data, f.Data)
	}
	return h, nil
}

func digest(w []float32) string {
	sum := sha256.New()
	_ = binary.Write(sum, binary.LittleEndian, w) // a hash takes all
	return hex.EncodeToString(sum.Sum(nil))
}

// survey measures the cells that are not in the book yet.
func survey(ctx context.Context, s *Slice, series []Series, book *book, coordinates [][]float64, opts Options) error {
	todo, total := book.missing(coordinates)
	next := make(chan []float64)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range max(1, opts.Workers) {
		wg.Go(func() {
			for at := range next {
				cell, err := measure(ctx, s, series, at)
				if err == nil {
					err = book.add(cell, total, opts.Progress)
				}
				if err != nil {
					cancel(err)
					return
				}
			}
		})
	}
feed:
	for _, at := range todo {
		select {
		case next <- at:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

func measure(ctx context.Context, s *Slice, series []Series, at []float64) (Cell, error) {
	w := s.At(at...)
	cell := Cell{At: at}
	for _, f := range series {
		v, err := f.Loss(ctx, w)
		if err != nil {
			return cell, fmt.Errorf("%s at %v: %w", f.Name, at, err)
		}
		if math.IsInf(v.Loss, 0) { // as it will be read from the file
			v.Loss = math.NaN()
		}
		cell.Values = append(cell.Values, v)
	}
	return cell, nil
}

// refined halves the intervals beside the least loss, on every axis.
func refined(g *Grid) [][]float64 {
	least := g.Least(0)
	out := make([][]float64, len(g.Coordinates))
	for k, c := range g.Coordinates {
		out[k] = slices.Clone(c)
		if least < 0 {
			continue
		}
		i := least % len(c)
		if k == 1 {
			i = least / len(g.Coordinates[0])
		}
		for _, j := range []int{i - 1, i} {
			if j >= 0 && j+1 < len(c) {
				out[k] = append(out[k], (c[j]+c[j+1])/2)
			}
		}
		slices.Sort(out[k])
	}
	return out
}

// Load reads a finished or unfinished survey; cells that were not measured
// yet are NaN.
func Load(file string) (*Grid, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	h, cells, _, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	b := &book{cells: cells}
	coordinates := make([][]float64, len(h.Axes))
	for k := range coordinates {
		coordinates[k] = slices.Clone(h.Axes[k])
		for _, c := range cells {
			coordinates[k] = append(coordinates[k], c.At[k])
		}
		slices.Sort(coordinates[k])
		coordinates[k] = slices.Compact(coordinates[k])
	}
	return &Grid{Header: h, Coordinates: coordinates, Values: b.values(coordinates, len(h.Series))}, nil
}

// parse reads a file; whole is the length of its whole lines.
func parse(data []byte) (h Header, cells map[point]Cell, whole int, err error) {
	cells = map[point]Cell{}
	r := bufio.NewReader(bytes.NewReader(data))
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if err == io.EOF { // what a crash left of a line is measured again
			break
		}
		whole += len(line)
		if n == 1 {
			if err := json.Unmarshal(line, &h); err != nil || h.Format != Format || len(h.Axes) < 1 || len(h.Axes) > 2 || len(h.Series) == 0 {
				return h, nil, 0, fmt.Errorf("%w: line 1 is no header of %s", ErrFile, Format)
			}
			continue
		}
		var c Cell
		if err := json.Unmarshal(line, &c); err != nil || len(c.At) != len(h.Axes) || len(c.Values) != len(h.Series) {
			return h, nil, 0, fmt.Errorf("%w: line %d is no cell", ErrFile, n)
		}
		cells[pointOf(c.At)] = c
	}
	if whole == 0 {
		return h, nil, 0, fmt.Errorf("%w: no header", ErrFile)
	}
	return h, cells, whole, nil
}

// point is coordinates as a key of a map.
type point [2]float64

func pointOf(at []float64) (p point) {
	copy(p[:], at)
	return p
}

// A book is the open file with the cells it holds.
type book struct {
	mu    sync.Mutex
	file  *os.File
	cells map[point]Cell
}

func open(path string, h Header) (*book, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	b := &book{file: f, cells: map[point]Cell{}}
	if err := b.start(path, h); err != nil {
		f.Close()
		return nil, err
	}
	return b, nil
}

func (b *book) start(path string, h Header) error {
	data, err := io.ReadAll(b.file)
	if err != nil {
		return err
	}
	whole := 0
	// A file without one whole line is new, or was cut off in its header.
	if bytes.IndexByte(data, '\n') >= 0 {
		var found Header
		if found, b.cells, whole, err = parse(data); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		mine := h
		found.Note, mine.Note = nil, nil
		if !reflect.DeepEqual(found, mine) {
			return fmt.Errorf("%s: %w: move it away, or give the same weights, axes and data", path, ErrForeign)
		}
	} else if len(data) > 0 && data[0] != '{' {
		return fmt.Errorf("%s: %w", path, ErrFile)
	}
	if err := b.file.Truncate(int64(whole)); err != nil {
		return err
	}
	if _, err := b.file.Seek(int64(whole), io.SeekStart); err != nil {
		return err
	}
	if whole > 0 {
		return nil
	}
	return b.write(h)
}

func (b *book) write(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = b.file.Write(append(line, '\n'))
	return err
}

func (b *book) add(c Cell, total int, progress func(done, total int)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.write(c); err != nil {
		return err
	}
	b.cells[pointOf(c.At)] = c
	if progress != nil {
		progress(len(b.cells), total)
	}
	return nil
}

// missing lists the cells of the grid that are not there yet, from the middle
// outwards, so that an unfinished survey shows what matters most.
func (b *book) missing(coordinates [][]float64) (todo [][]float64, total int) {
	total = 1
	for _, c := range coordinates {
		total *= len(c)
	}
	for i := range total {
		at := cellAt(coordinates, i)
		if _, ok := b.cells[pointOf(at)]; !ok {
			todo = append(todo, at)
		}
	}
	far := func(at []float64) (d float64) {
		for k, x := range at {
			c := coordinates[k]
			middle, width := (c[0]+c[len(c)-1])/2, c[len(c)-1]-c[0]
			d = max(d, math.Abs(x-middle)/width)
		}
		return d
	}
	slices.SortStableFunc(todo, func(a, c []float64) int {
		if fa, fc := far(a), far(c); fa != fc {
			if fa < fc {
				return -1
			}
			return 1
		}
		return 0
	})
	return todo, total
}

// cellAt is the coordinates of a cell; the first axis runs fastest.
func cellAt(coordinates [][]float64, i int) []float64 {
	at := make([]float64, len(coordinates))
	for k, c := range coordinates {
		at[k] = c[i%len(c)]
		i /= len(c)
	}
	return at
}

func (b *book) values(coordinates [][]float64, series int) [][]objective.Value {
	total := 1
	for _, c := range coordinates {
		total *= len(c)
	}
	out := make([][]objective.Value, series)
	for s := range out {
		out[s] = make([]objective.Value, total)
		for i := range total {
			out[s][i] = objective.Value{Loss: math.NaN(), Accuracy: math.NaN()}
			if c, ok := b.cells[pointOf(cellAt(coordinates, i))]; ok {
				out[s][i] = c.Values[s]
			}
		}
	}
	return out
}

// Close is safe to call twice.
func (b *book) Close() error {
	if b.file == nil {
		return nil
	}
	err := b.file.Close()
	b.file = nil
	return err
}
