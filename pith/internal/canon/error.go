package canon

import "fmt"

// A Reason says in one stable word why bytes were refused. Reasons are part of
// the format (spec §9): programs compare them, so they never change meaning.
type Reason string

// The reasons for which the strict reader refuses its input.
const (
	ReasonSyntax        Reason = "json_syntax"        // not JSON by RFC 8259
	ReasonTruncated     Reason = "json_truncated"     // the input ends inside a value
	ReasonTrailing      Reason = "json_trailing_data" // something follows the value
	ReasonBOM           Reason = "json_byte_order_mark"
	ReasonUTF8          Reason = "json_invalid_utf8"
	ReasonSurrogate     Reason = "json_lone_surrogate" // \ud800 without its partner
	ReasonDuplicateName Reason = "json_duplicate_name" // compared after unescaping
	ReasonNotFinite     Reason = "json_not_finite"     // NaN, Infinity, or beyond float64
	ReasonNumberLength  Reason = "json_number_length"
	ReasonDepth         Reason = "json_depth"
	ReasonSize          Reason = "json_size"
	ReasonValues        Reason = "json_values" // more values than the limit
)

// An Error tells why the strict reader refused its input, and where.
type Error struct {
	Reason Reason
	Offset int    // bytes before the place, counted from the start of the input
	Detail string // what stood there, for people
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s at byte %d: %s", e.Reason, e.Offset, e.Detail)
}

// Is makes errors.Is(err, &Error{Reason: r}) true for every error with that
// reason, wherever it happened.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason && t.Offset == 0 && t.Detail == ""
}
