package access

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// variable is a word that conditions may use.
type variable struct {
	typ   cty.Type
	value func(r *Request) (cty.Value, error)
}

func textual(get func(r *Request) string) variable {
	return variable{cty.String, func(r *Request) (cty.Value, error) { return cty.StringVal(get(r)), nil }}
}

// vocabulary is all there is. A decision point is told the same by the same names: see document.
var vocabulary = map[string]variable{
	"participant_context": textual(func(r *Request) string { return r.ParticipantContext }),
	"participant":         textual(func(r *Request) string { return r.Participant }),
	"counterparty":        textual(func(r *Request) string { return r.Counterparty }),
	"agreement":           textual(func(r *Request) string { return r.Agreement }),
	"dataset":             textual(func(r *Request) string { return r.Dataset }),
	"flow":                textual(func(r *Request) string { return r.Flow }),
	"role":                textual(func(r *Request) string { return r.Role }),
	"direction":           textual(func(r *Request) string { return r.Direction }),
	"profile":             textual(func(r *Request) string { return r.Profile }),
	"control_plane":       textual(func(r *Request) string { return r.ControlPlane }),
	"labels":              {cty.List(cty.String), func(r *Request) (cty.Value, error) { return texts(r.Labels), nil }},
	"claims":              {cty.DynamicPseudoType, func(r *Request) (cty.Value, error) { return fromJSON("claims", r.Claims) }},
	"metadata":            {cty.DynamicPseudoType, func(r *Request) (cty.Value, error) { return fromJSON("metadata", r.Metadata) }},
	"method":              textual(func(r *Request) string { return r.Method }),
	"path":                textual(func(r *Request) string { return r.Path }),
	"query":               {cty.Map(cty.List(cty.String)), queryValue},
	"headers":             {cty.Map(cty.String), func(r *Request) (cty.Value, error) { return textMap(headers(r.Header)), nil }},
	"operation":           textual(func(r *Request) string { return r.Operation }),
	"part":                textual(func(r *Request) string { return r.Part }),
	"remote_address":      textual(func(r *Request) string { return r.RemoteAddress }),
	"time": {cty.Object(map[string]cty.Type{"rfc3339": cty.String, "unix": cty.Number, "weekday": cty.String, "hour": cty.Number, "minute": cty.Number}),
		func(r *Request) (cty.Value, error) { return timeValue(r.Time), nil }},
}

// anyRequest has every variable with its type, and no value.
func anyRequest() map[string]cty.Value {
	all := map[string]cty.Value{}
	for name, v := range vocabulary {
		all[name] = cty.UnknownVal(v.typ)
		if v.typ != cty.DynamicPseudoType {
			all[name] = all[name].RefineNotNull()
		}
	}
	return all
}

// scope makes the variables of a request when they are asked for, once.
type scope struct {
	request *Request
	made    map[string]cty.Value
}

func newScope(r *Request) *scope { return &scope{request: r, made: map[string]cty.Value{}} }

// variables returns those that an expression uses.
func (s *scope) variables(used []hcl.Traversal) (map[string]cty.Value, error) {
	for _, traversal := range used {
		name := traversal.RootName()
		if _, ok := s.made[name]; ok {
			continue
		}
		v, err := vocabulary[name].value(s.request)
		if err != nil {
			return nil, err
		}
		s.made[name] = v
	}
	return s.made, nil
}

func texts(all []string) cty.Value {
	if len(all) == 0 {
		return cty.ListValEmpty(cty.String)
	}
	values := make([]cty.Value, len(all))
	for i, s := range all {
		values[i] = cty.StringVal(s)
	}
	return cty.ListVal(values)
}

func textMap(all map[string]string) cty.Value {
	if len(all) == 0 {
		return cty.MapValEmpty(cty.String)
	}
	values := map[string]cty.Value{}
	for name, s := range all {
		values[name] = cty.StringVal(s)
	}
	return cty.MapVal(values)
}

// headers joins the fields of a header by their names in lower case. Credentials are left out.
func headers(h http.Header) map[string]string {
	out := map[string]string{}
	for name, values := range h {
		if name := strings.ToLower(name); name != "authorization" && name != "proxy-authorization" {
			out[name] = strings.Join(values, ", ")
		}
	}
	return out
}

