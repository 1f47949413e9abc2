"""Which sockets of the traced namespace listen for a SYN, and their Fast Open options.

The sockets of a port are asked for anew each time. Their options can be read only of a descriptor, so the process that
has it is looked for in slices between other work (socket_owners.py), and remembered. Without CAP_SYS_PTRACE, or before
Linux 5.6, no options are read; doctor says so, this does not.
"""

from __future__ import annotations

import ipaddress
import math
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from tracer.linux import listener_options, sock_diag
from tracer.linux.listening import listening
from tracer.linux.modules import Modules
from tracer.linux.proc import PROC
from tracer.linux.sock_diag import Listener
from tracer.root.key_history import KeyHistory
from tracer.root.socket_owners import SHARE, SLICE_S, WANTED_MAX, Holder, Scan
from tracer.vocabulary.addresses import IPV4_MAPPED, sixteen_bytes

OPTIONS_HELD = 4096
PORTS_HELD = 256
SOCKETS_MAX = 512  # that are read at a time
AGAIN_NS = 50_000_000  # what was read is good for so long
ALL_MAX = 1024  # listening sockets, to know them all
ALL_AGAIN_NS = 1_000_000_000
OTHERS_AGAIN_NS = 10_000_000_000  # so long is good what was read of sockets that are not asked about
LOOK_AGAIN_NS = 10_000_000_000  # so long, a socket that nobody seems to have is not looked for again
HOLDERS_TRIED = 8
SHORT_S, SHORT_SCANS = 0.05, 4
_ANY, _ANY_V4 = bytes(16), IPV4_MAPPED + bytes(4)


def that_listen(found: list[Listener], server: bytes) -> list[Listener] | None:
    """Those of a port's listeners that may get a SYN for this address; None if it is not known whether any does.

    As __inet_lookup_listener and inet6_lookup_listener choose: the address itself before the wildcard, an IPv4 socket
    before one of IPv6 that takes IPv4 too, and all of a SO_REUSEPORT group alike. A socket that is bound to a device
    may come first, or not be asked at all: we do not know by which interface the stack got the SYN. One of which that
    is not known may be such a socket.
    """
    v4 = server.startswith(IPV4_MAPPED)
    ranks: dict[int, list[Listener]] = {}
    bound: list[tuple[int, Listener]] = []
    unknown = False
    for one in found:
        exact = one.address == server
        if not exact and one.address != _ANY and not (v4 and one.address == _ANY_V4):
            continue
        if v4 and one.address == _ANY and one.v6only is not False:
            unknown |= one.v6only is None
            continue
        rank = 2 * (not exact) + (v4 and one.family == socket.AF_INET6)
        if one.device != 0:
            bound.append((rank, one))
        else:
            ranks.setdefault(rank, []).append(one)
    if not ranks:
        return None if bound or unknown else []
    best = min(ranks)
    return ranks[best] + [one for rank, one in bound if rank <= best | 1]


@dataclass(slots=True)
class _Options:
    """What a listening socket's copy said. `keys` are its own, none where the namespace's apply."""

    holder: Holder
    queue: int | None = None
    waiting: tuple[int, int] | None = None  # to be accepted, and the backlog
    defers: bool | None = None
    v6only: bool | None = None
    device: int = 0
    read_ns: int | None = None
    keys: KeyHistory = field(default_factory=KeyHistory, repr=False)


