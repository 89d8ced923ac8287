"""Digests that can be put to rest in the middle of a part: CRC-32C by its value, SHA-256 by reading again what lies before."""

import hashlib

import google_crc32c
from towpath.plugin.v1 import plugin_pb2 as pb

from .identity import DIGESTS

CRC32C, SHA256 = pb.DIGEST_ALGORITHM_CRC32C, pb.DIGEST_ALGORITHM_SHA256
# What the plugin says it computes.
ALGORITHMS = [CRC32C, SHA256] if DIGESTS else []


class Digest:
    """Computes CRC-32C and, if it is wanted, SHA-256. size counts the bytes."""

    def __init__(self, wanted):
        self.size, self.crc = 0, 0
        self.sha = hashlib.sha256() if SHA256 in wanted and SHA256 in ALGORITHMS else None

    def update(self, data):
        self.size += len(data)
        if ALGORITHMS:
            self.crc = google_crc32c.extend(self.crc, data)
        if self.sha:
            self.sha.update(data)

    def values(self):
        out = {CRC32C: self.crc.to_bytes(4, "big")} if ALGORITHMS else {}
        if self.sha:
            out[SHA256] = self.sha.digest()
        return out

    def to_proto(self):
        return [pb.Digest(algorithm=a, value=v) for a, v in self.values().items()]

    def differs(self, announced):
        """Names an algorithm for which another value was announced, or returns None."""
        mine = self.values()
        for d in announced:
            if d.algorithm in mine and mine[d.algorithm] != d.value:
                return pb.DigestAlgorithm.Name(d.algorithm)
        return None
