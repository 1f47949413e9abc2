"""Which listeners have Fast Open, with what queue, and which programs own them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

from tracer.doctor import sockets
from tracer.doctor.model import Finding, Level, Listener, Topic, finding, some
from tracer.doctor.settings import EVERY_LISTENER, SERVER, switch_on
from tracer.linux import listener_options
from tracer.linux.listener_options import ListenerOptions, Owner
from tracer.linux.listening import Listening, listening
from tracer.linux.proc import read_name_and_uid
from tracer.records.ends import Process
from tracer.vocabulary.addresses import endpoint_text
from tracer.vocabulary.own_command import tfotrace
from tracer.vocabulary.printable import printable

# At a round trip of 50 ms a queue of 4 takes 80 Fast Open connections per second, and stands no attack.
SMALL_QUEUE = 4
SHOWN_PROCESSES = 64
_finding = partial(finding, Topic.LISTENERS)

# How to configure these programs, from their manuals; bit 0x400 serves all others.
ASKS_BY = {
    "nginx": "nginx: listen ... fastopen=256;",
    "haproxy": "haproxy: bind ... tfo",
    "dnsdist": "dnsdist: addLocal(..., {tcpFastOpenQueueSize=256})",
}


def look() -> list[Listener]:
    """Every listening socket of this network namespace."""
    found = listening()
    owners, unseen = sockets.owners({item.inode for item in found})
    return [_listener(item, owners.get(item.inode, []), unseen) for item in found]


def _process(pid: int) -> Process | None:
    try:
        name, uid = read_name_and_uid(pid)
        return Process(pid, printable(name), uid)
    except (OSError, ValueError):
        return None  # it has just ended


def _listener(item: Listening, owners: list[Owner], unseen: bool) -> Listener:
    pids = sorted({pid for pid, _ in owners})[:SHOWN_PROCESSES]
    processes = tuple(process for process in map(_process, pids) if process is not None)
    facts, reason = _facts(item, owners, unseen)
    if facts is None:
        return Listener(item.ip, item.port, item.uid, processes, None, None, None, None, None, None, reason)
    return Listener(item.ip, item.port, item.uid, processes, fast_open=facts.queue > 0, **asdict(facts))


def _facts(item: Listening, owners: list[Owner], unseen: bool) -> tuple[ListenerOptions | None, str | None]:
    if not owners:
        if item.inode == 0:
            return None, "it belongs to the kernel"
        if unseen:
            return None, "this user may not inspect its process"
        return None, "no process visible from here owns it"
    reason = "its process closed it meanwhile"
    for owner in owners:
        try:
            facts = listener_options.ask(owner, item.inode)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES):
                reason = "reading a process's sockets needs root (CAP_SYS_PTRACE)"
            elif error.errno == errno.ENOSYS:
                reason = "reading another process's sockets needs Linux 5.6"
            elif error.errno != errno.ESRCH:
                reason = f"reading it failed: {error.strerror}"
            continue
        if facts is not None:
            return facts, None
    return None, reason


def name(listener: Listener) -> str:
    """`nginx 0.0.0.0:443` for a sentence."""
    who = listener.processes[0].name if listener.processes else "unknown process"
    return f"{who} {endpoint_text(listener.ip, listener.port)}"


def findings(found: list[Listener], bits: int | None, prefix: str) -> Iterator[Finding]:
    """What the listeners and the sysctl say together."""
    if not found:
        yield _finding("none", Level.INFO, "no TCP socket listens here")
        return
    unknown = [item for item in found if item.fast_open is None]
    on = [item for item in found if item.fast_open]
    off = [item for item in found if item.fast_open is False]
    if on:
        yield _on(on, len(found), bits, prefix)
        yield from _peculiar(on, bits)
    if off:
        yield _off(off, bool(on or unknown), bits)
    full = [item for item in found if item.backlog and item.waiting is not None and item.waiting > item.backlog]
    if full:
        text = f"the accept queue of {_names(full)} is full, so SYNs are dropped: the program accepts too slowly"
        yield _finding("accept_queue_full", Level.WARNING, text)
    if unknown:
        why = some(sorted({str(item.unknown_because) for item in unknown}))
        text = f"{len(unknown)} of {len(found)} listening sockets could not be read: {why}"
        yield _finding("not_asked", Level.UNKNOWN, text, tfotrace("doctor") if os.geteuid() else None)


def _names(listeners: list[Listener]) -> str:
    """Name each once: with SO_REUSEPORT a program has many sockets at one address."""
    return some(dict.fromkeys(map(name, listeners)))


def _on(on: list[Listener], total: int, bits: int | None, prefix: str) -> Finding:
    if bits is not None and not bits & SERVER:
        text = f"Fast Open is set on {_names(on)} but has no effect there"
        return _finding("set_but_off", Level.PROBLEM, text, switch_on(prefix, bits), "server_disabled")
    text = f"{len(on)} of {total} listening sockets have Fast Open: {_names(on)}"
    return _finding("on", Level.OK, text)


def _peculiar(on: list[Listener], bits: int | None) -> Iterator[Finding]:
    small = [item for item in on if item.queue is not None and item.queue <= SMALL_QUEUE]
    if small:
        text = (
            f"a short Fast Open queue ({min(item.queue or 0 for item in small)}) at {_names(small)}: while that many "
            "clients have yet to send their ACK, it takes no data from other SYNs; raise TCP_FASTOPEN in the program"
        )
        yield _finding("short_queue", Level.WARNING, text, _advice(small))
    keyed = [item for item in on if item.own_keys]
    if keyed:
        text = f"own keys are set on {_names(keyed)}; the sysctl's key does not apply there"
        yield _finding("own_key", Level.INFO, text)
    cookieless = [item for item in on if item.no_cookie]
    if cookieless and bits is not None and bits & SERVER:
        text = (
            f"data is taken without a cookie, even from forged addresses (TCP_FASTOPEN_NO_COOKIE): {_names(cookieless)}"
        )
        yield _finding("no_cookie", Level.WARNING, text)


def _off(off: list[Listener], others: bool, bits: int | None) -> Finding:
    text = f"without Fast Open: {_names(off)}"
    if bits is None or not bits & SERVER:
        return _finding("off", Level.INFO, text)
    if bits & EVERY_LISTENER:
        text += (
            "; opened before bit 0x400 of net.ipv4.tcp_fastopen was set, or with a backlog of 0: restart the program"
        )
        return _finding("off", Level.INFO, text)
    # bit 0x400 would serve them, but not only them: that is said in words, and left to the reader
    if others:
        return _finding("off", Level.INFO, text, _advice(off))
    return _finding("off", Level.WARNING, text, _advice(off), "listener_disabled")


def _advice(listeners: list[Listener]) -> str | None:
    """How to configure the programs, where we know it."""
    names = {process.name for item in listeners for process in item.processes}
    return "; ".join(ASKS_BY[name] for name in sorted(names & ASKS_BY.keys())) or None
