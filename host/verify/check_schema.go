package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// kinds are those of the protocol in the words of the SDK, whose notations are the protocol's.
var kinds = map[pluginv1.FieldKind]sdk.Kind{
	pluginv1.FieldKind_FIELD_KIND_UNSPECIFIED: sdk.String, pluginv1.FieldKind_FIELD_KIND_STRING: sdk.String,
	pluginv1.FieldKind_FIELD_KIND_BOOL: sdk.Bool, pluginv1.FieldKind_FIELD_KIND_INT: sdk.Int, pluginv1.FieldKind_FIELD_KIND_DURATION: sdk.Duration,
	pluginv1.FieldKind_FIELD_KIND_SIZE: sdk.Size, pluginv1.FieldKind_FIELD_KIND_URL: sdk.URL,
	pluginv1.FieldKind_FIELD_KIND_STRING_LIST: sdk.StringList, pluginv1.FieldKind_FIELD_KIND_STRING_MAP: sdk.StringMap,
}

func schemaFromProto(p *pluginv1.Schema) sdk.Schema {
	s := sdk.Schema{Open: p.GetOpen()}
	for _, f := range p.GetFields() {
		s.Fields = append(s.Fields, sdk.Field{Name: f.Name, Kind: kinds[f.Kind], Required: f.Required, Sensitive: f.Sensitive,
			Documentation: f.Documentation, Default: f.DefaultValue, OneOf: f.OneOf, Prefix: f.Prefix})
	}
	return s
}

func schemaFields(t *trial) error {
	if err := checkSchema("configuration", t.description.Config, true); err != nil {
		return err
	}
	for _, typ := range t.description.SourceTypes {
		if err := checkSchema(fmt.Sprintf("source type %q", typ.Type), typ.Address, false); err != nil {
			return err
		}
		if typ.Proxies && !slices.ContainsFunc(typ.Address.GetFields(), letsThrough) {
			return fmt.Errorf("source type %q: proxies, but no property lets a request through: declare proxyMethod, proxyPath, proxyQueryParams or proxyBody",
				typ.Type)
		}
	}
	for _, typ := range t.description.SinkTypes {
		if err := checkSchema(fmt.Sprintf("sink type %q", typ.Type), typ.Address, false); err != nil {
			return err
		}
	}
	return nil
}

func letsThrough(f *pluginv1.Field) bool {
	return slices.Contains([]string{"proxyMethod", "proxyPath", "proxyQueryParams", "proxyBody"}, f.Name)
}

func checkSchema(where string, p *pluginv1.Schema, configuration bool) error {
	seen := map[string]bool{"": true}
	for _, f := range p.GetFields() {
		wrong := func(format string, args ...any) error {
			return fmt.Errorf("%s, field %q: %s", where, f.Name, fmt.Sprintf(format, args...))
		}
		kind, known := kinds[f.Kind]
		list := kind == sdk.StringList || kind == sdk.StringMap
		switch {
		case seen[f.Name]:
			return wrong("is there twice, or has no name")
		case !known:
			return wrong("has kind %d, which there is not", f.Kind)
		case list && !configuration:
			return wrong("is a %s, which a data address cannot carry", kind)
		case f.Required && f.DefaultValue != "":
			return wrong("is required and has a default")
		case f.Prefix && (f.Required || f.DefaultValue != ""):
			return wrong("is the beginning of a family of names, which cannot be required or have a default")
		case f.Documentation == "":
			return wrong("is not documented")
		}
		field := sdk.Field{Kind: kind, OneOf: f.OneOf}
		if f.DefaultValue != "" && !list {
			if err := field.CheckValue(f.DefaultValue); err != nil {
				return wrong("has a wrong default: %v", err)
			}
		}
		for _, value := range f.OneOf {
			if err := (sdk.Field{Kind: kind}).CheckValue(value); err != nil {
				return wrong("allows a value of another kind: %v", err)
			}
		}
		seen[f.Name] = true
	}
	return nil
}

// configWithout returns the configuration without one field.
func (s *suite) configWithout(name string) ([]byte, error) {
	whole, err := s.config()
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(whole, &members); err != nil {
		return nil, err
	}
	delete(members, name)
	return json.Marshal(members)
}

