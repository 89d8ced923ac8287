package grpcplugin

import (
	"math"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

var kinds = map[sdk.Kind]pluginv1.FieldKind{
	"":             pluginv1.FieldKind_FIELD_KIND_STRING,
	sdk.String:     pluginv1.FieldKind_FIELD_KIND_STRING,
	sdk.Bool:       pluginv1.FieldKind_FIELD_KIND_BOOL,
	sdk.Int:        pluginv1.FieldKind_FIELD_KIND_INT,
	sdk.Duration:   pluginv1.FieldKind_FIELD_KIND_DURATION,
	sdk.Size:       pluginv1.FieldKind_FIELD_KIND_SIZE,
	sdk.URL:        pluginv1.FieldKind_FIELD_KIND_URL,
	sdk.StringList: pluginv1.FieldKind_FIELD_KIND_STRING_LIST,
	sdk.StringMap:  pluginv1.FieldKind_FIELD_KIND_STRING_MAP,
}

func kindFromProto(k pluginv1.FieldKind) sdk.Kind {
	for s, p := range kinds {
		if p == k && s != "" {
			return s
		}
	}
	return sdk.String
}

func descriptionToProto(d sdk.Description) *pluginv1.DescribeResponse {
	return &pluginv1.DescribeResponse{
		Name: d.Name, Version: d.Version, Documentation: d.Documentation, Config: schemaToProto(d.Config),
		SourceTypes: typesToProto(d.Sources), SinkTypes: typesToProto(d.Sinks),
		Capabilities: &pluginv1.Capabilities{Digests: algorithmsToProto(d.Digests), MaxFrameSize: sdk.MaxData, Lanes: ownLanes(),
			Answers: true},
		Permissions: permissionsToProto(d.Permissions),
	}
}

// ownLanes are the lanes that a plugin made with this package speaks.
func ownLanes() []string {
	if !laneSupported {
		return nil
	}
	return []string{LaneName, AnswersLaneName}
}

func descriptionFromProto(p *pluginv1.DescribeResponse) sdk.Description {
	return sdk.Description{
		Name: p.Name, Version: p.Version, Documentation: p.Documentation, Config: schemaFromProto(p.Config),
		Sources: typesFromProto(p.SourceTypes), Sinks: typesFromProto(p.SinkTypes),
		Digests:     algorithmsFromProto(p.GetCapabilities().GetDigests()),
		Permissions: permissionsFromProto(p.Permissions),
	}
}

func permissionsToProto(p *sdk.Permissions) *pluginv1.Permissions {
	if p == nil {
		return nil
	}
	return &pluginv1.Permissions{Environment: p.Environment, Read: p.Read, Write: p.Write, Connect: p.Connect,
		Memory: uint64(max(p.Memory, 0)), OpenFiles: uint32(min(max(p.OpenFiles, 0), math.MaxUint32))}
}

func permissionsFromProto(p *pluginv1.Permissions) *sdk.Permissions {
	if p == nil {
		return nil
	}
	return &sdk.Permissions{Environment: p.Environment, Read: p.Read, Write: p.Write, Connect: p.Connect,
		Memory: int64(min(p.Memory, math.MaxInt64)), OpenFiles: int(min(p.OpenFiles, math.MaxInt32))}
}

func typesToProto(types []sdk.AddressType) (out []*pluginv1.AddressType) {
	for _, t := range types {
		out = append(out, &pluginv1.AddressType{
			Type: t.Type, Documentation: t.Documentation, Address: schemaToProto(t.Address),
			Resumable: t.Resumable, NonFinite: t.NonFinite, Records: t.Records, Provisions: t.Provisions, Copies: t.Copies,
			Proxies: t.Proxies,
		})
	}
	return out
}

func typesFromProto(types []*pluginv1.AddressType) (out []sdk.AddressType) {
	for _, t := range types {
		out = append(out, sdk.AddressType{
			Type: t.Type, Documentation: t.Documentation, Address: schemaFromProto(t.Address),
			Resumable: t.Resumable, NonFinite: t.NonFinite, Records: t.Records, Provisions: t.Provisions, Copies: t.Copies,
			Proxies: t.Proxies,
		})
	}
	return out
}

func schemaToProto(s sdk.Schema) *pluginv1.Schema {
	p := &pluginv1.Schema{Open: s.Open}
	for _, f := range s.Fields {
		p.Fields = append(p.Fields, &pluginv1.Field{
			Name: f.Name, Kind: kinds[f.Kind], Required: f.Required, Sensitive: f.Sensitive,
			Documentation: f.Documentation, DefaultValue: f.Default, OneOf: f.OneOf, Prefix: f.Prefix,
		})
	}
	return p
}

func schemaFromProto(p *pluginv1.Schema) sdk.Schema {
	s := sdk.Schema{Open: p.GetOpen()}
	for _, f := range p.GetFields() {
		s.Fields = append(s.Fields, sdk.Field{
			Name: f.Name, Kind: kindFromProto(f.Kind), Required: f.Required, Sensitive: f.Sensitive,
			Documentation: f.Documentation, Default: f.DefaultValue, OneOf: f.OneOf, Prefix: f.Prefix,
		})
	}
	return s
}
