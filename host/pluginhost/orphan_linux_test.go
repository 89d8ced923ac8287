package pluginhost

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestPluginDiesWithHost(t *testing.T) { testDiesWithHost(t, "good") }

func testDiesWithHost(t *testing.T, trap string) {
	plugins, runtime := directory(t, trap), runtimeDir(t)
	host := exec.Command(os.Args[0])
	host.Env = append(os.Environ(), childHostEnv+"="+plugins+","+runtime)
	stdout, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	pid, folder, _ := strings.Cut(strings.TrimSpace(line), " ")
	id, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatalf("child host: %s", line)
	}
	plugin := openProcess(t, id)
	host.Process.Kill()
	host.Wait()
	plugin.mustEnd(t)

	t.Run("leftovers are swept", func(t *testing.T) {
		if _, err := os.Stat(folder); err != nil {
			t.Fatalf("nothing was left to sweep: %v", err)
		}
		h, err := New(Options{RuntimeDir: runtime})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close(t.Context())
		left, _ := filepath.Glob(filepath.Join(runtime, "[0-9a-f]*"))
		if len(left) != 1 || left[0] != h.launcher.dir.path {
			t.Errorf("left: %v", left)
		}
	})
}
