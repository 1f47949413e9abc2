"""Recorded JSON lines come back unchanged; other lines are reported by number and skipped."""

from __future__ import annotations

import gzip
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zstandard

from tests.support.events import event_dtype
from tests.support.rows import golden, parts_of, records_of
from tracer.aggregate.benefit import BenefitTable
from tracer.cli import main as cli
from tracer.encode.composer import Composer
from tracer.filters.fields import FIELDS
from tracer.handshake.rows import Coded, Rows
from tracer.records.ends import Process
from tracer.records.record import SCHEMA, Handshake
from tracer.records.run import Balance, End, NoticeRecord, Record, Start, Stats, Totals
from tracer.replay.columns import BLOCK_ROWS, ROW, BatchBuilder, RecordedComposer
from tracer.replay.input import open_input
from tracer.replay.lines import LINE_MAX, Bad, parse
from tracer.replay.progress import Progress
from tracer.replay.records import RecordReplay
from tracer.run.fanout import Fanout
from tracer.run.stop import StopRequest
from tracer.store.chunks import StoreRows
from tracer.store.store import Store
from tui.screens.detail import raw_options

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode
TOTALS = Totals(0, {}, 0, 0, 0, {}, {}, {}, {}, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def handshakes() -> list[Handshake]:
    """The recorded lab as records: every outcome and result there is."""
    recorded = golden()
    composer = Composer(recorded.interfaces, show_cookies=True, offset_ns=recorded.start.boot_clock_offset_ns)
    found = list(chain.from_iterable(composer.compose(batch) for batch in recorded.decoded()))
    tfo = msgspec.structs.replace(
        found[5].tfo, cause="packet_loss", cause_confidence="possible", cookie_check="valid_backup"
    )
    owner = msgspec.structs.replace(found[6].client, process=Process(4711, "curl", 1000, "/user.slice"))
    found[5] = msgspec.structs.replace(found[5], tfo=tfo)
    found[6] = msgspec.structs.replace(found[6], client=owner)
    found[7] = msgspec.structs.replace(found[7], through=("vxlan", "gre"))
    return found


@pytest.fixture(scope="module")
def whole_run(handshakes: list[Handshake]) -> bytes:
    """A run as --json writes it."""
    ts = handshakes[-1].ts
    balance = Balance(len(handshakes), len(handshakes), 0, 0, 0, 0, len(handshakes), 0)
    records: list[Record] = [
        golden().start,
        *handshakes,
        NoticeRecord(SCHEMA, ts, "losses", "none in truth", None),
        Stats(SCHEMA, ts, balance, {"opened": len(handshakes)}, TOTALS),
        End(SCHEMA, ts, "count", 0, 12.5, TOTALS, balance, {"opened": len(handshakes)}),
    ]
    return b"".join(_encode(record) + b"\n" for record in records)


def replay_json(path: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, str, list[str]]:
    """Exit code, standard output, the sentences on standard error."""
    code = cli.main(["replay", str(path), "--json"])
    said = capfd.readouterr()
    return code, said.out, said.err.splitlines()


def test_a_whole_recording_comes_out_as_it_went_in(
    whole_run: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(whole_run)
    code, out, said = replay_json(path, capfd)
    assert code == 0
    assert out.encode() == whole_run
    assert said[0].startswith("tfotrace: 1,311 handshakes in 12.5 s: 1,171 established, ")
    assert said[-1].endswith("nothing lost")


def test_the_benefit_of_a_recording_that_was_cut_is_that_of_the_run(
    whole_run: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    of_the_run = BenefitTable()
    for batch in golden().decoded():
        of_the_run.add(batch)
    expected = of_the_run.benefits()
    assert len(expected) >= 4
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(whole_run.splitlines(keepends=True)[:-1]))
    _, out, said = replay_json(path, capfd)
    end = _decode(out.splitlines()[-1])
    assert isinstance(end, End)
    assert {(one.ip, one.port) for one in end.benefits} == {(one.ip, one.port) for one in expected}
    for found in end.benefits:
        (own,) = (one for one in expected if (one.ip, one.port) == (found.ip, found.port))
        assert found.difference == own.difference
        numbers, of_the_run_ = (msgspec.structs.astuple(one)[2:-1] for one in (found, own))
        assert numbers == pytest.approx(of_the_run_, rel=1e-3, abs=0.01)
    assert any("first response of " in line and " with Fast Open: " in line for line in said)
    assert not any("nothing lost" in line for line in said)
    assert "not known" in said[-1]
    assert end.balance is None
    path.write_text(out)  # and a replay of the replay knows no more
    _, again, said = replay_json(path, capfd)
    assert again == out
    assert "not known" in said[-1]


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_compressed_files_and_every_other_form(
    compress: Callable[[bytes], bytes], whole_run: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, copy = tmp_path / "events", tmp_path / "copy.jsonl"
    half = len(whole_run) // 2
    path.write_bytes(compress(whole_run[:half]) + compress(whole_run[half:]))  # several members, as appending makes
    assert cli.main(["replay", str(path), "--text", "-w", str(copy)]) == 0
    _, _, *lines = capfd.readouterr().out.splitlines()
    assert len(lines) == sum(isinstance(_decode(line), Handshake) for line in whole_run.splitlines())
    assert copy.read_bytes() == whole_run


def test_standard_input(whole_run: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(whole_run)
    kept = os.dup(0)
    with path.open("rb") as file:
        os.dup2(file.fileno(), 0)
    try:
        code, out, _ = replay_json(Path("-"), capfd)
    finally:
        os.dup2(kept, 0)
        os.close(kept)
    assert code == 0
    assert out.encode() == whole_run


def test_a_silent_pipe_keeps_nobody(whole_run: bytes) -> None:
    """A signal ends a replay of standard input even while nothing comes: a normal end, with the summary."""
    command = [sys.executable, "-m", "tracer", "replay", "-", "--text"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            process.stdin.write(b"".join(whole_run.splitlines(keepends=True)[:2]))
            process.stdin.flush()
            assert process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
        assert b"1 handshake in " in process.stderr.read()


def test_what_is_no_record_is_told_and_skipped(
    whole_run: bytes, handshakes: list[Handshake], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = whole_run.splitlines()
    newer = lines[1].replace(b'"schema":1', b'"schema":2')
    damaged = lines[1].replace(b'"result":"established"', b'"result":"\\u001b[31m"')
    hostile = lines[1].replace(b'"ip":"', b'"ip":"\\u001b]0;', 1)
    lines[3:3] = [newer, b'{"a":1}', b"", damaged, hostile, b"\xff\xfe", b"[" * 5000, b"x" * (2 * LINE_MAX)]
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n" + lines[2][:200])
    code, out, said = replay_json(path, capfd)
    assert code == 0
    found = [_decode(line) for line in out.splitlines()]
    assert [one for one in found if isinstance(one, Handshake)] == handshakes
    assert isinstance(found[-1], End)
    told = "\n".join(said)
    assert "line 4 has a newer schema than this version reads (1)" in told
    assert "lines 5, 9, 10 and 1 more: each is no record of tfotrace" in told
    assert "lines 7, 8: each is a damaged record" in told
    assert f"line {len(lines) + 1} is cut off" in told


@pytest.mark.parametrize("name", ["rtt_us", "synack_delay_us", "connect_us", "first_response_us"])
@pytest.mark.parametrize("value", [b"1e300", b"-5", b"1e12"])
def test_a_duration_beyond_its_range_is_damage(
    name: str, value: bytes, whole_run: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = whole_run.splitlines()
    at = next(at for at, line in enumerate(lines) if re.search(rb'"%s":\d' % name.encode(), line))
    lines[at] = re.sub(rb'"%s":[\d.]+' % name.encode(), b'"%s":%s' % (name.encode(), value), lines[at])
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    code, _, said = replay_json(path, capfd)
    assert code == 0
    assert f"line {at + 1} is a damaged record" in "\n".join(said)


def test_several_runs_become_one(whole_run: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.jsonl"
    lines = whole_run.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[2:4]) + whole_run + b"".join(lines[:10]))  # rotated, whole, killed
    code, out, said = replay_json(path, capfd)
    assert code == 0
    found = [_decode(line) for line in out.splitlines()]
    assert [type(one) for one in found].count(Start) == 1
    assert [type(one) for one in found].count(End) == 1
    assert isinstance(found[0], Start)
    end = found[-1]
    assert isinstance(end, End)
    assert end.totals.handshakes == 2 + len(lines) - 4 + 9
    assert end.balance is None  # two of the three did not say theirs
    assert sum(isinstance(one, NoticeRecord) and one.kind == "another_run" for one in found) == 2
    assert any("2 of 3 runs have no end record" in line for line in said)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"{}\n", "holds no record of tfotrace"),
        (b"a,b,c\n1,2,3\n", "holds no record of tfotrace"),
        (b"\x7fELF\x02\x01\x01" + bytes(64), "is neither recorded events"),
        (gzip.compress(b"x" * 100, mtime=0)[:10], "is empty"),
    ],
)
def test_files_without_records_are_refused_with_a_sentence(
    content: bytes, says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    code, out, said = replay_json(path, capfd)
    assert (code, out) == (2, "")
    assert says in said[-1]


@pytest.mark.parametrize(
    "words", [("--local", "192.0.2.1"), ("--table-size", "100"), ("--response-timeout", "1"), ("--filter", "tcp")]
)
def test_options_of_captures_are_wrong_usage(
    words: tuple[str, ...], whole_run: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(whole_run)
    assert cli.main(["replay", str(path), "--json", *words]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert words[0] in said.err
    assert len(said.err.splitlines()) == 1


def test_files_that_cannot_be_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path, says in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        code, _, said = replay_json(path, capfd)
        assert code == 2
        assert says in said[-1]


def test_files_of_one_run_are_one_run(whole_run: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = whole_run.splitlines(keepends=True)
    goes_on = _encode(NoticeRecord(SCHEMA, golden().start.ts, "continued", "the run goes on", None)) + b"\n"
    second = _encode(msgspec.structs.replace(golden().start, part=2)) + b"\n"
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join([*lines[:50], goes_on, second, *lines[50:]]))
    code, out, said = replay_json(path, capfd)
    assert code == 0
    assert out.encode() == b"".join([*lines[:50], goes_on, *lines[50:]])
    assert not any("end record" in line for line in said)


def test_what_is_read_is_not_written_over(whole_run: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(whole_run)
    assert cli.main(["replay", str(path), "--json", "-w", str(path)]) == 2
    assert "name another file" in capfd.readouterr().err
    assert path.read_bytes() == whole_run


def test_count_ends_it(whole_run: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(whole_run)
    assert cli.main(["replay", str(path), "--text", "--count", "7"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 2 + 7


def test_rows_have_every_field_of_the_struct() -> None:
    def names(dtype: np.dtype[np.void]) -> dict[str, object]:
        assert dtype.fields is not None
        found: dict[str, object] = {}
        for name, (kind, *_) in dtype.fields.items():
            inner, shape = kind.subdtype if kind.subdtype is not None else (kind, ())
            found[name] = (shape, names(inner) if inner.fields else inner)
        return found

    ours = names(ROW)
    assert ours.pop("row") == ((), np.dtype("<u8"))
    assert ours == names(event_dtype())


def replayed(lines: bytes, tmp_path: Path, keep: int) -> Store:
    """A store after a replay, as the dashboard has it."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(lines)
    rows = BatchBuilder()
    composer = RecordedComposer(rows.interfaces, keep)
    store = Store(keep, composer=composer, clock=lambda: rows.settled_ns, refresh_ns=0)
    source = open_input(path)
    fanout = Fanout([], lambda _: None)
    fanout.observe(store)
    run = RecordReplay([source], composer, rows, fanout, (), StopRequest())
    assert run.run() == 0
    source.close()
    return store


def parts(store: Store) -> Iterator[tuple[Rows, list[Handshake]]]:
    rows = store.snapshot().rows
    assert isinstance(rows, StoreRows)
    begin = 0
    for part in parts_of(rows):
        yield part, rows.gather(np.arange(begin, begin + len(part)))
        begin += len(part)


def test_columns_say_what_the_records_say(whole_run: bytes, tmp_path: Path) -> None:
    for part, records in parts(replayed(whole_run, tmp_path, 100_000)):
        for field in FIELDS.values():
            column = field.column(part)
            if isinstance(column, Coded):
                values = [column.values[code] for code in column.codes.tolist()]
            else:
                values = [None if value != value else value for value in column.tolist()]
            assert values == [field.of(record) for record in records], field.name


def test_the_store_gives_records_back(whole_run: bytes, handshakes: list[Handshake], tmp_path: Path) -> None:
    store = replayed(whole_run, tmp_path, 100_000)
    snapshot = store.snapshot()
    assert records_of(snapshot.rows) == handshakes
    assert snapshot.totals.handshakes == len(handshakes)
    assert snapshot.ended is not None
    # the clock is the recording's, which took less than a minute
    assert 0 < snapshot.taken_ns - snapshot.started_ns < 60_000_000_000
    first = raw_options(snapshot.rows, 0, handshakes[0])
    assert [option.name for option in first.syn] == list(handshakes[0].syn.options)
    assert not any("invalid" in option.text for option in first.syn)


def test_the_oldest_records_are_forgotten(whole_run: bytes, handshakes: list[Handshake], tmp_path: Path) -> None:
    rows = BatchBuilder()
    composer = RecordedComposer(rows.interfaces, BLOCK_ROWS)
    lines = [_encode(one) for one in handshakes]
    batches = []
    for _ in range(4):
        batch, bad = rows.batch(handshakes)
        assert not bad
        composer.add(batch, handshakes, lines)
        batches.append(batch)
    assert list(composer.compose(batches[-1])) == handshakes
    # what only the record knew is lost, what the columns hold is not
    for old, record in zip(composer.compose(batches[0]), handshakes, strict=True):
        assert (old.id, old.ts, old.tfo.outcome, old.handshake) == (
            record.id, record.ts, record.tfo.outcome, record.handshake,
        )  # fmt: skip


def test_numbers_beyond_their_range_are_damage(handshakes: list[Handshake]) -> None:
    one = handshakes[0]
    change = msgspec.structs.replace
    broken = [
        change(one, client=change(one.client, port=65536)),
        change(one, client=change(one.client, port=-1)),
        change(one, syn=change(one.syn, seq=1 << 32)),
        change(one, syn=change(one.syn, options=("nop",) * 41)),
        change(one, syn=change(one.syn, options=("\x1b[31m",))),
        change(one, ts="9999-99-99T00:00:00.000000000Z"),
        change(one, ts="0001-01-01T00:00:00.000000000Z"),
        change(one, vlan=(1, 2, 3)),
        change(one, server=change(one.server, ip="fe80::1%\x1b[31m")),
        change(one, handshake=change(one.handshake, first_response_us=1e300)),
        change(one, tfo=change(one.tfo, outcome="splendid")),
        change(one, community_id="\x1b[31m"),
    ]
    batch, bad = BatchBuilder().batch([one, *broken, one])
    assert bad == list(range(1, len(broken) + 1))
    assert len(batch) == 2


def test_parse_tells_apart() -> None:
    assert parse(b"") is Bad.FOREIGN
    assert parse(b'{"schema":1,"event":"handshake"}') is Bad.INVALID
    assert parse(b'{"schema":1,"event":"party"}') is Bad.FOREIGN
    assert parse(b'{"schema":7,"event":"party"}') is Bad.NEWER
    assert parse(b'{"schema":true,"event":"start"}') is Bad.FOREIGN


def test_progress_is_drawn_and_taken_away() -> None:
    stream = io.StringIO()
    progress = Progress(200, "packets", stream)
    progress.show(50, 1234)
    assert " 25%  1,234 packets" in stream.getvalue()
    progress.clear()
    assert stream.getvalue().endswith("\r\x1b[K")
    silent = replace(progress, stream=None)
    silent.show(100, 1)
    silent.clear()
