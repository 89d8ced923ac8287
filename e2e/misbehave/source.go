package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"strings"
	"syscall"

	"github.com/towpath-dataplane/towpath/sdk"
)

// source yields one part, whose reader does what the address says.
type source struct{}

func (s source) Validate(_ context.Context, a sdk.DataAddress) error {
	if a.Get("do") == "refuse" || fault == refusesAddresses {
		return sdk.InvalidFields([]sdk.FieldError{{Field: "do", Message: "must not be refuse"}})
	}
	return nil
}

func (s source) Read(ctx context.Context, r sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		if err := succumb(ctx, r.After != nil); err != nil {
			yield(sdk.Part{}, err)
			return
		}
		do := r.Address.Get("do")
		if what, ok := strings.CutPrefix(do, "reach "); ok {
			yield(sdk.BytesPart("reached", "text/plain", []byte(reach(what))), nil)
			return
		}
		switch do {
		case "about":
			yield(sdk.BytesPart("about", "application/json", about()), nil)
		case "unavailable":
			yield(sdk.Part{}, sdk.Retryf(sdk.Unavailable, "the tape is not mounted"))
		case "hello":
			yield(sdk.BytesPart("hello", "text/plain", []byte("hello")), nil)
		default:
			yield(sdk.ReaderPart("endless", "", io.NopCloser(&endless{ctx: ctx, do: do})), nil)
		}
	}
}

// about is what a plugin can find out about its process.
func about() []byte {
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		stdin = []byte(err.Error())
	}
	folder, _ := os.Getwd()
	executable, _ := os.Executable()
	out, _ := json.Marshal(map[string]any{
		"environment": os.Environ(), "stdin": string(stdin), "folder": folder, "executable": executable,
		"group": syscall.Getpgrp(), "pid": os.Getpid(),
	})
	return out
}

// endless gives zeros, and misbehaves after the first of them.
type endless struct {
	ctx   context.Context
	do    string
	given int
}

func (e *endless) Read(b []byte) (int, error) {
	if e.given > 0 {
		if err := e.misbehave(); err != nil {
			return 0, err
		}
	}
	n := min(len(b), 64<<10)
	clear(b[:n])
	e.given += n
	return n, nil
}

func (e *endless) misbehave() error {
	switch do, argument, _ := strings.Cut(e.do, " "); do {
	case "exit":
		fmt.Fprintln(stderr, "the disk is on fire")
		os.Exit(7)
	case "panic":
		go panic("index out of range [5] with length 3")
		<-e.ctx.Done()
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "freeze":
		freeze()
	case "log":
		slog.Warn("the disk is warm", "flow", "f1", "degrees", 71)
		<-e.ctx.Done()
	case "print":
		fmt.Println("printed " + argument)
		fmt.Fprintln(os.Stderr, "complained "+argument)
		<-e.ctx.Done()
	case "wait":
		<-e.ctx.Done()
	case "hold":
		hang()
	case "breed":
		breed(nil)
		<-e.ctx.Done()
	}
	return e.ctx.Err()
}

// sink takes all parts and keeps nothing.
type sink struct{}

func (sink) Write(ctx context.Context, _ sdk.WriteRequest, parts iter.Seq2[*sdk.IncomingPart, error]) error {
	if fault == sinkHangs {
		<-ctx.Done()
		return ctx.Err()
	}
	for part, err := range parts {
		if err == nil {
			err = succumb(ctx, part.Offset > 0)
		}
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, part); err != nil {
			return err
		}
	}
	return nil
}
