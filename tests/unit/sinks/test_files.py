"""Files of -w: each can be read alone, up to the last flush, however it ended; nothing is lost between two."""

from __future__ import annotations

import gzip
import io
import json
import os
import pty
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.support.rows import INTERFACES, golden, golden_parts
from tracer.cli import quantities
from tracer.encode.composer import Composer
from tracer.errors import EndedEarlyError, UsageError
from tracer.handshake.batch import Batch, decode
from tracer.handshake.syn_payloads import SynPayloads
from tracer.handshake.vantage import LocalSet
from tracer.sinks import targets
from tracer.sinks.files import OutputFile
from tracer.sinks.jsonl import JsonLines
from tracer.sinks.targets import Compression, Rotation, target

SUFFIXES = [".jsonl", ".jsonl.gz", ".jsonl.zst"]


def batches() -> list[Batch]:
    payloads = SynPayloads.of(golden().payloads)
    return [decode(events, LocalSet(), payloads) for events in golden_parts()]


def readable(path: Path) -> bytes:
    """What of a file can be read, complete or not."""
    data = path.read_bytes()
    out = bytearray()
    if path.suffix == ".gz":
        with gzip.open(io.BytesIO(data)) as reader:
            try:
                while chunk := reader.read1(1000):
                    out += chunk
            except EOFError:
                pass
    elif path.suffix == ".zst":
        while data:
            frame = zstandard.ZstdDecompressor().decompressobj()
            out += frame.decompress(data)
            data = frame.unused_data
    else:
        out += data
    return bytes(out)


def output(path: Path, rotation: Rotation | None = None) -> OutputFile:
    file = OutputFile(target(path), rotation)
    file.begin(lambda part: b"head %d\n" % part, lambda: b"tail\n")
    return file


def finished(path: Path) -> list[Path]:
    return sorted((one for one in path.parent.iterdir() if one != path), key=lambda one: int(readable(one).split()[1]))


# --- names ---


@pytest.mark.parametrize(
    ("name", "compression", "stem", "suffix"),
    [
        ("events.jsonl", Compression.NONE, "events", ".jsonl"),
        ("events.jsonl.gz", Compression.GZIP, "events", ".jsonl.gz"),
        ("my.events.jsonl.zst", Compression.ZSTD, "my.events", ".jsonl.zst"),
        ("events", Compression.NONE, "events", ""),
        ("events.gz", Compression.GZIP, "events", ".gz"),
        (".jsonl", Compression.NONE, ".jsonl", ""),
    ],
)
def test_a_name_says_what_is_written(name: str, compression: Compression, stem: str, suffix: str) -> None:
    one = target(Path("/somewhere") / name)
    assert (one.compression, one.stem, one.suffix) == (compression, stem, suffix)


def test_a_file_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(UsageError, match="named twice"):
        targets.targets([tmp_path / "a", tmp_path / "b"])
    assert len(targets.targets([tmp_path / "a", tmp_path / "c", Path("/dev/full"), Path("/dev/full")])) == 4


def test_old_pcap_is_refused_with_the_name_to_take() -> None:
    with pytest.raises(UsageError, match=r"trace\.pcapng"):
        target(Path("trace.pcap"))


def test_keep_alone_means_nothing() -> None:
    with pytest.raises(UsageError, match="--rotate-keep"):
        targets.rotation(None, None, 3)
    assert targets.rotation(None, None, None) is None


