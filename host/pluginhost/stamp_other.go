//go:build unix && !linux

package pluginhost

import (
	"os"
	"syscall"
	"time"
)

// changeTime is not to be had under one name on all systems.
func changeTime(*syscall.Stat_t) time.Time { return time.Time{} }

// beingWritten says whether a process has the file open for writing, which only Linux tells.
func beingWritten(*os.File) bool { return false }
