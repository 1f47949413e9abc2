"""The report: the JSON object of `tfotrace doctor --json`, from which the text is made too.

Durations are microseconds (`*_us`). Unknown values are null. It contains neither keys nor cookies.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import msgspec

from tracer.errors import ExitCode
from tracer.records.ends import Process
from tracer.records.types import Ip, MaybeIp, MaybeMicroseconds, Port, Timestamp, Version
from tracer.vocabulary.causes import CAUSES


class Level(str, Enum):
    """How much a finding matters. `info` states a fact without judgement, `unknown` what was not found out and why."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


class Topic(str, Enum):
    """The question that a finding answers."""

    TRACING = "tracing"
    SETTINGS = "settings"
    LISTENERS = "listeners"
    COOKIES = "cookies"
    COUNTERS = "counters"


class Finding(msgspec.Struct, frozen=True):
    """One answer: a word for programs, a sentence for people, and the command that would fix it or show more.

    `cause` is the tfo.cause that this gives to handshakes.
    """

    topic: Topic
    id: str
    level: Level
    text: str
    command: str | None = None
    interface: str | None = None
    prevents_tracing: bool = False
    cause: str | None = None


class HookReport(msgspec.Struct, frozen=True):
    """An interface: the hook that `--hook auto` would use and why (null: none works), and other programs on it."""

    name: str
    index: int
    hook: str | None
    why: str
    others: tuple[str, ...]


class Listener(msgspec.Struct, frozen=True):
    """A listening TCP socket. `fast_open` says only that TCP_FASTOPEN is set: the sysctl must allow it as well.

    `queue`: how many connections may wait in SYN_RECV with their data taken. `own_keys`: 0 (those of the namespace),
    1, or 2 (with a backup). `waiting` of `backlog` connections wait to be accepted. `processes` own the socket.
    Null means that the socket could not be read; `unknown_because` then says why.
    """

    ip: Ip
    port: Port
    uid: int
    processes: tuple[Process, ...]
    fast_open: bool | None
    queue: int | None
    own_keys: int | None
    no_cookie: bool | None
    waiting: int | None
    backlog: int | None
    unknown_because: str | None = None


class CachedServer(msgspec.Struct, frozen=True):
    """What this host, as a client, remembers about a server for Fast Open (tcp_metrics). `mss` is the server's."""

    server_ip: Ip
    client_ip: MaybeIp
    cookie_len: int
    mss: int | None
    syn_drops: int
    age_us: MaybeMicroseconds


class Report(msgspec.Struct, frozen=True, tag_field="event", tag="doctor"):
    """The whole report. `sysctls` and `counters` are those of the examined network namespace."""

    schema: Version
    ts: Timestamp
    version: str
    kernel: str
    root: bool
    netns: str | None
    findings: tuple[Finding, ...]
    interfaces: tuple[HookReport, ...]
    listeners: tuple[Listener, ...]
    cached_servers: tuple[CachedServer, ...]
    sysctls: dict[str, str]
    counters: dict[str, int]
    exit_code: int


def exit_code(findings: Iterable[Finding]) -> ExitCode:
    """3 if something prevents tracing, else 5 if there is another problem, else 0."""
    problems = [finding for finding in findings if finding.level is Level.PROBLEM]
    if any(finding.prevents_tracing for finding in problems):
        return ExitCode.CANNOT_TRACE
    return ExitCode.PROBLEM if problems else ExitCode.OK


def finding(
    topic: Topic, word: str, level: Level, text: str, command: str | None = None, cause: str | None = None
) -> Finding:
    """A finding; with `cause`, the usual sentence about what it causes and what to do follows the text."""
    text = f"{text}. {CAUSES[cause]}" if cause else text
    return Finding(topic, word, level, text, command, cause=cause)


def to_do(findings: Iterable[Finding]) -> str | None:
    """All settings that warnings and problems ask for, as one command; None if none does.

    What counters advise is left out: they tell of the past, so that following them does not end the advice.
    """
    settings: dict[str, dict[str, None]] = {}
    for finding in findings:
        before, sets, setting = (finding.command or "").partition("sysctl -w ")
        if sets and finding.level in (Level.WARNING, Level.PROBLEM) and finding.topic is not Topic.COUNTERS:
            settings.setdefault(before + sets, {})[setting] = None
    return "; ".join(sets + " ".join(words) for sets, words in settings.items()) or None


def some(names: Iterable[str], most: int = 8) -> str:
    """A list for a sentence: the first few names, and how many more there are."""
    found = list(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
