"""What a program needs to be a plugin of a Towpath host, without go-plugin: the environment, the socket, the line on standard output that
says where it is, the three services that go-plugin's client asks for, and an end. And what it needs to live on its own, for hosts that dial
it: an address."""

import argparse
import json
import logging
import os
import signal
import sys
import tempfile
import threading
from concurrent import futures
from datetime import datetime, timezone

import grpc

from . import services
from .identity import NAME

# A host sets this, so that a plugin that is started by hand says what it is instead of waiting.
COOKIE, DATASPACE = "TOWPATH_PLUGIN", "dataspace"
# Of the handshake, and of towpath.plugin.v1.
CORE_VERSION, VERSION = 1, 1
# How long running flows have after SIGTERM, in seconds.
DRAIN_ON_TERM = 10
# How long the library has to send what flows that have ended said last, in seconds: it cancels calls that are not off its hands.
FLUSH = 1

OPTIONS = [
    ("grpc.max_receive_message_length", 8 << 20),
    ("grpc.max_send_message_length", 8 << 20),
    # What is taken of a flow that nobody works off is bounded, and gRPC does not raise the bound.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1 << 20),
    # The host sends a ping every ten seconds. A server that finds that too much breaks the connection off.
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
]


def main():
    if os.environ.get(COOKIE) != DATASPACE:
        if len(sys.argv) > 1:
            return live_alone(arguments())
        sys.exit(
            f"{NAME} is a plugin of Towpath. Put it into the host's plugin directory; towpath launches it.\n"
            f"Or have it live on its own, and hosts dial it: -listen unix:///run/{NAME}.sock. -help says more."
        )
    versions = os.environ.get("PLUGIN_PROTOCOL_VERSIONS", str(VERSION))
    if str(VERSION) not in versions.split(","):
        sys.exit(f"the host speaks version {versions} of the plugin protocol, this plugin speaks {VERSION}")
    log_to_stderr()
    parent = os.getppid()
    stop, term = threading.Event(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: term.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the host's to react
    flows = services.Flows()
    server = grpc.server(futures.ThreadPoolExecutor(services.THREADS), options=OPTIONS)
    services.add_to(server, flows)
    server.add_generic_rpc_handlers(go_plugin(stop))
    socket = socket_path()
    mask = os.umask(0o077)  # nobody else may connect
    server.add_insecure_port("unix:" + socket)
    os.umask(mask)
    server.start()
    # Nothing else is ever printed there. Without a certificate as the sixth field there is no TLS.
    print(f"{CORE_VERSION}|{VERSION}|unix|{socket}|grpc", flush=True)
    while not (stop.is_set() or term.is_set() or os.getppid() != parent):
        stop.wait(0.2)
    if term.is_set():
        flows.drain(DRAIN_ON_TERM)
        server.stop(FLUSH).wait(2 * FLUSH)
    server.stop(0).wait(2)
    if os.path.exists(socket):
        os.unlink(socket)
    os._exit(0)  # threads that wait for the disk hold nothing up


def arguments():
    """What a plugin in Go takes, too."""
    options = argparse.ArgumentParser(prog=NAME, description="A plugin of Towpath that lives on its own.", allow_abbrev=False)
    options.add_argument("-listen", required=True, help="address that hosts dial: unix:///path or tcp://host:port")
    options.add_argument("-certificate", help="PEM file with the plugin's certificate and its chain, for tcp")
    options.add_argument("-key", help="PEM file with the key of the certificate")
    options.add_argument("-client-ca", help="PEM file with the authorities of hosts' certificates")
    args = options.parse_args()
    network, _, address = args.listen.partition("://")
    files = [args.key, args.certificate, args.client_ca]
    if network == "unix" and address.startswith("/") and not any(files):
        return address, None
    if network == "tcp" and all(files):
        return address, [read(name) for name in files]
    options.error("-listen is unix:///path, or tcp://host:port with -certificate, -key and -client-ca: over tcp there is always mutual TLS")


def read(name):
    with open(name, "rb") as file:
        return file.read()


def live_alone(where):
    """Serves hosts that dial, until somebody ends it."""
    address, secrets = where
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    flows = services.Flows()
    # A host that is gone without a word keeps nothing here.
    options = [*OPTIONS, ("grpc.keepalive_time_ms", 10000), ("grpc.keepalive_timeout_ms", 20000)]
    server = grpc.server(futures.ThreadPoolExecutor(services.THREADS), options=options)
    services.add_to(server, flows, alone=True)
    if secrets is None:
        mask = os.umask(0o177)  # nobody else may connect
        server.add_insecure_port("unix:" + address)
        os.umask(mask)
    else:
        key, certificate, authorities = secrets
        server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)], authorities, require_client_auth=True))
    server.start()
    logging.info("plugin listens at %s", address)
    while not stop.wait(0.2):
        pass
    flows.drain(DRAIN_ON_TERM)
    server.stop(FLUSH).wait(2 * FLUSH)
    os._exit(0)


def socket_path():
    """A name in the folder that the host gives. A host refuses every other place."""
    folder = os.environ.get("PLUGIN_UNIX_SOCKET_DIR") or tempfile.mkdtemp()
    return os.path.join(folder, f"plugin-{os.getpid()}")


def go_plugin(stop):
    """The services that go-plugin's client asks for. Their messages are so simple that they are written as the bytes they are."""

    def check(request, context):
        return b"\x08\x01"  # HealthCheckResponse{status: SERVING}

    def shutdown(request, context):
        # The answer leaves first.
        threading.Timer(0.05, stop.set).start()
        return b""

    def stdio(request, context):
        stop.wait()  # what is printed reaches the host by the process's own pipes
        yield from ()

    def broker(requests, context):
        for _ in requests:  # connections besides this one, which nobody asks for
            pass
        yield from ()

    unary, server, both = (
        grpc.unary_unary_rpc_method_handler,
        grpc.unary_stream_rpc_method_handler,
        grpc.stream_stream_rpc_method_handler,
    )
    handlers = {
        "grpc.health.v1.Health": {"Check": unary(check)},
        "plugin.GRPCController": {"Shutdown": unary(shutdown)},
        "plugin.GRPCStdio": {"StreamStdio": server(stdio)},
        "plugin.GRPCBroker": {"StartStream": both(broker)},
    }
    return tuple(grpc.method_handlers_generic_handler(service, methods) for service, methods in handlers.items())


def log_to_stderr():
    """Writes records as go-hclog does: one JSON object a line, which the host puts into its own log."""

    class Format(logging.Formatter):
        def format(self, record):
            line = {
                "@timestamp": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
                "@level": record.levelname.lower().replace("warning", "warn").replace("critical", "error"),
                "@module": record.name,
                "@message": record.getMessage(),
            }
            if record.exc_info:
                line["stack"] = self.formatException(record.exc_info)
            return json.dumps(line)

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Format())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
