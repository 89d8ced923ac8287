package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/store"
	"github.com/towpath-dataplane/towpath/host/store/storetest"
	"github.com/towpath-dataplane/towpath/host/token"
	"github.com/towpath-dataplane/towpath/host/token/tokentest"
	"github.com/towpath-dataplane/towpath/sdk"
)

var testKey = [32]byte{1, 2, 3}

// options are for a database in a folder of the test.
func options(t testing.TB) store.Options {
	return store.Options{Path: filepath.Join(t.TempDir(), "towpath.db"), Key: testKey}
}

// open opens a database until the test ends.
func open(t testing.TB, o store.Options) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestFlows(t *testing.T) {
	storetest.TestStore(t, func(t *testing.T) storetest.Store { return open(t, options(t)) })
}

func TestDocuments(t *testing.T) {
	storetest.TestDocuments(t, func(t *testing.T) flow.Documents { return open(t, options(t)) })
}

func TestTokens(t *testing.T) {
	tokentest.TestStore(t, func(t *testing.T) token.Store { return open(t, options(t)) })
}

func TestEverythingOutlivesTheProcess(t *testing.T) {
	o := options(t)
	db := open(t, o)
	f := storetest.Full("f")
	part := flow.Part{Name: "p", Size: 3, Digests: sdk.Digests{sdk.SHA256: {1}}, Finished: time.UnixMicro(1).UTC()}
	answer := flow.Answer{Operation: "start", State: flow.Started}
	record := token.Record{ID: "jti", Flow: token.Flow{Context: "default", ID: "f"}, Access: token.Read, Expires: time.UnixMicro(1).UTC()}
	update(t, db, f.Key, func(tx flow.Tx) error {
		if err := tx.Put(f); err != nil {
			return err
		}
		_, err := tx.AddPart(part)
		return errors.Join(err, tx.PutAnswer("m", answer), tx.Enqueue(flow.Callback{MessageID: "c"}))
	})
	family := token.Family{ID: "family", Current: record, Previous: "before", Generation: 7, Issued: time.UnixMicro(2).UTC(),
		Expires: time.UnixMicro(3).UTC(), Started: time.UnixMicro(4).UTC()}
	if err := db.ReplaceTokens(t.Context(), family); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	db = open(t, o)
	got, err := db.Flow(t.Context(), f.Key)
	if diff := cmp.Diff(f, got); diff != "" || err != nil {
		t.Errorf("the flow: %v (-want +got):\n%s", err, diff)
	}
	parts, err := db.Parts(t.Context(), f.Key, 0, 10)
	if diff := cmp.Diff([]flow.Part{part}, parts); diff != "" || err != nil {
		t.Errorf("its parts: %v (-want +got):\n%s", err, diff)
	}
	if due, err := db.Due(t.Context(), time.Now(), 10); len(due) != 1 || err != nil {
		t.Errorf("its callbacks: %v, %v", due, err)
	}
	if got, err := db.Token(t.Context(), "jti"); got != record || err != nil {
		t.Errorf("its token: %+v, %v", got, err)
	}
	if got, err := db.Family(t.Context(), "family"); got != family || err != nil {
		t.Errorf("the token's family: %+v, %v", got, err)
	}
	update(t, db, f.Key, func(tx flow.Tx) error {
		got, ok, err := tx.Answer("m")
		if diff := cmp.Diff(answer, got); diff != "" || !ok {
			t.Errorf("its answer: %v (-want +got):\n%s", ok, diff)
		}
		return err
	})
}

