package token

import (
	"fmt"
	"testing"
)

func TestLiveIsBounded(t *testing.T) {
	l := newLive(3)
	for i := range 10 {
		_, epoch, _ := l.get(digest{byte(i)})
		l.add(digest{byte(i)}, Claims{ID: fmt.Sprint(i), Grant: Grant{Flow: Flow{ID: fmt.Sprint(i)}}}, epoch)
	}
	if len(l.claims) != 3 || len(l.flows) != 3 {
		t.Errorf("%d tokens of %d flows are remembered, want 3", len(l.claims), len(l.flows))
	}
	if _, _, ok := l.get(digest{9}); !ok {
		t.Error("the last one was not remembered")
	}
	for i := range 10 {
		l.forget(Flow{ID: fmt.Sprint(i)})
	}
	if len(l.claims)+len(l.flows) != 0 {
		t.Errorf("left over: %v %v", l.claims, l.flows)
	}
}

// A look-up that began before a revocation must not bring the token back after it.
func TestLiveIgnoresALateLookUp(t *testing.T) {
	l := newLive(3)
	f := Flow{ID: "f"}
	_, epoch, _ := l.get(digest{1})
	l.forget(f)
	l.add(digest{1}, Claims{Grant: Grant{Flow: f}}, epoch)
	if _, _, ok := l.get(digest{1}); ok {
		t.Error("a token is remembered whose look-up was overtaken")
	}
}
