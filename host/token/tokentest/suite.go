package tokentest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/token"
)

// TestStore tests that a store does what token.Store says. open returns an empty store that lives as long as the test.
func TestStore(t *testing.T, open func(t *testing.T) token.Store) {
	for _, tc := range []struct {
		name string
		test func(t *testing.T, s token.Store)
	}{
		{"a record comes back as it was put", testRecord},
		{"a new token revokes those of its flow", testReplace},
		{"a refused record revokes nothing", testRefused},
		{"revocation reaches one flow", testRevoke},
		{"purge removes what has expired", testPurge},
		{"a family comes back as it was put", testFamily},
		{"a renewal leaves the token before it", testRenew},
		{"a renewal of another generation changes nothing", testStale},
		{"a token is used once", testUse},
		{"a family ends with the tokens of its flow", testEnd},
		{"the end of a family is not that of the next", testRevokeFamily},
		{"purge removes families by their refresh token", testPurgeFamilies},
		{"kinds of access are kept apart, and end together", testAccess},
		{"a cancelled call changes nothing", testCancelled},
		{"of tokens issued at once one is good", testConcurrent},
		{"of renewals at once one succeeds", testRenewConcurrently},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, open(t)) })
	}
}

var expires = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func record(id, flow string) token.Record {
	return token.Record{ID: id, Flow: token.Flow{Context: "default", ID: flow}, Access: token.Read, Expires: expires}
}

// family returns the first generation of a family of a flow.
func family(id, access, flow string) token.Family {
	return token.Family{ID: id, Current: record(access, flow), Issued: expires.Add(-time.Hour), Started: expires.Add(-time.Hour),
		Expires: expires.Add(time.Hour)}
}

// next returns the generation after f.
func next(f token.Family, access string) token.Family {
	f.Generation++
	f.Previous, f.Current.ID, f.Current.Unused = f.Current.ID, access, true
	f.Issued = f.Issued.Add(time.Minute)
	return f
}

func testRecord(t *testing.T, s token.Store) {
	want := record("1", "f")
	want.Access = token.Write
	replace(t, s, want)
	got, err := s.Token(t.Context(), "1")
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := s.Token(t.Context(), "2"); !errors.Is(err, token.ErrUnknown) {
		t.Errorf("a token that is not there: %v, want ErrUnknown", err)
	}
}

func testReplace(t *testing.T, s token.Store) {
	other := record("other", "f")
	other.Flow.Context = "other"
	for _, r := range []token.Record{record("1", "f"), other, record("2", "f"), record("3", "g")} {
		replace(t, s, r)
	}
	check(t, s, map[string]bool{"1": true, "other": false, "2": false, "3": false})
}

func testRefused(t *testing.T, s token.Store) {
	replace(t, s, record("1", "f"))
	replace(t, s, record("2", "g"))
	if err := s.ReplaceTokens(t.Context(), token.Family{Current: record("1", "g")}); err == nil {
		t.Error("an id was recorded twice")
	}
	check(t, s, map[string]bool{"1": false, "2": false})
	f := family("A", "3", "h")
	begin(t, s, f)
	if err := s.RenewTokens(t.Context(), next(f, "1")); err == nil || errors.Is(err, token.ErrStale) {
		t.Errorf("an id was recorded twice by a renewal: %v", err)
	}
	check(t, s, map[string]bool{"1": false, "3": false})
	checkFamilies(t, s, f)
}

func testRevoke(t *testing.T, s token.Store) {
	replace(t, s, record("1", "f"))
	replace(t, s, record("2", "g"))
	for range 2 {
		revoke(t, s, "f")
	}
	revoke(t, s, "never")
	check(t, s, map[string]bool{"1": true, "2": false})
}

