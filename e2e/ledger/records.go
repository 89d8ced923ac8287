package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

// entrySize is what is kept of a record: its number and a CRC-32.
const entrySize = 12

func appendEntry(b []byte, r sdk.Record) []byte {
	b = append(b, r.Value[:8]...)
	return binary.BigEndian.AppendUint32(b, sumOf(r))
}

// sumOf is a checksum of the value, the key and the headers, but for those that are about how the record travels.
func sumOf(r sdk.Record) uint32 {
	sum := crc32.ChecksumIEEE(r.Value)
	sum = crc32.Update(sum, crc32.IEEETable, r.Key)
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		if !strings.HasPrefix(name, "towpath-") {
			sum = crc32.Update(sum, crc32.IEEETable, []byte(name))
			sum = crc32.Update(sum, crc32.IEEETable, r.Headers[name])
		}
	}
	return sum
}

// writeJournal appends what comes, and does not care whether it has come before. An entry that was torn by a crash goes.
func writeJournal(p *sdk.IncomingPart, folder string) error {
	f, err := os.OpenFile(filepath.Join(folder, "journal"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return failure(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil {
		err = f.Truncate(info.Size() / entrySize * entrySize)
	}
	if err != nil {
		return failure(err)
	}
	p.OnCheckpoint(func() ([]byte, error) { return []byte("journal"), failure(f.Sync()) })
	for {
		records, err := p.NextRecords()
		if err == io.EOF {
			return failure(f.Sync())
		}
		if err != nil {
			return err
		}
		var b []byte
		for _, r := range records {
			b = appendEntry(b, r)
		}
		if _, err := f.Write(b); err != nil {
			return failure(err)
		}
	}
}

// segmentSize is the number of records in a whole segment.
const segmentSize = 64

// segments writes the records of one part into objects that are named by the numbers of their first and last record. The one that is
// begun is in a file of its own, and gets its name when it is whole.
type segments struct {
	folder string
	open   string // the file of the one that is begun
	file   *os.File
	first  int64 // of the one that is begun
	next   int64
}

func writeSegments(p *sdk.IncomingPart, folder, work string) error {
	s := &segments{folder: folder, open: filepath.Join(work, p.Name)}
	if err := s.begin(string(p.Token), work); err != nil {
		return failure(err)
	}
	defer func() { s.file.Close() }()
	p.OnCheckpoint(func() ([]byte, error) { return strconv.AppendInt(nil, s.next, 10), failure(s.file.Sync()) })
	for {
		records, err := p.NextRecords()
		if err == io.EOF {
			return failure(s.finish())
		}
		if err != nil {
			return err
		}
		for _, r := range records {
			if err := s.add(r); err != nil {
				return failure(err)
			}
		}
	}
}

// begin goes on from the record that the token of an earlier run says is next.
func (s *segments) begin(token, work string) (err error) {
	if err := os.MkdirAll(work, 0o700); err != nil {
		return err
	}
	if token != "" {
		if s.next, err = strconv.ParseInt(token, 10, 64); err != nil {
			return sdk.Errorf(sdk.Invalid, "%q is not a token of this sink", token)
		}
	}
	s.first = s.next / segmentSize * segmentSize
	begun, err := s.recall()
	if err != nil {
		return err
	}
	// In a file of its own first: a crash here must not lose what a checkpoint counts on.
	fresh := s.open + ".new"
	if s.file, err = os.OpenFile(fresh, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return err
	}
	if _, err := s.file.Write(begun); err != nil {
		s.file.Close()
		return err
	}
	return os.Rename(fresh, s.open)
}

// recall returns the entries of the segment that is begun: they are in the open file, or have got their name after the checkpoint.
func (s *segments) recall() ([]byte, error) {
	size := int((s.next - s.first) * entrySize)
	if size == 0 {
		return nil, nil
	}
	names, err := filepath.Glob(filepath.Join(s.folder, fmt.Sprintf("%012d-*", s.first)))
	if err != nil {
		return nil, err
	}
	for _, name := range append(names, s.open) {
		b, err := os.ReadFile(name)
		if err == nil && len(b) >= size && binary.BigEndian.Uint64(b) == uint64(s.first) {
			return b[:size], nil
		}
	}
	return nil, sdk.Errorf(sdk.Corrupt, "the records from %d to %d are gone", s.first, s.next-1)
}

func (s *segments) add(r sdk.Record) error {
	if number := int64(binary.BigEndian.Uint64(r.Value)); number != s.next {
		return sdk.Errorf(sdk.Corrupt, "record %d came where %d was expected", number, s.next)
	}
	if _, err := s.file.Write(appendEntry(nil, r)); err != nil {
		return err
	}
	if s.next++; s.next%segmentSize != 0 {
		return nil
	}
	if err := s.name(); err != nil {
		return err
	}
	var err error
	s.first = s.next
	s.file, err = os.OpenFile(s.open, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	return err
}

// name gives the segment its name. One that is there already has the same records.
func (s *segments) name() error {
	if err := errors.Join(s.file.Sync(), s.file.Close()); err != nil {
		return err
	}
	return os.Rename(s.open, filepath.Join(s.folder, fmt.Sprintf("%012d-%012d", s.first, s.next-1)))
}

// finish names the last segment, which need not be full.
func (s *segments) finish() error {
	if s.next > s.first {
		return s.name()
	}
	return os.Remove(s.open)
}
