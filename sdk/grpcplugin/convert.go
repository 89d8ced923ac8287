package grpcplugin

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/types/known/timestamppb"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

func frameToProto(m *message) *pluginv1.Frame {
	switch {
	case m.open != nil:
		return &pluginv1.Frame{Kind: &pluginv1.Frame_Open{Open: m.open}}
	case m.lane:
		return &pluginv1.Frame{Kind: &pluginv1.Frame_Lane{Lane: &pluginv1.Lane{}}}
	case m.err != nil:
		return &pluginv1.Frame{Kind: &pluginv1.Frame_Error{Error: errorToProto(m.err)}}
	}
	switch f := m.frame.(type) {
	case *sdk.PartBegin:
		return &pluginv1.Frame{Kind: &pluginv1.Frame_PartBegin{PartBegin: partToProto(f)}}
	case *sdk.PartEnd:
		return &pluginv1.Frame{Kind: &pluginv1.Frame_PartEnd{PartEnd: &pluginv1.PartEnd{
			Size: uint64(f.Size), Records: uint64(f.Records), Digests: digestsToProto(f.Digests),
			Trailer: fieldsOfHeader(f.Trailer)}}}
	case *sdk.Checkpoint:
		return &pluginv1.Frame{Kind: &pluginv1.Frame_Checkpoint{Checkpoint: &pluginv1.Checkpoint{
			Sequence: f.Sequence, SourceToken: f.Token}}}
	case *sdk.End:
		return &pluginv1.Frame{Kind: &pluginv1.Frame_End{End: &pluginv1.End{
			Parts: uint64(f.Parts), Bytes: uint64(f.Bytes), Records: uint64(f.Records)}}}
	}
	panic(fmt.Sprintf("grpcplugin: frame of type %T", m.frame))
}

func (m *message) fromProto(f *pluginv1.Frame) error {
	switch k := f.Kind.(type) {
	case *pluginv1.Frame_PartBegin:
		m.frame = partFromProto(k.PartBegin)
	case *pluginv1.Frame_PartEnd:
		m.frame = &sdk.PartEnd{Size: int64(k.PartEnd.Size), Records: int64(k.PartEnd.Records), Digests: digestsFromProto(k.PartEnd.Digests),
			Trailer: headerOfFields(k.PartEnd.Trailer)}
	case *pluginv1.Frame_Checkpoint:
		m.frame = &sdk.Checkpoint{Sequence: k.Checkpoint.Sequence, Token: k.Checkpoint.SourceToken}
	case *pluginv1.Frame_End:
		m.frame = &sdk.End{Totals: sdk.Totals{Parts: int64(k.End.Parts), Bytes: int64(k.End.Bytes), Records: int64(k.End.Records)}}
	case *pluginv1.Frame_Open:
		m.open = k.Open
	case *pluginv1.Frame_Lane:
		m.lane = true
	case *pluginv1.Frame_Error:
		m.err = errorFromProto(k.Error)
	default:
		// A Data or Records frame gets here only if something else was packed into the same message.
		return fmt.Errorf("a frame without a kind that this side knows")
	}
	return nil
}

func partToProto(f *sdk.PartBegin) *pluginv1.PartBegin {
	p := &pluginv1.PartBegin{
		Index: f.Index, Name: text(f.Name), MediaType: text(f.MediaType),
		Offset: uint64(f.Offset), Validator: text(f.Validator), Records: f.Records,
		Reference: f.Reference, Response: responseToProto(f.Response),
	}
	for name, value := range f.Properties {
		if p.Properties == nil {
			p.Properties = map[string]string{}
		}
		p.Properties[text(name)] = text(value)
	}
	if f.Size >= 0 {
		size := uint64(f.Size)
		p.Size = &size
	}
	if !f.Modified.IsZero() {
		p.Modified = timestamppb.New(f.Modified)
	}
	if f.TotalParts > 0 {
		total := uint64(f.TotalParts)
		p.TotalParts = &total
	}
	if f.TotalBytes > 0 {
		total := uint64(f.TotalBytes)
		p.TotalBytes = &total
	}
	return p
}

