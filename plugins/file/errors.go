package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/towpath-dataplane/towpath/sdk"
)

// errEscapes is what reason returns for a path that os.Root refuses.
var errEscapes = errors.New("leads out of the root folder")

// failure turns an error of the file system into an sdk.Error that says what was attempted, on which name. An error that came from
// the SDK, or from the end of the flow, stays as it is.
func failure(err error, attempt, name string) error {
	var known *sdk.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known), errors.Is(err, sdk.ErrInterrupted),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	err = reason(err)
	e := sdk.Errorf(code(err), "%s %q: %w", attempt, name, err)
	e.Retryable = e.Code == sdk.Exhausted || e.Code == sdk.Unavailable
	return e
}

// reason strips the operation and the path from an error of package os: they say less than the caller can, and the path may be one
// of the host's.
func reason(err error) error {
	var pathError *fs.PathError
	var linkError *os.LinkError
	var callError *os.SyscallError
	switch {
	case errors.As(err, &pathError):
		err = pathError.Err
	case errors.As(err, &linkError):
		err = linkError.Err
	case errors.As(err, &callError):
		err = callError.Err
	default:
		return err
	}
	// What os.Root finds out by itself has no number, and nothing is wrong but the path.
	var errno syscall.Errno
	if !errors.As(err, &errno) && !errors.Is(err, fs.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
		return errEscapes
	}
	return err
}

// codes sorts the numbers that calls to the system fail with.
var codes = map[syscall.Errno]sdk.Code{
	syscall.ENOENT:       sdk.NotFound,
	syscall.EACCES:       sdk.Denied,
	syscall.EPERM:        sdk.Denied,
	syscall.EROFS:        sdk.Denied,
	syscall.ENOSPC:       sdk.Exhausted,
	syscall.EDQUOT:       sdk.Exhausted,
	syscall.EFBIG:        sdk.Exhausted,
	syscall.EMFILE:       sdk.Exhausted,
	syscall.ENFILE:       sdk.Exhausted,
	syscall.ENOMEM:       sdk.Exhausted,
	syscall.EMLINK:       sdk.Exhausted,
	syscall.EEXIST:       sdk.Conflict,
	syscall.EISDIR:       sdk.Conflict,
	syscall.ENOTDIR:      sdk.Conflict,
	syscall.ENOTEMPTY:    sdk.Conflict,
	syscall.ELOOP:        sdk.Invalid,
	syscall.ENAMETOOLONG: sdk.Invalid,
	syscall.EILSEQ:       sdk.Invalid,
	syscall.ESTALE:       sdk.Unavailable,
	syscall.ETIMEDOUT:    sdk.Unavailable,
	syscall.EAGAIN:       sdk.Unavailable,
	syscall.EBUSY:        sdk.Unavailable,
}

func code(err error) sdk.Code {
	if errors.Is(err, errEscapes) {
		return sdk.Denied
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if c, ok := codes[errno]; ok {
			return c
		}
	}
	return sdk.Internal
}
