package grpcplugin

import (
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

func TestProxyOverTheWire(t *testing.T) {
	onEachLane(t, func(t *testing.T, client newClient) {
		sdktest.TestProxy(t, sdktest.ProxyCase{
			New: func(t *testing.T) sdk.DataSource {
				p := sdk.Plugin{Name: "proxy", Version: "1.0.0", Sources: []sdk.SourceType{sdktest.ProxySource()}}
				return client(t, p).Source(sdktest.ProxyType)
			},
			Address: func(url string) sdk.DataAddress { return sdktest.ProxyAddress(url) },
		})
	})
}
