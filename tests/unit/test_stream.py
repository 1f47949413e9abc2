"""Output breaks in sentences: a closed pipe is an end, a full disk is a failure, nothing is cut in the middle."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tracer.errors import EndedEarlyError, UsageError
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
