// Package tensorboard writes event files that TensorBoard reads: scalars over
// steps.
//
// A file is a sequence of records, each framed as in TensorFlow's
// lib/io/record_writer.h:
//
//	uint64  length          little-endian
//	uint32  masked CRC-32C of the length
//	bytes   an Event (tensorflow/core/util/event.proto)
//	uint32  masked CRC-32C of the event
package tensorboard

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// A Writer appends events to a file. It does not buffer: what was written is
// there for TensorBoard to see, and a file that was cut off within an event is
// read up to there.
type Writer struct{ w io.Writer }

// Fields of the messages, by their numbers in event.proto and summary.proto.
const (
	eventWallTime    = 1 // double, seconds
	eventStep        = 2 // int64
	eventFileVersion = 3 // string, in the first event
	eventSummary     = 5 // Summary

	summaryValue = 1 // repeated Value

	valueTag         = 1 // string
	valueSimpleValue = 2 // float
)

// NewWriter begins a file with the event that names its version.
func NewWriter(w io.Writer, now time.Time) (*Writer, error) {
	e := wallTime(now)
	e = protowire.AppendTag(e, eventFileVersion, protowire.BytesType)
	e = protowire.AppendString(e, "brain.Event:2")
	t := &Writer{w}
	return t, t.record(e)
}

// Scalars writes one value per tag, all of one step.
func (t *Writer) Scalars(now time.Time, step int64, values map[string]float64) error {
	var summary []byte
	for _, tag := range slices.Sorted(maps.Keys(values)) {
		var v []byte
		v = protowire.AppendTag(v, valueTag, protowire.BytesType)
		v = protowire.AppendString(v, tag)
		v = protowire.AppendTag(v, valueSimpleValue, protowire.Fixed32Type)
		v = protowire.AppendFixed32(v, math.Float32bits(float32(values[tag])))
		summary = protowire.AppendTag(summary, summaryValue, protowire.BytesType)
		summary = protowire.AppendBytes(summary, v)
	}
	e := wallTime(now)
	e = protowire.AppendTag(e, eventStep, protowire.VarintType)
	e = protowire.AppendVarint(e, uint64(step))
	e = protowire.AppendTag(e, eventSummary, protowire.BytesType)
	e = protowire.AppendBytes(e, summary)
	return t.record(e)
}

func wallTime(now time.Time) []byte {
	e := protowire.AppendTag(nil, eventWallTime, protowire.Fixed64Type)
	return protowire.AppendFixed64(e, math.Float64bits(float64(now.UnixNano())/1e9))
}

func (t *Writer) record(event []byte) error {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(event)))
	b = binary.LittleEndian.AppendUint32(b, masked(b))
	b = append(b, event...)
	b = binary.LittleEndian.AppendUint32(b, masked(event))
	_, err := t.w.Write(b)
	return err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// masked is the checksum as record files have it: rotated and moved, so that
// a checksum of data that holds checksums stays a good one.
func masked(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// FileName is what TensorBoard looks for in a directory.
func FileName(now time.Time, host string) string {
	return fmt.Sprintf("events.out.tfevents.%010d.%s", now.Unix(), host)
}
