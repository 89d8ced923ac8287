package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"syscall"

	"github.com/towpath-dataplane/towpath/sdk"
)

// The collision policies.
const (
	collisionFail    = "fail"
	collisionReplace = "replace"
	collisionRename  = "rename"
)

// sink writes files. A part is written to a temporary file and gets its name when it is whole and durable.
type sink struct{ *volume }

var (
	_ sdk.Sink          = (*sink)(nil)
	_ sdk.Validator     = (*sink)(nil)
	_ sdk.Deprovisioner = (*sink)(nil)
)

// Validate checks the path by its letters: the folder is made when the first part has arrived.
func (s *sink) Validate(_ context.Context, a sdk.DataAddress) error {
	if s.readOnly {
		return errReadOnly()
	}
	return checkPath(a.Get("path"))
}

func errReadOnly() error {
	return sdk.Errorf(sdk.Denied, "the plugin is configured to be read-only")
}

func (s *sink) Write(_ context.Context, req sdk.WriteRequest, parts iter.Seq2[*sdk.IncomingPart, error]) error {
	if s.readOnly {
		return errReadOnly()
	}
	root, err := s.open()
	if err != nil {
		return err
	}
	defer root.Close()
	w := &writer{
		folders:    folders{root: root},
		folder:     path.Clean(req.Address.Get("path")),
		collision:  cmp.Or(req.Address.Get("collision"), collisionFail),
		redelivery: req.Redelivery,
		work:       flowFolder(req.Flow),
	}
	for p, err := range parts {
		if err != nil {
			return err
		}
		if err := w.write(p); err != nil {
			return fmt.Errorf("part %q: %w", p.Name, err)
		}
	}
	return nil
}

// Deprovision removes what is left of parts that were begun.
func (s *sink) Deprovision(_ context.Context, flow sdk.FlowContext, _ sdk.DataAddress) error {
	if s.readOnly {
		return nil
	}
	root, err := s.open()
	if err != nil {
		return err
	}
	defer root.Close()
	work := flowFolder(flow)
	if _, err := root.Lstat(work); missing(err) {
		return nil
	}
	return failure(root.RemoveAll(work), "remove", work)
}

// writer writes the parts of one flow.
type writer struct {
	folders
	folder     string // of the address
	collision  string
	redelivery bool
	work       string // folder of the temporary files
}

// write makes one part durable under its name.
func (w *writer) write(p *sdk.IncomingPart) error {
	target := path.Join(w.folder, p.Name)
	if err := w.check(p, target); err != nil {
		return err
	}
	t, err := w.begin(p, target)
	if err != nil {
		return err
	}
	location := ""
	if err = t.receive(p); err == nil {
		location, err = w.place(t, target)
	}
	if err != nil {
		t.abandon(err)
		return err
	}
	p.Commit(location)
	return nil
}

// check refuses a part that can have no place, before its content is written in vain.
func (w *writer) check(p *sdk.IncomingPart, target string) error {
	switch {
	case p.PartInfo.Records:
		return sdk.Errorf(sdk.Unsupported, "records cannot be written to a file")
	case inWorkFolder(target):
		return sdk.Errorf(sdk.Invalid, "%q leads into the folder %s, which is the plugin's own", target, workFolder)
	}
	info, err := w.root.Lstat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return failure(err, "write", target)
	case info.IsDir():
		return sdk.Errorf(sdk.Conflict, "%q is a folder", target)
	case w.collision == collisionReplace, w.collision == collisionRename, w.mayBeDone(p, info):
		return nil
	}
	return errTaken(target)
}

// mayBeDone reports whether a file can be the part, written in an earlier run.
func (w *writer) mayBeDone(p *sdk.IncomingPart, info os.FileInfo) bool {
	return (w.redelivery || p.Offset > 0) && info.Mode().IsRegular() && (p.Size < 0 || p.Size == info.Size())
}

func errTaken(target string) error {
	return sdk.Errorf(sdk.Conflict, "there is another %q", target)
}

// folders makes folders that survive the loss of power.
type folders struct {
	root   *os.Root
	synced map[string]bool // folders whose entry in the one above is durable
}

// maxSynced bounds the memory of a flow with very many folders. A folder that was forgotten is synced once more.
const maxSynced = 4096

// make makes a folder and those above it. One that is there may have been made by a run that was cut before it was durable.
func (f *folders) make(dir string, mode os.FileMode) error {
	if dir == "." || f.synced[dir] {
		return nil
	}
	if err := f.make(path.Dir(dir), mode); err != nil {
		return err
	}
	if err := f.root.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return failure(err, "make folder", dir)
	}
	info, err := f.root.Stat(dir)
	if err != nil {
		return failure(err, "make folder", dir)
	}
	if !info.IsDir() {
		return sdk.Errorf(sdk.Conflict, "%q is not a folder", dir)
	}
	if f.synced == nil || len(f.synced) == maxSynced {
		f.synced = map[string]bool{}
	}
	f.synced[dir] = true
	return f.sync(path.Dir(dir))
}

// sync makes durable which names are in a folder.
func (f *folders) sync(dir string) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return failure(err, "sync folder", dir)
	}
	defer d.Close()
	if err := d.Sync(); !errors.Is(err, syscall.EINVAL) { // some network file systems have no such call, and no need of it
		return failure(err, "sync folder", dir)
	}
	return nil
}
