package experiment

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/openpith/evidence/internal/tensorboard"
	"github.com/openpith/evidence/train"
)

// A Line is one line of metrics.jsonl. What is not measured is left out.
//
// Losses are mean cross-entropies in nats. "noisy" is the loss that was
// minimised: at noisy weights w+e (at w for plain SGD), augmented samples and the
// batch-norm statistics of each ghost batch. "clean" is measured at w, with the
// stored statistics and samples as they are: after each epoch, and after every
// Options.MonitorSteps steps where that is asked for. SAM and ASAM compute a clean
// loss in every step, at the w before it, on the samples and with the statistics of
// its noisy one: that of the batch.
type Line struct {
	Kind  string    `json:"kind"` // "step", "epoch", or "final" for the result
	Time  time.Time `json:"time"`
	Step  int       `json:"step"`  // optimizer steps done
	Epoch float64   `json:"epoch"` // passes over the training set done

	LearningRate       *float64 `json:"learning_rate,omitempty"`
	Strength           *float64 `json:"strength,omitempty"` // of the noise
	TrainLossNoisy     *float64 `json:"train_loss_noisy,omitempty"`
	BatchLossClean     *float64 `json:"batch_loss_clean,omitempty"` // of a step with SAM or ASAM
	TrainLossClean     *float64 `json:"train_loss_clean,omitempty"`
	TrainAccuracy      *float64 `json:"train_accuracy_clean,omitempty"`
	ValidationLoss     *float64 `json:"validation_loss,omitempty"` // clean
	ValidationAccuracy *float64 `json:"validation_accuracy,omitempty"`
	TestLoss           *float64 `json:"test_loss,omitempty"` // clean, in the final line only
	TestAccuracy       *float64 `json:"test_accuracy,omitempty"`
	ImagesPerSecond    *float64 `json:"images_per_second,omitempty"`
	InputFraction      *float64 `json:"input_fraction,omitempty"` // of the time of steps, waiting for samples
}

// Columns are the numbers of a line by name, in the order of the CSV file.
var Columns = []struct {
	Name string
	Of   func(Line) *float64
}{
	{"learning_rate", func(l Line) *float64 { return l.LearningRate }},
	{"strength", func(l Line) *float64 { return l.Strength }},
	{"train_loss_noisy", func(l Line) *float64 { return l.TrainLossNoisy }},
	{"batch_loss_clean", func(l Line) *float64 { return l.BatchLossClean }},
	{"train_loss_clean", func(l Line) *float64 { return l.TrainLossClean }},
	{"train_accuracy_clean", func(l Line) *float64 { return l.TrainAccuracy }},
	{"validation_loss", func(l Line) *float64 { return l.ValidationLoss }},
	{"validation_accuracy", func(l Line) *float64 { return l.ValidationAccuracy }},
	{"test_loss", func(l Line) *float64 { return l.TestLoss }},
	{"test_accuracy", func(l Line) *float64 { return l.TestAccuracy }},
	{"images_per_second", func(l Line) *float64 { return l.ImagesPerSecond }},
	{"input_fraction", func(l Line) *float64 { return l.InputFraction }},
}

// Lines reads metrics.jsonl. A last line that was cut off is left out. Without
// the file there are none.
func (d Dir) Lines() ([]Line, error) {
	text, err := readLimited(d.Path(MetricsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Line
	for n := 1; len(text) > 0; n++ {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			break
		}
		var l Line
		if err := json.Unmarshal(line, &l); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", d.Path(MetricsFile), n, err)
		}
		out = append(out, l)
		text = rest
	}
	return out, nil
}

// maxStepLines bounds the lines of kind "step", whatever the length of a run.
const maxStepLines = 2000

// A logger writes the metrics. metrics.jsonl is what counts; the CSV file and
// the events for TensorBoard are made from it.
type logger struct {
	dir    Dir
	config Config
	lines  []Line // of kind epoch
	every  int    // steps between lines of kind step
	file   *os.File
	events *tensorboard.Writer
	eventF *os.File
}

