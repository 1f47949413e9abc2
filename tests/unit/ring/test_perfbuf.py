"""Records of the perf ring are parsed as laid out in include/uapi/linux/perf_event.h."""

from __future__ import annotations

import struct

from tracer.ring.perfbuf import sample_size, samples

SAMPLE, LOST = 9, 2


def sample(data: bytes) -> bytes:
    padded = data + bytes(sample_size(len(data)) - 12 - len(data))
    return struct.pack("<IHHI", SAMPLE, 0, 12 + len(padded), len(padded)) + padded


def test_samples_are_found_between_other_records() -> None:
    lost = struct.pack("<IHHQQ", LOST, 0, 24, 1, 5)
    found = [bytes(one) for one in samples(sample(b"x" * 312) + lost + sample(b"y" * 20))]
    assert [one.rstrip(b"\0") for one in found] == [b"x" * 312, b"y" * 20]


def test_a_sample_takes_what_the_kernel_pads_it_to() -> None:
    # perf_prepare_sample: round_up(raw size + sizeof(u32), sizeof(u64))
    assert sample_size(312) == 8 + 320
    assert sample_size(4) == 8 + 8


def test_a_record_without_a_size_ends_the_walk() -> None:
    assert list(samples(bytes(64))) == []
