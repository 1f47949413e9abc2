"""Output fails in sentences: a closed pipe is a normal end, a full disk a failure, nothing is cut in the middle."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from tracer.errors import EndedEarlyError, UsageError
from tracer.sinks import stream as stream_module
from tracer.sinks.base import SinkClosedError
from tracer.sinks.stream import Stream


def test_everything_is_written_however_small_the_pipe() -> None:
    read_end, write_end = os.pipe()
    data = os.urandom(1 << 20)
    got = bytearray()

    def read() -> None:
        while chunk := os.read(read_end, 65536):
            got.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    stream = Stream(write_end, "pipe")
    stream.write(data)
    stream.close()
    reader.join()
    os.close(read_end)
    assert bytes(got) == data


def test_a_reader_that_left_is_no_failure() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pytest.raises(SinkClosedError):
        Stream(write_end, "pipe").write(b"x")
    os.close(write_end)


def test_a_full_disk_is_one() -> None:
    stream = Stream.create(Path("/dev/full"))
    with pytest.raises(EndedEarlyError, match="cannot write to /dev/full: No space left"):
        stream.write(b"x")
    stream.close()


def test_a_file_that_cannot_be_made_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory"):
        Stream.create(tmp_path / "missing" / "file")


def test_a_reader_that_left_is_noticed_without_writing() -> None:
    read_end, write_end = os.pipe()
    stream = Stream(write_end, "pipe")
    stream.check()
    os.close(read_end)
    with pytest.raises(SinkClosedError):
        stream.check()
    os.close(write_end)


def pipe_of(size: int) -> tuple[int, int]:
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, size)
    return read_end, write_end


def read_to_the_end(read_end: int) -> bytes:
    got = bytearray()
    while chunk := os.read(read_end, 1 << 20):
        got += chunk
    os.close(read_end)
    return bytes(got)


def test_a_reader_who_stops_holds_nobody_up_and_gets_everything_when_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_module, "TURN_S", 0.01)
    read_end, write_end = pipe_of(4096)
    stream = Stream(write_end, "pipe", live=True)
    lines = [b"%7d\n" % number for number in range(10_000)]
    for line in lines:
        stream.write(line)  # would block for ever at the 513th
    assert not stream.is_full()
    assert os.get_blocking(write_end)  # of whoever else has the pipe
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read_to_the_end(read_end)))
    reader.start()
    stream.tick()
    stream.write(b"last\n")
    stream.close()
    reader.join()
    assert got == [b"".join([*lines, b"last\n"])]


def test_what_waits_is_bounded_and_its_loss_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("TURN_S", 0.01), ("LAST_TURN_S", 0.01)):
        monkeypatch.setattr(stream_module, name, seconds)
    monkeypatch.setattr(stream_module, "WAITING_MAX", 10_000)
    read_end, write_end = pipe_of(4096)
    stream = Stream(write_end, "pipe", live=True)
    stream.write(bytes(4096 + 9_999))
    assert not stream.is_full()
    stream.write(b"x")
    assert stream.is_full()
    os.read(read_end, 4096)
    stream.tick()
    assert not stream.is_full()
    with pytest.raises(EndedEarlyError, match="stopped reading, so the last 5904 bytes are lost"):
        stream.close()
    os.close(read_end)


def test_a_replay_waits_for_its_reader() -> None:
    read_end, write_end = pipe_of(4096)
    stream = Stream(write_end, "pipe")
    got: list[bytes] = []
    reader = threading.Timer(0.5, lambda: got.append(read_to_the_end(read_end)))
    reader.start()
    stream.write(bytes(1 << 20))
    stream.close()
    reader.join()
    assert got == [bytes(1 << 20)]


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("code", [errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.EFBIG], ids=errno.errorcode.get)
def test_what_the_kernel_refuses_is_one_sentence(monkeypatch: pytest.MonkeyPatch, code: int, live: bool) -> None:
    def refuse(fd: int, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    read_end, write_end = os.pipe()
    stream = Stream(write_end, "a/file", live=live)
    monkeypatch.setattr(stream_module.os, "write", refuse)
    with pytest.raises(EndedEarlyError) as told:
        stream.write(b"line\n")
    assert str(told.value) == f"cannot write to a/file: {os.strerror(code)}"
    monkeypatch.undo()
    stream.close()
    os.close(read_end)
