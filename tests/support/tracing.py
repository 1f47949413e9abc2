"""The real command as a subprocess: start it, wait for its output, end it, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import msgspec

from tests.support.netbox import wait_until
from tests.support.patience import LONG_S, PATIENCE_S
from tracer.loader import cache
from tracer.records.record import Handshake
from tracer.records.run import End, NoticeRecord, Start, Stats

CHECKOUT = Path(__file__).resolve().parents[2]
# For tests of what is inferred where the kernel says nothing; test_kernel_words.py has what it says.
INFERRING = "--no-kernel-reasons"
COMMAND = (sys.executable, "-I", "-m", "tracer")
# Root's files stay readable, so that a checkout in root's home can be run; nothing else of root is left.
NOT_ROOT = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+dac_read_search",
            "--ambient-caps=+dac_read_search"]  # fmt: skip
# what a run leaves in its run directory on purpose (tracer/loader/cache.py)
KEPT_PROGRAMS = "programs"

Record: TypeAlias = Start | Handshake | Stats | NoticeRecord | End
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record, strict=True)

# The file system of the caller, but with a /run/tfotrace of its own: runs of others, and what they clean up, are not
# mixed with the test's.
_OWN_RUN_DIR = 'mkdir -p /run/tfotrace && mount --rbind "$0" /run/tfotrace && exec "$@"'
# Compiling takes seconds, in emulation minutes (vagrant/kernels/guest.sh): all runs share what was compiled.
_SHARED_PROGRAMS = os.environ.get("TFOTRACE_TEST_PROGRAMS", str(cache.DIRECTORY))
_BIND_PROGRAMS = (
    f'mkdir -p -m 700 "$0/{KEPT_PROGRAMS}" "{_SHARED_PROGRAMS}" && '
    f'mount --bind "{_SHARED_PROGRAMS}" "$0/{KEPT_PROGRAMS}" && '
)


def decode(line: bytes) -> Record:
    """One line as the record that it is; fails on a wrong type, an unknown event, bad UTF-8."""
    return _decoder.decode(line.decode("utf-8"))


def with_run_dir(directory: Path) -> list[str]:
    """Prefix of a command that sees `directory` as /run/tfotrace; `directory` must belong to root alone.

    Only the compiled programs in it are those of all runs.
    """
    directory.mkdir(mode=0o755, exist_ok=True)
    script = _BIND_PROGRAMS + _OWN_RUN_DIR
    return ["unshare", "--mount", "--propagation", "slave", "--", "sh", "-c", script, str(directory)]


@dataclass(frozen=True)
class Finished:
    """A command that has ended without a signal."""

    code: int
    out: bytes
    err: str

    @property
    def said(self) -> list[str]:
        return self.err.splitlines()


def one_sentence(done: Finished, code: int, *words: str) -> None:
    """Has it ended with this code, having said nothing but one sentence, with these words in it?"""
    assert done.code == code, done
    assert done.out == b""
    assert len(done.said) == 1, done.err
    assert done.err.startswith("tfotrace: ")
    assert done.said[0].isprintable()
    for word in words:
        assert word in done.err


def run(
    *words: str,
    prefix: Sequence[str] = (),
    command: Sequence[str] = COMMAND,
    env: Mapping[str, str] | None = None,
    stdout: int | IO[bytes] = subprocess.PIPE,
    patience_s: float = LONG_S,  # the first run with its options compiles
) -> Finished:
    """Run to the end, for at most `patience_s`; kill what is left."""
    process = _popen([*prefix, *command, *words], env, stdout)
    try:
        out, err = process.communicate(timeout=patience_s)
    finally:
        _kill_session(process)
    return Finished(process.returncode, out or b"", err.decode())


def _popen(words: list[str], env: Mapping[str, str] | None, stdout: int | IO[bytes]) -> subprocess.Popen[bytes]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SUDO_")}
    return subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**plain, **(env or {})},
        start_new_session=True,
        cwd="/",
    )


def session_of(pid: int) -> int:
    """Session of a process; -1 if there is none of that number, or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] in "ZX" else int(fields[3])


