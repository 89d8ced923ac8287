"""Errors with the codes of the protocol, and how they travel: as a message of a stream, or as the status of a call."""

import errno

import grpc
from towpath.plugin.v1 import plugin_pb2 as pb

STATUS = {
    pb.ERROR_CODE_UNSPECIFIED: grpc.StatusCode.INTERNAL,
    pb.ERROR_CODE_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    pb.ERROR_CODE_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    pb.ERROR_CODE_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    pb.ERROR_CODE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    pb.ERROR_CODE_CORRUPT: grpc.StatusCode.DATA_LOSS,
    pb.ERROR_CODE_CONFLICT: grpc.StatusCode.ALREADY_EXISTS,
    pb.ERROR_CODE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    pb.ERROR_CODE_UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    pb.ERROR_CODE_NOT_COPIED: grpc.StatusCode.FAILED_PRECONDITION,
}

# What calls to the system fail with, by who can do something about it. Everything else is a fault in the plugin.
CODES = {
    errno.ENOENT: pb.ERROR_CODE_NOT_FOUND,
    errno.EACCES: pb.ERROR_CODE_DENIED,
    errno.EPERM: pb.ERROR_CODE_DENIED,
    errno.EROFS: pb.ERROR_CODE_DENIED,
    errno.ELOOP: pb.ERROR_CODE_DENIED,  # a symbolic link, which is not followed
    errno.ENOSPC: pb.ERROR_CODE_EXHAUSTED,
    errno.EDQUOT: pb.ERROR_CODE_EXHAUSTED,
    errno.EFBIG: pb.ERROR_CODE_EXHAUSTED,
    errno.EMFILE: pb.ERROR_CODE_EXHAUSTED,
    errno.ENFILE: pb.ERROR_CODE_EXHAUSTED,
    errno.EEXIST: pb.ERROR_CODE_CONFLICT,
    errno.EISDIR: pb.ERROR_CODE_CONFLICT,
    errno.ENOTDIR: pb.ERROR_CODE_CONFLICT,
    errno.ENAMETOOLONG: pb.ERROR_CODE_INVALID,
    errno.EILSEQ: pb.ERROR_CODE_INVALID,
    errno.ESTALE: pb.ERROR_CODE_UNAVAILABLE,
    errno.EBUSY: pb.ERROR_CODE_UNAVAILABLE,
}

LONGEST_MESSAGE = 4096


class PluginError(Exception):
    """An error that the host can do something with. message is for people and has no secrets."""

    def __init__(self, code, message, retryable=False, fields=()):
        super().__init__(message)
        self.code, self.message, self.retryable, self.fields, self.part = code, message, retryable, list(fields), ""

    def about(self, part):
        """Says which part the error is about, unless that is known."""
        self.part = self.part or part
        return self

    def to_proto(self):
        return pb.Error(
            code=self.code,
            message=clean(self.message)[:LONGEST_MESSAGE],
            retryable=self.retryable,
            part=clean(self.part),
            fields=[pb.FieldError(field=clean(f), message=clean(m)) for f, m in self.fields],
        )


def invalid(message):
    return PluginError(pb.ERROR_CODE_INVALID, message)


def invalid_fields(fields):
    """An error about fields, given as pairs of name and message."""
    return PluginError(pb.ERROR_CODE_INVALID, "; ".join(f"{f}: {m}" if f else m for f, m in fields), fields=fields)


def corrupt(message, retryable=False):
    return PluginError(pb.ERROR_CODE_CORRUPT, message, retryable)


def interrupted():
    """The host has hung up. The flow may go on later."""
    return PluginError(pb.ERROR_CODE_UNAVAILABLE, "interrupted", retryable=True)


def failure(error, attempt, name):
    """Turns an error of the system into one that says what was attempted, on which name."""
    code = CODES.get(error.errno, pb.ERROR_CODE_UNSPECIFIED)
    retryable = code in (pb.ERROR_CODE_EXHAUSTED, pb.ERROR_CODE_UNAVAILABLE)
    return PluginError(code, f'{attempt} "{name}": {error.strerror}', retryable)


def clean(text):
    """Makes a text fit for a string field, which has to be UTF-8: a file name need not be."""
    return text.encode("utf-8", "replace").decode("utf-8")


def abort(context, error):
    """Ends a call with the error: its status for callers who look no further, and all of it as a detail."""
    message = error.to_proto()
    context.set_trailing_metadata([("grpc-status-details-bin", details(STATUS[error.code].value[0], message))])
    context.abort(STATUS[error.code], message.message)


def details(code, message):
    """The encoded google.rpc.Status {1: code, 2: message, 3: details}, where a detail is a google.protobuf.Any {1: type, 2: value}."""
    detail = field(1, b"type.googleapis.com/towpath.plugin.v1.Error") + field(2, message.SerializeToString())
    return b"\x08" + varint(code) + field(2, message.message.encode()) + field(3, detail)


def field(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)
