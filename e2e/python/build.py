"""Builds the plugin as one executable file.

Run it with the interpreter that is to run the plugin: its path becomes the first line of the file. The rest of the file is a zip of the
plugin's own code and of what protoc makes from plugin.proto. A host executes a copy of the file, which therefore finds nothing by its
own place; what cannot be in a zip, the C extension of gRPC, is found by the interpreter.
"""

import argparse
import os
import pathlib
import shutil
import sys
import tempfile
import zipapp

from grpc_tools import protoc

HERE = pathlib.Path(__file__).resolve().parent
PROTO = HERE.parent.parent / "proto"

# The kernel reads no more of a first line than this, in bytes.
LONGEST_FIRST_LINE = 255


def main():
    options = argparse.ArgumentParser(description="Build the plugin.")
    options.add_argument("output", type=pathlib.Path, help="file to write: towpath-plugin-<name>")
    options.add_argument("--no-digests", action="store_true", help="leave digests to the host")
    args = options.parse_args()
    name = args.output.name.removeprefix("towpath-plugin-")
    if len(f"#!{sys.executable} -I\n".encode()) > LONGEST_FIRST_LINE:
        sys.exit(f"the path of the interpreter is too long for the first line of a script: {sys.executable}")
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder)
        shutil.copytree(HERE / "pyfile", tree / "pyfile", ignore=shutil.ignore_patterns("__pycache__"))
        (tree / "__main__.py").write_text("from pyfile.plugin import main\n\nmain()\n")
        (tree / "pyfile" / "identity.py").write_text(f"NAME = {name!r}\nDIGESTS = {not args.no_digests}\n")
        generate(tree)
        for path in [tree, *tree.rglob("*")]:
            os.utime(path, (315532800, 315532800))  # equal sources make equal files
        write(tree, args.output)


def generate(tree):
    """Has protoc write the messages and services of the protocol."""
    source = PROTO / "towpath" / "plugin" / "v1" / "plugin.proto"
    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    if protoc.main(["protoc", f"-I{PROTO}", f"-I{well_known}", f"--python_out={tree}", f"--grpc_python_out={tree}", str(source)]):
        sys.exit("protoc failed")
    for package in ["towpath", "towpath/plugin", "towpath/plugin/v1"]:
        (tree / package / "__init__.py").touch()


def write(tree, output):
    """Puts the file in place in one step: a host may be looking."""
    output.parent.mkdir(parents=True, exist_ok=True)
    new = output.with_name(f".{output.name}.new")
    # -I: neither the environment nor the user's own packages change what the plugin is.
    zipapp.create_archive(tree, new, interpreter=f"{sys.executable} -I")
    new.chmod(0o755)
    new.replace(output)


if __name__ == "__main__":
    main()