def members(session: int) -> list[int]:
    """Living processes of a session."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and session_of(int(name)) == session]


def kill_at_once(pids: Sequence[int]) -> None:
    """End processes by SIGKILL before one of them can see that another has gone."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a session that _popen() began, by the ids of its processes."""
    for pid in members(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


class Run:
    """A running tfotrace and what it has written so far."""

    def __init__(
        self, words: Sequence[str], prefix: Sequence[str], command: Sequence[str], env: Mapping[str, str] | None
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tfotest-"))
        self.folder.chmod(0o1777)  # --user writes there as well
        self.ready_file = self.folder / "ready"
        self.lines: list[bytes] = []
        self.arrivals: list[int] = []  # when each line was read, ns since the epoch
        self.said: list[str] = []
        self._changed = threading.Condition()
        words = [str(word).replace("{folder}", str(self.folder)) for word in words]
        whole = [*prefix, *command, *words, "--ready-file", str(self.ready_file)]
        self.process = _popen(whole, env, subprocess.PIPE)
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._on_line), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self._on_words), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    # --- reading ---

    def _read(self, stream: IO[bytes], on_line: Callable[[bytes], None]) -> None:
        for line in stream:
            with self._changed:
                on_line(line)
                self._changed.notify_all()

    def _on_line(self, line: bytes) -> None:
        self.arrivals.append(time.time_ns())
        self.lines.append(line)

    def _on_words(self, line: bytes) -> None:
        self.said.append(line.decode().rstrip("\n"))

    @property
    def records(self) -> list[Record]:
        """Every JSON line so far, decoded."""
        return [decode(line) for line in list(self.lines)]

    @property
    def handshakes(self) -> list[Handshake]:
        return [record for record in self.records if isinstance(record, Handshake)]

    @property
    def notices(self) -> list[NoticeRecord]:
        return [record for record in self.records if isinstance(record, NoticeRecord)]

    @property
    def start(self) -> Start:
        """The first record: written soon after the ready file."""
        first = self.wait_for(lambda _: True, "the first record")
        assert isinstance(first, Start)
        return first

    @property
    def end(self) -> End:
        """The last record of a run that has ended."""
        last = self.records[-1]
        assert isinstance(last, End), last
        return last

    def wait_for(self, match: Callable[[Record], bool], what: str, seconds: float = PATIENCE_S) -> Record:
        """The first record that matches, once it has come."""
        deadline = time.monotonic() + seconds
        seen = 0
        with self._changed:
            while True:
                for line in self.lines[seen:]:
                    seen += 1
                    record = decode(line)
                    if match(record):
                        return record
                left = deadline - time.monotonic()
                assert left > 0, f"not within {seconds} s: {what}; {self.said}"
                assert self.process.poll() is None or self._still_reading(), f"it ended before: {what}; {self.said}"
                self._changed.wait(min(left, 0.1))

    def _still_reading(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def wait_handshake(self, match: Callable[[Handshake], bool] = lambda _: True) -> Handshake:
        """The first handshake that matches."""
        found = self.wait_for(lambda record: isinstance(record, Handshake) and match(record), "a handshake record")
        assert isinstance(found, Handshake)
        return found

    def wait_port(self, port: int, interface: str | None = None) -> Handshake:
        """The handshake that came from this client port."""
        return self.wait_handshake(
            lambda one: one.client.port == port and (interface is None or one.interface == interface)
        )

    def wait_notice(self, kind: str) -> NoticeRecord:
        found = self.wait_for(lambda record: isinstance(record, NoticeRecord) and record.kind == kind, f"notice {kind}")
        assert isinstance(found, NoticeRecord)
        return found

    # --- processes ---

    @property
    def user_part(self) -> int:
        """Process id of the part that people see; a command prefix executes, so it keeps the id."""
        return self.process.pid

    @property
    def root_part(self) -> int:
        """Process id of the part that attaches."""
        (child,) = Path(f"/proc/{self.user_part}/task/{self.user_part}/children").read_text().split()
        return int(child)

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.said
            return self.ready_file.exists()

        wait_until(ready, "the ready file", LONG_S)  # the first one with its options compiles

    def wait_end(self, seconds: float = PATIENCE_S) -> int:
        """The exit code, after the command has ended and all its output is read."""
        code = self.process.wait(seconds)
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "somebody still holds its output open"
        return code

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        return self.wait_end()

    def clean_up(self) -> None:
        _kill_session(self.process)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()


@contextmanager
def starting(*words: str, prefix: Sequence[str] = (), command: Sequence[str] = COMMAND) -> Iterator[Run]:
    """tfotrace that has just been started."""
    run = Run(words, prefix, command, None)
    try:
        yield run
    finally:
        run.clean_up()


@contextmanager
def tracing(
    *words: str,
    prefix: Sequence[str] = (),
    command: Sequence[str] = COMMAND,
    env: Mapping[str, str] | None = None,
) -> Iterator[Run]:
    """tfotrace with every program attached; "{folder}" in a word is a folder that anybody may write to."""
    run = Run(words, prefix, command, env)
    try:
        run.wait_ready()
        yield run
    finally:
        run.clean_up()


def assert_balanced(end: End) -> None:
    """The balance sheet of DESIGN.md section 5, with nothing open and every record received."""
    sheet = end.balance
    assert sheet is not None
    assert sheet.opened == sheet.emitted + sheet.lost + sheet.evicted + sheet.suppressed + sheet.still_open
    assert sheet.still_open == 0
    assert sheet.received == sheet.emitted
