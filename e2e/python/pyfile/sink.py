"""The sink: turns frames into files. What is not whole lies in a folder of its flow below the work folder, and gets its name in one step."""

import contextlib
import hashlib
import json
import os
import threading

import grpc
from towpath.plugin.v1 import plugin_pb2 as pb

from .digest import Digest
from .errors import PluginError, corrupt, failure, interrupted, invalid, invalid_fields
from .schema import REPLACE, SINK, WORK, check_address, check_name, get, is_own
from .volume import Descriptor, Volume, join, split

PIECE = 256 << 10
LARGEST_FRAME = 1 << 20


def short_hash(*texts):
    """A name that follows from texts that peers have chosen, which are no names themselves."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]


def flow_folder(flow):
    return [WORK, "py-" + short_hash(flow.participant_context, flow.id)]


class Folders:
    """Makes and removes the folders of flows: one call at a time, so that none removes what another has just made."""

    def __init__(self):
        self.lock = threading.Lock()

    def create(self, volume, folder, name):
        """Creates a file of a flow and returns its descriptor. One that an earlier run left goes first."""
        with self.lock, Descriptor(volume.make_folder(folder, 0o700)) as fd:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)
            return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=fd)

    def remove_empty(self, volume, folder):
        """Removes the folder of a flow, and the work folder, if nothing is in them."""
        with self.lock, contextlib.suppress(OSError):
            for i in (2, 1):
                with Descriptor(volume.folder(folder[: i - 1])) as above:
                    os.rmdir(folder[i - 1], dir_fd=above)

    def remove(self, volume, folder):
        """Removes the folder of a flow with all that is in it."""
        with self.lock, contextlib.suppress(FileNotFoundError):
            with Descriptor(volume.folder(folder)) as fd:
                for name in os.listdir(fd):
                    os.unlink(name, dir_fd=fd)
        self.remove_empty(volume, folder)


class Place:
    """Where a stream is. A Durable carries all of it."""

    def __init__(self):
        self.index = 0  # of the part that is begun or comes next
        self.offset = 0  # in that part
        self.name = ""  # of its temporary file
        self.crc = 0  # of what lies before offset
        self.parts = self.bytes = 0  # totals of the parts that were finished

    def token(self):
        return json.dumps(vars(self)).encode()

    @classmethod
    def parse(cls, token):
        place = cls()
        if not token:
            return place
        try:
            fields = json.loads(token)
        except ValueError:
            fields = None
        right = isinstance(fields, dict) and fields.keys() == vars(place).keys()
        right = right and all(type(v) is type(getattr(place, k)) for k, v in fields.items())
        if not right or any(v < 0 for v in fields.values() if isinstance(v, int)):
            raise invalid("this is not a resume token of this sink")
        vars(place).update(fields)
        return place


class Writing:
    """One call of Write: a state machine over the frames. take(part) waits until nobody else has the part in hand, and returns what is to
    be called when this call is done with it."""

    def __init__(self, volume: Volume, folders, request, take):
        wrong = check_address(request.address, SINK)
        if wrong:
            raise invalid_fields(wrong)
        if volume.read_only:
            raise PluginError(pb.ERROR_CODE_DENIED, "the plugin is configured not to write")
        self.volume, self.folders, self.request, self.take = volume, folders, request, take
        self.path = split(get(request.address, "path"))
        self.collision = get(request.address, "collision")
        self.work = flow_folder(request.flow)
        self.place = Place.parse(request.resume_token)
        self.next = self.place.index  # the least index that a part may have
        self.resumed = False  # the place in the token was taken up, or passed
        self.sequence = 0  # of the last checkpoint
        self.part = None  # Incoming

    def ups(self, frames):
        """Answers frames, until End."""
        try:
            for frame in frames:
                kind = frame.WhichOneof("kind")
                if kind == "end":
                    yield self._end(frame.end)
                    return
                answer = self._frame(kind, frame)
                if answer:
                    yield answer
            raise interrupted()
        except grpc.RpcError:
            raise interrupted() from None
        except OSError as e:
            failed = failure(e, "write", self.part.begin.name if self.part else join(self.path))
            raise self._about(failed) from e
        except PluginError as e:
            raise self._about(e)
        finally:
            self._abandon(True)
            self.folders.remove_empty(self.volume, self.work)

    def _about(self, error):
        """Says which part the error is about, and keeps what the flow may go on from."""
        if self.part:
            if error.message != "interrupted":
                error.about(self.part.begin.name)
            self._abandon(error.retryable)
        return error

    def _abandon(self, keep):
        if self.part:
            self.part.abandon(keep)
            self.part = None

    def _frame(self, kind, frame):
        if kind == "part_begin":
            self._between("a part begins inside another")
            self._begin(frame.part_begin)
        elif kind == "data":
            self._inside("data came outside a part").data(frame.data)
        elif kind == "part_end":
            return self._finish(self._inside("a part ends that has not begun"), frame.part_end)
        elif kind == "checkpoint":
            return self._checkpoint(frame.checkpoint)
        elif kind == "records":
            raise PluginError(pb.ERROR_CODE_UNSUPPORTED, "this sink takes no records")
        else:
            raise invalid(f"a frame of kind {kind} was not expected")
        return None

    def _between(self, wrong):
        if self.part:
            raise invalid(wrong)

    def _inside(self, wrong):
        if not self.part:
            raise invalid(wrong)
        return self.part

    def _begin(self, begin):
        check_name(begin.name)
        target = self.path + begin.name.split("/")
        if is_own(target):
            raise invalid(f'part name "{begin.name}" leads into the folder {WORK}, which is the plugin\'s own').about(begin.name)
        if begin.records or begin.reference:
            raise PluginError(pb.ERROR_CODE_UNSUPPORTED, "this sink takes parts of bytes only").about(begin.name)
        if begin.index < self.next:
            raise invalid(f"part {begin.index} came where part {self.next} was expected").about(begin.name)
        goes_on = not self.resumed and self.place.offset > 0 and (begin.index, begin.offset) == (self.place.index, self.place.offset)
        self.resumed = True
        if begin.offset and not goes_on:
            raise corrupt(f"the part goes on at {begin.offset}, which this sink does not have").about(begin.name)
        self.part = Incoming(self, begin, target, self.take(begin.name))
        self.part.open(self.place if goes_on else None)
        self.next = begin.index + 1

    def _checkpoint(self, checkpoint):
        if checkpoint.sequence <= self.sequence:
            raise invalid(f"checkpoint {checkpoint.sequence} came after checkpoint {self.sequence}")
        self.sequence = checkpoint.sequence
        if self.part:
            self.part.make_durable()
            self.place.index, self.place.offset = self.part.begin.index, self.part.digest.size
            self.place.name, self.place.crc = self.part.name, self.part.digest.crc
        return pb.WriteUp(durable=pb.Durable(sequence=checkpoint.sequence, sink_token=self.place.token()))

    def _finish(self, part, end):
        part.check(end)
        location = part.finish()
        self.part = None
        self.place.index, self.place.offset, self.place.name, self.place.crc = part.begin.index + 1, 0, "", 0
        self.place.parts += 1
        self.place.bytes += part.digest.size
        return pb.WriteUp(
            part_written=pb.PartWritten(
                index=part.begin.index, size=part.digest.size, digests=part.digest.to_proto(), location=location
            )
        )

    def _end(self, end):
        self._between("the stream ends inside a part")
        p = self.place
        if (end.parts, end.bytes, end.records) != (p.parts, p.bytes, 0):
            raise corrupt(f"{p.parts} parts and {p.bytes} bytes came, {end.parts} and {end.bytes} were announced")
        return pb.WriteUp(done=pb.WriteDone(parts=p.parts, bytes=p.bytes))


class Incoming:
    """A part that is not whole, in a temporary file whose name follows from the part's, so that a run finds what an earlier one left.

    If a checkpoint was given inside the part, the temporary file stays as a second name of the finished one: a flow that goes on from
    that checkpoint finds its content there, until Deprovision."""

    def __init__(self, writing, begin, target, free):
        self.writing, self.volume, self.begin, self.target, self.free = writing, writing.volume, begin, target, free
        self.name = short_hash(begin.name)
        self.digest = Digest(writing.request.digests)
        self.fd = None
        self.promised = False  # a flow may go on from a checkpoint in the part
        self.again = False  # the part had reached its final place in an earlier run

    def open(self, place):
        w = self.writing
        if place is None:
            self.fd = w.folders.create(self.volume, w.work, self.name)
            return
        self.promised = True
        if place.name != self.name:
            raise invalid("the resume token is of another part")
        try:
            self.fd = self.volume.file(w.work + [self.name], os.O_RDWR)
        except FileNotFoundError:
            raise corrupt(f"what was written before offset {place.offset} is gone") from None
        self._go_on(place)

    def _go_on(self, place):
        """Takes up what is there of the part, if it is what was written before the place."""
        info = os.fstat(self.fd)
        if info.st_nlink > 1:
            self._detach(place.offset)
        while self.digest.size < place.offset:
            data = os.pread(self.fd, min(PIECE, place.offset - self.digest.size), self.digest.size)
            if not data:
                break
            self.digest.update(data)
        if (self.digest.size, self.digest.crc) != (place.offset, place.crc):
            raise corrupt(f"what was written before offset {place.offset} is not there any more")
        os.ftruncate(self.fd, place.offset)

    def _detach(self, size):
        """Goes on with a copy: the temporary file is the finished one, which nobody may change."""
        w, self.again, copy = self.writing, True, self.name + ".new"
        with Descriptor(self.fd) as finished:
            self.fd = None
            self.fd = w.folders.create(self.volume, w.work, copy)
            at = 0
            while at < size and (data := os.pread(finished, min(PIECE, size - at), at)):
                self._write(data, at)
                at += len(data)
        os.fsync(self.fd)
        with Descriptor(self.volume.folder(w.work)) as folder:
            os.rename(copy, self.name, src_dir_fd=folder, dst_dir_fd=folder)

    def data(self, data):
        if not 0 < len(data) <= LARGEST_FRAME:
            raise invalid(f"a frame with {len(data)} bytes of data came, not with 1 to {LARGEST_FRAME}")
        at = self.digest.size
        if self.begin.HasField("size") and at + len(data) > self.begin.size:
            raise corrupt(f"it has more than the {self.begin.size} bytes announced")
        self._write(data, at)
        self.digest.update(data)

    def _write(self, data, at):
        rest = memoryview(data)
        while rest:
            n = os.pwrite(self.fd, rest, at)
            rest, at = rest[n:], at + n

    def make_durable(self):
        os.fsync(self.fd)
        if not self.promised:
            with Descriptor(self.volume.folder(self.writing.work)) as folder:
                os.fsync(folder)
        self.promised = True

    def check(self, end):
        size = self.digest.size
        if size != end.size or self.begin.HasField("size") and size != self.begin.size:
            announced = self.begin.size if self.begin.HasField("size") and size != self.begin.size else end.size
            raise corrupt(f"it has {size} bytes, {announced} were announced")
        if end.records:
            raise corrupt(f"it has no records, {end.records} were announced")
        if wrong := self.digest.differs(end.digests):
            raise corrupt(f"its {wrong} is not the one announced")

    def finish(self):
        """Gives the file its name, durably, and returns where it is."""
        if self.begin.HasField("modified"):
            when = self.begin.modified.ToNanoseconds()
            os.utime(self.fd, ns=(when, when))
        os.fsync(self.fd)
        with Descriptor(self.volume.folder(self.writing.work)) as work:
            with Descriptor(self.volume.make_folder(self.target[:-1])) as folder:
                self._place(work, folder)
                os.fsync(folder)
            if not self.promised:
                os.unlink(self.name, dir_fd=work)
        self._close()
        return join(self.target)

    def _place(self, work, folder):
        if self.writing.collision == REPLACE:
            second = self.name + ".new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(second, dir_fd=work)
            os.link(self.name, second, src_dir_fd=work, dst_dir_fd=work)
            os.rename(second, self.target[-1], src_dir_fd=work, dst_dir_fd=folder)
            return
        try:
            os.link(self.name, self.target[-1], src_dir_fd=work, dst_dir_fd=folder)
        except FileExistsError:
            if not ((self.writing.request.redelivery or self.again) and self._is_there(work, folder)):
                raise PluginError(pb.ERROR_CODE_CONFLICT, f'there is a file "{join(self.target)}" already') from None

    def _is_there(self, work, folder):
        """Whether the file under the final name has the content of this one. It is durable then, and stands for this one."""
        try:
            other = self.volume.file(self.target)
        except (OSError, PluginError):
            return False
        with Descriptor(other):
            if os.fstat(other).st_size != self.digest.size:
                return False
            for at in range(0, self.digest.size, PIECE):
                if os.pread(self.fd, PIECE, at) != os.pread(other, PIECE, at):
                    return False
            os.fsync(other)
        if self.promised:
            second = self.name + ".new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(second, dir_fd=work)
            os.link(self.target[-1], second, src_dir_fd=folder, dst_dir_fd=work, follow_symlinks=False)
            os.rename(second, self.name, src_dir_fd=work, dst_dir_fd=work)
            os.fsync(work)
        return True

    def abandon(self, keep):
        """Keeps what the flow may go on from, if it may, and removes it otherwise."""
        if not (keep and self.promised):
            with contextlib.suppress(OSError), Descriptor(self.volume.folder(self.writing.work)) as work:
                os.unlink(self.name, dir_fd=work)
        self._close()

    def _close(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
        if self.free:
            self.free()
            self.free = None
