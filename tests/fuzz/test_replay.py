"""For any file, replay reads records or packets from it, or says in a sentence why not."""

from __future__ import annotations

import gzip
import os
import random
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.spoil import SEEDS_MAX, fuzzed, spoiled
from tests.support import captures
from tests.support.rows import golden
from tracer.cli import main as cli
from tracer.encode.composer import Composer
from tracer.errors import UsageError
from tracer.linux.libpcap import DUMP_HEADER
from tracer.records.record import SCHEMA
from tracer.records.run import Balance, End, NoticeRecord, Stats, Totals
from tracer.replay.feed import Feed
from tracer.replay.input import open_input
from tracer.replay.root_part import SLOT_SIZE, make_slots

_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=1)
def recordings() -> tuple[bytes, ...]:
    """Small recordings of every kind of record, plain and compressed; and bits of JSON that are none."""
    recorded = golden()
    composer = Composer(recorded.interfaces, show_cookies=True, offset_ns=recorded.start.boot_clock_offset_ns)
    handshakes = list(chain.from_iterable(composer.compose(batch) for batch in recorded.decoded()))
    ts = handshakes[-1].ts
    balance = Balance(3, 3, 0, 0, 0, 0, 3, 0)
    totals = Totals(0, {}, 0, 0, 0, {}, {}, {}, {}, 0.0, 0.0, 0.0)
    ends = [
        NoticeRecord(SCHEMA, ts, "losses", "none in truth", None),
        Stats(SCHEMA, ts, balance, {"opened": 3}, totals),
        End(SCHEMA, ts, "count", 0, 12.5, totals, balance, {"opened": 3}),
    ]
    plain = [
        b"".join(_encode(one) + b"\n" for one in (recorded.start, *handshakes[at : at + 3], *ends))
        for at in range(0, len(handshakes), max(1, len(handshakes) // 12))
    ]
    odd = [
        b'{"schema":1,"event":"stats","ts":"","balance":{}}\n' + plain[0],
        b"[" * 3000,
        b'{"a":' * 3000,
        b'"\\ud800"\n123456789012345678901234567890\n-0.0\n1e999\nnull\n\xef\xbb\xbf{}\n',
    ]
    return (*plain, *odd)


@lru_cache(maxsize=1)
def packed() -> tuple[bytes, ...]:
    """The recordings as gzip and Zstandard."""
    return tuple(pack(one) for one in recordings()[:6] for pack in (gzip.compress, zstandard.compress))


# Numbers and texts in the place of a value: what JSON allows and no record has.
VALUES = [
    b"-1", b"0", b"1e308", b"1e999", b"-0.0", b"0.5", b"255", b"256", b"65536", b"4294967296", b"9223372036854775808",
    b"18446744073709551616", b"1" + b"0" * 400, b"null", b"true", b'""', b'"x"', b"[]", b"{}", b'["eol","nop"]',
    b'"\\u0000"',
    b'"\\u202e\\u001b[31m"', '"２０２６-01-01T00:00:00.000000000Z"'.encode(), b'"9999-99-99T99:99:99.999999999Z"',
    b'"0000-01-01T00:00:00.000000000Z"', b'"2262-04-12T00:00:00.000000000Z"', b'"9999-12-31T23:59:59.999999999Z"',
    b'"::"', b'"fe80::1%1"', b'"1.2.3"', b'"::ffff:1.2.3.4"', b"[1,2,3]", b'["kind_256"]',
]  # fmt: skip


def with_other_values(line: bytes, number: int) -> bytes:
    """A line of JSON with some of its values, however deep, replaced."""
    pick = random.Random(number)
    try:
        tree = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return line
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(tree)
    for _ in range(pick.randint(1, 3)):
        if places:
            node, key = pick.choice(places)
            node[key] = msgspec.Raw(pick.choice(VALUES))
    return _encode(tree)


@contextmanager
def no_thread_fails() -> Iterator[None]:
    failed: list[Any] = []
    before = threading.excepthook
    threading.excepthook = failed.append
    try:
        yield
    finally:
        threading.excepthook = before
    assert not failed, failed


@contextmanager
def quiet() -> Iterator[Path]:
    """Send standard output and error to files in a separate folder."""
    with tempfile.TemporaryDirectory() as folder:
        saved = [os.dup(fd) for fd in (1, 2)]
        for fd, name in ((1, "out"), (2, "err")):
            new = os.open(Path(folder) / name, os.O_CREAT | os.O_RDWR | os.O_APPEND)
            os.dup2(new, fd)
            os.close(new)
        try:
            with (
                open(1, "w", closefd=False) as out,
                open(2, "w", closefd=False) as err,
                redirect_stdout(out),
                redirect_stderr(err),
            ):
                yield Path(folder)
        finally:
            for fd, old in zip((1, 2), saved, strict=True):
                os.dup2(old, fd)
                os.close(old)


def replay(data: bytes, *how: str) -> None:
    """Everything that comes of a recording is an exit code, records that are read again, and sentences."""
    with quiet() as folder:
        path = folder / "events"
        path.write_bytes(data)
        code = cli.main(["replay", str(path), *(how or ("--json",))])
        sys.stdout.flush()
        out, err = (folder / "out").read_bytes(), (folder / "err").read_text()
    assert code in (0, 2, 3, 4), code
    assert code or not how or how[0] != "--json" or all(msgspec.json.decode(line) for line in out.splitlines())
    assert code == 0 or err.startswith("tfotrace: ")
    assert "Traceback" not in err
    assert err.replace("\n", "").isprintable()


@given(st.integers(0, SEEDS_MAX))
@fuzzed()
def test_spoiled_recordings(number: int) -> None:
    replay(spoiled(recordings(), number))


@given(st.integers(0, SEEDS_MAX), st.sampled_from(["--json", "--text"]))
@fuzzed()
def test_recordings_with_other_values(number: int, how: str) -> None:
    lines = recordings()[number % 12].splitlines()
    at = number // 16 % len(lines)
    lines[at] = with_other_values(lines[at], number)
    replay(b"\n".join([*lines, *lines[:2]]), how)


@given(st.integers(0, SEEDS_MAX))
@fuzzed()
def test_spoiled_compressed_recordings(number: int) -> None:
    replay(spoiled(packed(), number))


@given(st.binary(max_size=300))
@fuzzed(0.5)
def test_any_bytes(data: bytes) -> None:
    replay(data)


# --- captures ---


@lru_cache(maxsize=1)
def capture_files() -> tuple[bytes, ...]:
    """Captures of every link type and byte order that is read, their packets out of order too."""
    packets = [*captures.handshake(), *captures.handshake(6, port=40001, vlans=(7,))]
    links = (captures.EN10MB, captures.RAW, captures.NULL, captures.SLL, captures.SLL2)
    found = [captures.pcap(link, packets[::way], nano=way < 0) for link in links for way in (1, -1)]
    found += [captures.pcapng(link, packets[::way]) for link in links for way in (1, -1)]
    found.append(captures.pcap(captures.EN10MB, packets, order=">", snaplen=40))
    found.append(captures.pcapng(captures.EN10MB, packets, names=("a", None, "b"), order=">"))
    return tuple(found)


@lru_cache(maxsize=1)
def slots() -> tuple[int, ...]:
    return make_slots()


def read_packets(data: bytes) -> None:
    """Read a whole capture into the slots, and make the messages for the root part."""
    with tempfile.NamedTemporaryFile() as file, no_thread_fails():
        file.write(data)
        file.flush()
        source = open_input(Path(file.name))
        try:
            feed = Feed(source, slots())
        except UsageError:
            source.close()
            return
        try:
            while feed.can_read:
                frames = feed.read()
                if frames is None:
                    continue
                assert DUMP_HEADER < frames.end <= SLOT_SIZE
                assert 0 <= frames.word < 1 << 32
                feed.done(frames.slot, 1)
            assert feed.is_over
            assert feed.damage is None or feed.damage.isprintable()
            assert all(one.name.isprintable() or one.name for one in feed.interfaces.values())
        finally:
            feed.close()
            source.close()


def test_every_link_type_is_read_or_refused() -> None:
    capture = capture_files()[0]
    for link in range(300):
        read_packets(capture[:20] + link.to_bytes(4, "little") + capture[24:])


@given(st.integers(0, SEEDS_MAX))
@fuzzed(2)
def test_spoiled_captures(number: int) -> None:
    read_packets(spoiled(capture_files(), number))


@given(st.integers(0, SEEDS_MAX))
@fuzzed()
def test_spoiled_compressed_captures(number: int) -> None:
    data = spoiled(capture_files(), number)
    read_packets(spoiled((gzip.compress(data), zstandard.compress(data)), number, 1))
