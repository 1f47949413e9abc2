"""Checks cookies against the keys of the traced namespace and its listeners, which only the root part may read.

The keys never leave this process: no message, record or text contains them. A cookie of a Linux server is SipHash-2-4
of the client's and the server's address under its key (net/ipv4/tcp_fastopen.c, __tcp_fastopen_cookie_gen_cipher),
eight bytes, the lowest first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tracer.ipc.messages import CookieQuestion
from tracer.linux.siphash import siphash24, siphash24_each
from tracer.root.key_history import KeyHistory, Keys
from tracer.vocabulary.addresses import IPV4_MAPPED
from tracer.vocabulary.vocabulary import CookieCheck, CookieOrigin

SYSCTL = Path("/proc/sys/net/ipv4/tcp_fastopen_key")
READ_AGAIN_NS = 10_000_000
COOKIE_LEN = 8
_KEY_LEN = 16

Listeners = Sequence[KeyHistory | None]


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
    return siphash24(key, _addresses(client, server)).to_bytes(COOKIE_LEN, "little")


def network_of(server: bytes) -> list[bytes]:
    """All addresses of an IPv4 address's /24."""
    return [server[:15] + bytes((last,)) for last in range(256)]


def _addresses(client: bytes, server: bytes) -> bytes:
    return client[12:] + server[12:] if client.startswith(IPV4_MAPPED) else client + server


def was_refused(question: CookieQuestion, check: CookieCheck) -> bool:
    """Whether the server took the cookie for a wrong one: it said so by giving another."""
    if question.accepted or check in (CookieCheck.VALID, CookieCheck.VALID_BACKUP):
        return False
    return check is CookieCheck.INVALID or question.given not in (b"", question.cookie)


@dataclass(frozen=True, slots=True)
class Others:
    """The own keys of all listeners of the namespace, as far as they are known. `complete`: that is all of them."""

    keys: Sequence[KeyHistory] = field(default=(), repr=False)
    complete: bool = False


class CookieKeys:
    """The keys of this process's namespace, and those that it had a while ago.

    A listener may have keys of its own (TCP_FASTOPEN_KEY), which apply instead: `listeners` are the histories of the
    sockets that listen for the SYN in question (listeners.py), None where one cannot be read.
    """

    def __init__(self, path: Path = SYSCTL, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._path = path
        self._clock = clock
        self._history = KeyHistory()
        self.changes = 0  # how often the keys were others than before

    def read(self) -> None:
        """Read the keys, at most every READ_AGAIN_NS."""
        now = self._clock()
        last = self._history.last_ns
        if last is not None and now - last < READ_AGAIN_NS:
            return
        try:
            keys = parse_keys(self._path.read_text())
        except (OSError, UnicodeDecodeError):
            keys = ()
        self.changes += self._history.add(keys, now)

    def check(self, question: CookieQuestion, listeners: Listeners = ()) -> CookieCheck:
        """Judge the cookie that arrived by the keys of that time; call read() first.

        A listener's own keys may not be known. So a cookie is called invalid only if the one that the server granted is
        of keys that we know, which shows that the listener uses them.
        """
        verdicts = [_under(keys, question) for keys in self._at(question.syn_ns, listeners)]
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

    def origin(
        self, question: CookieQuestion, check: CookieCheck, listeners: Listeners, others: Others, near: Iterable[bytes]
    ) -> CookieOrigin:
        """Whose cookie it is that was refused. `near`: addresses for which it may have been given instead.

        A match proves itself, for nobody guesses eight bytes. That it is nobody's here needs all keys: a namespace gets
        its key with the first listener that has Fast Open, so one that was without may have had one that we never saw.
        """
        may_be = [keys for keys in self._at(question.syn_ns, listeners) if keys]
        # those that made the cookie that the server gave
        proven = [keys for keys in may_be if cookie(keys[0], question.client, question.server) == question.given]
        in_force = list(dict.fromkeys(key for keys in proven or may_be for key in keys))
        if not in_force:
            return CookieOrigin.UNKNOWN
        earlier, elsewhere = self._not_in_force(question.syn_ns, in_force, listeners, others)
        ways = [
            *(
                (CookieOrigin.OTHER_SOCKET, key, question.server)
                for key in _of_the_group(question, listeners, in_force)
            ),
            *((CookieOrigin.EARLIER_KEY, key, question.server) for key in earlier),
            *((CookieOrigin.OTHER_LISTENER, key, question.server) for key in elsewhere),
            *((CookieOrigin.OTHER_ADDRESS, key, one) for key in in_force for one in near if one != question.server),
        ]
        made = siphash24_each([(key, _addresses(question.client, server)) for _, key, server in ways])
        wanted = int.from_bytes(question.cookie, "little") if len(question.cookie) == COOKIE_LEN else None
        for (origin, _, _), one in zip(ways, made, strict=True):
            if one == wanted:
                return origin
        sure = check is CookieCheck.INVALID and others.complete and None not in listeners and self._history.is_whole
        return CookieOrigin.NOT_OURS if sure else CookieOrigin.UNKNOWN

    def _not_in_force(
        self, syn_ns: int, in_force: list[bytes], listeners: Listeners, others: Others
    ) -> tuple[list[bytes], list[bytes]]:
        """Keys that were in force here before, and those of other listeners."""
        here = [one for one in listeners if one is not None]
        if self._applies(syn_ns, listeners):
            here.append(self._history)
        earlier: list[bytes] = []
        for one in here:
            # when exactly keys changed is not known, so those of just before may be among these
            then = [key for keys in one.at(syn_ns) for key in keys]
            if not set(then).isdisjoint(in_force):
                earlier += [*one.before(syn_ns), *then]
                if one is not self._history and one.had_none(syn_ns):  # then the namespace's keys were in force
                    earlier += self._history.all()
        elsewhere = [key for one in (*here, *others.keys, self._history) for key in one.all()]
        used = set(in_force)
        return [key for key in earlier if key not in used], [key for key in elsewhere if key not in used]

    def _at(self, syn_ns: int, listeners: Listeners) -> list[Keys]:
        """The keys that may have been in force at that time."""
        own = [keys for one in listeners if one is not None for keys in one.at(syn_ns) if keys]
        return list(dict.fromkeys([*own, *(self._history.at(syn_ns) if self._applies(syn_ns, listeners) else ())]))

    def _applies(self, syn_ns: int, listeners: Listeners) -> bool:
        """Whether the namespace's keys may apply: some listener has none of its own, or cannot be read."""
        return not listeners or not all(one is not None and all(one.at(syn_ns)) for one in listeners)


def _of_the_group(question: CookieQuestion, listeners: Listeners, in_force: list[bytes]) -> list[bytes]:
    """Keys that other sockets of the port have of their own, which did not make the cookie that the server gave."""
    own = [{key for keys in one.at(question.syn_ns) for key in keys} for one in listeners if one is not None]
    return [key for keys in own if keys.isdisjoint(in_force) for key in keys] if len(own) > 1 else []


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