// begin brings the files to the state that the session goes on from: what a
// killed session logged beyond its last checkpoint is dropped, and epochs that
// it finished but did not log are added.
func (g *logger) begin(step, steps int, history []train.Epoch) error {
	g.every = max(1, (steps+maxStepLines-1)/maxStepLines)
	old, err := g.dir.Lines()
	if err != nil {
		return err
	}
	perEpoch := 0
	if g.config.Recipe.Epochs > 0 {
		perEpoch = steps / g.config.Recipe.Epochs
	}
	var keep []Line
	next := 0 // epoch of the history to come
	add := func(upTo int) {
		for ; next < len(history) && (next+1)*perEpoch <= upTo; next++ {
			keep = append(keep, g.epochLine(history[next], (next+1)*perEpoch))
		}
	}
	for _, l := range old {
		if l.Step > step || l.Kind == "final" {
			continue
		}
		if l.Kind == "epoch" {
			next = int(l.Epoch)
		} else {
			add(l.Step - 1)
		}
		keep = append(keep, l)
	}
	add(step)

	var text bytes.Buffer
	for _, l := range keep {
		text.Write(encodeLine(l))
		if l.Kind == "epoch" {
			g.lines = append(g.lines, l)
		}
	}
	if err := g.dir.write(MetricsFile, text.Bytes()); err != nil {
		return err
	}
	if g.file, err = os.OpenFile(g.dir.Path(MetricsFile), os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		return err
	}
	// The events of earlier sessions may go too far: they are written anew.
	stale, _ := filepath.Glob(g.dir.Path("events.out.tfevents.*")) // the pattern is a good one
	for _, path := range stale {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	now := time.Now()
	if g.eventF, err = os.OpenFile(g.dir.Path(tensorboard.FileName(now, host)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		return err
	}
	if g.events, err = tensorboard.NewWriter(g.eventF, now); err != nil {
		return err
	}
	for _, l := range keep {
		if err := g.event(l); err != nil {
			return err
		}
	}
	return g.csv()
}

func (g *logger) close() error {
	var errs []error
	for _, f := range []*os.File{g.file, g.eventF} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// step logs a step, if it is its turn or if clean weights were measured after it.
func (g *logger) step(p Progress) error {
	if p.Step%g.every != 0 && p.Clean == nil {
		return nil
	}
	l := Line{
		Kind: "step", Time: time.Now().UTC(), Step: p.Step, Epoch: p.Time,
		LearningRate: &p.LearningRate, Strength: &p.Strength, TrainLossNoisy: &p.Loss, BatchLossClean: p.Unperturbed,
		ImagesPerSecond: positive(p.ImagesPerSecond),
	}
	if p.Clean != nil {
		l.TrainLossClean, l.TrainAccuracy = &p.Clean.Loss, &p.Clean.Accuracy
	}
	return g.add(l)
}

func (g *logger) epoch(e train.Epoch, step int) error { return g.add(g.epochLine(e, step)) }

func (g *logger) epochLine(e train.Epoch, step int) Line {
	l := Line{Kind: "epoch", Time: time.Now().UTC(), Step: step, Epoch: float64(e.Epoch), LearningRate: &e.LearningRate, TrainLossNoisy: &e.TrainingLoss}
	perEpoch := step / max(1, e.Epoch)
	strength := g.config.Recipe.StrengthAt(max(0, step-1), g.config.Recipe.Epochs*perEpoch)
	l.Strength = &strength
	if e.Train != nil {
		l.TrainLossClean, l.TrainAccuracy = &e.Train.Loss, &e.Train.Accuracy
	}
	if e.Validation != nil {
		l.ValidationLoss, l.ValidationAccuracy = &e.Validation.Loss, &e.Validation.Accuracy
	}
	if e.Seconds > 0 {
		l.ImagesPerSecond = positive(float64(perEpoch*g.config.Recipe.Batch) / e.Seconds)
		wait := e.InputSeconds / e.Seconds
		l.InputFraction = &wait
	}
	return l
}

// final logs the result.
func (g *logger) final(out *train.Outcome, step int) error {
	l := Line{Kind: "final", Time: time.Now().UTC(), Step: step, Epoch: float64(len(out.History))}
	l.TrainLossClean, l.TrainAccuracy = &out.Train.Loss, &out.Train.Accuracy
	if v := out.Validation; v != nil {
		l.ValidationLoss, l.ValidationAccuracy = &v.Loss, &v.Accuracy
	}
	if v := out.Test; v != nil {
		l.TestLoss, l.TestAccuracy = &v.Loss, &v.Accuracy
	}
	return g.add(l)
}

func (g *logger) add(l Line) error {
	if _, err := g.file.Write(encodeLine(l)); err != nil {
		return err
	}
	if err := g.event(l); err != nil {
		return err
	}
	if l.Kind != "epoch" {
		return nil
	}
	g.lines = append(g.lines, l)
	return g.csv()
}

func (g *logger) event(l Line) error {
	values := map[string]float64{}
	for _, c := range Columns {
		if x := c.Of(l); x != nil {
			values[l.Kind+"/"+c.Name] = *x
		}
	}
	return g.events.Scalars(l.Time, int64(l.Step), values)
}

// csv writes the epochs as a table.
func (g *logger) csv() error {
	var text bytes.Buffer
	w := csv.NewWriter(&text)
	head := []string{"epoch", "step"}
	for _, c := range Columns {
		head = append(head, c.Name)
	}
	rows := [][]string{head}
	for _, l := range g.lines {
		row := []string{strconv.Itoa(int(l.Epoch)), strconv.Itoa(l.Step)}
		for _, c := range Columns {
			cell := ""
			if x := c.Of(l); x != nil {
				cell = strconv.FormatFloat(*x, 'g', -1, 64)
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	if err := w.WriteAll(rows); err != nil {
		return err
	}
	return g.dir.write(CSVFile, text.Bytes())
}

func encodeLine(l Line) []byte {
	b, err := json.Marshal(l)
	if err != nil {
		panic(fmt.Sprintf("experiment: a line does not marshal: %v", err)) // the trainer stops at a NaN
	}
	return append(b, '\n')
}

func positive(x float64) *float64 {
	if !(x > 0) || x > 1e18 {
		return nil
	}
	return &x
}