// A client that has not heard the answer gets the same tokens from the next process, and of none of them there is a trace in the files.
func TestRenewalsOutliveTheProcess(t *testing.T) {
	o := options(t)
	key, err := token.LoadKey(filepath.Join(t.TempDir(), "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	start := func() (*store.DB, *token.Authority) {
		db := open(t, o)
		a, err := token.New(token.Config{Issuer: "dp", Audience: "dp", Lifetime: time.Hour, RefreshLifetime: time.Hour, Grace: time.Hour,
			Key: key, Store: db})
		if err != nil {
			t.Fatal(err)
		}
		return db, a
	}
	db, a := start()
	first, err := a.Issue(t.Context(), token.Grant{Flow: token.Flow{Context: "default", ID: "f"}, Subject: "did:web:them", Access: token.Read,
		Renewable: true})
	if err != nil {
		t.Fatal(err)
	}
	request := token.RenewRequest{Refresh: first.Refresh, Client: "did:web:them", Access: first.Access}
	second, err := a.Renew(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	files, err := filepath.Glob(o.Path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{first.Refresh, second.Refresh, first.Access, second.Access} {
			for _, form := range []string{secret, secret[len(secret)-40:]} {
				if bytes.Contains(content, []byte(form)) {
					t.Errorf("a token is in %s", filepath.Base(file))
				}
			}
		}
	}

	db, a = start()
	again, err := a.Renew(t.Context(), request)
	if err != nil || again.Access != second.Access || again.Refresh != second.Refresh {
		t.Errorf("the next process answered %+v, %v; want %+v", again, err, second)
	}
	if _, err := a.Verify(t.Context(), second.Access); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, a = start()
	if _, err := a.Renew(t.Context(), request); !errors.Is(err, token.ErrReused) {
		t.Errorf("the one after the use: %v, want ErrReused", err)
	}
}

// Of flows that are created at one instant, or by a clock that goes backwards, each page of a listing still shows its own.
func TestPagesDoNotDependOnTheClock(t *testing.T) {
	o := options(t)
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	o.Clock = func() time.Time { return now }
	db := open(t, o)
	put := func(id string) {
		update(t, db, key(id), func(tx flow.Tx) error { return tx.Put(&flow.Flow{State: flow.Started}) })
	}
	for i := range 5 {
		put(fmt.Sprint(i))
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	now = now.Add(-time.Hour)
	db = open(t, o)
	for i := range 5 {
		put(fmt.Sprint(5 + i))
	}
	var ids []string
	filter := flow.Filter{Limit: 3}
	for {
		page, err := db.Flows(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, f := range page {
			ids = append(ids, f.ID)
		}
		filter.Before = page[len(page)-1].Created
	}
	if got := strings.Join(ids, ""); got != "9876543210" {
		t.Errorf("listed %s", got)
	}
}

func TestNothingSecretIsInTheFiles(t *testing.T) {
	o := options(t)
	db := open(t, o)
	const secret = "planted-in-clear"
	address := &sdk.DataAddress{Type: "HttpData", Endpoint: "https://" + secret + ".example", Properties: map[string]string{"authorization": secret}}
	f := storetest.Full("f")
	f.Remote, f.Issued, f.Local = address, address, *address
	f.Claims, f.Metadata = []byte(`{"sub":"`+secret+`"}`), []byte(`{"x":"`+secret+`"}`)
	f.Checkpoint = &flow.Checkpoint{Source: []byte(secret), Sink: []byte(secret)}
	update(t, db, f.Key, func(tx flow.Tx) error {
		return errors.Join(
			tx.Put(f), tx.PutAnswer("m", flow.Answer{DataAddress: address}), tx.Enqueue(flow.Callback{Kind: "started", DataAddress: address}))
	})

	grep := func(when string) {
		t.Helper()
		files, err := filepath.Glob(o.Path + "*")
		if err != nil {
			t.Fatal(err)
		}
		var all []byte
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, content...)
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode of %s is %v, %v", when, filepath.Base(file), info.Mode(), err)
			}
		}
		if !bytes.Contains(all, []byte("SUSPENDED")) {
			t.Errorf("%s: what is not secret is not there either, in %q", when, files)
		}
		for name, form := range map[string]string{"clear": secret, "base64": "cGxhbnRlZC1pbi1jbGVhc"} {
			if bytes.Contains(all, []byte(form)) {
				t.Errorf("%s: the secret is there in %s", when, name)
			}
		}
	}
	grep("while it is open")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	grep("after it was closed")
}

func TestTheSecondProcessIsTold(t *testing.T) {
	o := options(t)
	open(t, o)
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(o.Path, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{o.Path, link} {
		second := o
		second.Path = path
		_, err := store.Open(t.Context(), second)
		if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
			t.Errorf("%s: %v; want ErrInUse with the process", path, err)
		}
	}
}

func TestAnotherKeyIsRefused(t *testing.T) {
	o := options(t)
	if err := open(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	wrong := o
	wrong.Key[31]++
	if _, err := store.Open(t.Context(), wrong); !errors.Is(err, store.ErrKey) {
		t.Errorf("another key: %v, want ErrKey", err)
	}
	open(t, o)
}

func TestOpenRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(t *testing.T, o *store.Options)
		want error // nil for any
	}{
		{"no path", func(t *testing.T, o *store.Options) { o.Path = "" }, nil},
		{"no key", func(t *testing.T, o *store.Options) { o.Key = [32]byte{} }, nil},
		{"a folder", func(t *testing.T, o *store.Options) { o.Path = t.TempDir() }, nil},
		{"below a file", func(t *testing.T, o *store.Options) {
			write(t, o.Path, []byte("x"))
			o.Path = filepath.Join(o.Path, "db")
		}, nil},
		{"no database", func(t *testing.T, o *store.Options) {
			write(t, o.Path, bytes.Repeat([]byte("not a database. "), 512))
		}, store.ErrCorrupt},
		{"a damaged database", func(t *testing.T, o *store.Options) {
			if err := open(t, *o).Close(); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(o.Path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, o.Path, append(content[:100], bytes.Repeat([]byte{0xff}, len(content)-100)...))
		}, store.ErrCorrupt},
		{"the database of another program", func(t *testing.T, o *store.Options) {
			execute(t, o.Path, `CREATE TABLE notes (text TEXT)`)
		}, store.ErrForeign},
		{"a marked database of another program", func(t *testing.T, o *store.Options) {
			execute(t, o.Path, `PRAGMA application_id = 1; PRAGMA user_version = 1`)
		}, store.ErrForeign},
		{"a newer database", func(t *testing.T, o *store.Options) {
			if err := open(t, *o).Close(); err != nil {
				t.Fatal(err)
			}
			execute(t, o.Path, `INSERT INTO migrations SELECT max(version) + 1, 'later', 0 FROM migrations`)
		}, store.ErrNewer},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := options(t)
			tc.make(t, &o)
			db, err := store.Open(t.Context(), o)
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), o.Path) {
				t.Errorf("got %v, want %v with the path", err, tc.want)
			}
			if err == nil {
				db.Close()
			}
			// The lock is not left behind.
			if tc.want != nil {
				if _, again := store.Open(t.Context(), o); errors.Is(again, store.ErrInUse) {
					t.Errorf("the second time: %v", again)
				}
			}
		})
	}
}

func TestOpenWithACancelledContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := options(t)
	if _, err := store.Open(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	open(t, o)
}

func TestPathMayHaveAnyCharacter(t *testing.T) {
	o := options(t)
	o.Path = filepath.Join(filepath.Dir(o.Path), "new folder", "100% of what? #1&mode=memory.db")
	open(t, o)
	if _, err := os.Stat(o.Path); err != nil {
		t.Error(err)
	}
}

func TestClosed(t *testing.T) {
	db, err := store.Open(t.Context(), options(t))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	err = db.Update(t.Context(), key("f"), func(flow.Tx) error { return nil })
	if !errors.Is(err, store.ErrClosed) {
		t.Errorf("Update: %v, want ErrClosed", err)
	}
	if _, err := db.Flow(t.Context(), key("f")); err == nil || errors.Is(err, flow.ErrNotFound) {
		t.Errorf("Flow: %v, want a failure", err)
	}
}

func TestCloseStopsAllGoroutines(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	db, err := store.Open(context.Background(), options(t))
	if err != nil {
		t.Fatal(err)
	}
	update(t, db, key("f"), func(tx flow.Tx) error { return tx.Put(storetest.Full("f")) })
	if _, err := db.Flows(context.Background(), flow.Filter{}); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// A flow and a callback that were tampered with are reported, and do not hold up the others.
func TestOneDamagedRowDoesNotHoldUpTheOthers(t *testing.T) {
	o := options(t)
	var log bytes.Buffer
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	db := open(t, o)
	for _, id := range []string{"good", "bad"} {
		update(t, db, key(id), func(tx flow.Tx) error {
			f := storetest.Full(id)
			return errors.Join(tx.Put(f), tx.Enqueue(flow.Callback{MessageID: id, DataAddress: f.Issued}))
		})
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, o.Path, `
		UPDATE flows SET content = (SELECT content FROM flows WHERE flow_id = 'good') WHERE flow_id = 'bad';
		UPDATE callbacks SET data_address = (SELECT data_address FROM callbacks WHERE message_id = 'good') WHERE message_id = 'bad'`)

	db = open(t, o)
	if _, err := db.Flow(t.Context(), key("bad")); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("the bad flow: %v, want ErrCorrupt", err)
	}
	flows, err := db.Flows(t.Context(), flow.Filter{})
	if err != nil || len(flows) != 1 || flows[0].ID != "good" {
		t.Errorf("listed %v, %v; want the good one", flows, err)
	}
	due, err := db.Due(t.Context(), time.Now(), 10)
	if err != nil || len(due) != 1 || due[0].MessageID != "good" {
		t.Errorf("due %v, %v; want the good one", due, err)
	}
	if n, err := db.Depth(t.Context()); n != 1 || err != nil {
		t.Errorf("Depth: %d, %v; want 1, the bad one is given up", n, err)
	}
	if got := strings.Count(log.String(), "level=ERROR"); got != 2 || !strings.Contains(log.String(), "bad") {
		t.Errorf("logged %d errors:\n%s", got, log.String())
	}
}

func TestLoadKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "key")
	first, err := store.LoadKey(path)
	if err != nil || first == [32]byte{} {
		t.Fatalf("%v, %v", first, err)
	}
	if second, err := store.LoadKey(path); second != first || err != nil {
		t.Errorf("the second time another key, or %v", err)
	}
	for _, size := range []int{0, 31, 33} {
		path := filepath.Join(t.TempDir(), "key")
		write(t, path, make([]byte, size))
		if _, err := store.LoadKey(path); err == nil {
			t.Errorf("a key of %d bytes: no error", size)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := store.LoadKey(path); err == nil {
		t.Error("a key that all can read: no error")
	}
}

func TestPurge(t *testing.T) {
	o := options(t)
	start := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	now := start
	o.Clock = func() time.Time { return now }
	db := open(t, o)
	const many = 1100 // more than two steps of a purge
	update(t, db, key("f"), func(tx flow.Tx) error {
		if err := tx.Put(&flow.Flow{State: flow.Started}); err != nil {
			return err
		}
		for i := range many {
			if err := errors.Join(tx.PutAnswer(fmt.Sprint(i), flow.Answer{}), tx.Enqueue(flow.Callback{})); err != nil {
				return err
			}
		}
		return errors.Join(tx.CancelCallbacks(), tx.Enqueue(flow.Callback{MessageID: "pending"}))
	})
	now = start.Add(time.Hour)
	update(t, db, key("f"), func(tx flow.Tx) error {
		return errors.Join(tx.PutAnswer("0", flow.Answer{Operation: "again"}), tx.PutAnswer("late", flow.Answer{}))
	})

	check := func(after time.Duration, answers map[string]bool, callbacks int) {
		t.Helper()
		now = start.Add(after)
		if err := db.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		update(t, db, key("f"), func(tx flow.Tx) error {
			for id, want := range answers {
				if _, ok, err := tx.Answer(id); ok != want || err != nil {
					t.Errorf("after %v answer %s: %v, %v; want %v", after, id, ok, err, want)
				}
			}
			return nil
		})
		if got, err := db.Callbacks(t.Context(), key("f")); len(got) != callbacks || err != nil {
			t.Errorf("after %v there are %d callbacks, %v; want %d", after, len(got), err, callbacks)
		}
	}
	check(48*time.Hour, map[string]bool{"0": true, "1": true, "1099": true, "late": true}, many+1)
	check(48*time.Hour+time.Minute, map[string]bool{"0": true, "1": false, "1099": false, "late": true}, many+1)
	check(8*24*time.Hour, map[string]bool{"0": false, "late": false}, 1)
	if due, err := db.Due(t.Context(), now, 10); len(due) != 1 || due[0].MessageID != "pending" || err != nil {
		t.Errorf("due after the purge: %v, %v", due, err)
	}
}

func key(id string) flow.Key { return flow.Key{Context: flow.DefaultContext, ID: id} }

func update(t testing.TB, db *store.DB, k flow.Key, fn func(flow.Tx) error) {
	t.Helper()
	if err := db.Update(context.Background(), k, fn); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// execute changes a database behind the store's back.
func execute(t *testing.T, path, statements string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(statements); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
