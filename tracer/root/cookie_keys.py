"""Checks cookies against the traced namespace's keys, which only the root part may read.

The keys never leave this file: no message, record or text contains them. A cookie of a Linux server is SipHash-2-4 of
the client's and the server's address under its key (net/ipv4/tcp_fastopen.c, __tcp_fastopen_cookie_gen_cipher), eight
bytes, the lowest first.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tracer.ipc.messages import CookieQuestion
from tracer.linux.siphash import siphash24
from tracer.vocabulary.addresses import IPV4_MAPPED
from tracer.vocabulary.vocabulary import CookieCheck

SYSCTL = Path("/proc/sys/net/ipv4/tcp_fastopen_key")
READ_AGAIN_NS = 10_000_000
GENERATIONS = 8  # sets of keys to remember, for handshakes that settle later
_KEY_LEN = 16


def parse_keys(text: str) -> tuple[bytes, ...]:
    """The key and, after a comma, the backup key of sysctl tcp_fastopen_key: four words each, the lowest byte first.

    Empty if the text is not valid, or the kernel has not made a key yet (all zero).
    """
    keys = []
    for one in text.strip().split(","):
        words = one.split("-")
        try:
            key = b"".join(int(word, 16).to_bytes(4, "little") for word in words)
        except (ValueError, OverflowError):
            return ()
        if len(key) != _KEY_LEN or not any(key):
            return ()
        keys.append(key)
    return tuple(keys[:2])


def cookie(key: bytes, client: bytes, server: bytes) -> bytes:
    """The cookie of a key for two addresses of 16 bytes, IPv4 as ::ffff:a.b.c.d."""
    if client.startswith(IPV4_MAPPED):
        client, server = client[12:], server[12:]
    return siphash24(key, client + server).to_bytes(8, "little")


@dataclass(slots=True)
class _Generation:
    """Keys, and when they were first and last read (CLOCK_MONOTONIC, ns)."""

    keys: tuple[bytes, ...] = field(repr=False)
    first_ns: int
    last_ns: int


class CookieKeys:
    """The keys of this process's namespace, and those that it had a while ago."""

    def __init__(self, path: Path = SYSCTL, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._path = path
        self._clock = clock
        self._generations: deque[_Generation] = deque(maxlen=GENERATIONS)
        self.changes = 0  # how often the keys were others than before

    def read(self) -> None:
        """Read the keys, at most every READ_AGAIN_NS."""
        now = self._clock()
        latest = self._generations[-1] if self._generations else None
        if latest is not None and now - latest.last_ns < READ_AGAIN_NS:
            return
        try:
            keys = parse_keys(self._path.read_text())
        except (OSError, UnicodeDecodeError):
            keys = ()
        if latest is not None and keys == latest.keys:
            latest.last_ns = now
        else:
            self._generations.append(_Generation(keys, now, now))
            self.changes += 1

    def check(self, question: CookieQuestion) -> CookieCheck:
        """Judge the cookie that arrived by the keys of that time; call read() first.

        A listener may have keys of its own (TCP_FASTOPEN_KEY). So a cookie is called invalid only if the one that the
        server granted is of the namespace's key, which shows that the listener uses it.
        """
        verdicts = [_under(one.keys, question) for one in self._of(question.syn_ns)]
        if not verdicts:
            return CookieCheck.NONE
        # if the keys changed around that time, the cookie that the server granted shows which were in force
        proven = [verdict for verdict, proof in verdicts if proof]
        if proven:
            return proven[-1]
        found = {verdict for verdict, _ in verdicts}
        if len(found) == 1:
            return found.pop()
        if question.accepted and not question.given and CookieCheck.VALID in found:
            return CookieCheck.VALID
        return CookieCheck.NONE

    def _of(self, syn_ns: int) -> list[_Generation]:
        """The keys that may have been in force at that time."""
        # each from a moment after the last reading of its predecessor to a moment before its successor's first
        begins = [0, *(one.last_ns for one in self._generations)]
        ends = [*(one.first_ns for one in self._generations), math.inf][1:]
        spans = zip(self._generations, begins, ends, strict=False)
        return [one for one, begin, end in spans if begin <= syn_ns < end]


def _under(keys: tuple[bytes, ...], question: CookieQuestion) -> tuple[CookieCheck, bool]:
    """The verdict under these keys, and whether the cookie that the server granted proves that they were in force."""
    if not keys:
        return CookieCheck.NONE, False
    made = cookie(keys[0], question.client, question.server)
    if question.given not in (b"", made):
        return CookieCheck.NONE, False
    proof = bool(question.given)
    if question.cookie == made:
        return CookieCheck.VALID, proof
    if len(keys) > 1 and question.cookie == cookie(keys[1], question.client, question.server):
        return CookieCheck.VALID_BACKUP, proof
    # if the server took the data anyway, the listener needs no cookie (0x200), or has rules of its own
    return (CookieCheck.INVALID if proof and not question.accepted else CookieCheck.NONE), proof
