package signaling

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/towpath-dataplane/towpath/sdk"
)

// fields reads the members of a JSON object by their exact names. The first failure sticks in err, a *flow.RequestError, and every
// later one is dropped. The JSON was checked by checkJSON.
type fields struct {
	path    string // where the object stands in the message, "" at the top
	members map[string]json.RawMessage
	err     error
}

func parseFields(path string, raw json.RawMessage) (*fields, error) {
	if kind := kindOf(raw); kind != "an object" {
		if path == "" {
			return nil, invalid("", "the message is %s where an object belongs", kind)
		}
		return nil, invalid(path, "is %s where an object belongs", kind)
	}
	f := &fields{path: path}
	if err := json.Unmarshal(raw, &f.members); err != nil {
		return nil, invalid(path, "is not JSON: %v", err)
	}
	return f, nil
}

// at is the path of a member.
func (f *fields) at(name string) string {
	if f.path == "" {
		return name
	}
	return f.path + "." + name
}

// index is the path of an item of a list.
func (f *fields) index(name string, i int) string { return f.at(name) + "[" + strconv.Itoa(i) + "]" }

// has reports whether a member is there and not null.
func (f *fields) has(name string) bool {
	raw, ok := f.members[name]
	return ok && kindOf(raw) != "null"
}

func (f *fields) fail(name, format string, args ...any) { f.keep(invalid(f.at(name), format, args...)) }

func (f *fields) keep(err error) {
	if f.err == nil {
		f.err = err
	}
}

// required reads a string that must not be empty.
func (f *fields) required(name string) string {
	s := f.text(name)
	switch {
	case s != "":
	case f.has(name):
		f.fail(name, "is empty")
	default:
		f.fail(name, "is required")
	}
	return s
}

// text reads a string, "" if it is absent.
func (f *fields) text(name string) string {
	return f.textOf(name, f.members[name])
}

func (f *fields) textOf(name string, raw json.RawMessage) string {
	switch kind := kindOf(raw); kind {
	case "a string":
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			f.fail(name, "is not JSON: %v", err)
		}
		return s
	case "null":
		return ""
	default:
		f.fail(name, "is %s where a string belongs", kind)
		return ""
	}
}

// scalar reads a string that has to be there. A number or a boolean counts as the string that it is written as.
func (f *fields) scalar(name string) string {
	switch raw := f.members[name]; kindOf(raw) {
	case "null":
		f.fail(name, "is required")
		return ""
	case "a number", "a boolean":
		return string(raw)
	default:
		return f.text(name)
	}
}

// list reads an array, nil if it is absent.
func (f *fields) list(name string) []json.RawMessage {
	if !f.has(name) {
		return nil
	}
	raw := f.members[name]
	if kind := kindOf(raw); kind != "an array" {
		f.fail(name, "is %s where an array belongs", kind)
		return nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		f.fail(name, "is not JSON: %v", err)
	}
	return items
}

// texts reads an array of strings.
func (f *fields) texts(name string) []string {
	var texts []string
	for i, item := range f.list(name) {
		at := name + "[" + strconv.Itoa(i) + "]"
		if kindOf(item) == "null" {
			f.fail(at, "is null where a string belongs")
		}
		texts = append(texts, f.textOf(at, item))
	}
	return texts
}

// object reads an object as it is, without white space; nil if it is absent.
func (f *fields) object(name string) json.RawMessage {
	if !f.has(name) {
		return nil
	}
	raw := f.members[name]
	if kind := kindOf(raw); kind != "an object" {
		f.fail(name, "is %s where an object belongs", kind)
		return nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		f.fail(name, "is not JSON: %v", err)
	}
	return b.Bytes()
}

// address reads a DataAddress; nil if it is absent.
func (f *fields) address(name string) *sdk.DataAddress {
	if !f.has(name) {
		return nil
	}
	a, err := decodeAddress(f.at(name), f.members[name])
	if err != nil {
		f.keep(err)
		return nil
	}
	return a
}

// kindOf says what a JSON value is. An absent one is null.
func kindOf(raw json.RawMessage) string {
	if raw = bytes.TrimSpace(raw); len(raw) == 0 {
		return "null"
	}
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}