func flowValue(f *pluginv1.FlowContext) cty.Value { return cty.StringVal(f.Id) }

// address returns the address of the trial's type, for one flow.
func (t *trial) address() (sdk.DataAddress, error) {
	var from *template
	switch {
	case t.source != nil:
		from = t.source.address
	case t.sink != nil:
		from = t.sink.address
	default:
		return sdk.DataAddress{}, skipf("no address of this type was given: add a block %s to the suite's file", strings.Replace(t.subject, " ", ` "`, 1)+`"`)
	}
	return from.fill(values{"flow": flowValue(t.newFlow())})
}

// validate asks the plugin about an address. The error is for a call that failed.
func (t *trial) validate(a sdk.DataAddress) ([]*pluginv1.FieldError, error) {
	p, err := t.plugin()
	if err != nil {
		return nil, err
	}
	request := &pluginv1.ValidateRequest{Address: addressToProto(a)}
	var r *pluginv1.ValidateResponse
	if strings.HasPrefix(t.subject, "source") {
		r, err = p.source.Validate(t.ctx, request)
	} else {
		r, err = p.sink.Validate(t.ctx, request)
	}
	return r.GetErrors(), p.explain(problemOf(err))
}

// accepts checks that an address is in order.
func (t *trial) accepts(what string, a sdk.DataAddress) error {
	errs, err := t.validate(a)
	if err != nil {
		return fmt.Errorf("its Validate of %s: %w", what, err)
	}
	if len(errs) > 0 {
		return fmt.Errorf("its Validate of %s: %s: %s", what, errs[0].Field, errs[0].Message)
	}
	return nil
}

// refuses checks that Validate names the field that is wrong.
func (t *trial) refuses(what, field string, a sdk.DataAddress) error {
	errs, err := t.validate(a)
	var p *problem
	if errors.As(err, &p) && p.said.GetCode() == pluginv1.ErrorCode_ERROR_CODE_INVALID && len(p.said.GetFields()) > 0 {
		errs, err = p.said.Fields, nil // a refusal of the call says as much
	}
	switch {
	case err != nil:
		return fmt.Errorf("its Validate of %s: %w", what, err)
	case len(errs) == 0:
		return fmt.Errorf("its Validate accepts %s", what)
	case !slices.ContainsFunc(errs, func(e *pluginv1.FieldError) bool { return e.Field == field }):
		return fmt.Errorf("its Validate of %s blames %q (%s), not %q", what, errs[0].Field, errs[0].Message, field)
	}
	return nil
}

func sourceValidate(t *trial) error {
	a, err := t.address()
	if err != nil {
		return err
	}
	if err := t.accepts("the address", a); err != nil {
		return err
	}
	return t.accepts("the address for the second time", a)
}

func sinkValidate(t *trial) error { return sourceValidate(t) }

func schemaRequired(t *trial) error {
	a, err := t.address()
	if err != nil {
		return err
	}
	tried := false
	for _, f := range t.typ.GetAddress().GetFields() {
		if !f.Required || f.Prefix {
			continue
		}
		tried = true
		without := a.Clone()
		delete(without.Properties, f.Name)
		if err := t.refuses(fmt.Sprintf("an address without %q", f.Name), f.Name, without); err != nil {
			return err
		}
		without.Properties[f.Name] = ""
		if err := t.refuses(fmt.Sprintf("an address with an empty %q", f.Name), f.Name, without); err != nil {
			return err
		}
	}
	if !tried {
		return skipf("no field of the address is required")
	}
	return nil
}

// wrongValues are of no kind, by kind.
var wrongValues = map[sdk.Kind]string{sdk.Bool: "maybe", sdk.Int: "1.5", sdk.Duration: "3 weeks", sdk.Size: "12 parsecs", sdk.URL: "not/absolute"}

