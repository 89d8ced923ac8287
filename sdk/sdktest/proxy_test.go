package sdktest_test

import (
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

func TestProxySource(t *testing.T) {
	sdktest.TestProxy(t, sdktest.ProxyCase{
		New:     func(*testing.T) sdk.DataSource { return sdk.NewDataSource(sdktest.ProxySource()) },
		Address: func(url string) sdk.DataAddress { return sdktest.ProxyAddress(url) },
	})
}
