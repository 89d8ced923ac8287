//go:build linux

package e2e_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
)

// checkSink compares what is at the sink with what was to be moved. Of a flow that was terminated there can be less.
func (f *sweepFlow) checkSink(s *sweep) error {
	root := s.hosts[f.sink()].files
	switch {
	case f.toTopic():
		return f.checkTopic(s.t.Context(), s.kafka)
	case f.ofRecords():
		return f.checkRecords(filepath.Join(root, "rec", f.id))
	case f.toStore():
		root = filepath.Join(s.store.folder, sweepBucket)
	}
	got := tree{}
	folder := filepath.Join(root, "in", f.id)
	err := walkFiles(folder, func(name string, _ os.FileInfo) (err error) {
		if f.toStore() && isStoresOwn(name) {
			return nil
		}
		got[name], err = digestOf(filepath.Join(folder, name))
		return err
	})
	if err != nil {
		return err
	}
	want := tree{}
	for name, digest := range f.files {
		if !f.terminated || got[name] != "" {
			want[name] = digest
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("files (-want +got):\n%s", diff)
	}
	return nil
}

// checkRecords reads the ledger. A journal has every record; segments have it once.
func (f *sweepFlow) checkRecords(folder string) error {
	for part := range f.parts {
		place := filepath.Join(folder, fmt.Sprintf("part-%04d", part))
		names, err := filepath.Glob(place + "/*")
		if err != nil {
			return err
		}
		seen := map[uint64]uint32{}
		order, sums := newArrivals(f), f.sums()
		for _, name := range names { // in the order of their numbers
			entries, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			for ; len(entries) >= 12; entries = entries[12:] {
				number, sum := binary.BigEndian.Uint64(entries), binary.BigEndian.Uint32(entries[8:])
				if err := order.add(number); err != nil {
					return fmt.Errorf("%s: %w", place, err)
				}
				if sums != nil && (number >= uint64(len(sums)) || sum != sums[number]) {
					return fmt.Errorf("record %d of %s is not what was sent", number, place)
				}
				before, again := seen[number]
				if again && (f.form == "segments" || before != sum) {
					return fmt.Errorf("record %d of %s is there again", number, place)
				}
				seen[number] = sum
			}
			if len(entries) > 0 && !f.terminated {
				return fmt.Errorf("%s ends inside an entry", name)
			}
		}
		for number := range uint64(f.records) {
			if _, ok := seen[number]; !ok && !f.terminated {
				return fmt.Errorf("record %d of %d of %s is missing", number, f.records, place)
			}
		}
		if len(seen) > int(f.records) {
			return fmt.Errorf("%s has %d records of %d", place, len(seen), f.records)
		}
	}
	return nil
}

// check compares what the hosts say of the flow with what it was, once everything is over.
func (f *sweepFlow) check(s *sweep) {
	moving, serving := f.sides(s)
	if f.started.IsZero() {
		return // it has failed, and that was said
	}
	if err := f.checkSink(s); err != nil {
		s.fail("flow %s, in the end: %v", f, err)
	}
	f.checkSide(s, moving, true)
	if serving != nil {
		f.checkSide(s, *serving, false)
	}
	if f.mode == modePush && !f.terminated {
		m, _ := f.detail(moving)
		if o, _ := f.detail(*serving); m.Digest == "" || m.Digest != o.Digest {
			s.fail("flow %s: its sides sum up %q and %q", f, m.Digest, o.Digest)
		}
	}
	s.tally.suspended += f.suspended
	if f.terminated {
		s.tally.terminated++
		return
	}
	s.tally.completed++
	s.tally.byMode[f.mode]++
	s.tally.parts += int64(len(f.files)) + f.parts
	s.tally.bytes += f.size
	s.tally.records += f.parts * f.records
}

func (f *sweepFlow) checkSide(s *sweep, at side, moves bool) {
	var d flowDetail
	var err error
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		d, err = f.detail(at)
		if err == nil && !d.CleanupPending || time.Now().After(deadline) {
			break
		}
	}
	wrong := func(format string, args ...any) {
		s.fail("flow %s at the %s: %s", f, at.host.name, fmt.Sprintf(format, args...))
	}
	want := "COMPLETED"
	if f.terminated {
		want = "TERMINATED"
	}
	switch {
	case err != nil:
		wrong("%v", err)
		return
	case d.State != want:
		wrong("is %s, not %s: %s", d.State, want, f.describe(s))
	case d.CleanupPending:
		wrong("its sink was not told of its end")
	case d.Waiting != "" || d.Fault != "":
		wrong("waits for %q, or has the fault %q", d.Waiting, d.Fault)
	}
	if !f.terminated {
		f.checkCounts(at, d, wrong)
	}
	f.checkCallbacks(at, moves, wrong)
}

// checkCounts compares what a host has recorded. A provider that is read from knows what was read whole in one request.
func (f *sweepFlow) checkCounts(at side, d flowDetail, wrong func(string, ...any)) {
	if f.ofRecords() {
		if d.Records != f.parts*f.records || d.Parts != f.parts || len(d.PartList) != int(f.parts) {
			wrong("has counted %d records in %d parts of %d in %d, and lists %d", d.Records, d.Parts, f.parts*f.records, f.parts, len(d.PartList))
		}
		return
	}
	recorded := tree{}
	for _, p := range d.PartList {
		if recorded[p.Name] != "" {
			wrong("part %q is recorded twice", p.Name)
		}
		recorded[p.Name] = p.SHA256
	}
	if f.mode == modePull && strings.HasSuffix(at.id, "-p") {
		return
	}
	if diff := cmp.Diff(f.files, recorded); diff != "" {
		wrong("parts (-files +recorded):\n%s", diff)
	}
	if d.Parts != int64(len(f.files)) || d.Bytes != f.size {
		wrong("has counted %d parts and %d bytes of %d and %d", d.Parts, d.Bytes, len(f.files), f.size)
	}
}

// checkCallbacks expects what a side has to tell, once, in order, and no more.
func (f *sweepFlow) checkCallbacks(at side, moves bool, wrong func(string, ...any)) {
	var kinds []string
	for _, said := range at.host.controlPlane.about(at.id) {
		kinds = append(kinds, said.Kind)
	}
	rest := kinds
	first := "prepared" // of a prepare or start that was answered before it was done
	if strings.HasSuffix(at.id, "-p") {
		first = "started"
	}
	if len(rest) > 0 && (f.async || rest[0] == first) {
		rest = rest[1:]
	}
	var want []string
	if moves && !f.terminated {
		want = []string{"completed"}
	}
	if !slices.Equal(rest, want) || f.async && (len(kinds) == 0 || kinds[0] != first) {
		wrong("callbacks %v", kinds)
	}
}
