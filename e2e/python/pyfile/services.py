"""The services Plugin, DataSource and DataSink."""

import logging
import threading

import grpc
from towpath.plugin.v1 import plugin_pb2 as pb
from towpath.plugin.v1 import plugin_pb2_grpc as rpc

from .digest import ALGORITHMS
from .errors import PluginError, abort, failure, interrupted, invalid, invalid_fields
from .identity import NAME
from .schema import CONFIG, SINK, SOURCE, check_address, read_config
from .sink import Folders, Writing, flow_folder
from .source import Reading
from .volume import Volume

VERSION = "0.1.0"
# A flow keeps a thread of the server busy, and there have to be some left for Health.
MOST_FLOWS = 100
THREADS = 2 * MOST_FLOWS
# How long Deprovision waits for a call of the same flow to let go.
LET_GO = 10

log = logging.getLogger("pyfile")


class Flows:
    """The calls of Read and Write that run. Its methods may be called from any thread."""

    def __init__(self):
        self.changed = threading.Condition()
        self.open = {}  # flow -> number of its calls
        self.count = 0
        self.draining = False
        self.reads = set()  # events that ask for a checkpoint
        self.parts = set()  # (flow, part) that a Write has in hand

    def enter(self):
        with self.changed:
            if self.draining:
                raise PluginError(pb.ERROR_CODE_UNAVAILABLE, "the plugin is being stopped and takes no new flow", retryable=True)
            if self.count >= MOST_FLOWS:
                raise PluginError(pb.ERROR_CODE_UNAVAILABLE, f"the plugin has {MOST_FLOWS} flows and takes no more", retryable=True)
            self.count += 1

    def leave(self):
        with self.changed:
            self.count -= 1
            self.changed.notify_all()

    def drain(self, seconds):
        """Refuses new flows, asks those that read for a checkpoint, and waits. Returns how many are left."""
        with self.changed:
            self.draining = True
            for wanted in self.reads:
                wanted.set()
            self.changed.wait_for(lambda: self.count == 0, seconds)
            return self.count

    def taker(self, flow, context):
        """A function for Writing: a flow that goes on must not meet the rest of its former call."""

        def take(part):
            key = (flow, part)
            with self.changed:
                while key in self.parts:
                    if not context.is_active():
                        raise interrupted()
                    self.changed.wait(0.1)
                self.parts.add(key)
            return lambda: self._free(key)

        return take

    def _free(self, key):
        with self.changed:
            self.parts.discard(key)
            self.changed.notify_all()

    def writes(self, flow, context):
        """Notes that a Write runs, and returns what is to be called when it does no longer."""
        with self.changed:
            self.open.setdefault(flow, set()).add(context)

        def end():
            with self.changed:
                self.open[flow].discard(context)
                if not self.open[flow]:
                    del self.open[flow]
                self.changed.notify_all()

        return end

    def end_writes(self, flow):
        """Breaks off the calls of Write of a flow, and returns whether they have let go."""
        with self.changed:
            running = list(self.open.get(flow, ()))
        for context in running:
            context.cancel()
        with self.changed:
            return self.changed.wait_for(lambda: flow not in self.open, LET_GO)


class Plugin(rpc.PluginServicer):
    """Who the plugin is, what it takes to run, how it ends."""

    def __init__(self, flows, alone):
        self.flows = flows
        self.alone = alone  # there can be several hosts
        self.config = None
        self.volume = None  # until Configure
        self.configuring = threading.Lock()

    def configured(self):
        if self.volume is None:
            raise invalid_fields([("root", "is required: the plugin is not configured")])
        return self.volume

    def Describe(self, request, context):
        return pb.DescribeResponse(
            name=NAME,
            version=VERSION,
            documentation="Reads and writes files below one folder. It is written in Python.",
            config=CONFIG,
            source_types=[SOURCE],
            sink_types=[SINK],
            capabilities=pb.Capabilities(digests=ALGORITHMS),
        )

    def Configure(self, request, context):
        with answering(context), self.configuring:
            if self.volume and self.alone and self.config != request.config_json:
                # Whether a host has gone, this library does not tell.
                raise PluginError(
                    pb.ERROR_CODE_UNAVAILABLE, "it has another configuration, until it is started again", retryable=True
                )
            if self.config != request.config_json:
                self.volume = Volume(read_config(request.config_json))
                self.config = request.config_json
        return pb.ConfigureResponse()

    def Health(self, request, context):
        status = pb.HEALTH_STATUS_DRAINING if self.flows.draining else pb.HEALTH_STATUS_SERVING
        return pb.HealthResponse(status=status, flows=self.flows.count)

    def Drain(self, request, context):
        if self.alone:
            with answering(context):
                raise PluginError(pb.ERROR_CODE_UNSUPPORTED, "the plugin lives on its own: it is no host's to end")
        deadline = request.deadline.ToNanoseconds() / 1e9 if request.HasField("deadline") else None
        left = context.time_remaining()
        known = [s for s in (deadline, left) if s is not None]
        return pb.DrainResponse(flows=self.flows.drain(max(0, min(known)) if known else None))