func queryValue(r *Request) (cty.Value, error) {
	q, err := r.query()
	if err != nil {
		return cty.NilVal, err
	}
	if len(q) == 0 {
		return cty.MapValEmpty(cty.List(cty.String)), nil
	}
	values := map[string]cty.Value{}
	for name, all := range q {
		values[name] = texts(all)
	}
	return cty.MapVal(values), nil
}

// fromJSON returns an empty object for nothing.
func fromJSON(what string, raw json.RawMessage) (cty.Value, error) {
	if len(raw) == 0 {
		return cty.EmptyObjectVal, nil
	}
	typ, err := ctyjson.ImpliedType(raw)
	if err == nil {
		var v cty.Value
		if v, err = ctyjson.Unmarshal(raw, typ); err == nil {
			return v, nil
		}
	}
	return cty.NilVal, fmt.Errorf("the %s of the flow cannot be read", what)
}

// moment is a time as conditions and decision points see it, in UTC.
type moment struct {
	RFC3339 string `json:"rfc3339"`
	Unix    int64  `json:"unix"`
	Weekday string `json:"weekday"`
	Hour    int    `json:"hour"`
	Minute  int    `json:"minute"`
}

func newMoment(t time.Time) moment {
	t = t.UTC()
	return moment{t.Format(time.RFC3339), t.Unix(), strings.ToLower(t.Weekday().String()), t.Hour(), t.Minute()}
}

func timeValue(t time.Time) cty.Value {
	m := newMoment(t)
	return cty.ObjectVal(map[string]cty.Value{"rfc3339": cty.StringVal(m.RFC3339), "unix": cty.NumberIntVal(m.Unix),
		"weekday": cty.StringVal(m.Weekday), "hour": cty.NumberIntVal(int64(m.Hour)), "minute": cty.NumberIntVal(int64(m.Minute))})
}

// functions are those that conditions may call.
var functions = map[string]function.Function{
	"can": tryfunc.CanFunc, "try": tryfunc.TryFunc,
	"contains": stdlib.ContainsFunc, "length": stdlib.LengthFunc, "lookup": stdlib.LookupFunc, "keys": stdlib.KeysFunc,
	"lower": stdlib.LowerFunc, "upper": stdlib.UpperFunc, "split": stdlib.SplitFunc, "join": stdlib.JoinFunc,
	"startswith": predicate("text", "prefix", nil, func(text, prefix string) (bool, error) { return strings.HasPrefix(text, prefix), nil }),
	"endswith":   predicate("text", "suffix", nil, func(text, suffix string) (bool, error) { return strings.HasSuffix(text, suffix), nil }),
	"matches": predicate("text", "pattern", func(pattern string) error { _, err := regexp.Compile(pattern); return err },
		func(text, pattern string) (bool, error) { return regexp.MatchString(`^(?:`+pattern+`)$`, text) }),
	"in_network": predicate("address", "network", func(network string) error { _, err := netip.ParsePrefix(network); return err }, inNetwork),
	"unix": function.New(&function.Spec{Params: []function.Parameter{{Name: "time", Type: cty.String}}, Type: func(args []cty.Value) (cty.Type, error) {
		if args[0].IsKnown() && !args[0].IsNull() {
			if _, err := time.Parse(time.RFC3339, args[0].AsString()); err != nil {
				return cty.NilType, function.NewArgErrorf(0, "it is not a time such as 2026-01-31T08:00:00Z")
			}
		}
		return cty.Number, nil
	}, Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		t, err := time.Parse(time.RFC3339, args[0].AsString())
		return cty.NumberIntVal(t.Unix()), err
	}}),
}

// predicate makes a function of two strings. check, if not nil, is asked about the second as soon as that is known.
func predicate(first, second string, check func(string) error, call func(a, b string) (bool, error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: first, Type: cty.String}, {Name: second, Type: cty.String}},
		Type: func(args []cty.Value) (cty.Type, error) {
			if check != nil && args[1].IsKnown() && !args[1].IsNull() {
				if err := check(args[1].AsString()); err != nil {
					return cty.NilType, function.NewArgError(1, err)
				}
			}
			return cty.Bool, nil
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			yes, err := call(args[0].AsString(), args[1].AsString())
			return cty.BoolVal(yes), err
		},
	})
}

func inNetwork(address, network string) (bool, error) {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return false, fmt.Errorf("%q is not an IP address", address)
	}
	prefix, err := netip.ParsePrefix(network)
	return prefix.Contains(ip.Unmap().WithZone("")), err
}