func partFromProto(p *pluginv1.PartBegin) *sdk.PartBegin {
	f := &sdk.PartBegin{
		PartInfo: sdk.PartInfo{Index: p.Index, Name: p.Name, MediaType: p.MediaType, Properties: p.Properties,
			Size: sdk.SizeUnknown, Validator: p.Validator, Records: p.Records, TotalParts: int(p.GetTotalParts()),
			TotalBytes: int64(min(p.GetTotalBytes(), math.MaxInt64)), Response: responseFromProto(p.Response)},
		Offset: int64(p.Offset),
	}
	if len(p.Reference) > 0 {
		f.Reference = p.Reference
	}
	if p.Size != nil {
		f.Size = int64(*p.Size)
	}
	if p.Modified != nil {
		f.Modified = p.Modified.AsTime()
	}
	return f
}

func upToProto(up sdk.Up) *pluginv1.WriteUp {
	switch up := up.(type) {
	case *sdk.Durable:
		return &pluginv1.WriteUp{Kind: &pluginv1.WriteUp_Durable{Durable: &pluginv1.Durable{
			Sequence: up.Sequence, SinkToken: up.Token}}}
	case *sdk.Blocked:
		return &pluginv1.WriteUp{Kind: &pluginv1.WriteUp_Blocked{Blocked: &pluginv1.Blocked{
			Blocked: up.Blocked, Reason: up.Reason}}}
	case *sdk.Copied:
		return &pluginv1.WriteUp{Kind: &pluginv1.WriteUp_Copied{Copied: &pluginv1.Copied{Index: up.Index, Bytes: uint64(up.Bytes)}}}
	case *sdk.PartWritten:
		return &pluginv1.WriteUp{Kind: &pluginv1.WriteUp_PartWritten{PartWritten: &pluginv1.PartWritten{
			Index: up.Index, Size: uint64(up.Size), Digests: digestsToProto(up.Digests), Location: text(up.Location)}}}
	case *sdk.Done:
		return &pluginv1.WriteUp{Kind: &pluginv1.WriteUp_Done{Done: &pluginv1.WriteDone{
			Parts: uint64(up.Parts), Bytes: uint64(up.Bytes), Records: uint64(up.Records)}}}
	}
	panic(fmt.Sprintf("grpcplugin: up of type %T", up))
}

func upFromProto(u *pluginv1.WriteUp) (sdk.Up, error) {
	switch k := u.Kind.(type) {
	case *pluginv1.WriteUp_Durable:
		return &sdk.Durable{Sequence: k.Durable.Sequence, Token: k.Durable.SinkToken}, nil
	case *pluginv1.WriteUp_Blocked:
		return &sdk.Blocked{Blocked: k.Blocked.Blocked, Reason: k.Blocked.Reason}, nil
	case *pluginv1.WriteUp_Copied:
		return &sdk.Copied{Index: k.Copied.Index, Bytes: int64(k.Copied.Bytes)}, nil
	case *pluginv1.WriteUp_PartWritten:
		return &sdk.PartWritten{Index: k.PartWritten.Index, Size: int64(k.PartWritten.Size),
			Digests: digestsFromProto(k.PartWritten.Digests), Location: k.PartWritten.Location}, nil
	case *pluginv1.WriteUp_Done:
		return &sdk.Done{Totals: sdk.Totals{Parts: int64(k.Done.Parts), Bytes: int64(k.Done.Bytes), Records: int64(k.Done.Records)}}, nil
	case *pluginv1.WriteUp_Error:
		return nil, errorFromProto(k.Error)
	}
	return nil, sdk.Errorf(sdk.Internal, "the sink said something that this host does not know")
}

func addressToProto(a sdk.DataAddress) *pluginv1.DataAddress {
	return &pluginv1.DataAddress{Type: a.Type, Endpoint: a.Endpoint, Properties: a.Properties}
}

func addressFromProto(a *pluginv1.DataAddress) sdk.DataAddress {
	return sdk.DataAddress{Type: a.GetType(), Endpoint: a.GetEndpoint(), Properties: a.GetProperties()}
}

func flowToProto(f sdk.FlowContext) *pluginv1.FlowContext {
	return &pluginv1.FlowContext{
		ParticipantContext: f.ParticipantContext, Id: f.ID, ParticipantId: f.ParticipantID, CounterpartyId: f.CounterPartyID,
		AgreementId: f.AgreementID, DatasetId: f.DatasetID, Profile: f.Profile, Labels: f.Labels,
	}
}