func testPurge(t *testing.T, s token.Store) {
	late := record("late", "g")
	late.Expires = expires.Add(time.Second)
	replace(t, s, record("1", "f"))
	replace(t, s, record("2", "f"))
	replace(t, s, late)
	for id, flow := range map[string]string{"never": "h", "revoked": "i"} {
		forever := record(id, flow)
		forever.Expires = token.Never
		replace(t, s, forever)
	}
	revoke(t, s, "i")
	check(t, s, map[string]bool{"never": false, "revoked": true})
	purge(t, s, expires)
	check(t, s, map[string]bool{"never": false})
	if _, err := s.Token(t.Context(), "revoked"); !errors.Is(err, token.ErrUnknown) {
		t.Errorf("the revoked token that never expires: %v, want ErrUnknown", err)
	}
	check(t, s, map[string]bool{"1": true, "2": false, "late": false})
	purge(t, s, expires.Add(time.Second))
	check(t, s, map[string]bool{"late": false})
	for _, id := range []string{"1", "2"} {
		if _, err := s.Token(t.Context(), id); !errors.Is(err, token.ErrUnknown) {
			t.Errorf("token %s after the purge: %v", id, err)
		}
	}
}

func testCancelled(t *testing.T, s token.Store) {
	f := family("A", "1", "f")
	f.Current.Unused = true
	begin(t, s, f)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for call, err := range map[string]error{
		"ReplaceTokens": s.ReplaceTokens(ctx, token.Family{Current: record("2", "f")}),
		"RenewTokens":   s.RenewTokens(ctx, next(f, "3")),
		"UseToken":      s.UseToken(ctx, f.Current.Flow, f.Current.ID),
		"RevokeTokens":  s.RevokeTokens(ctx, f.Current.Flow),
		"RevokeFamily":  s.RevokeFamily(ctx, "A"),
		"PurgeTokens":   s.PurgeTokens(ctx, expires.Add(24*time.Hour)),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", call, err)
		}
	}
	check(t, s, map[string]bool{"1": false})
	checkFamilies(t, s, f)
}

