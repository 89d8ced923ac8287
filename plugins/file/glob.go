package main

import (
	"path"
	"slices"
	"strings"
)

// glob is a pattern for paths, by its elements. It is matched one element of the path after the other, so that a walk knows at every
// folder whether to go on, and no pattern takes more than its length times the path's.
type glob []string

// everything matches all paths.
var everything = glob{anyFolders}

// anyFolders as an element stands for any number of folders; as the last one, for everything below.
const anyFolders = "**"

// splitGlob separates the elements in front that are plain names from the pattern. The error is path.ErrBadPattern.
func splitGlob(p string) (folder string, g glob, err error) {
	elements := strings.Split(p, "/")
	plain := slices.IndexFunc(elements, isPattern)
	if plain < 0 {
		plain = len(elements)
	}
	for _, element := range elements[plain:] {
		if _, err := path.Match(element, ""); err != nil {
			return "", nil, err
		}
		if element == anyFolders && len(g) > 0 && g[len(g)-1] == anyFolders {
			continue
		}
		g = append(g, element)
	}
	return path.Join(append([]string{"."}, elements[:plain]...)...), g, nil
}

func isPattern(element string) bool { return strings.ContainsAny(element, `*?[\`) }

// positions is where in a glob the match of a path stands: before which elements. It has no position if the path does not match.
type positions []int

func (g glob) start() positions { return g.add(nil, 0) }

// step returns the positions behind a path's next element.
func (g glob) step(at positions, name string) positions {
	var next positions
	for _, i := range at {
		switch {
		case i == len(g):
		case g[i] == anyFolders:
			next = g.add(next, i)
			if i == len(g)-1 {
				next = g.add(next, i+1)
			}
		default:
			if ok, _ := path.Match(g[i], name); ok {
				next = g.add(next, i+1)
			}
		}
	}
	return next
}

// add adds position i and, as anyFolders can stand for none, the one behind it.
func (g glob) add(at positions, i int) positions {
	if !slices.Contains(at, i) {
		at = append(at, i)
	}
	if i < len(g)-1 && g[i] == anyFolders {
		return g.add(at, i+1)
	}
	return at
}

// matches reports whether the path is matched as a whole.
func (g glob) matches(at positions) bool { return slices.Contains(at, len(g)) }

// goesOn reports whether a longer path can be matched.
func (g glob) goesOn(at positions) bool {
	return slices.ContainsFunc(at, func(i int) bool { return i < len(g) })
}