func flowFromProto(f *pluginv1.FlowContext) sdk.FlowContext {
	return sdk.FlowContext{
		ParticipantContext: f.GetParticipantContext(), ID: f.GetId(), ParticipantID: f.GetParticipantId(),
		CounterPartyID: f.GetCounterpartyId(), AgreementID: f.GetAgreementId(), DatasetID: f.GetDatasetId(),
		Profile: f.GetProfile(), Labels: f.GetLabels(),
	}
}

func readOpenToProto(o sdk.ReadOpen) *pluginv1.ReadOpen {
	p := &pluginv1.ReadOpen{
		Flow: flowToProto(o.Flow), Address: addressToProto(o.Address), ResumeToken: o.ResumeToken,
		Digests: algorithmsToProto(o.Digests), List: o.List, MaxFrameSize: sdk.MaxData, Skip: o.Skip,
		ByReference: o.ByReference, ByBytes: o.ByBytes, Once: o.Once,
	}
	if s := o.Select; s != nil {
		p.Select = &pluginv1.PartSelection{Name: s.Name, Offset: uint64(s.Offset), Validator: s.Validator}
		if s.Length >= 0 {
			length := uint64(s.Length)
			p.Select.Length = &length
		}
	}
	p.Request = requestToProto(o.Request)
	return p
}

func readOpenFromProto(p *pluginv1.ReadOpen) sdk.ReadOpen {
	o := sdk.ReadOpen{
		Flow: flowFromProto(p.Flow), Address: addressFromProto(p.Address), ResumeToken: p.ResumeToken,
		Digests: algorithmsFromProto(p.Digests), List: p.List, Skip: p.Skip, ByReference: p.ByReference, ByBytes: p.ByBytes,
		Once: p.Once,
	}
	if s := p.Select; s != nil {
		o.Select = &sdk.Selection{Name: s.Name, Offset: int64(s.Offset), Length: -1, Validator: s.Validator}
		if s.Length != nil {
			o.Select.Length = int64(*s.Length)
		}
	}
	o.Request = requestFromProto(p.Request)
	return o
}

func writeOpenToProto(o sdk.WriteOpen) *pluginv1.WriteOpen {
	return &pluginv1.WriteOpen{
		Flow: flowToProto(o.Flow), Address: addressToProto(o.Address), ResumeToken: o.ResumeToken, Redelivery: o.Redelivery,
		Digests: algorithmsToProto(o.Digests),
	}
}

func writeOpenFromProto(p *pluginv1.WriteOpen) sdk.WriteOpen {
	return sdk.WriteOpen{
		Flow: flowFromProto(p.Flow), Address: addressFromProto(p.Address), ResumeToken: p.ResumeToken, Redelivery: p.Redelivery,
		Digests: algorithmsFromProto(p.Digests),
	}
}

var algorithms = map[pluginv1.DigestAlgorithm]sdk.Algorithm{
	pluginv1.DigestAlgorithm_DIGEST_ALGORITHM_CRC32C: sdk.CRC32C,
	pluginv1.DigestAlgorithm_DIGEST_ALGORITHM_SHA256: sdk.SHA256,
}

func algorithmToProto(a sdk.Algorithm) pluginv1.DigestAlgorithm {
	for p, s := range algorithms {
		if s == a {
			return p
		}
	}
	return pluginv1.DigestAlgorithm_DIGEST_ALGORITHM_UNSPECIFIED
}

func algorithmsToProto(in []sdk.Algorithm) (out []pluginv1.DigestAlgorithm) {
	for _, a := range in {
		out = append(out, algorithmToProto(a))
	}
	return out
}

func algorithmsFromProto(in []pluginv1.DigestAlgorithm) (out []sdk.Algorithm) {
	for _, a := range in {
		if s, ok := algorithms[a]; ok {
			out = append(out, s)
		}
	}
	return out
}

func digestsToProto(d sdk.Digests) (out []*pluginv1.Digest) {
	for _, a := range sdk.Algorithms() {
		if v := d[a]; v != nil {
			out = append(out, &pluginv1.Digest{Algorithm: algorithmToProto(a), Value: v})
		}
	}
	return out
}

func digestsFromProto(in []*pluginv1.Digest) sdk.Digests {
	out := sdk.Digests{}
	for _, d := range in {
		if a, ok := algorithms[d.Algorithm]; ok {
			out[a] = d.Value
		}
	}
	return out
}
