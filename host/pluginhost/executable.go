package pluginhost

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
)

// checkExecutable says what the system would say, in clearer words.
func checkExecutable(file io.ReaderAt, mode fs.FileMode) (Status, error) {
	if mode.Perm()&0o111 == 0 {
		return StatusNotExecutable, fmt.Errorf("its mode %04o has no executable bit", mode.Perm())
	}
	head := make([]byte, 512)
	n, _ := file.ReadAt(head, 0)
	head = head[:n]
	switch {
	case bytes.HasPrefix(head, []byte("#!")):
		return checkInterpreter(head)
	case runtime.GOOS != "linux":
		return StatusReady, nil
	case !bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return StatusNotExecutable, errors.New("it is neither an ELF program nor a script, which begins with #! and its interpreter")
	}
	return checkELF(file)
}

func checkInterpreter(head []byte) (Status, error) {
	line, _, _ := bufio.NewReader(bytes.NewReader(head[2:])).ReadLine()
	words := strings.Fields(string(line))
	if len(words) == 0 {
		return StatusNotExecutable, errors.New("it begins with #! and names no interpreter")
	}
	if _, err := os.Stat(words[0]); err != nil {
		return StatusNotExecutable, fmt.Errorf("its interpreter %s: %w", words[0], err)
	}
	return StatusReady, nil
}

// machines maps the machine of an ELF file to the GOARCH values it can run as.
var machines = map[elf.Machine][]string{
	elf.EM_X86_64:    {"amd64"},
	elf.EM_386:       {"386", "amd64"},
	elf.EM_AARCH64:   {"arm64"},
	elf.EM_ARM:       {"arm"},
	elf.EM_RISCV:     {"riscv64"},
	elf.EM_PPC64:     {"ppc64", "ppc64le"},
	elf.EM_S390:      {"s390x"},
	elf.EM_LOONGARCH: {"loong64"},
}

func checkELF(file io.ReaderAt) (Status, error) {
	program, err := elf.NewFile(file)
	if err != nil {
		return StatusNotExecutable, fmt.Errorf("it is a broken ELF file: %w", err)
	}
	if program.Type != elf.ET_EXEC && program.Type != elf.ET_DYN {
		return StatusNotExecutable, fmt.Errorf("it is an ELF file of type %s, not a program", program.Type)
	}
	if archs, known := machines[program.Machine]; known && !slices.Contains(archs, runtime.GOARCH) {
		return StatusWrongArch, fmt.Errorf("it is built for %s, this host runs on %s", archs[0], runtime.GOARCH)
	}
	return StatusReady, nil
}
