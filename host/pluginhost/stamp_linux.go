package pluginhost

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func changeTime(st *syscall.Stat_t) time.Time { return time.Unix(st.Ctim.Unix()) }

// beingWritten says whether a process has the file open for writing. The kernel tells by refusing a lease; where it grants none at all,
// because of the file system or the file's owner, nothing is known, and the answer is no.
func beingWritten(file *os.File) bool {
	conn, err := file.SyscallConn()
	if err != nil {
		return false
	}
	var lease error
	err = conn.Control(func(fd uintptr) {
		if _, lease = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_RDLCK); lease == nil {
			unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
		}
	})
	return err == nil && lease == unix.EAGAIN
}
