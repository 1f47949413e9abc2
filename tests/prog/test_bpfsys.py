"""bpf(2) by our own wrappers, against programs and maps made for the purpose."""

from __future__ import annotations

import errno
import os
import struct
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.support.rawprog import SCHED_CLS, TC_ACT_UNSPEC, XDP, XDP_PASS, Counting, create_map
from tracer.linux import bpfsys

pytestmark = pytest.mark.root

FRAME = bytes(range(64))


@pytest.fixture
def counting() -> Iterator[Counting]:
    program = Counting.make(SCHED_CLS, TC_ACT_UNSPEC, "counting")
    yield program
    program.close()


def test_program_info(counting: Counting) -> None:
    info = bpfsys.program_info(counting.fd)
    assert (info.type, info.name, len(info.tag)) == (SCHED_CLS, "counting", 16)
    assert info.id > 0
    assert info.loaded_ns > 0
    assert bpfsys.program_info_by_id(info.id) == info
    again = Counting.make(SCHED_CLS, TC_ACT_UNSPEC, "counting")
    other = bpfsys.program_info(again.fd)
    again.close()
    assert other.id != info.id
    assert other.loaded_ns > info.loaded_ns


def test_an_id_that_does_not_exist_is_none() -> None:
    assert bpfsys.program_info_by_id(0x7FFFFFFF) is None


def test_test_run_gives_verdict_data_and_context(counting: Counting) -> None:
    context = bytearray(192)  # struct __sk_buff: cb[0] at 48
    struct.pack_into("=I", context, 48, 0xABCD)
    result = bpfsys.prog_test_run(counting.fd, FRAME, bytes(context), repeat=7)
    assert result.retval == 0xFFFFFFFF
    assert result.data_out == FRAME
    assert struct.unpack_from("=I", result.ctx_out, 48) == (0xABCD,)
    assert counting.count == 7


def test_test_run_of_xdp_without_context() -> None:
    program = Counting.make(XDP, XDP_PASS, "xdp")
    result = bpfsys.prog_test_run(program.fd, FRAME)
    assert (result.retval, result.data_out, result.ctx_out, program.count) == (XDP_PASS, FRAME, b"", 1)
    program.close()


def test_a_short_frame_is_refused_with_the_kernels_errno(counting: Counting) -> None:
    with pytest.raises(OSError) as caught:
        bpfsys.prog_test_run(counting.fd, b"short")
    assert caught.value.errno == errno.EINVAL


def test_errors_are_oserrors_with_errno() -> None:
    with pytest.raises(OSError) as caught:
        bpfsys.map_lookup_elem(999_999, bytes(4), 8)
    assert caught.value.errno == errno.EBADF


def test_array_map() -> None:
    fd = create_map(value_size=12, entries=3)
    info = bpfsys.map_get_info(fd)
    assert (info.key_size, info.value_size, info.max_entries) == (4, 12, 3)
    key = (2).to_bytes(4, sys.byteorder)
    bpfsys.map_update_elem(fd, key, b"twelve bytes")
    assert bpfsys.map_lookup_elem(fd, key, info.value_size) == b"twelve bytes"
    assert bpfsys.map_lookup_elem(fd, bytes(4), info.value_size) == bytes(12)
    with pytest.raises(FileNotFoundError):
        bpfsys.map_lookup_elem(fd, (3).to_bytes(4, sys.byteorder), info.value_size)
    os.close(fd)


def test_per_cpu_map_has_a_rounded_value_for_each_possible_cpu() -> None:
    fd = create_map(value_size=12, per_cpu=True)
    info = bpfsys.map_get_info(fd)
    cpus = bpfsys.possible_cpus()
    values = [b"cpu %8d" % number for number in range(cpus)]
    bpfsys.map_update_elem(fd, bytes(4), b"".join(value + bytes(4) for value in values))
    assert bpfsys.map_lookup_per_cpu(fd, bytes(4), info.value_size) == values
    os.close(fd)


def test_calls_from_two_threads_keep_their_errnos_apart(counting: Counting) -> None:
    wrong: list[object] = []

    def ask(fd: int, expected: int) -> None:
        for _ in range(2000):
            try:
                bpfsys.prog_test_run(fd, b"short")
            except OSError as error:  # noqa: PERF203
                if error.errno != expected:
                    wrong.append(error)

    threads = [
        threading.Thread(target=ask, args=pair) for pair in ((counting.fd, errno.EINVAL), (999_999, errno.EBADF))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
