package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/store"
)

// crashPath, in the environment, makes the test binary a process that writes to a database until it is killed.
const crashPath = "TOWPATH_TEST_CRASH_PATH"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashPath); path != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(path, os.Getenv("TOWPATH_TEST_CRASH_ROUND")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeUntilKilled updates from many goroutines and prints the id of each update when it is acknowledged.
func writeUntilKilled(path, round string) error {
	db, err := store.Open(context.Background(), store.Options{Path: path, Key: testKey})
	if err != nil {
		return err
	}
	failed := make(chan error)
	var out sync.Mutex
	for i := range 16 {
		go func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("%s-%d-%d", round, i, n)
				if err := db.Update(context.Background(), key(id), crashUpdate(id)); err != nil {
					failed <- err
					return
				}
				out.Lock()
				fmt.Println(id)
				out.Unlock()
			}
		}()
	}
	return <-failed
}

// crashUpdate writes to every table.
func crashUpdate(id string) func(flow.Tx) error {
	return func(tx flow.Tx) error {
		if err := tx.Put(&flow.Flow{State: flow.Started, Reason: strings.Repeat(id, 100)}); err != nil {
			return err
		}
		_, err := tx.AddPart(flow.Part{Name: id})
		return errors.Join(err, tx.PutAnswer(id, flow.Answer{Operation: id}), tx.Enqueue(flow.Callback{MessageID: id}))
	}
}

func TestKilledProcessLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "towpath.db")
	var acknowledged []string
	for round := range 5 {
		acknowledged = append(acknowledged, killWriter(t, path, round, 50+100*round)...)
	}
	checkAfterCrash(t, path, acknowledged)
}

// killWriter lets a process write, kills it after some updates, and returns those that it acknowledged.
func killWriter(t *testing.T, path string, round, after int) (ids []string) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashPath+"="+path, fmt.Sprint("TOWPATH_TEST_CRASH_ROUND=", round))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		ids = append(ids, lines.Text())
		if len(ids) == after {
			if err := child.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := child.Wait(); err == nil || len(ids) < after {
		t.Fatalf("the process ended by itself after %d updates: %v", len(ids), err)
	}
	return ids
}

// checkAfterCrash looks for what was acknowledged, and for halves of updates.
func checkAfterCrash(t *testing.T, path string, acknowledged []string) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Path: path, Key: testKey})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	found := map[string]bool{}
	filter := flow.Filter{}
	for {
		flows, err := db.Flows(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		if len(flows) == 0 {
			break
		}
		for _, f := range flows {
			found[f.ID] = true
		}
		filter.Before = flows[len(flows)-1].Created
	}
	for _, id := range acknowledged {
		if !found[id] {
			t.Errorf("update %s was acknowledged and is lost", id)
		}
	}
	for id := range found {
		parts, partsErr := db.Parts(t.Context(), key(id), 0, 2)
		callbacks, callbacksErr := db.Callbacks(t.Context(), key(id))
		var answered bool
		answerErr := db.Update(t.Context(), key(id), func(tx flow.Tx) (err error) {
			_, answered, err = tx.Answer(id)
			return err
		})
		if err := errors.Join(partsErr, callbacksErr, answerErr); err != nil || len(parts) != 1 || len(callbacks) != 1 || !answered {
			t.Errorf("of update %s there is half: %d parts, %d callbacks, answer %v, %v", id, len(parts), len(callbacks), answered, err)
		}
	}
}
