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
	return h.offer(h.sources, typ, sdk.Description.Source)
}

// SinkOffer returns what is known of a type that is written, and false if no plugin does.
func (h *Host) SinkOffer(typ string) (Offer, bool) {
	return h.offer(h.sinks, typ, sdk.Description.Sink)
}

func (h *Host) offer(of map[string]*supervisor, typ string, find func(sdk.Description, string) (sdk.AddressType, bool)) (Offer, bool) {
	h.mu.Lock()
	s := of[typ]
	h.mu.Unlock()
	if s == nil {
		return Offer{}, false
	}
	st, _ := s.snapshot()
	o := Offer{Answered: st.answered}
	if st.description != nil {
		o.AddressType, _ = find(*st.description, typ)
	}
	return o, true
}