func testConcurrent(t *testing.T, s token.Store) {
	const n = 16
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := s.ReplaceTokens(t.Context(), family("family "+fmt.Sprint(i), fmt.Sprint(i), "f")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	good := 0
	for i := range n {
		r, err := s.Token(t.Context(), fmt.Sprint(i))
		if err != nil {
			t.Error(err)
		}
		_, err = s.Family(t.Context(), "family "+fmt.Sprint(i))
		if gone := errors.Is(err, token.ErrUnknown); gone != r.Revoked {
			t.Errorf("token %d: revoked %v, family %v", i, r.Revoked, err)
		}
		if !r.Revoked {
			good++
		}
	}
	if good != 1 {
		t.Errorf("%d tokens of one flow are good", good)
	}
}

func testFamily(t *testing.T, s token.Store) {
	f := family("A", "1", "f")
	f.Current.Access, f.Current.Flow.Context = token.Write, "other"
	begin(t, s, f)
	checkFamilies(t, s, f)
	check(t, s, map[string]bool{"1": false})
	if _, err := s.Family(t.Context(), "B"); !errors.Is(err, token.ErrUnknown) {
		t.Errorf("a family that is not there: %v, want ErrUnknown", err)
	}
	if _, err := s.Family(t.Context(), ""); !errors.Is(err, token.ErrUnknown) {
		t.Errorf("the family without an id: %v, want ErrUnknown", err)
	}
}

func testRenew(t *testing.T, s token.Store) {
	replace(t, s, record("0", "f"))
	first, other := family("A", "1", "f"), family("B", "other", "g")
	begin(t, s, first)
	begin(t, s, other)
	second := next(first, "2")
	renew(t, s, second)
	checkFamilies(t, s, second, other)
	check(t, s, map[string]bool{"0": true, "1": false, "2": false, "other": false})
	third := next(second, "3")
	renew(t, s, third)
	checkFamilies(t, s, third, other)
	check(t, s, map[string]bool{"0": true, "1": true, "2": false, "3": false, "other": false})
}

func testStale(t *testing.T, s token.Store) {
	first := family("A", "1", "f")
	begin(t, s, first)
	second := next(first, "2")
	renew(t, s, second)
	for name, f := range map[string]token.Family{
		"the generation that is there": next(first, "x"), "a later one": next(next(second, "y"), "x"), "another family": next(family("B", "1", "f"), "x"),
	} {
		if err := s.RenewTokens(t.Context(), f); !errors.Is(err, token.ErrStale) {
			t.Errorf("%s: %v, want ErrStale", name, err)
		}
	}
	checkFamilies(t, s, second)
	check(t, s, map[string]bool{"1": false, "2": false})
	if _, err := s.Token(t.Context(), "x"); !errors.Is(err, token.ErrUnknown) {
		t.Errorf("the token of a renewal that failed: %v, want ErrUnknown", err)
	}
}

func testUse(t *testing.T, s token.Store) {
	first := family("A", "1", "f")
	begin(t, s, first)
	second := next(first, "2")
	renew(t, s, second)
	unused := func(want map[string]bool) {
		t.Helper()
		for id, want := range want {
			if r, err := s.Token(t.Context(), id); err != nil || r.Unused != want {
				t.Errorf("token %s: unused %v, %v; want %v", id, r.Unused, err, want)
			}
		}
	}
	unused(map[string]bool{"1": false, "2": true})
	use := func(flow, id string) {
		t.Helper()
		if err := s.UseToken(t.Context(), record("", flow).Flow, id); err != nil {
			t.Errorf("use %s of flow %s: %v", id, flow, err)
		}
	}
	use("f", "1")
	use("g", "2")
	use("never", "never")
	unused(map[string]bool{"1": false, "2": true})
	checkFamilies(t, s, second)
	for range 2 {
		use("f", "2")
		second.Current.Unused = false
		unused(map[string]bool{"1": false, "2": false})
		checkFamilies(t, s, second)
	}
	third := next(second, "3")
	renew(t, s, third)
	use("f", "2")
	unused(map[string]bool{"2": false, "3": true})
	checkFamilies(t, s, third)
}

func testEnd(t *testing.T, s token.Store) {
	gone := func(what, id string) {
		t.Helper()
		if _, err := s.Family(t.Context(), id); !errors.Is(err, token.ErrUnknown) {
			t.Errorf("after %s: %v, want ErrUnknown", what, err)
		}
		if err := s.RenewTokens(t.Context(), next(family(id, "1", "f"), "x")); !errors.Is(err, token.ErrStale) {
			t.Errorf("a renewal after %s: %v, want ErrStale", what, err)
		}
	}
	neighbour := family("N", "n", "g")
	begin(t, s, neighbour)
	begin(t, s, family("A", "1", "f"))
	revoke(t, s, "f")
	gone("a revocation", "A")
	begin(t, s, family("B", "2", "f"))
	begin(t, s, family("C", "3", "f"))
	gone("a new family", "B")
	replace(t, s, record("4", "f"))
	gone("a token without a family", "C")
	checkFamilies(t, s, neighbour)
	check(t, s, map[string]bool{"1": true, "2": true, "3": true, "4": false, "n": false})
}

func testRevokeFamily(t *testing.T, s token.Store) {
	first := family("A", "1", "f")
	begin(t, s, first)
	renew(t, s, next(first, "2"))
	for range 2 {
		if err := s.RevokeFamily(t.Context(), "A"); err != nil {
			t.Fatal(err)
		}
		check(t, s, map[string]bool{"1": true, "2": true})
		if _, err := s.Family(t.Context(), "A"); !errors.Is(err, token.ErrUnknown) {
			t.Errorf("the family: %v, want ErrUnknown", err)
		}
	}
	later := family("B", "3", "f")
	begin(t, s, later)
	if err := s.RevokeFamily(t.Context(), "A"); err != nil {
		t.Fatal(err)
	}
	check(t, s, map[string]bool{"3": false})
	checkFamilies(t, s, later)
}

func testPurgeFamilies(t *testing.T, s token.Store) {
	f, late := family("A", "1", "f"), family("B", "2", "g")
	late.Expires = f.Expires.Add(time.Second)
	f.Current.Unused = true
	begin(t, s, f)
	begin(t, s, late)
	purge(t, s, f.Expires)
	checkFamilies(t, s, f, late)
	if _, err := s.Token(t.Context(), "1"); !errors.Is(err, token.ErrUnknown) {
		t.Errorf("the token that has expired: %v, want ErrUnknown", err)
	}
	purge(t, s, late.Expires)
	checkFamilies(t, s, late)
	if _, err := s.Family(t.Context(), "A"); !errors.Is(err, token.ErrUnknown) {
		t.Errorf("the family that has expired: %v, want ErrUnknown", err)
	}
}

func testAccess(t *testing.T, s token.Store) {
	forward, back := family("A", "1", "f"), family("B", "2", "f")
	back.Current.Access = token.Respond
	begin(t, s, forward)
	begin(t, s, back)
	check(t, s, map[string]bool{"1": false, "2": false})
	checkFamilies(t, s, forward, back)
	later := next(back, "3")
	renew(t, s, later)
	renew(t, s, next(later, "4"))
	check(t, s, map[string]bool{"1": false, "2": true, "3": false, "4": false})
	replace(t, s, record("5", "f"))
	check(t, s, map[string]bool{"1": true, "3": false, "4": false, "5": false})
	checkFamilies(t, s, next(later, "4"))
	if err := s.RevokeFamily(t.Context(), "B"); err != nil {
		t.Fatal(err)
	}
	check(t, s, map[string]bool{"3": true, "4": true, "5": false})
	again := family("C", "6", "f")
	again.Current.Access = token.Respond
	begin(t, s, again)
	revoke(t, s, "f")
	check(t, s, map[string]bool{"5": true, "6": true})
	if _, err := s.Family(t.Context(), "C"); !errors.Is(err, token.ErrUnknown) {
		t.Errorf("the family after the end of its flow's tokens: %v, want ErrUnknown", err)
	}
}

func testRenewConcurrently(t *testing.T, s token.Store) {
	const n = 16
	first := family("A", "first", "f")
	begin(t, s, first)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = s.RenewTokens(t.Context(), next(first, fmt.Sprint(i))) })
	}
	wg.Wait()
	f, err := s.Family(t.Context(), "A")
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range errs {
		switch {
		case err == nil && f.Current.ID == fmt.Sprint(i):
			checkFamilies(t, s, next(first, fmt.Sprint(i)))
		case !errors.Is(err, token.ErrStale):
			t.Errorf("renewal %d: %v, while %s is the current token", i, err, f.Current.ID)
		}
	}
}