def test_a_named_pipe_wants_a_reader(tmp_path: Path) -> None:
    """Without a reader, opening it would block for ever, even against signals."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(UsageError, match="nobody reads from"):
        output(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        file = output(path)
        file.write(b"{}\n")
        assert os.read(reader, 10).endswith(b"{}\n")
        file.close()
    finally:
        os.close(reader)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (quantities.size, "1", 1),
        (quantities.size, "10k", 10240),
        (quantities.size, "100M", 100 << 20),
        (quantities.size, "2G", 2 << 30),
        (quantities.seconds, "90", 90),
        (quantities.seconds, "30m", 1800),
        (quantities.seconds, "1d", 86400),
        (quantities.seconds, "1.5h", 5400),
    ],
)
def test_quantities(parse: Callable[[str], int], text: str, value: int) -> None:
    assert parse(text) == value


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5M", "M", "1 M", "1X", "1e3", "٣", "1 X"])
@pytest.mark.parametrize("parse", [quantities.size, quantities.seconds])
def test_no_quantities(parse: Callable[[str], int], text: str) -> None:
    with pytest.raises(Exception, match="is no"):
        parse(text)


# --- what can be read ---


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_flushed_can_be_read_while_the_file_grows(tmp_path: Path, suffix: str) -> None:
    file = output(tmp_path / f"f{suffix}")
    expected = b"head 1\n"
    for number in range(50):
        assert readable(tmp_path / f"f{suffix}") == expected
        line = b"line %d %s\n" % (number, os.urandom(50).hex().encode())
        file.write(line)
        file.tick()
        expected += line
    file.close()
    assert readable(tmp_path / f"f{suffix}") == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_anywhere_is_readable_up_to_a_flush_before_the_cut(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"f{suffix}"
    file = output(path)
    flushed = [(path.stat().st_size, len(b"head 1\n"))]
    whole = b"head 1\n"
    for number in range(30):
        line = b"%d %s\n" % (number, os.urandom(40).hex().encode())
        file.write(line)
        file.tick()
        whole += line
        flushed.append((path.stat().st_size, len(whole)))
    data = path.read_bytes()
    for size in range(flushed[0][0], len(data)):
        path.write_bytes(data[:size])
        promised = max(length for at, length in flushed if at <= size)
        got = readable(path)
        assert len(got) >= promised, size
        assert whole.startswith(got)


@pytest.mark.parametrize(("program", "suffix"), [("gzip", ".gz"), ("zstd", ".zst")])
def test_the_usual_programs_read_a_file_that_was_opened_twice(tmp_path: Path, program: str, suffix: str) -> None:
    path = tmp_path / f"f{suffix}"
    file = output(path)
    file.write(b"one\n")
    file.reopen()
    file.write(b"two\n")
    file.close()
    out = subprocess.run([program, "-dc", path], capture_output=True, check=True, timeout=30).stdout
    assert out == b"head 1\none\ntail\nhead 2\ntwo\n"


def test_records_are_whole_in_every_form(tmp_path: Path) -> None:
    composer = Composer(INTERFACES)
    texts = []
    for suffix in SUFFIXES:
        path = tmp_path / f"f{suffix}"
        sink = JsonLines(OutputFile(target(path)), composer)
        sink.start(golden().start)
        for batch in batches():
            sink.write(batch)
        sink.close(None)
        texts.append(readable(path))
    assert texts[0] == texts[1] == texts[2]
    kinds = [json.loads(line)["event"] for line in texts[0].splitlines()]
    assert kinds[0] == "start"
    assert kinds[1:] == ["handshake"] * sum(map(len, batches()))


# --- rotation and SIGHUP ---


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_by_size_every_file_begins_with_a_head_and_nothing_is_lost(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"f{suffix}"
    file = output(path, Rotation(size=300))
    lines = [b"%d %s\n" % (number, os.urandom(30).hex().encode()) for number in range(40)]
    for line in lines:
        file.write(line)
        file.tick()
    file.close()
    files = [*finished(path), path]
    assert len(files) > 5
    texts = [readable(one) for one in files]
    assert [text.splitlines()[0] for text in texts] == [b"head %d" % (i + 1) for i in range(len(texts))]
    assert all(text.endswith(b"\ntail\n") for text in texts[:-1])
    assert not texts[-1].endswith(b"\ntail\n")
    inner = [line for text in texts for line in text.splitlines(keepends=True) if line[:4] not in (b"head", b"tail")]
    assert inner == lines
    assert all(one.name.endswith(suffix) for one in files)
    if suffix == ".jsonl":
        assert max(one.stat().st_size for one in files) <= 300 + len(b"tail\n")


def test_only_the_newest_stay_and_nothing_else_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    strangers = ["f.jsonl.1", "f.20261123T114000Z.jsonl.gz", "g.20261123T114000Z.jsonl", "f.old.jsonl"]
    for name in strangers:
        (tmp_path / name).write_text("mine")
    (tmp_path / "f.19991231T235959Z.jsonl").write_text("of an earlier run")
    file = output(path, Rotation(size=1, keep=2))
    for number in range(6):
        file.write(b"%d\n" % number)
    file.close()
    assert all((tmp_path / name).read_text() == "mine" for name in strangers)
    left = [one for one in tmp_path.iterdir() if one.name not in strangers]
    assert sorted(one.read_text() for one in left) == ["head 4\n3\ntail\n", "head 5\n4\ntail\n", "head 6\n5\n"]


def test_what_an_earlier_run_left_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text("precious")
    os.utime(path, (0, 0))
    output(path, Rotation(size=1000)).close()
    assert (tmp_path / "f.19700101T000000Z.jsonl").read_text() == "precious"
    output(path).close()
    assert path.read_text() == "head 1\n"  # without rotation a file is emptied, as ever


def test_by_time_a_file_with_nothing_in_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("tracer.sinks.files.time.monotonic", lambda: now)
    path = tmp_path / "f.jsonl"
    file = output(path, Rotation(seconds=60))
    now += 61
    file.tick()
    assert finished(path) == []
    file.write(b"x\n")
    file.tick()
    assert [one.read_text() for one in finished(path)] == ["head 1\nx\ntail\n"]
    now += 59
    file.write(b"y\n")
    file.tick()
    assert len(finished(path)) == 1
    file.close()


def test_a_file_that_was_moved_away_is_followed_by_a_new_one(tmp_path: Path) -> None:
    path, moved = tmp_path / "f.jsonl", tmp_path / "f.jsonl.1"
    file = output(path)
    file.write(b"one\n")
    path.rename(moved)
    file.write(b"two\n")
    file.reopen()
    file.write(b"three\n")
    file.close()
    assert moved.read_bytes() == b"head 1\none\ntwo\ntail\n"
    assert path.read_bytes() == b"head 2\nthree\n"


def test_reopening_never_empties_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    file = output(path)
    file.write(b"one\n")
    file.reopen()
    file.close()
    assert path.read_bytes() == b"head 1\none\ntail\nhead 2\n"


def test_a_file_emptied_by_somebody_has_no_hole(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    file = output(path)
    file.write(b"one\n")
    os.truncate(path, 0)  # logrotate's copytruncate
    file.write(b"two\n")
    file.close()
    assert path.read_bytes() == b"two\n"


def test_a_pipe_is_no_file_to_rotate() -> None:
    read_end, write_end = os.pipe()
    with pytest.raises(UsageError, match="not a regular file"):
        OutputFile(target(Path(f"/proc/self/fd/{write_end}")), Rotation(size=100))
    file = output(Path(f"/proc/self/fd/{write_end}"))
    file.reopen()  # there is no name to go back to
    file.close()
    os.close(write_end)
    assert os.read(read_end, 100) == b"head 1\n"
    os.close(read_end)


# --- what can go wrong ---


def test_a_folder_of_the_files_name_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    path, told = tmp_path / "f.jsonl", list[str]()
    file = OutputFile(target(path), Rotation(size=40), tell=told.append)
    file.begin(lambda part: b"head %d\n" % part, lambda: b"tail\n")
    file.write(b"one" * 5 + b"\n")
    moved = path.rename(tmp_path / "moved")
    path.mkdir()
    (path / "precious").write_text("of somebody else")
    for word in (b"two", b"three", b"four"):
        file.write(word * 9 + b"\n")
    file.reopen()
    assert (path / "precious").exists()
    assert [line.partition(" is a folder now")[0] for line in told] == [str(path)] * 2  # once to rotate, once to reopen
    file.write(b"five\n")
    file.close()
    lines = moved.read_bytes().splitlines()
    assert lines == [b"head 1", b"one" * 5, b"two" * 9, b"three" * 9, b"four" * 9, b"five"]


def test_a_folder_named_like_a_finished_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "f.20200101T000000Z.jsonl").mkdir()
    file = OutputFile(target(tmp_path / "f.jsonl"), Rotation(size=10, keep=1))
    file.begin(lambda part: b"head %d\n" % part, lambda: b"tail\n")
    for _ in range(4):
        file.write(b"a line of its own\n")
    file.close()
    assert (tmp_path / "f.20200101T000000Z.jsonl").is_dir()
    assert len(list(tmp_path.glob("f*.jsonl"))) == 3


def test_a_folder_that_went_away_is_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = output(folder / "f.jsonl", Rotation(size=1))
    file.write(b"x\n")
    (folder / "f.jsonl").unlink()
    folder.rmdir()
    with pytest.raises(EndedEarlyError, match=r"cannot rotate .*f\.jsonl: No such file or directory"):
        file.write(b"y\n")


def test_reopening_where_one_may_not_is_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = output(folder / "f.jsonl")
    (folder / "f.jsonl").unlink()
    folder.rmdir()
    with pytest.raises(EndedEarlyError, match=r"cannot write to .*f\.jsonl: No such file or directory"):
        file.reopen()


def test_the_last_line_of_a_full_disk_is_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    file = output(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        file.write(b"x" * 50 + b"\n")
        with pytest.raises(EndedEarlyError, match="File too large"):
            file.write(b"y" * 99 + b"\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"head 1\n" + b"x" * 50 + b"\n"


def test_an_input_output_error_is_a_sentence() -> None:
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    file = output(Path(name))
    os.close(master)  # what is written to a terminal that hung up fails with EIO
    with pytest.raises(EndedEarlyError, match=f"cannot write to {name}: Input/output error"):
        file.write(b"x\n")
    os.close(slave)


# --- SIGHUP means two things ---

_HANGS_UP = """
import os, signal, sys, time
from tracer.run.stop import StopRequest
stop = StopRequest(reopens=sys.argv[1] == "files")
stop.install()
os.kill(os.getpid(), signal.SIGHUP)
asked = stop.reopen
print("asked" if asked else "ended", flush=True)
for line in sys.stdin:
    break
