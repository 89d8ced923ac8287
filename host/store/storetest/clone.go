package storetest

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// clone copies so deep that a transaction can change the copy. A nil record is an empty one.
func (r *record) clone() *record {
	if r == nil {
		return &record{parts: map[partKey]flow.Part{}, answers: map[string]flow.Answer{}}
	}
	// What is inside a flow, part, answer or callback is never changed, only replaced.
	return &record{flow: r.flow, parts: maps.Clone(r.parts), answers: maps.Clone(r.answers), callbacks: slices.Clone(r.callbacks)}
}

// deepCopy returns a copy that shares nothing with v, whatever fields its type has or will get.
func deepCopy[T any](v T) T { return copyValue(reflect.ValueOf(v)).Interface().(T) }

func copyValue(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(copyValue(v.Elem()))
		}
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				out.Index(i).Set(copyValue(v.Index(i)))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMap(v.Type()))
			for name, value := range v.Seq2() {
				out.SetMapIndex(name, copyValue(value))
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				out.Field(i).Set(copyValue(v.Field(i)))
			}
		}
	}
	return out
}

// micro is t as a store keeps it: in microseconds, UTC.
func micro(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
