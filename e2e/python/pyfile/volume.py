"""The folder that the plugin works in. Every access goes element by element from the folder's descriptor and follows no symbolic link, so
that nothing leads out of it."""

import errno
import os
import stat

from towpath.plugin.v1 import plugin_pb2 as pb

from .errors import PluginError, failure, invalid_fields
from .schema import is_own

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Volume:
    """Opens what lies below the root. Paths are lists of names."""

    def __init__(self, config):
        self.root, self.read_only = os.path.abspath(config["root"]), config.get("read_only", False)
        if not os.path.isdir(self.root):
            raise invalid_fields([("root", "is not a folder" if os.path.exists(self.root) else "is not there")])

    def folder(self, path):
        """Returns a descriptor of a folder, which the caller closes."""
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in path:
            try:
                inner = os.open(name, FOLDER, dir_fd=fd)
            except OSError as e:
                if e.errno == errno.ENOTDIR and is_link(name, fd):
                    raise OSError(errno.ELOOP, "it is a symbolic link") from None
                raise
            finally:
                os.close(fd)
            fd = inner
        return fd

    def file(self, path, flags=os.O_RDONLY):
        """Returns a descriptor of a regular file, which the caller closes."""
        with Descriptor(self.folder(path[:-1])) as folder:
            # Not O_RDONLY alone: opening a pipe must not wait for its other end.
            fd = os.open(path[-1], flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise PluginError(pb.ERROR_CODE_INVALID, f'"{join(path)}" is not a regular file')
        return fd

    def make_folder(self, path, mode=0o777):
        """Makes a folder and those above it, durably, and returns a descriptor of it."""
        fd = self.folder([])
        for name in path:
            try:
                try:
                    os.mkdir(name, mode, dir_fd=fd)
                except FileExistsError:
                    pass
                os.fsync(fd)  # also of one that is there: who made it may have been cut before this
                inner = os.open(name, FOLDER, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd

    def walk(self, path):
        """Yields the regular files below a folder, by their paths relative to it, in the order of the bytes of the whole paths."""
        yield from self._walk(path, [])

    def _walk(self, base, below):
        try:
            names = self._names(base + below)
        except OSError as e:
            if below and e.errno == errno.ENOENT:
                return  # gone since its own folder was listed
            raise
        for name in names:
            if name.endswith("/"):
                yield from self._walk(base, below + [name[:-1]])
            else:
                yield below + [name]

    def _names(self, path):
        """The names in a folder, a folder's with a '/' behind it, in such an order that the paths of all files are sorted."""
        with Descriptor(self.folder(path)) as fd, os.scandir(fd) as entries:
            names = []
            for e in entries:
                if is_own(path + [e.name]):
                    continue
                if e.is_dir(follow_symlinks=False):
                    names.append(e.name + "/")
                elif e.is_file(follow_symlinks=False):
                    names.append(e.name)
        return sorted(names, key=os.fsencode)


class Descriptor:
    """Closes a descriptor at the end of a with statement."""

    def __init__(self, fd):
        self.fd = fd

    def __enter__(self):
        return self.fd

    def __exit__(self, *_):
        os.close(self.fd)


def is_link(name, folder):
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def split(path):
    """The names in a path of an address, which has been checked."""
    return [e for e in path.split("/") if e not in ("", ".")]


def join(path):
    return "/".join(path) or "."


def validator(info):
    """Is equal as long as a file's content is, as far as the file system tells."""
    return f"{info.st_size:x}-{info.st_mtime_ns:x}-{info.st_ino:x}"


def read_failure(error, path):
    """What reading fails with: something is not there also if it would have to be in a file."""
    e = failure(error, "read", join(path))
    if error.errno == errno.ENOTDIR:
        e.code = pb.ERROR_CODE_NOT_FOUND
    return e
