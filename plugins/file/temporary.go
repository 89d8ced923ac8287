package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/towpath-dataplane/towpath/sdk"
)

// doneSuffix marks the note that a temporary file, of which a checkpoint was given, is about to get its final name. A flow that goes
// on from that checkpoint finds the content there.
const doneSuffix = ".done"

// temporary is a part that is not whole.
type temporary struct {
	*folders
	name string // below the root
	file *os.File
	// durable is where the part can be continued: the last checkpoint in it. promised says that there is one.
	durable  int64
	promised bool
	// again: the part had reached its final place in an earlier run.
	again bool
}

// begin opens a part's temporary file. Its name follows from the part's, so that a run finds what an earlier one left.
func (w *writer) begin(p *sdk.IncomingPart, target string) (*temporary, error) {
	if err := w.make(w.work, 0o700); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(p.Name))
	t := &temporary{folders: &w.folders, name: path.Join(w.work, hex.EncodeToString(sum[:16]))}
	if p.Offset == 0 {
		return t, t.create()
	}
	t.promised, t.durable = true, p.Offset
	if string(p.Token) != path.Base(t.name) {
		return nil, sdk.Errorf(sdk.Invalid, "the resume token is of another part")
	}
	err := t.goOn()
	if errors.Is(err, fs.ErrNotExist) {
		err = w.recall(t, target)
	}
	return t, err
}

// create begins at the start. A file that an earlier run left goes first: a process that was given up may still write to it.
func (t *temporary) create() error {
	for _, name := range []string{t.name, t.name + doneSuffix} {
		if err := t.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return failure(err, "remove", name)
		}
	}
	file, err := t.root.OpenFile(t.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	t.file = file
	return failure(err, "create", t.name)
}

// goOn opens what an earlier run left. The error is ErrNotExist if that is nothing.
func (t *temporary) goOn() error {
	file, err := t.root.OpenFile(t.name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return failure(err, "open", t.name)
	}
	t.file = file
	info, err := file.Stat()
	if err == nil && info.Size() < t.durable {
		err = sdk.Errorf(sdk.Corrupt, "the temporary file has %d bytes of the %d that were durable", info.Size(), t.durable)
	}
	if err == nil {
		err = file.Truncate(t.durable)
	}
	if err == nil {
		_, err = file.Seek(t.durable, io.SeekStart)
	}
	if err != nil {
		file.Close()
	}
	return failure(err, "go on with", t.name)
}

// recall makes the temporary file anew from the part's final place, which it had reached after the checkpoint.
func (w *writer) recall(t *temporary, target string) error {
	note, err := w.root.ReadFile(t.name + doneSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failure(err, "read", t.name+doneSuffix)
	}
	for n := 0; err == nil; n++ {
		location := numbered(target, n)
		var info os.FileInfo
		if info, err = w.root.Lstat(location); err != nil || validator(info) != string(note) {
			continue
		}
		t.again = true
		return t.copyFrom(location)
	}
	return sdk.Errorf(sdk.Corrupt, "what was written before offset %d is gone: neither the temporary file nor the finished part is there", t.durable)
}

func (t *temporary) copyFrom(location string) error {
	finished, err := t.root.Open(location)
	if err != nil {
		return failure(err, "read", location)
	}
	defer finished.Close()
	if t.file, err = t.root.OpenFile(t.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666); err != nil {
		return failure(err, "create", t.name)
	}
	if _, err = io.CopyN(t.file, finished, t.durable); err == nil {
		return nil
	}
	t.file.Close()
	t.root.Remove(t.name)
	return failure(err, "copy", location)
}

// receive writes the rest of the part and makes it durable.
func (t *temporary) receive(p *sdk.IncomingPart) error {
	p.OnCheckpoint(t.checkpoint)
	if _, err := p.WriteTo(t.file); err != nil {
		return failure(err, "write", t.name)
	}
	if !p.Modified.IsZero() {
		if err := t.root.Chtimes(t.name, p.Modified, p.Modified); err != nil {
			return failure(err, "set the time of", t.name)
		}
	}
	if err := t.file.Sync(); err != nil {
		return failure(err, "sync", t.name)
	}
	info, err := t.file.Stat()
	if err != nil {
		return failure(err, "look at", t.name)
	}
	return t.note(info)
}

// checkpoint makes what was written durable. The token is the name of the temporary file.
func (t *temporary) checkpoint() ([]byte, error) {
	if err := t.file.Sync(); err != nil {
		return nil, failure(err, "sync", t.name)
	}
	end, err := t.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, failure(err, "sync", t.name)
	}
	if !t.promised {
		if err := t.sync(path.Dir(t.name)); err != nil {
			return nil, err
		}
	}
	t.durable, t.promised = end, true
	return []byte(path.Base(t.name)), nil
}

// note writes down what the finished file looks like, if a flow can go on from a checkpoint in it.
func (t *temporary) note(info os.FileInfo) error {
	if !t.promised {
		return nil
	}
	name := t.name + doneSuffix
	note, err := t.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return failure(err, "create", name)
	}
	_, err = note.WriteString(validator(info))
	if err == nil {
		err = note.Sync()
	}
	if err = errors.Join(err, note.Close()); err != nil {
		return failure(err, "write", name)
	}
	return t.sync(path.Dir(name))
}

// abandon keeps what the flow may go on from after err, and otherwise removes the file.
func (t *temporary) abandon(err error) {
	keep := t.promised && sdk.AsError(err).Retryable
	if keep {
		t.file.Truncate(t.durable)
	}
	t.file.Close()
	if !keep {
		t.root.Remove(t.name)
		t.root.Remove(t.name + doneSuffix)
	}
}
