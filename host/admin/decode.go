package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// Bodies are read up to a length, and for a time.
const (
	maxBody     = 1 << 20
	bodyTimeout = 30 * time.Second
)

// readBody returns the body of a request. The error is a *Problem.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if given := r.Header.Get("Content-Type"); given != "" {
		media, _, err := mime.ParseMediaType(given)
		if err != nil || media != "application/json" && !strings.HasSuffix(media, "+json") {
			return nil, newProblem(http.StatusUnsupportedMediaType, "the content type %.100q is not JSON", given).with("Accept", "application/json")
		}
	}
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(bodyTimeout)) // what cannot have one, as in a test, goes without
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	control.SetReadDeadline(time.Time{})
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, newProblem(http.StatusRequestEntityTooLarge, "the body is longer than %d bytes", tooLarge.Limit)
	case err != nil:
		return nil, newProblem(http.StatusBadRequest, "the body did not arrive whole")
	}
	return body, nil
}

// decodeDataset reads a dataset, and says what is wrong with it. What it says does not contain values.
func decodeDataset(body []byte) (d flow.Dataset, wrong []sdk.FieldError) {
	o, wrong := decodeObject(body)
	if o == nil {
		return d, wrong
	}
	o.wrong = &wrong
	d.ID, d.Context = o.text("id"), o.text("context")
	d.Mode = flow.Mode(o.text("mode"))
	if !slices.Contains([]flow.Mode{"", flow.ModeAuto, flow.ModeSync, flow.ModeAsync}, d.Mode) {
		o.fail("mode", "is not one of auto, sync, async")
	}
	d.Source, d.Sink, d.Response = o.address("source"), o.address("sink"), o.address("response")
	o.end()
	if len(wrong) == 0 && d.Source.IsZero() && d.Sink.IsZero() {
		o.fail("source", "is required, or sink")
	}
	if len(wrong) == 0 && d.Source.IsZero() && !d.Response.IsZero() {
		o.fail("source", "is required with response")
	}
	return d, wrong
}

// decodeObject reads a body that is an object. It returns nil if it is none.
func decodeObject(body []byte) (o *object, wrong []sdk.FieldError) {
	switch {
	case !utf8.Valid(body):
		return nil, []sdk.FieldError{{Message: "the body is not UTF-8"}}
	case !json.Valid(body):
		return nil, []sdk.FieldError{{Message: "the body is not JSON"}}
	}
	o = newObject("", body, &wrong)
	return o, wrong
}

// object is a JSON object that is read member by member. A member that is null is one that is not there.
type object struct {
	at      string
	members map[string]json.RawMessage
	wrong   *[]sdk.FieldError
}

// newObject reads a value, whose syntax is known to be right. It returns nil if that is no object.
func newObject(at string, raw json.RawMessage, wrong *[]sdk.FieldError) *object {
	o := &object{at: at, members: map[string]json.RawMessage{}, wrong: wrong}
	tokens := json.NewDecoder(bytes.NewReader(raw))
	if opening, _ := tokens.Token(); opening != json.Delim('{') {
		*wrong = append(*wrong, sdk.FieldError{Field: at, Message: "has to be an object"})
		return nil
	}
	for tokens.More() {
		name, err := tokens.Token()
		var value json.RawMessage
		if err != nil || tokens.Decode(&value) != nil {
			*wrong = append(*wrong, sdk.FieldError{Field: at, Message: "cannot be read"})
			return nil
		}
		if _, twice := o.members[name.(string)]; twice {
			o.fail(name.(string), "is there twice")
		}
		if altered(name.(string), raw) {
			o.fail(name.(string), "has half of a surrogate pair in its name")
		}
		o.members[name.(string)] = value
	}
	return o
}

func (o *object) fail(name, message string) {
	*o.wrong = append(*o.wrong, sdk.FieldError{Field: o.path(name), Message: message})
}

// path is where a member is, cut to what suits an error.
func (o *object) path(name string) string {
	const most = 200
	if o.at != "" {
		name = o.at + "." + name
	}
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "") + "…"
	}
	return name
}

// take returns a member that is not null, and does not know it any more.
func (o *object) take(name string) (json.RawMessage, bool) {
	value, ok := o.members[name]
	delete(o.members, name)
	return value, ok && string(value) != "null"
}

func (o *object) text(name string) string {
	value, ok := o.take(name)
	if !ok {
		return ""
	}
	s, err := decodeText(value)
	if err != nil {
		o.fail(name, err.Error())
	}
	return s
}

// number is a whole number between two others, nil if it is not there.
func (o *object) number(name string, least, most int64) *int64 {
	value, ok := o.take(name)
	if !ok {
		return nil
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || n < least || n > most {
		o.fail(name, fmt.Sprintf("has to be a whole number from %d to %d", least, most))
		return nil
	}
	return &n
}

// decodeText reads a string, and refuses one that does not survive it.
func decodeText(raw json.RawMessage) (s string, err error) {
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", errors.New("has to be a string")
	}
	if altered(s, raw) {
		return "", errors.New("has half of a surrogate pair")
	}
	return s, nil
}

// altered reports whether Go has put a replacement for what cannot be a character into s, which was read from raw.
func altered(s string, raw []byte) bool {
	replacement := string(utf8.RuneError)
	return strings.Contains(s, replacement) && !bytes.Contains(raw, []byte(replacement)) && !bytes.Contains(bytes.ToLower(raw), []byte(`\ufffd`))
}

func (o *object) address(name string) (a sdk.DataAddress) {
	value, ok := o.take(name)
	if !ok {
		return a
	}
	m := newObject(o.path(name), value, o.wrong)
	if m == nil {
		return a
	}
	a.Type, a.Endpoint = m.required("type"), m.text("endpoint")
	if properties, ok := m.take("properties"); ok {
		a.Properties = newObject(m.path("properties"), properties, o.wrong).texts()
	}
	m.end()
	return a
}

// required is text that has to be there.
func (o *object) required(name string) string {
	value, ok := o.members[name]
	if !ok || string(value) == "null" || string(value) == `""` {
		o.fail(name, "is required")
	}
	return o.text(name)
}

// texts returns the members that are left, all of which have to be text.
func (o *object) texts() map[string]string {
	if o == nil {
		return nil
	}
	all := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(o.members)) {
		s, err := decodeText(o.members[name])
		if err != nil {
			o.fail(name, err.Error())
		}
		all[name] = s
	}
	return all
}

// end says what of the object nobody has asked for.
func (o *object) end() {
	for _, name := range slices.Sorted(maps.Keys(o.members)) {
		o.fail(name, "is not known")
	}
}
