"""Other network namespaces of this host with listeners: containers, say, which the rest of the report leaves out.

/proc/PID/net shows a namespace's sockets without entering it. What this user may not see is left out silently.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address

from tracer.doctor.model import Finding, Level, Topic, finding
from tracer.linux import netns
from tracer.linux.listening import Listening, listening
from tracer.linux.proc import PROC, open_files, pids, read_name_and_uid
from tracer.vocabulary.addresses import endpoint_text
from tracer.vocabulary.own_command import tfotrace
from tracer.vocabulary.printable import plural, printable

MOST = 64  # namespaces looked at
LONGEST_S = 2.0
_finding = partial(finding, Topic.LISTENERS)


@dataclass(frozen=True, slots=True)
class Example:
    """A listener in another namespace. `pid` owns it, and `name` is its name; else `pid` is any process there."""

    pid: int
    name: str | None
    listener: Listening


@dataclass(frozen=True, slots=True)
class Others:
    """`with_listeners` of the namespaces `looked_at` have some; `stopped` before all were looked at."""

    with_listeners: int
    looked_at: int
    example: Example | None
    stopped: bool


def look(most: int = MOST, longest_s: float = LONGEST_S) -> Others:
    """Look at all network namespaces that have a process, but the calling thread's."""
    until = time.monotonic() + longest_s
    members = _members(until)
    members.pop(netns.current(), None)
    looked_at = 0
    examples: list[tuple[Listening, list[int]]] = []  # a listener of each namespace that has some, and its processes
    for own in list(members.values())[:most]:
        if time.monotonic() > until:
            break
        looked_at += 1
        listeners = _listeners(own, until)
        if listeners:
            examples.append((min(listeners, key=_is_hidden), own))
    stopped = looked_at < len(members) or time.monotonic() > until
    example = _example(*min(examples, key=lambda item: _is_hidden(item[0])), until) if examples else None
    return Others(len(examples), looked_at, example, stopped)


def _members(until: float) -> dict[int, list[int]]:
    """Processes by the inode of their network namespace, the oldest first."""
    found: dict[int, list[int]] = {}
    for pid in sorted(pids()):
        if time.monotonic() > until:
            break
        with suppress(OSError):  # it has ended, or belongs to somebody else
            found.setdefault(os.stat(f"{PROC}/{pid}/ns/net").st_ino, []).append(pid)
    return found


def _listeners(members: Iterable[int], until: float) -> list[Listening]:
    for pid in members:
        if time.monotonic() > until:
            break
        with suppress(OSError):  # it has just ended: ask the next one
            return listening(f"{PROC}/{pid}/net")
    return []


def _is_hidden(listener: Listening) -> bool:
    """Nobody outside its namespace can reach it, so that it is a bad example."""
    return ip_address(listener.ip).is_loopback


def _example(listener: Listening, members: list[int], until: float) -> Example:
    file = f"socket:[{listener.inode}]"
    for pid in members:
        if time.monotonic() > until:
            break
        with suppress(OSError, ValueError):
            if any(name == file for _, name in open_files(pid)):
                return Example(pid, printable(read_name_and_uid(pid)[0]), listener)
    return Example(members[0], None, listener)


def findings(found: Others) -> Iterator[Finding]:
    """One sentence, if there is anything to say."""
    if found.example is None:
        if found.stopped:
            text = f"no listeners in {found.looked_at} other network namespaces; there are more, not looked at"
            yield _finding("other_namespaces", Level.INFO, text)
        return
    count, example = found.with_listeners, found.example
    place = endpoint_text(example.listener.ip, example.listener.port)
    who = f"{example.name} (pid {example.pid}) at {place}" if example.name is not None else place
    verb = "has" if count == 1 else "have"
    text = f"{count} other network {plural(count, 'namespace')} {verb} listeners, e.g. {who}"
    if found.stopped:
        text = f"at least {text}; doctor stopped looking after {found.looked_at}"
    yield _finding("other_namespaces", Level.INFO, text, tfotrace("doctor", "--netns", f"pid:{example.pid}"))
