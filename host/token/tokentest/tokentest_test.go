package tokentest_test

import (
	"testing"

	"github.com/towpath-dataplane/towpath/host/token"
	"github.com/towpath-dataplane/towpath/host/token/tokentest"
)

func TestMemory(t *testing.T) {
	tokentest.TestStore(t, func(*testing.T) token.Store { return tokentest.NewMemory() })
}