func replace(t *testing.T, s token.Store, r token.Record) {
	t.Helper()
	begin(t, s, token.Family{Current: r})
}

func begin(t *testing.T, s token.Store, f token.Family) {
	t.Helper()
	if err := s.ReplaceTokens(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func renew(t *testing.T, s token.Store, f token.Family) {
	t.Helper()
	if err := s.RenewTokens(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func revoke(t *testing.T, s token.Store, flow string) {
	t.Helper()
	if err := s.RevokeTokens(t.Context(), record("", flow).Flow); err != nil {
		t.Fatal(err)
	}
}

func purge(t *testing.T, s token.Store, before time.Time) {
	t.Helper()
	if err := s.PurgeTokens(t.Context(), before); err != nil {
		t.Fatal(err)
	}
}

// check compares which of some tokens are revoked.
func check(t *testing.T, s token.Store, revoked map[string]bool) {
	t.Helper()
	for id, want := range revoked {
		r, err := s.Token(t.Context(), id)
		if err != nil || r.Revoked != want {
			t.Errorf("token %s: revoked %v, %v; want %v", id, r.Revoked, err, want)
		}
	}
}

// checkFamilies checks that families are as they were put.
func checkFamilies(t *testing.T, s token.Store, families ...token.Family) {
	t.Helper()
	for _, want := range families {
		got, err := s.Family(t.Context(), want.ID)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("family %s: %v (-want +got):\n%s", want.ID, err, diff)
		}
	}
}