class Listeners:
    """The listening sockets of this process's namespace."""

    def __init__(
        self, modules: Modules | None = None, proc: str = PROC, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._modules = modules if modules is not None else Modules()
        self._proc = proc
        self._clock = clock
        self._ports: OrderedDict[int, tuple[int, list[Listener]]] = OrderedDict()
        self._all: tuple[int, set[int] | None] | None = None
        self._known: OrderedDict[int, _Options] = OrderedDict()
        self._nobody: OrderedDict[int, int] = OrderedDict()  # when we looked for it
        self._wanted: set[int] = set()
        self._scan: Scan | None = None
        self._found: dict[int, list[Holder]] = {}
        self.key_changes = 0  # how often a listener was seen to have own keys, or others than before
        self._not_before = 0.0
        self._short_scans: list[float] = []
        self._may_copy: bool | None = None
        self._text_not_before = 0.0

    # --- sockets ---

    def read(self, ports: Iterable[int]) -> None:
        """Read who listens on these ports, so that at() knows: PORTS_HELD at most."""
        now = self._clock()
        missing = [port for port in sorted(set(ports)) if self._known_at(port, now) is None][:PORTS_HELD]
        if not missing or not self._modules.present(sock_diag.MODULE):
            return
        with suppress(OSError):
            sockets = sock_diag.listeners(missing, SOCKETS_MAX)
            if sockets is None:
                return  # at() tries each port alone
            found: dict[int, list[Listener]] = {port: [] for port in missing}
            for one in sockets:
                found[one.port].append(one)
            for port, some in found.items():
                self._ports[port] = (now, some)
                self._ports.move_to_end(port)
            while len(self._ports) > PORTS_HELD:
                self._ports.popitem(last=False)

    def at(self, port: int, until_ns: int) -> list[Listener] | None:
        """The sockets that listen on a port; None if that is not known and cannot be read until then."""
        now = self._clock()
        found = self._known_at(port, now)
        if found is None and now < until_ns:
            self.read([port])
            found = self._known_at(port, now)  # however long that took
            if found is None and not self._modules.present(sock_diag.MODULE):
                found = self._read_text(port)
        return None if found is None else [self._completed(one, until_ns) for one in found]

    def _completed(self, one: Listener, until_ns: int) -> Listener:
        """With what /proc does not say and the socket's copy does."""
        if one.device is not None or self._clock() >= until_ns:
            return one
        options = self._options(one.inode)
        return one if options is None else replace(one, v6only=options.v6only, device=options.device)

    def _known_at(self, port: int, now_ns: int) -> list[Listener] | None:
        known = self._ports.get(port)
        return known[1] if known is not None and now_ns - known[0] < AGAIN_NS else None

    def _read_text(self, port: int) -> list[Listener] | None:
        # /proc has them, too, and takes a hundred times as long
        began = time.monotonic()
        if began < self._text_not_before:
            return None
        try:
            lines = listening(port=port)
        except OSError:
            return None
        ended = time.monotonic()
        self._text_not_before = ended + SHARE * (ended - began)
        found = [_from_text(one.ip, one.port, one.inode) for one in lines if one.port == port]
        self._ports[port] = (self._clock(), found)
        return found

    def _all_inodes(self, again_ns: int) -> set[int] | None:
        """Every listening socket; None if there are too many to know them all."""
        now = self._clock()
        if self._all is None or now - self._all[0] >= again_ns:
            self._all = (now, None)
            with suppress(OSError):
                if self._modules.present(sock_diag.MODULE):
                    self._all = (now, sock_diag.listening_inodes(ALL_MAX))
                else:
                    inodes = {one.inode for one in listening(limit=ALL_MAX + 1)}
                    self._all = (now, inodes if len(inodes) <= ALL_MAX else None)
        return self._all[1]

    # --- options ---

    def queue(self, inode: int) -> int | None:
        """The length of the socket's Fast Open queue; None if that is not known yet."""
        options = self._options(inode)
        return options.queue if options is not None else None

    def defers(self, inode: int) -> bool | None:
        """Has it TCP_DEFER_ACCEPT? None if that is not known yet."""
        options = self._options(inode)
        return options.defers if options is not None else None

    def with_queue(self, one: Listener) -> Listener:
        """The same with its accept queue; /proc does not have that, and the socket's copy does."""
        options = self._options(one.inode) if one.queued is None else None
        if options is None or options.waiting is None:
            return one
        queued, backlog = options.waiting
        return replace(one, queued=queued, backlog=backlog)

    def nobody_else(self, found: list[Listener]) -> bool:
        """Is it known that no other socket listens, as far as somebody has looked lately?"""
        inodes = self._all_inodes(ALL_AGAIN_NS)
        return inodes is not None and inodes <= {one.inode for one in found}

    def own_keys(self, inode: int) -> KeyHistory | None:
        """The socket's own keys, with empty ones where the namespace's apply; None if that is not known yet."""
        options = self._options(inode)
        return options.keys if options is not None else None

    def all_keys(self, until_ns: int, again_ns: int = OTHERS_AGAIN_NS) -> tuple[dict[int, KeyHistory], bool]:
        """The own keys of every listening socket by inode, and whether these are all.

        What was read less than `again_ns` ago is good. Reads until `until_ns` at most.
        """
        inodes = self._all_inodes(min(again_ns, ALL_AGAIN_NS))
        known: dict[int, KeyHistory] = {}
        for inode in inodes or ():
            if self._clock() >= until_ns:
                break
            options = self._options(inode, again_ns)
            if options is not None:
                known[inode] = options.keys
        return known, inodes is not None and len(known) == len(inodes)

    def _options(self, inode: int, again_ns: int = AGAIN_NS) -> _Options | None:
        """Known options, read anew where they are old; None, and looked for, where nothing is known."""
        now = self._clock()
        known = self._known.get(inode)
        if known is not None and known.read_ns is not None and now - known.read_ns < again_ns:
            return known
        if known is not None and self._fill(known, inode, now):
            self._known.move_to_end(inode)
            return known
        self._known.pop(inode, None)
        if self._may_copy is None:
            self._may_copy = listener_options.may_be_copied()
        looked = now - self._nobody.get(inode, -LOOK_AGAIN_NS) < LOOK_AGAIN_NS
        if inode and self._may_copy and not looked and len(self._wanted) < WANTED_MAX:
            self._wanted.add(inode)
        return None

    def _fill(self, options: _Options, inode: int, now_ns: int) -> bool:
        holder = options.holder
        try:
            found = listener_options.of_copy(
                (holder.pid, holder.fd), inode,
                lambda copy: (
                    listener_options.queue(copy), listener_options.own_keys(copy),
                    listener_options.v6only(copy), listener_options.bound_device(copy),
                    listener_options.waiting(copy), listener_options.defers(copy),
                ),
            )  # fmt: skip
        except OSError:
            return False
        if found is None:
            return False
        options.queue, keys, options.v6only, options.device, options.waiting, options.defers = found
        first, options.read_ns = options.read_ns is None, now_ns
        if options.keys.add(keys or (), now_ns) and (keys or not first):
            self.key_changes += 1
        return True

    # --- between other work ---

    def advance(self) -> None:
        """Do a slice of the search for processes."""
        began = time.monotonic()
        while self._found and time.monotonic() - began < SLICE_S:
            self._take(*self._found.popitem())
        if self._found:
            return
        if self._scan is None:
            if not self._wanted or began < self._not_before:
                return
            self._scan, self._wanted = Scan(self._wanted, self._proc), set()
        if self._scan.advance(SLICE_S):
            self._found, spent_s, self._scan = self._scan.found, self._scan.spent_s, None
            self._not_before = self._pause_until(time.monotonic(), spent_s)

    def _pause_until(self, now: float, spent_s: float) -> float:
        """A scan is followed by none for SHARE times its length, but a few short ones a second by the next at once."""
        if spent_s < SHORT_S:
            self._short_scans = [at for at in self._short_scans if now - at < 1] + [now]
            if len(self._short_scans) <= SHORT_SCANS:
                return now
        return now + SHARE * spent_s

    def search(self, until_ns: int) -> None:
        """Go on with the search until all is found that was wanted, until then at most."""
        while (wait_s := self.wait_s()) * 1e9 < until_ns - self._clock():
            time.sleep(wait_s)
            self.advance()

    def _take(self, inode: int, holders: list[Holder]) -> None:
        """Keep the first process that lets us copy its socket; all of them have the same one."""
        now = self._clock()
        for holder in holders[:HOLDERS_TRIED]:
            options = _Options(holder)
            if self._fill(options, inode, now):
                self._known[inode] = options
                while len(self._known) > OPTIONS_HELD:
                    self._known.popitem(last=False)
                return
        self._nobody[inode] = now
        self._nobody.move_to_end(inode)
        while len(self._nobody) > OPTIONS_HELD:
            self._nobody.popitem(last=False)

    def wait_s(self) -> float:
        """In how many seconds advance() has something to do."""
        if self._scan is not None or self._found:
            return 0.0
        return max(0.0, self._not_before - time.monotonic()) if self._wanted else math.inf


def _from_text(ip: str, port: int, inode: int) -> Listener:
    address = ipaddress.ip_address(ip)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return Listener(family, sixteen_bytes(address.packed), port, inode, None, None)