class answering:
    """Ends a call with the error that its with statement raises."""

    def __init__(self, context):
        self.context = context

    def __enter__(self):
        return None

    def __exit__(self, kind, error, trace):
        if isinstance(error, PluginError):
            abort(self.context, error)
        if isinstance(error, OSError):
            abort(self.context, failure(error, "use", error.filename or ""))


def streaming(answers, as_error):
    """Yields what a call answers. What it fails with is its last answer."""
    try:
        yield from answers
    except PluginError as e:
        yield as_error(e.to_proto())
    except grpc.RpcError:
        return  # nobody listens any more
    except Exception:
        log.exception("fault in a call")
        yield as_error(pb.Error(code=pb.ERROR_CODE_UNSPECIFIED, message="the plugin has a fault, which its log has"))


def first_of(messages, kind):
    """The message that opens a stream."""
    first = next(messages, None)
    if first is None or first.WhichOneof("kind") != "open":
        raise invalid(f"the first message of a {kind} has to open it")
    return first.open


class DataSource(rpc.DataSourceServicer):
    """Reads data addresses."""

    def __init__(self, plugin, flows):
        self.plugin, self.flows = plugin, flows

    def Validate(self, request, context):
        with answering(context):
            return validation(check_address(request.address, SOURCE))

    def Store(self, request, context):
        with answering(context):
            check_address(request.address, SOURCE)
        return pb.StoreResponse()  # nothing can be copied

    def Read(self, request_iterator, context):
        return streaming(self._read(request_iterator), lambda e: pb.Frame(error=e))

    def _read(self, ups):
        self.flows.enter()
        wanted = threading.Event()
        try:
            request = first_of(ups, "Read")
            cut, refused = threading.Event(), []
            reading = Reading(self.plugin.configured(), request, cut, wanted)
            self.flows.reads.add(wanted)
            threading.Thread(target=listen, args=(ups, reading, cut, wanted, refused), daemon=True).start()
            for frame in reading.frames():
                if refused:
                    raise refused[0]
                if cut.is_set():
                    raise interrupted()
                yield frame
        finally:
            self.flows.reads.discard(wanted)
            self.flows.leave()


def listen(ups, reading, cut, wanted, refused):
    """Takes what the host says while it is read to, until it hangs up."""
    try:
        for up in ups:
            kind = up.WhichOneof("kind")
            if kind == "checkpoint":
                wanted.set()
            elif kind == "acknowledge" and up.acknowledge.sequence > reading.place.sequence:
                raise invalid(f"checkpoint {up.acknowledge.sequence} is acknowledged, which was not given")
            elif kind not in ("acknowledge", "body"):
                raise invalid(f"a message of kind {kind} was not expected")
    except PluginError as e:
        refused.append(e)
    except Exception:  # the call has ended
        pass
    finally:
        cut.set()


class DataSink(rpc.DataSinkServicer):
    """Writes to data addresses."""

    def __init__(self, plugin, flows):
        self.plugin, self.flows, self.folders = plugin, flows, Folders()

    def Validate(self, request, context):
        with answering(context):
            return validation(check_address(request.address, SINK))

    def Store(self, request, context):
        with answering(context):
            check_address(request.address, SINK)
        return pb.StoreResponse()

    def Provision(self, request, context):
        with answering(context):
            raise PluginError(pb.ERROR_CODE_UNSUPPORTED, "this sink hands out no addresses")

    def Deprovision(self, request, context):
        with answering(context):
            volume = self.plugin.configured()
            if not self.flows.end_writes(key_of(request.flow)):
                raise PluginError(pb.ERROR_CODE_UNAVAILABLE, "the flow is still being written", retryable=True)
            self.folders.remove(volume, flow_folder(request.flow))
        return pb.DeprovisionResponse()

    def Write(self, request_iterator, context):
        return streaming(self._write(request_iterator, context), lambda e: pb.WriteUp(error=e))

    def _write(self, frames, context):
        self.flows.enter()
        try:
            request = first_of(frames, "Write")
            flow = key_of(request.flow)
            writing = Writing(self.plugin.configured(), self.folders, request, self.flows.taker(flow, context))
            end = self.flows.writes(flow, context)
            try:
                yield from writing.ups(frames)
            finally:
                end()
        finally:
            self.flows.leave()


def key_of(flow):
    return flow.participant_context, flow.id


def validation(wrong):
    return pb.ValidateResponse(errors=[pb.FieldError(field=f, message=m) for f, m in wrong])


def add_to(server, flows, alone=False):
    """Puts the services on a server."""
    plugin = Plugin(flows, alone)
    rpc.add_PluginServicer_to_server(plugin, server)
    rpc.add_DataSourceServicer_to_server(DataSource(plugin, flows), server)
    rpc.add_DataSinkServicer_to_server(DataSink(plugin, flows), server)
