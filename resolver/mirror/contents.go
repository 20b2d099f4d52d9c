package mirror

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/openpith/evidence/pith"
)

// An entry is one event of a bundle, as bytes. Bundles may hold invalid events of
// any shape; those that have no text as their id have none.
type entry struct {
	id   string
	data []byte
}

// contents finds number and events of a bundle in canonical form, without
// building anything else: every bundle that comes is looked at, and is read in
// full once more when it is verified. It takes some inputs that are no JSON at
// all; those do not survive the verification.
func contents(data []byte) (number string, events []entry, err error) {
	c := cursor{data: data}
	err = c.object(func(name string, value []byte) error {
		switch name {
		case "pith_number":
			return json.Unmarshal(value, &number)
		case "events":
			inner := cursor{data: value}
			return inner.array(func(event []byte) error {
				if len(events) == pith.MaxEntries { // the verification would say so, much later
					return errEntries
				}
				e := entry{data: event}
				if len(event) > 0 && event[0] == '{' {
					fields := cursor{data: event}
					err := fields.object(func(name string, value []byte) error {
						if name == "event_id" && value[0] == '"' {
							return json.Unmarshal(value, &e.id)
						}
						return nil
					})
					if err != nil {
						return err
					}
				}
				events = append(events, e)
				return nil
			})
		}
		return nil
	})
	if err == nil && c.at != len(data) {
		err = errCanonical
	}
	return number, events, err
}

// equivocations returns what the state of a bundle in canonical form says about
// how many there are.
func equivocations(data []byte) (n int, err error) {
	n = -1
	c := cursor{data: data}
	err = c.object(func(name string, value []byte) error {
		if name != "state" {
			return nil
		}
		state := cursor{data: value}
		return state.object(func(name string, value []byte) error {
			if name == "equivocation_count" {
				return json.Unmarshal(value, &n)
			}
			return nil
		})
	})
	if err == nil && n < 0 {
		err = errors.New("the state does not count equivocations")
	}
	return n, err
}

var errEntries = fmt.Errorf("more than %d events", pith.MaxEntries)

var errCanonical = errors.New("not one object without white space")

// A cursor walks over JSON without white space.
type cursor struct {
	data []byte
	at   int
}

// take steps over a byte if it is there.
func (c *cursor) take(b byte) bool {
	if c.at < len(c.data) && c.data[c.at] == b {
		c.at++
		return true
	}
	return false
}

// object calls each for every member.
func (c *cursor) object(each func(name string, value []byte) error) error {
	if !c.take('{') {
		return errCanonical
	}
	for first := true; !c.take('}'); first = false {
		if !first && !c.take(',') {
			return errCanonical
		}
		name, err := c.value()
		if err != nil {
			return err
		}
		if len(name) < 2 || name[0] != '"' || !c.take(':') {
			return errCanonical
		}
		value, err := c.value()
		if err != nil {
			return err
		}
		// Names with escapes are none that anybody asks about.
		if err := each(string(name[1:len(name)-1]), value); err != nil {
			return err
		}
	}
	return nil
}

// array calls each for every element.
func (c *cursor) array(each func(value []byte) error) error {
	if !c.take('[') {
		return errCanonical
	}
	for first := true; !c.take(']'); first = false {
		if !first && !c.take(',') {
			return errCanonical
		}
		value, err := c.value()
		if err != nil {
			return err
		}
		if err := each(value); err != nil {
			return err
		}
	}
	return nil
}

// value steps over one value: a string, or everything up to the comma or bracket
// that ends it.
func (c *cursor) value() ([]byte, error) {
	start, depth := c.at, 0
	for c.at < len(c.data) {
		switch b := c.data[c.at]; b {
		case '"':
			if !c.text() {
				return nil, errCanonical
			}
			if depth == 0 {
				return c.data[start:c.at], nil
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return c.scalar(start)
			}
			if depth--; depth == 0 {
				c.at++
				return c.data[start:c.at], nil
			}
		case ',', ':':
			if depth == 0 {
				return c.scalar(start)
			}
		}
		c.at++
	}
	return nil, fmt.Errorf("it ends in the middle: %w", errCanonical)
}

// scalar ends a number or a word.
func (c *cursor) scalar(start int) ([]byte, error) {
	if c.at == start {
		return nil, errCanonical
	}
	return c.data[start:c.at], nil
}

// text steps over a string.
func (c *cursor) text() bool {
	for c.at++; c.at < len(c.data); c.at++ {
		switch c.data[c.at] {
		case '\\':
			c.at++
		case '"':
			c.at++
			return true
		}
	}
	return false
}
