package config

import (
	"testing"
)

func TestSides(t *testing.T) {
	text := theSecret
	s := Secret{text: &text}
	for name, c := range map[string]struct {
		a                 *Authorization
		inbound, outbound bool
	}{
		"none":                      {nil, false, false},
		"client credentials":        {&Authorization{Type: ClientCredentials}, true, false},
		"client credentials both":   {&Authorization{Type: ClientCredentials, TokenEndpoint: "https://a"}, true, true},
		"exchange":                  {&Authorization{Type: TokenExchange}, true, false},
		"exchange both":             {&Authorization{Type: TokenExchange, TokenExchangeEndpoint: "https://a"}, true, true},
		"static, one way":           {&Authorization{Type: StaticCredential, Inbound: s}, true, false},
		"static, the other way":     {&Authorization{Type: StaticCredential, Outbound: s}, false, true},
		"static, there and back":    {&Authorization{Type: StaticCredential, Inbound: s, Outbound: s}, true, true},
		"static, without any value": {&Authorization{Type: StaticCredential}, false, false},
	} {
		if got := c.a.HasInbound(); got != c.inbound {
			t.Errorf("%s: inbound is %v", name, got)
		}
		if got := c.a.HasOutbound(); got != c.outbound {
			t.Errorf("%s: outbound is %v", name, got)
		}
	}
}
