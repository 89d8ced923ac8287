package pluginhost

import (
	"errors"
	"fmt"
)

// Errors that callers test for.
var (
	// ErrUnknown says that there is no plugin of that name.
	ErrUnknown = errors.New("there is no such plugin")
	// ErrRefused says that the file of a plugin is missing, or must not or cannot be executed.
	ErrRefused = errors.New("cannot be executed")
	// ErrConflict says that two plugins offer one type.
	ErrConflict = errors.New("is offered by two plugins")
	// ErrWithdrawn says that no plugin offers a type at present. One may come that does.
	ErrWithdrawn = errors.New("is not offered at present")
	// ErrReplaced says that a call was cut because another build of the plugin has taken over, which takes the next one at once.
	ErrReplaced = errors.New("another build of the plugin has taken over")
	// ErrRolledBack says that a build did not prove itself, and that the one before it is used again.
	ErrRolledBack = errors.New("was rolled back")
	// ErrClosed says that the host was closed.
	ErrClosed = errors.New("the plugin host is closed")
)

// Error says why a plugin could not be launched or kept running.
type Error struct {
	Plugin string
	Doing  string // "launch", "describe", "configure", "run"
	Err    error
	Exit   *Exit // how its process ended; nil if there was none
	// Final says that starting it again cannot help.
	Final bool
}

func (e *Error) Error() string { return fmt.Sprintf("plugin %s: %s: %s", e.Plugin, e.Doing, e.why()) }

// why is the error without what it is about.
func (e *Error) why() string {
	s := e.Err.Error()
	switch {
	case e.Exit == nil:
		return s
	case e.Exit.Reason == "":
		return s + "; its process ended: " + e.Exit.String()
	case e.Exit.lastWords() != "":
		return s + "; last stderr: " + e.Exit.lastWords()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// finalError marks an error that will come back whenever the plugin is launched.
type finalError struct{ error }

func (f finalError) Unwrap() error { return f.error }

func finally(err error) error { return finalError{err} }
