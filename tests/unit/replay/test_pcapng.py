"""Packets of pcapng files: those of interfaces that differ, of odd blocks, and of files that are damaged."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import captures
from tests.support.captures import EN10MB, RAW, SLL, SLL2, START_NS, framed, handshake, pcap, pcapng
from tests.support.shark import shark
from tracer.replay import pcapng as module
from tracer.replay.input import open_input
from tracer.replay.packets import Packets
from tracer.replay.pcapng import INTERFACES_MAX, Pcapng

S = 1_000_000_000


@dataclass(frozen=True)
class One:
    """A packet as it was read."""

    data: bytes
    original: int
    at_ns: int
    link: int
    name: str | None
    sent: bool


@dataclass
class Got:
    """What a file gave."""

    packets: list[One]
    damage: str | None


@contextmanager
def opened(path: Path, content: bytes) -> Iterator[Pcapng]:
    path.write_bytes(content)
    source = open_input(path)
    try:
        yield Pcapng(source)
    finally:
        source.close()


def taken(reader: Pcapng, packets: Packets) -> Iterator[One]:
    for row in range(len(packets)):
        interface = reader.interfaces[packets.places[row]]
        yield One(
            bytes(packets.memory.buffer[packets.starts[row] : packets.stops[row]]), int(packets.originals[row]),
            int(packets.times[row]), interface.link, interface.name,
            packets.sent is not None and bool(packets.sent[row]),
        )  # fmt: skip


def got(path: Path, content: bytes) -> Got:
    found: list[One] = []
    with opened(path, content) as reader:
        while not reader.at_end:
            packets = reader.read()
            if packets is not None:
                found.extend(taken(reader, packets))
        return Got(found, reader.damage)


# link type, snap length, if_tsresol and ticks a second, if_tsoffset
VARIETY = [
    (EN10MB, 262144, 9, 10**9, None), (RAW, 0, 6, 10**6, 3600), (SLL, 96, None, 10**6, None),
    (SLL2, 128, 3, 10**3, -86_400), (EN10MB, 64, 0x80 | 20, 2**20, None), (RAW, 70, 12, 10**12, 1_699_999_900),
    (EN10MB, 80, 0x80 | 33, 2**33, 5), (EN10MB, 80, 0, 1, None), (EN10MB, 80, 0x80, 1, 7),
]  # fmt: skip


def varied(order: str) -> tuple[bytes, list[One]]:
    """A section whose interfaces have nothing in common, and its packets."""
    content, packets = captures.section(order), handshake() + handshake(6)
    for number, (link, snaplen, resolution, _, offset) in enumerate(VARIETY):
        content += captures.interface(
            link, f"eth{number}", order, snaplen=snaplen, resolution=resolution, offset_s=offset
        )  # fmt: skip
    wanted = []
    for number, packet in enumerate(packets * 3):
        interface = number % len(VARIETY)
        link, snaplen, _, units, offset = VARIETY[interface]
        one = replace(packet, interface=interface, at_ns=START_NS + number * 77_777_777)
        ticks = one.at_ns * units // S - (offset or 0) * units
        content += captures.enhanced(link, one, order, flags=number % 2 == 0, snaplen=snaplen or 262144, ticks=ticks)
        whole = framed(link, one)
        at_ns = ticks * S // units + (offset or 0) * S
        if units == 2**33:  # bits beyond 2^-30 s do not matter
            at_ns = (ticks >> 3) * S // 2**30 + (offset or 0) * S
        sent = number % 2 == 0 and one.outgoing
        wanted.append(One(whole[: snaplen or None], len(whole), at_ns, link, f"eth{interface}", sent))
    return content, wanted


@pytest.mark.parametrize("orders", ["<", ">", "<>", "><>"])
def test_interfaces_that_differ_in_everything(tmp_path: Path, orders: str) -> None:
    sections = [varied(order) for order in orders]
    content = b"".join(content for content, _ in sections)
    found = got(tmp_path / "trace", content)
    assert found.damage is None
    assert found.packets == [one for _, wanted in sections for one in wanted]
    rows = shark(tmp_path / "trace", "frame.time_epoch", "frame.len", "frame.cap_len", "frame.interface_name")
    for one, row in zip(found.packets, rows, strict=True):
        seconds, _, rest = row["frame.time_epoch"].partition(".")
        if one.name != "eth5":  # tshark 4.0 multiplies a picosecond's number beyond 64 bits
            assert abs(one.at_ns - (int(seconds) * S + int(rest.ljust(9, "0")))) <= 2
        assert (one.original, len(one.data)) == (int(row["frame.len"]), int(row["frame.cap_len"]))
        assert one.name == row["frame.interface_name"]


@pytest.mark.parametrize("part", [1, 13, 64, 1000])
def test_parts_of_any_size_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    sections = [varied(order) for order in "<>"]
    monkeypatch.setattr(module, "_PART", part)
    found = got(tmp_path / "trace", b"".join(content for content, _ in sections))
    assert found == Got([one for _, wanted in sections for one in wanted], None)


@pytest.mark.skipif(shutil.which("mergecap") is None, reason="mergecap is not installed")
def test_what_mergecap_makes_of_different_captures(tmp_path: Path) -> None:
    parts = {
        "a.pcap": pcap(EN10MB, handshake(), nano=True), "b.pcap": pcap(RAW, handshake(6), snaplen=100),
        "c.pcapng": pcapng(SLL, handshake(port=5), ("eth9",), ">"),
    }  # fmt: skip
    for name, content in parts.items():
        (tmp_path / name).write_bytes(content)
    merged = tmp_path / "merged.pcapng"
    subprocess.run(
        ["mergecap", "-F", "pcapng", "-w", merged, *(tmp_path / name for name in parts)], check=True, timeout=60
    )
    found = got(tmp_path / "again", merged.read_bytes())
    assert found.damage is None
    whole = sorted((one.data, one.link) for one in found.packets)
    assert whole == sorted(
        [(framed(EN10MB, one), EN10MB) for one in handshake()] + [(framed(RAW, one)[:100], RAW) for one in handshake(6)]
        + [(framed(SLL, one), SLL) for one in handshake(port=5)]
    )  # fmt: skip


@pytest.mark.parametrize("order", ["<", ">"])
def test_simple_and_obsolete_packet_blocks(tmp_path: Path, order: str) -> None:
    """A simple block has no time, and is cut to the snap length of the first interface, which its length may hide."""
    first, second, third, _ = handshake(data=captures.REQUEST + b"x")
    on_other = replace(second, interface=1)
    content = (
        captures.section(order)
        + captures.interface(EN10MB, None, order, snaplen=99) + captures.interface(RAW, "b", order)
        + captures.simple(EN10MB, first, order, snaplen=99) + captures.obsolete(RAW, on_other, order)
        + captures.simple(EN10MB, third, order) + captures.obsolete(EN10MB, third, order, snaplen=60)
        + captures.enhanced(EN10MB, third, order, flags=False)
    )  # fmt: skip
    whole = [framed(EN10MB, one) for one in (first, third)]
    bare = framed(RAW, second)
    assert got(tmp_path / "trace", content) == Got([
        One(whole[0][:99], len(whole[0]), 0, EN10MB, None, False), One(bare, len(bare), second.at_ns, RAW, "b", False),
        One(whole[1], len(whole[1]), 0, EN10MB, None, False),
        One(whole[1][:60], len(whole[1]), third.at_ns, EN10MB, None, False),
        One(whole[1], len(whole[1]), third.at_ns, EN10MB, None, False),
    ], None)  # fmt: skip


def test_a_file_that_ends_anywhere(tmp_path: Path) -> None:
    content, wanted = varied("<")
    found = got(tmp_path / "trace", content).packets
    assert found == wanted
    counts = []
    for cut in range(28, len(content), 7):
        part = got(tmp_path / "trace", content[:cut])
        assert part.packets == wanted[: len(part.packets)]
        assert part.damage is None or "truncated" in part.damage
        counts.append(len(part.packets))
    assert counts == sorted(counts)
    assert counts[-1] == len(wanted) - 1


def test_other_blocks_and_comments_are_passed_over(tmp_path: Path) -> None:
    first, second = handshake()[:2]
    other = captures._block("<", 0x0BAD, b"abcdefg") + captures._block("<", 4, bytes(40))
    content = pcapng(EN10MB, [first]) + other + captures.enhanced(EN10MB, second) + other
    assert [one.data for one in got(tmp_path / "trace", content).packets] == [
        framed(EN10MB, one) for one in (first, second)
    ]


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        (captures._block("<", 6, bytes(12) + b"\xff\0\0\0" + bytes(4)), "does not hold what it claims"),
        (captures.enhanced(EN10MB, replace(handshake()[0], interface=3)), "interface 3"),
        (captures.enhanced(EN10MB, handshake()[0])[:-4] + bytes(4), "does not hold what it claims"),
        (captures._block("<", 9, bytes(8))[:-4] + bytes(4), "two lengths"),
        (captures.interface(EN10MB, resolution=20), "finer"),
        (captures.interface(EN10MB, resolution=0x80 | 64), "finer"),
        (captures._block("<", 1, b""), "too short"),
        (captures._block("<", 0x0A0D0D0A, bytes(16)), "byte order"),
        (captures.section()[:12] + b"\2" + captures.section()[13:], "version"),
        (bytes(64), "claims 0 bytes"),
        (b"\6\0\0\0\xfc\xff\xff\x7f" + bytes(64), "claims 2147483644 bytes"),
    ],
    ids=["captured", "interface", "trailer", "other", "decimal", "binary", "short", "order", "version", "zero", "long"],
)
def test_what_comes_before_damage_is_read(tmp_path: Path, spoilt: bytes, says: str) -> None:
    packets = handshake()
    found = got(tmp_path / "trace", pcapng(EN10MB, packets) + spoilt + captures.enhanced(EN10MB, packets[0]))
    assert [one.data for one in found.packets] == [framed(EN10MB, one) for one in packets]
    assert found.damage is not None
    assert says in found.damage


def test_more_interfaces_than_any_host_has_are_refused(tmp_path: Path) -> None:
    content = captures.section() + b"".join(
        captures.interface(EN10MB, f"eth{number}") for number in range(INTERFACES_MAX + 1)
    )
    damage = got(tmp_path / "trace", content).damage
    assert damage is not None
    assert str(INTERFACES_MAX) in damage


def test_a_direction_behind_many_comments(tmp_path: Path) -> None:
    one = handshake()[0]
    options = b"".join(captures._option("<", 1, b"x" * length) for length in range(20))
    flags = captures._option("<", 2, b"\x02\0\0\0")
    frame = framed(EN10MB, one)
    head = b"\0\0\0\0" + (one.at_ns >> 32).to_bytes(4, "little") + (one.at_ns & 0xFFFFFFFF).to_bytes(4, "little")
    body = head + len(frame).to_bytes(4, "little") * 2 + frame + bytes(-len(frame) % 4)
    content = captures.section() + captures.interface(EN10MB)
    for tail, sent in ((options + flags, True), (options, False), (captures._option("<", 0, b"") + flags, False)):
        (found,) = got(tmp_path / "trace", content + captures._block("<", 6, body + tail)).packets
        assert found.sent is sent


def test_compressed(tmp_path: Path) -> None:
    content, wanted = varied("<")
    assert got(tmp_path / "trace", gzip.compress(content)) == Got(wanted, None)
    cut = got(tmp_path / "trace", gzip.compress(content)[:-40])
    assert cut.packets == wanted[: len(cut.packets)]
    assert cut.packets


_CONTENT = varied("<")[0] + varied(">")[0]


@given(st.lists(st.tuples(st.integers(0, len(_CONTENT) - 1), st.binary(min_size=1, max_size=4)), max_size=8))
def test_no_bytes_do_harm(tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]]) -> None:
    content = bytearray(_CONTENT)
    for at, new in changes:
        content[at : at + len(new)] = new
    content[:4] = _CONTENT[:4]
    path = tmp_path_factory.getbasetemp() / "damaged"
    with opened(path, bytes(content)) as reader:
        while not reader.at_end:
            packets = reader.read()
            if packets is not None:
                assert (packets.starts >= 16).all()
                assert (packets.stops >= packets.starts).all()
                assert (packets.stops <= len(content)).all()
                assert (packets.starts[1:] >= packets.stops[:-1]).all()
                assert ((packets.times >= 0) & (packets.times // S < 1 << 32)).all()
                assert (packets.places < len(reader.interfaces)).all()
