"""The source: turns files into frames, in the order

    (PartBegin (Data | Checkpoint)* PartEnd Checkpoint?)* End
"""

import dataclasses
import json
import mimetypes
import os
import stat

from towpath.plugin.v1 import plugin_pb2 as pb

from .digest import Digest
from .errors import PluginError, corrupt, interrupted, invalid, invalid_fields
from .schema import SOURCE, check_address, check_name, get
from .volume import Descriptor, read_failure, split, validator

FRAME = 256 << 10  # bytes of payload in a frame if the host wants no less
LARGEST_FRAME = 1 << 20
TYPES = mimetypes.MimeTypes()


@dataclasses.dataclass
class Place:
    """Where a stream is. A checkpoint's token carries all of it, so that reading can go on in another process."""

    index: int = 0  # of the part
    part: str = ""  # that was begun last
    finished: bool = False  # it was sent whole
    offset: int = 0  # what of it was sent, if not
    validator: str = ""
    crc: int = 0  # of what lies before offset
    sequence: int = 0  # of the last checkpoint
    parts: int = 0  # totals of the parts that were finished
    bytes: int = 0

    def token(self):
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def parse(cls, token):
        if not token:
            return cls()
        try:
            fields = json.loads(token)
            place = cls(**fields)
        except (ValueError, TypeError):
            raise invalid("this is not a resume token of this source") from None
        kinds = {f.name: f.type for f in dataclasses.fields(cls)}
        right = all(type(getattr(place, name)) is kind for name, kind in kinds.items())
        if not right or not place.part or min(place.index, place.offset, place.sequence, place.parts, place.bytes) < 0:
            raise invalid("this is not a resume token of this source")
        return place