if asked:
    stop.reopen = False
    os.write(3, b"w")
    deadline = time.monotonic() + 30
    while stop.reason is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.write(3, (stop.reason or "nothing").encode())
"""


def test_sighup_reopens_files_until_the_terminal_has_gone(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    pid, terminal = pty.fork()
    if pid == 0:
        os.dup2(write_end, 3)
        os.execv(sys.executable, [sys.executable, "-c", _HANGS_UP, "files"])
    os.close(write_end)
    assert os.read(terminal, 100).strip() == b"asked"
    os.write(terminal, b"go on\n")
    assert os.read(read_end, 1) == b"w"
    os.close(terminal)
    assert os.read(read_end, 100) == b"SIGHUP"
    os.close(read_end)
    os.waitpid(pid, 0)


def test_sighup_ends_a_run_without_files() -> None:
    out = subprocess.run(
        [sys.executable, "-c", _HANGS_UP, "none"], stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=30
    )
    assert out.stdout == b"ended\n"


def test_a_file_for_cookies_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("")
    path.chmod(0o664)  # from an earlier run
    OutputFile(target(path), private=True).close()
    assert path.stat().st_mode & 0o777 == 0o600
    OutputFile(target(Path("/dev/null")), private=True).close()
    assert Path("/dev/null").stat().st_mode & 0o777 == 0o666
