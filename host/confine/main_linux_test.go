package confine

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// actEnv makes the test binary a program that does what its value says, word by word, and prints what came of it.
const actEnv = "CONFINE_TEST_ACT"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Argument {
		Run(os.Args[2:])
	}
	if what := os.Getenv(actEnv); what != "" {
		words := strings.Fields(what)
		if err := acts[words[0]](words[1:]...); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		fmt.Println("done")
		os.Exit(0)
	}
	code := m.Run()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// acts are what the program can be told to do.
var acts = map[string]func(args ...string) error{
	"read":  func(args ...string) error { _, err := os.ReadFile(args[0]); return err },
	"list":  func(args ...string) error { _, err := os.ReadDir(args[0]); return err },
	"write": func(args ...string) error { return os.WriteFile(args[0], []byte("x"), 0o600) },
	"move":  func(args ...string) error { return os.Rename(args[0], args[1]) },
	"run":   func(args ...string) error { return exec.Command(args[0], args[1:]...).Run() },
	"dial": func(args ...string) error {
		c, err := net.DialTimeout(args[0], args[1], 20*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("hello"))
		return err
	},
	"send": func(args ...string) error {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer c.Close()
		to, err := net.ResolveUDPAddr("udp", args[0])
		if err == nil {
			_, err = c.WriteTo([]byte("hello"), to)
		}
		return err
	},
	"interfaces": func(...string) error { _, err := net.Interfaces(); return err },
	"socket": func(args ...string) error {
		family, _ := strconv.Atoi(args[0])
		typ, _ := strconv.Atoi(args[1])
		protocol, _ := strconv.Atoi(args[2])
		fd, err := unix.Socket(family, typ, protocol)
		if err == nil {
			unix.Close(fd)
		}
		return err
	},
	"block": func(args ...string) error { // connects in the way of a program that has no other
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		to, err := net.ResolveTCPAddr("tcp", args[0])
		if err != nil {
			return err
		}
		return unix.Connect(fd, &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())})
	},
	"block-unix": func(args ...string) error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		return unix.Connect(fd, &unix.SockaddrUnix{Name: args[0]})
	},
	"fastopen": func(args ...string) error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		to, err := net.ResolveTCPAddr("tcp", args[0])
		if err != nil {
			return err
		}
		_, err = unix.SendmsgN(fd, []byte("hello"), nil, &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}, unix.MSG_FASTOPEN)
		return err
	},
	"setsid":  func(...string) error { _, err := unix.Setsid(); return err },
	"setpgid": func(...string) error { return unix.Setpgid(0, 0) },
	"uring": func(...string) error {
		var params [120]byte
		_, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(ptr(&params)), 0)
		if errno != 0 {
			return errno
		}
		return nil
	},
	"signal": func(args ...string) error { pid, _ := strconv.Atoi(args[0]); return unix.Kill(pid, 0) },
	"open": func(args ...string) error {
		n, _ := strconv.Atoi(args[0])
		for range n {
			if _, err := unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil {
				return err
			}
		}
		return nil
	},
	"privileges": func(...string) error {
		status, err := os.ReadFile("/proc/self/status")
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "CapEff:") || strings.HasPrefix(line, "NoNewPrivs:") {
				fmt.Print(line)
			}
		}
		return err
	},
}

// run is what a confined program did.
type run struct {
	output  string
	refused []string
}

// do runs the test's own program, confined, and returns what it printed.
func do(t *testing.T, c *Confiner, p Policy, what string) run {
	t.Helper()
	image, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := begin(t, c, p, exec.Command(image), what)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func begin(t *testing.T, c *Confiner, p Policy, cmd *exec.Cmd, what string) (run, error) {
	t.Helper()
	folder := t.TempDir()
	cmd.Dir, cmd.Env = folder, append(os.Environ(), actEnv+"="+what)
	var printed strings.Builder
	cmd.Stdout, cmd.Stderr = &printed, &printed
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	var mu sync.Mutex
	var r run
	process, err := c.Prepare(cmd, "test", p, Places{Image: cmd.Path, Folder: folder}, func(what string) {
		mu.Lock()
		defer mu.Unlock()
		r.refused = append(r.refused, what)
	})
	if err != nil {
		return r, err
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err = process.Started(t.Context())
	cmd.Wait()
	if closing := process.Close(); closing != nil {
		t.Error(closing)
	}
	r.output = printed.String()
	return r, err
}

// mustDo runs the program and compares what it printed last: done, or a failure that has a text.
func mustDo(t *testing.T, p Policy, what, fails string) run {
	t.Helper()
	r := do(t, New(false), p, what)
	switch {
	case fails == "" && !strings.HasSuffix(r.output, "done\n"):
		t.Errorf("%s: %s", what, r.output)
	case fails != "" && !strings.Contains(r.output, fails):
		t.Errorf("%s: %s, want %q", what, r.output, fails)
	}
	return r
}

func tempFile(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
