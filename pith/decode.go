package pith

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/openpith/evidence/pith/internal/canon"
)

// Decode is json.Unmarshal by exact names: a member fills the field whose name it
// has, letter for letter, and members that no field names are left out. What was
// signed must be read with it. encoding/json takes "Kind", "KIND" and even "kind"
// with the Kelvin sign for "kind", so a signer could show one text to the checks,
// which look for exact names (spec §1.8), and another to those who read a payload.
//
// Errors are *SyntaxError, or those of json.Unmarshal for a member of another
// type than its field.
func Decode(data []byte, v any) error {
	doc, err := canon.Parse(data)
	if err != nil {
		return err
	}
	var w canon.Writer
	exact(&w, doc.Root(), reflect.TypeOf(v))
	return json.Unmarshal(w.Bytes(), v)
}

var (
	readsJSON = reflect.TypeFor[json.Unmarshaler]()
	readsText = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// exact writes v without the members that a Go value of type t has no field for.
func exact(w *canon.Writer, v canon.Value, t reflect.Type) {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || reflect.PointerTo(t).Implements(readsJSON) || reflect.PointerTo(t).Implements(readsText) {
		w.Raw(v.Canonical())
		return
	}
	switch {
	case v.Kind() == canon.Object && (t.Kind() == reflect.Struct || t.Kind() == reflect.Map):
		w.Open('{')
		for m := range v.Children() {
			if t.Kind() == reflect.Map {
				exact(w.Name(m.Name()), m, t.Elem())
			} else if field, ok := fieldNamed(t, m.Name()); ok {
				exact(w.Name(m.Name()), m, field)
			}
		}
		w.Close('}')
	case v.Kind() == canon.Array && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array):
		w.Open('[')
		for m := range v.Children() {
			exact(w, m, t.Elem())
		}
		w.Close(']')
	default:
		w.Raw(v.Canonical())
	}
}

// fieldNamed returns the type of the field that encoding/json fills from a member
// of that very name.
func fieldNamed(t reflect.Type, name string) (reflect.Type, bool) {
	for _, f := range reflect.VisibleFields(t) {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "" && !f.Anonymous {
			tag = f.Name
		}
		if f.IsExported() && tag == name && tag != "" && f.Tag.Get("json") != "-" {
			return f.Type, true
		}
	}
	return nil, false
}
