package main

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	version = "0.1.0"

	// addressType is the type of address that the source reads.
	addressType = "File"
)

// folder is what the plugin reads in, as the operator configured it. Every file is opened through an os.Root: neither ".." nor a symbolic
// link leads out of it.
type folder struct{ path string }

func newPlugin() sdk.Plugin {
	f := &folder{}
	return sdk.Plugin{
		Name:          "onefile",
		Version:       version,
		Documentation: "Reads single files below one folder.",
		Config: sdk.Schema{Fields: []sdk.Field{{
			Name: "root", Required: true, Documentation: "Folder that files are read in, and that nothing leads out of. It has to exist.",
		}}},
		Configure:   f.configure,
		Permissions: &sdk.Permissions{Read: []string{"/"}},
		Sources: []sdk.SourceType{{
			AddressType: sdk.AddressType{
				Type:          addressType,
				Documentation: "One file, which becomes one part with the file's name.",
				Resumable:     true,
				Address: sdk.Schema{Fields: []sdk.Field{{
					Name: "sourceFile", Required: true, Documentation: "Path of the file: relative to `root`, or an absolute one below it.",
				}}},
			},
			Source: &source{folder: f},
		}},
	}
}

func (f *folder) configure(_ context.Context, c sdk.Config) error {
	var config struct {
		Root string `json:"root"`
	}
	if err := c.Decode(&config); err != nil {
		return err
	}
	refuse := func(why string) error { return sdk.InvalidFields([]sdk.FieldError{{Field: "root", Message: why}}) }
	if config.Root == "" {
		return refuse("is required")
	}
	absolute, err := filepath.Abs(config.Root)
	if err != nil {
		return refuse(reason(err).Error())
	}
	switch info, err := os.Stat(absolute); {
	case err != nil:
		return refuse(reason(err).Error())
	case !info.IsDir():
		return refuse("is not a folder")
	}
	f.path = absolute
	return nil
}

// below returns the path of an address, relative to the folder.
func (f *folder) below(sourceFile string) (string, error) {
	refuse := func(why string) (string, error) {
		return "", sdk.InvalidFields([]sdk.FieldError{{Field: "sourceFile", Message: why}})
	}
	relative := sourceFile
	if path.IsAbs(sourceFile) {
		below, ok := strings.CutPrefix(path.Clean(sourceFile), strings.TrimSuffix(f.path, "/")+"/")
		if !ok {
			return refuse("does not lie below the root folder")
		}
		relative = below
	}
	switch {
	case strings.ContainsRune(sourceFile, 0):
		return refuse("has a zero byte")
	case slices.Contains(strings.Split(sourceFile, "/"), ".."):
		return refuse(`has ".." in it`)
	case strings.HasSuffix(sourceFile, "/"), path.Clean(relative) == ".":
		return refuse("is a folder")
	}
	if err := sdk.CheckName(path.Base(relative)); err != nil {
		return refuse("has a name that no part can have")
	}
	return path.Clean(relative), nil
}
