package pluginhost

import (
	"debug/buildinfo"
	"errors"
)

// Build is what a program in Go says about how it was built.
type Build struct {
	Go       string
	Main     string // package
	Module   string // that it is in
	Version  string // of the module
	Revision string // of its source; "" if it is not known
	Modified bool   // since the revision
	Time     string // of the revision
	// Dependencies are the versions of modules by path.
	Dependencies map[string]string
}

// ReadBuild reads how a file was built, without executing it. The error says that it is no program in Go, or was stripped of that.
func ReadBuild(path string) (Build, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return Build{}, errors.New("it does not say how it was built, as programs in Go do")
	}
	b := Build{Go: info.GoVersion, Main: info.Path, Module: info.Main.Path, Version: info.Main.Version, Dependencies: map[string]string{}}
	for _, d := range info.Deps {
		version := d.Version
		if d.Replace != nil {
			version += " replaced by " + d.Replace.Path + " " + d.Replace.Version
		}
		b.Dependencies[d.Path] = version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b, nil
}