func schemaKinds(t *trial) error {
	a, err := t.address()
	if err != nil {
		return err
	}
	tried := false
	for _, f := range t.typ.GetAddress().GetFields() {
		wrong, ok := wrongValues[kinds[f.Kind]]
		if !ok && len(f.OneOf) > 0 {
			wrong, ok = "none-of-these", true
		}
		if !ok || f.Prefix {
			continue
		}
		tried = true
		changed := a.Clone()
		changed.Properties[f.Name] = wrong
		what := fmt.Sprintf("%q in %q, which is a %s", wrong, f.Name, kinds[f.Kind])
		if len(f.OneOf) > 0 {
			what = fmt.Sprintf("%q in %q, which is one of %s", wrong, f.Name, strings.Join(f.OneOf, ", "))
		}
		if err := t.refuses(what, f.Name, changed); err != nil {
			return err
		}
	}
	if !tried {
		return skipf("the fields of the address take any text")
	}
	return nil
}

func schemaDefaults(t *trial) error {
	a, err := t.address()
	if err != nil {
		return err
	}
	tried := false
	for _, f := range t.typ.GetAddress().GetFields() {
		if _, set := a.Properties[f.Name]; set || f.DefaultValue == "" {
			continue
		}
		tried = true
		changed := a.Clone()
		changed.Properties[f.Name] = f.DefaultValue
		if err := t.accepts(fmt.Sprintf("an address with %q set to its default %q", f.Name, f.DefaultValue), changed); err != nil {
			return err
		}
	}
	if !tried {
		return skipf("no field that the address leaves out has a default")
	}
	return nil
}

func schemaUnknown(t *trial) error {
	a, err := t.address()
	if err != nil {
		return err
	}
	const name = "no-such-property-of-any-plugin"
	a.Properties[name] = "x"
	if t.typ.GetAddress().GetOpen() {
		return t.accepts("an address with a property that no field names, though its schema is open,", a)
	}
	return t.refuses("an address with a property that no field names", name, a)
}

// secret is what nobody but the plugin may see.
const secret = "s3cr3t-0f-th3-v3r1fy-su1t3"

func schemaSensitive(t *trial) error {
	a, err := t.address()
	if err != nil {
		return err
	}
	p, err := t.fresh()
	if err != nil {
		return err
	}
	p.stderr.watch(secret)
	p.stdout.watch(secret)
	tried := false
	for _, f := range t.typ.GetAddress().GetFields() {
		if !f.Sensitive {
			continue
		}
		tried = true
		name := f.Name
		if f.Prefix {
			name += "Verify"
		}
		changed := a.Clone()
		changed.Properties[name] = secret
		said, err := t.provoke(p, changed)
		if err != nil {
			return err
		}
		if strings.Contains(said, secret) {
			return fmt.Errorf("the value of %q is in an error: %s", name, strings.ReplaceAll(said, secret, "<the value>"))
		}
	}
	if !tried {
		return skipf("no field of the address is sensitive")
	}
	if err := p.term(t.ctx); err != nil {
		return err
	}
	<-p.reaped
	if p.stderr.leaks()+p.stdout.leaks() > 0 {
		return errors.New("the value of a sensitive field is in what it prints")
	}
	return nil
}

// provoke uses an address that is likely to be wrong, and returns all that the plugin says about it.
func (t *trial) provoke(p *process, a sdk.DataAddress) (string, error) {
	var said []string
	note := func(err error) {
		if err != nil {
			said = append(said, err.Error())
			if q := (*problem)(nil); errors.As(err, &q) {
				said = append(said, q.message, q.said.String())
			}
		}
	}
	request := &pluginv1.ValidateRequest{Address: addressToProto(a)}
	if strings.HasPrefix(t.subject, "source") {
		r, err := p.source.Validate(t.ctx, request)
		note(problemOf(err))
		said = append(said, r.String())
		if !t.typ.NonFinite {
			_, err = t.whole(p, a, nil)
			note(err)
		}
	} else {
		r, err := p.sink.Validate(t.ctx, request)
		note(problemOf(err))
		said = append(said, r.String())
		_, err = t.put(p, a, t.contents(1), sendOptions{})
		note(err)
	}
	if p.hasEnded() {
		return "", fmt.Errorf("its process has ended: %s", p.exit())
	}
	return strings.Join(said, "\n"), t.ctx.Err()
}
