"""The probe's own connections, traced by a run of this program: its JSON lines, found again by their 4-tuples."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from tempfile import TemporaryFile
from threading import Condition, Thread
from types import TracebackType
from typing import IO

import msgspec

from tracer.errors import ExitCode, TfotraceError
from tracer.linux import own_tree
from tracer.linux.parent import signal_at_parents_end
from tracer.linux.routes import leaves_by
from tracer.probe.model import Connection
from tracer.records.record import Handshake
from tracer.records.run import NoticeRecord
from tracer.vocabulary.addresses import sixteen_bytes

FILTERED_MAX = 60  # servers that a filter names; with more it names their ports
_HANDSHAKE, _NOTICE = b'"event":"handshake"', b'"event":"notice"'
_ANSWERED_S = 2.0  # a handshake that was answered has its record within 200 ms
_UNANSWERED_S = 5.0  # how much longer than a connection's timeout others may take
_KEPT = 10_000  # handshakes that belong to no connection so far
_END_S = 60.0

Tuple = tuple[tuple[str, int], tuple[str, int]]  # client, server


def packet_filter(servers: Iterable[tuple[str, int]]) -> str:
    """A tcpdump expression for SYNs to these servers: address and port."""
    ends = sorted(set(servers))
    if len(ends) > FILTERED_MAX:
        return " or ".join(f"tcp dst port {port}" for port in sorted({port for _, port in ends}))
    return " or ".join(f"(dst host {ip} and tcp dst port {port})" for ip, port in ends)


class Trace:
    """A run on some interfaces whose records can be asked for. A context; it begins with every program attached."""

    def __init__(self, interfaces: Sequence[str], expression: str, timeout_s: float) -> None:
        named = [word for name in interfaces for word in ("-i", name)]
        words = ["--json", "--filter", expression, "--response-timeout", f"{timeout_s:.3f}s"]
        self._unsafe = own_tree.warning()  # the probe says it, too
        self._errors = TemporaryFile("w+")  # noqa: SIM115 - closed with the rest
        # A session of its own: ctrl+c ends the probe, and the probe ends this. If the probe is killed while this begins
        # the signal ends it; later it sees within a second that nobody reads.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tracer", *named, *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True,
            preexec_fn=partial(_tied, os.getpid()),  # noqa: PLW1509 - there are no threads yet
        )  # fmt: skip
        self._changed = Condition()
        self._found: dict[Tuple, list[Handshake]] = defaultdict(list)
        self._reader: Thread | None = None
        self._ended = False
        self._notice = ""  # the last one

    def __enter__(self) -> Trace:
        """Raises TfotraceError with what the run complained of, where it cannot begin."""
        assert self._process.stdout is not None
        try:
            if not self._process.stdout.readline():  # the start record
                self._process.wait()
                raise self._failed()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self._reader = Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._reader is not None:
            self._reader.join(_END_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def check(self) -> None:
        """Raises TfotraceError if the run has ended before it was asked to."""
        if self._ended:
            self._process.wait()
            raise self._failed()

    def settle(self, connections: Sequence[Connection], timeout_s: float) -> None:
        """Give each of these its record, once it has come; those that were not answered take the longest.

        Raises TfotraceError if the run has ended.
        """
        all_answered = all(one.answered for one in connections)
        limit_s = _ANSWERED_S if all_answered else timeout_s + _UNANSWERED_S
        with self._changed:
            self._changed.wait_for(lambda: self._ended or all(map(self._has, connections)), limit_s)
            seen: dict[Tuple, int] = defaultdict(int)
            for one in connections:
                key = _key(one)
                # a port that was used again: records and connections are in the same order
                if key is not None and seen[key] < len(records := self._of(key)):
                    one.record = records[seen[key]]
                    seen[key] += 1
            for key in seen:
                self._found.pop(key, None)
        self.check()

    def _has(self, one: Connection) -> bool:
        key = _key(one)
        return key is None or bool(self._found.get(key))

    def _of(self, key: Tuple) -> list[Handshake]:
        """One record for each handshake: the last, which knows most."""
        by_id = {record.id: record for record in self._found.get(key, ())}
        return list(by_id.values())

    def _read(self, stream: IO[bytes]) -> None:
        decoder = msgspec.json.Decoder(Handshake)
        for line in stream:
            if _NOTICE in line:
                self._notice = msgspec.json.decode(line, type=NoticeRecord).text
            if _HANDSHAKE not in line:
                continue
            record = decoder.decode(line)
            with self._changed:
                key = ((record.client.ip, record.client.port), (record.server.ip, record.server.port))
                self._found[key].append(record)
                if len(self._found) > _KEPT:  # those of other programs, where the filter names only ports
                    del self._found[next(iter(self._found))]
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _failed(self) -> TfotraceError:
        """What the run said last, or first where it could not begin."""
        self._errors.seek(0)
        lines = [line for line in self._errors.read().splitlines() if line.startswith("tfotrace: ")]
        said = [text for line in lines if (text := line.removeprefix("tfotrace: ")) != self._unsafe]
        status = self._process.returncode
        words = self._notice or (said[0] if said else "")
        error = TfotraceError(words or f"the trace of the probe ended with status {status}")
        if status in list(ExitCode):
            error.exit_code = ExitCode(status) if status != ExitCode.OK else ExitCode.ENDED_EARLY
        return error


def _tied(parent: int) -> None:
    """In the new process: it ends with the probe."""
    signal_at_parents_end(signal.SIGTERM)
    if os.getppid() != parent:  # it was killed before
        os._exit(0)


def _key(one: Connection) -> Tuple | None:
    return None if one.source is None else (one.source, one.server)


def way_to(source: str, address: Sequence[str | int], port: int) -> str | None:
    """Name of the interface by which segments to a server leave; None if that is not known."""
    scope = address[3] if len(address) == 4 else 0
    index = int(scope) or leaves_by(_packed(source), 0, _packed(str(address[0])), port)
    with suppress(OSError):
        return socket.if_indextoname(index) if index else None
    return None


def _packed(ip: str) -> bytes:
    plain = ip.partition("%")[0]
    return sixteen_bytes(socket.inet_pton(socket.AF_INET6 if ":" in plain else socket.AF_INET, plain))
