package pluginhost

import (
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Offer is what is known of a type of data address, and of the process that has to do with it.
type Offer struct {
	sdk.AddressType
	// Answered is when the process answered last when it was asked for its health, or said that it was ready. Zero if it never has.
	Answered time.Time
}

// SourceOffer returns what is known of a type that is read, and false if no plugin does.
func (h *Host) SourceOffer(typ string) (Offer, bool) {
	return h.known(offering{asSource, typ}, sdk.Description.Source)
}

// SinkOffer returns what is known of a type that is written, and false if no plugin does.
func (h *Host) SinkOffer(typ string) (Offer, bool) {
	return h.known(offering{asSink, typ}, sdk.Description.Sink)
}

func (h *Host) known(f offering, find func(sdk.Description, string) (sdk.AddressType, bool)) (Offer, bool) {
	g, err := h.find(f)
	if err != nil {
		return Offer{}, false
	}
	st, _ := g.snapshot()
	o := Offer{Answered: st.answered}
	if st.description != nil {
		o.AddressType, _ = find(*st.description, f.typ)
	}
	return o, true
}
