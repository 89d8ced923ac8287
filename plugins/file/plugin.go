package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

// version of the plugin, which a build can set: go build -ldflags "-X main.version=1.2.3".
var version = "0.1.0"

// addressType is the type of the data addresses that the plugin reads and writes.
const addressType = "File"

// workFolder is where the sink keeps what is not whole, below the root. The source does not show it.
const workFolder = ".towpath"

// volume is the folder that the plugin works in, as the operator configured it. Every access goes through an os.Root, so that
// neither ".." nor a symbolic link leads out of it.
type volume struct {
	path     string
	readOnly bool
}

func newPlugin() sdk.Plugin {
	v := &volume{}
	return sdk.Plugin{
		Name:          "file",
		Version:       version,
		Documentation: "Reads and writes files below one folder.",
		Config: sdk.Schema{Fields: []sdk.Field{
			{Name: "root", Required: true, Documentation: "Folder that all paths are relative to and that nothing leads out of. It has to exist."},
			{Name: "read_only", Kind: sdk.Bool, Documentation: "Refuse to write."},
		}},
		Configure: v.configure,
		Sources:   []sdk.SourceType{v.sourceType()},
		Sinks:     []sdk.SinkType{v.sinkType()},
	}
}

func (v *volume) sourceType() sdk.SourceType {
	return sdk.SourceType{Source: &source{v}, AddressType: sdk.AddressType{
		Type:          addressType,
		Documentation: "One file, all files below a folder, or the files that a pattern matches.",
		Resumable:     true,
		Address: sdk.Schema{Fields: []sdk.Field{{
			Name: "path", Required: true,
			Documentation: "File, folder or pattern, relative to `root`. In a pattern `*`, `?` and `[a-z]` match within a name, and `**` any " +
				"number of folders. A name that exists is taken as it is.",
		}}},
	}}
}

func (v *volume) sinkType() sdk.SinkType {
	return sdk.SinkType{Sink: &sink{v}, AddressType: sdk.AddressType{
		Type:          addressType,
		Documentation: "A folder that parts are written to, each by its name.",
		Resumable:     true,
		Address: sdk.Schema{Fields: []sdk.Field{
			{Name: "path", Default: ".", Documentation: "Folder, relative to `root`. It is made if it is not there."},
			{Name: "collision", Default: collisionFail, OneOf: []string{collisionFail, collisionReplace, collisionRename},
				Documentation: "What happens to a part whose name is taken: the flow fails, the other file is replaced, or the part gets a number."},
		}},
	}}
}

func (v *volume) configure(_ context.Context, c sdk.Config) error {
	var config struct {
		Root     string `json:"root"`
		ReadOnly bool   `json:"read_only"`
	}
	if err := c.Decode(&config); err != nil {
		return err
	}
	refuse := func(why string) error {
		return sdk.InvalidFields([]sdk.FieldError{{Field: "root", Message: why}})
	}
	if config.Root == "" {
		return refuse("is required")
	}
	absolute, err := filepath.Abs(config.Root)
	if err != nil {
		return refuse(reason(err).Error())
	}
	info, err := os.Stat(absolute)
	if err != nil {
		return refuse(reason(err).Error())
	}
	if !info.IsDir() {
		return refuse("is not a folder")
	}
	v.path, v.readOnly = absolute, config.ReadOnly
	return nil
}

// open opens the root for one call. The folder may have been mounted anew since the last.
func (v *volume) open() (*os.Root, error) {
	root, err := os.OpenRoot(v.path)
	if err != nil {
		return nil, sdk.Retryf(sdk.Unavailable, "the root folder cannot be opened: %w", reason(err))
	}
	return root, nil
}

// checkPath says what is wrong with the path of an address.
func checkPath(p string) error {
	var why string
	elements := strings.Split(p, "/")
	switch {
	case path.IsAbs(p):
		why = "has to be relative to the root"
	case slices.Contains(elements, ".."):
		why = `must not contain ".."`
	case strings.ContainsRune(p, 0):
		why = "contains a zero byte"
	case inWorkFolder(path.Clean(p)):
		why = "leads into the folder " + workFolder + ", which is the plugin's own"
	default:
		return nil
	}
	return sdk.InvalidFields([]sdk.FieldError{{Field: "path", Message: why}})
}

// inWorkFolder goes by the letters but not by their case, which some file systems ignore.
func inWorkFolder(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return strings.EqualFold(first, workFolder)
}

// flowFolder is where the sink keeps what it needs for a flow. A flow's id is chosen by a peer and so is not a name.
func flowFolder(flow sdk.FlowContext) string {
	sum := sha256.Sum256([]byte(flow.ParticipantContext + "\x00" + flow.ID))
	return path.Join(workFolder, hex.EncodeToString(sum[:16]))
}