class Reading:
    """One call of Read. cut is set when the host hangs up, wanted when it wants a checkpoint."""

    def __init__(self, volume, request, cut, wanted):
        wrong = check_address(request.address, SOURCE)
        if wrong:
            raise invalid_fields(wrong)
        self.volume, self.request, self.cut, self.wanted = volume, request, cut, wanted
        self.path = split(get(request.address, "path"))
        self.place = Place.parse(request.resume_token)
        self.select = request.select if request.HasField("select") else None
        self.skip = frozenset(request.skip)
        self.begun = 0  # parts in this stream
        self.totals = {}
        self.frame = min(request.max_frame_size or FRAME, FRAME, LARGEST_FRAME)

    def frames(self):
        try:
            yield from self._parts()
        except OSError as e:
            raise read_failure(e, self.path) from e

    def _parts(self):
        self.totals = self._count()
        behind = self.place.part  # parts before this one were sent by an earlier stream
        for name, path in self._files():
            check_name(name)
            if behind:
                if name != behind:
                    continue
                behind = ""
                if self.place.finished:
                    continue
            if name in self.skip:
                self._begin(name)
                self.place.finished = True
            elif not self.select:
                yield from self._about(name, self._part(name, path))
            elif self.select.name in ("", name):
                yield from self._about(name, self._selected(name, path))
                return
            else:
                self._begin(name)
        if behind:
            raise corrupt(f'part "{behind}", from which the flow goes on, is no longer there')
        if self.select:
            raise PluginError(pb.ERROR_CODE_NOT_FOUND, f'there is no part "{self.select.name}"')
        yield self._end()

    def _files(self):
        """Yields names of parts with the paths of their files. Of one file it is the file's own name."""
        if self._is_file():
            yield self.path[-1], self.path
            return
        for below in self.volume.walk(self.path):
            yield "/".join(below), self.path + below

    def _is_file(self):
        if not self.path:
            return False
        with Descriptor(self.volume.folder(self.path[:-1])) as folder:
            mode = os.stat(self.path[-1], dir_fd=folder, follow_symlinks=False).st_mode
        return not stat.S_ISDIR(mode)

    def _count(self):
        """How many parts there are, and how large they are together: for whoever wants to know how far the flow is."""
        parts = size = 0
        for _, path in self._files():
            self._go_on()
            parts += 1
            try:
                with Descriptor(self.volume.folder(path[:-1])) as folder:
                    size += os.stat(path[-1], dir_fd=folder, follow_symlinks=False).st_size
            except OSError:
                pass  # what is wrong with it is said when it is read
        return {"total_parts": parts, "total_bytes": size}

    def _go_on(self):
        if self.cut.is_set():
            raise interrupted()

    def _about(self, name, frames):
        try:
            yield from frames
        except PluginError as e:
            raise e.about(name)
        except OSError as e:
            raise read_failure(e, [name]).about(name) from e

    def _begin(self, name):
        """Moves the place to a part, or leaves it inside the part in which an earlier stream has left off."""
        p = self.place
        inside = self.begun == 0 and p.part == name and not p.finished
        if not inside:
            if p.part or self.begun:
                p.index += 1
            self._restart(name)
        self.begun += 1

    def _restart(self, name):
        p = self.place
        p.part, p.finished, p.offset, p.validator, p.crc = name, False, 0, "", 0

    def _part(self, name, path):
        self._begin(name)
        with Descriptor(self.volume.file(path)) as fd:
            info = os.fstat(fd)
            if self.request.list:
                yield self._header(name, info, 0)
                self.place.parts += 1
                yield pb.Frame(part_end=pb.PartEnd(size=info.st_size))
                return
            digest = self._digest(fd, info, name)
            yield self._header(name, info, digest.size)
            yield from self._content(fd, info, digest)
        yield pb.Frame(part_end=pb.PartEnd(size=digest.size, digests=digest.to_proto()))
        self.place.finished, self.place.offset, self.place.crc = True, 0, 0
        self.place.parts += 1
        self.place.bytes += digest.size
        yield self._checkpoint()

    def _digest(self, fd, info, name):
        """A digest of what an earlier stream has sent of the part. If that is not there any more, the part begins again."""
        p = self.place
        digest = Digest(self.request.digests)
        if p.offset and p.validator == validator(info) and p.offset <= info.st_size:
            while digest.size < p.offset:
                self._go_on()
                digest.update(os.pread(fd, min(FRAME, p.offset - digest.size), digest.size))
            if digest.crc == p.crc:
                return digest
        self._restart(name)
        p.validator = validator(info)
        return Digest(self.request.digests)

    def _content(self, fd, info, digest):
        while data := os.pread(fd, self.frame, digest.size):
            self._go_on()
            digest.update(data)
            if digest.size > info.st_size:
                break
            yield pb.Frame(data=data)
            if self.wanted.is_set():
                self.place.offset, self.place.crc = digest.size, digest.crc
                yield self._checkpoint()
        if validator(os.fstat(fd)) != validator(info) or digest.size != info.st_size:
            raise corrupt("the file changed while it was read", retryable=True)

    def _checkpoint(self):
        self.wanted.clear()
        self.place.sequence += 1
        return pb.Frame(checkpoint=pb.Checkpoint(sequence=self.place.sequence, source_token=self.place.token()))

    def _header(self, name, info, offset):
        begin = pb.PartBegin(
            index=self.place.index,
            name=name,
            media_type=TYPES.guess_type(name)[0] or "",
            size=info.st_size,
            offset=offset,
            validator=validator(info),
            **self.totals,
        )
        begin.modified.FromNanoseconds(info.st_mtime_ns)
        return pb.Frame(part_begin=begin)

    def _selected(self, name, path):
        """One part, or a piece of it."""
        with Descriptor(self.volume.file(path)) as fd:
            info = os.fstat(fd)
            offset, length = self.select.offset, self.select.length if self.select.HasField("length") else None
            if self.select.validator and self.select.validator != validator(info):
                offset, length = 0, None
            if self.request.list or offset == 0 and length in (None, info.st_size):
                yield from self._part(name, path)
                yield self._end()
                return
            if offset > info.st_size:
                raise invalid(f"the part has {info.st_size} bytes, none at offset {offset}")
            self._begin(name)
            yield self._header(name, info, offset)
            end = info.st_size if length is None else min(info.st_size, offset + length)
            yield from self._piece(fd, info, offset, end)
        yield pb.Frame(part_end=pb.PartEnd(size=info.st_size))
        yield pb.Frame(end=pb.End(bytes=end - offset))

    def _piece(self, fd, info, at, end):
        while at < end:
            self._go_on()
            data = os.pread(fd, min(self.frame, end - at), at)
            if not data:
                break
            at += len(data)
            yield pb.Frame(data=data)
        if validator(os.fstat(fd)) != validator(info):
            raise corrupt("the file changed while it was read", retryable=True)

    def _end(self):
        return pb.Frame(end=pb.End(parts=self.place.parts, bytes=self.place.bytes))
