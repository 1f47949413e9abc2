"""Other programs can read captures block by block; packets find their handshake and wait in bounded memory."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import dpkt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.rows import INTERFACES, golden
from tracer.aggregate.aggregate import Aggregate
from tracer.encode.composer import Composer
from tracer.handshake.batch import decode
from tracer.handshake.syn_payloads import NO_PAYLOADS, SynPayloads
from tracer.handshake.vantage import LocalSet
from tracer.ipc.traced import TracedInterface
from tracer.records.record import SCHEMA
from tracer.records.run import End
from tracer.replay.input import open_input
from tracer.replay.pcapng import Pcapng as Capture
from tracer.sinks import packet_blocks, pcapng
from tracer.sinks import pcapng_format as blocks
from tracer.sinks.files import OutputFile
from tracer.sinks.packet_blocks import Frames
from tracer.sinks.packet_cache import PARTS_MAX, PacketCache
from tracer.sinks.pcapng import Pcapng
from tracer.sinks.targets import Rotation, target

# the fields of struct packet_event that are used here; the real layout comes from the C header
PACKET = np.dtype(
    [("id", "<u8"), ("syn_ns", "<u8"), ("now_ns", "<u8"), ("ifindex", "<u4"), ("frame_len", "<u4"), ("vlan_tci", "<u4"),
     ("captured", "<u2"), ("headers_len", "<u2"), ("egress", "u1"), ("no_link_header", "u1"), ("data", "u1", (192,))]
)  # fmt: skip
EVENT = np.dtype([("id", "<u8"), ("syn_ns", "<u8")])
SECTION = blocks.section("tfotrace", "Linux") + blocks.interface("eth0", "traced", blocks.LINKTYPE_ETHERNET)


def packets_of(data: bytes) -> list[dpkt.pcapng.EnhancedPacketBlockLE]:
    """Every packet block of one section, as dpkt reads it; fails on anything that is no chain of blocks."""
    found, at = [], 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, at + length - 4) == (length,)
        if kind == dpkt.pcapng.PCAPNG_BT_EPB:
            found.append(dpkt.pcapng.EnhancedPacketBlockLE(data[at : at + length]))
        at += length
    assert at == len(data)
    return found


@given(
    st.lists(
        st.tuples(st.binary(max_size=300), st.integers(0, (1 << 63) - 1), st.booleans(), st.text(max_size=50)),
        max_size=20,
    )
)
def test_dpkt_reads_what_was_written(written: list[tuple[bytes, int, bool, str]]) -> None:
    data = SECTION
    for body, at_ns, out, comment in written:
        direction = blocks.OUTBOUND if out else blocks.INBOUND
        data += blocks.packet(0, at_ns, len(body) + 7, body, direction, comment)
    assert [body for _, body in dpkt.pcapng.Reader(io.BytesIO(data))] == [body for body, _, _, _ in written]
    for found, (body, at_ns, out, comment) in zip(packets_of(data), written, strict=True):
        assert (found.pkt_data, found.pkt_len) == (body, len(body) + 7)
        assert found.ts_high << 32 | found.ts_low == at_ns
        options = {one.code: one for one in found.opts}
        assert options[blocks._EPB_FLAGS].data == struct.pack("<I", 2 if out else 1)
        assert (options[blocks._COMMENT].text if blocks._COMMENT in options else "") == comment


def test_a_comment_that_is_too_long_is_cut_between_characters() -> None:
    (found,) = packets_of(blocks.packet(0, 0, 0, b"", 1, "x" + "€" * 30_000))
    (comment,) = [one.text for one in found.opts if one.code == 1]
    assert comment == "x" + "€" * 21_844


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(0, 2000))
def test_whole_blocks_are_found_wherever_the_disk_was_full(bodies: list[bytes], limit: int) -> None:
    parts = [blocks.packet(0, 1, len(body), body, 1) for body in bodies]
    data = b"".join(parts)
    limit = min(limit, len(data))
    ends = [sum(map(len, parts[:count])) for count in range(len(parts) + 1)]
    assert blocks.whole(data, limit) == max(end for end in ends if end <= limit)


frames = st.tuples(
    st.binary(min_size=14, max_size=192),
    st.integers(0, (1 << 63) - 1),
    st.booleans(),
    st.sampled_from([0, 0x10005, 0x3FFFF]),
    st.one_of(st.just(b""), st.binary(max_size=600)),
    st.one_of(st.just(""), st.text(max_size=50), st.just("€" * 22_000)),
)


@given(st.lists(frames, max_size=20))
def test_many_blocks_at_once_are_those_made_one_by_one(rows: list[tuple[bytes, int, bool, int, bytes, str]]) -> None:
    data = np.full((len(rows), 192), 0xAA, np.uint8)  # what lies behind a frame is anything
    tags = {0: b"", 0x10005: b"\x81\x00\x00\x05", 0x3FFFF: b"\x88\xa8\xff\xff"}
    expected = b""
    for row, (body, at_ns, out, tci, tail, comment) in enumerate(rows):
        data[row, : len(body)] = np.frombuffer(body, np.uint8)
        whole = body[:12] + tags[tci] + body[12:] + tail
        direction = blocks.OUTBOUND if out else blocks.INBOUND
        expected += blocks.packet(row, at_ns, len(body) + len(tags[tci]) + 7, whole, direction, comment)
    made = Frames(
        number=np.arange(len(rows), dtype=np.uint32),
        at_ns=np.array([row[1] for row in rows], np.int64),
        wire_len=np.array([len(row[0]) + 7 for row in rows], np.uint32),
        captured=np.array([len(row[0]) for row in rows], np.uint32),
        direction=np.array([blocks.OUTBOUND if row[2] else blocks.INBOUND for row in rows], np.uint32),
        data=data,
    )
    made.tag(np.array([row[3] for row in rows], np.uint32))
    tails = enumerate(row[4] for row in rows)
    comments = enumerate(row[5] for row in rows)
    assert packet_blocks.blocks(made, tails, comments) == expected


# --- the cache ---


def packets(*rows: tuple[int, int, int]) -> np.ndarray:
    made = np.zeros(len(rows), PACKET)
    for row, (id_, syn_ns, now_ns) in zip(made, rows, strict=True):
        row["id"], row["syn_ns"], row["now_ns"] = id_, syn_ns, now_ns
    return made


def events(*rows: tuple[int, int]) -> np.ndarray:
    return np.array(list(rows), EVENT)


def test_packets_find_their_record_however_they_come() -> None:
    cache = PacketCache()
    cache.add(packets((1, 10, 10), (2, 11, 11)))
    cache.add(packets((1, 10, 12), (1, 99, 99), (2, 11, 13)))  # the same id again: another interface, another time
    found, records = cache.take(events((2, 11), (1, 10), (7, 7)))
    assert list(zip(found["now_ns"].tolist(), records.tolist(), strict=True)) == [(10, 1), (11, 0), (12, 1), (13, 0)]
    assert len(cache) == 1
    found, _ = cache.take(events((1, 99)))
    assert found["now_ns"].tolist() == [99]
    assert len(cache) == 0
    assert len(cache.take(events((1, 99)))[0]) == 0


def test_room_is_bounded_and_the_oldest_go() -> None:
    cache = PacketCache(rows_max=5)
    for number in range(4):
        cache.add(packets((number, 0, 2 * number), (number, 0, 2 * number + 1)))
        assert len(cache) <= 5
    found, _ = cache.take(events(*((number, 0) for number in range(4))))
    assert found["now_ns"].tolist() == [3, 4, 5, 6, 7]


def test_narrow_parts_join_and_nothing_of_a_frame_is_lost() -> None:
    cache = PacketCache()
    for number, length in enumerate((60, 192, 0, 77)):
        made = packets((1, 10, 10 + number))
        made["captured"], made["data"] = length, number + 1
        cache.add(made)
    found, _ = cache.take(events((1, 10)))
    for number, (row, length) in enumerate(zip(found, found["captured"].tolist(), strict=True)):
        assert row["data"][:length].tolist() == [number + 1] * length


def test_what_nobody_takes_does_not_stay_in_many_parts() -> None:
    cache = PacketCache()
    for number in range(3 * PARTS_MAX):
        cache.add(packets((number, 0, 0), (9999, 1, 1)))
    assert len(cache.take(events((9999, 1)))[0]) == 3 * PARTS_MAX
    assert len(cache._parts) == 1
    assert len(cache) == 3 * PARTS_MAX
    found, records = cache.take(events((5, 0), (7, 0)))
    assert (found["id"].tolist(), records.tolist()) == ([5, 7], [0, 1])


# --- the sink ---


def test_the_recorded_lab_as_a_capture(tmp_path: Path) -> None:
    path = tmp_path / "f.pcapng"
    composer = Composer(INTERFACES)
    sink = Pcapng(OutputFile(target(path)), composer)
    sink.start(golden().start)
    handshakes = 0
    for recorded, _ in golden().batches:
        made = np.zeros(len(recorded), PACKET)
        for name in ("id", "syn_ns", "ifindex"):
            made[name] = recorded[name]
        made["now_ns"], made["captured"], made["headers_len"], made["frame_len"] = made["syn_ns"], 60, 60, 60
        sink.take_packets(made[1:])  # one is lost in each
        sink.write(decode(recorded, LocalSet(), NO_PAYLOADS))
        handshakes += len(recorded)
    sink.tick()
    sink.close(None)
    found = packets_of(path.read_bytes())
    assert len(found) == handshakes - len(golden().batches)
    assert sink.incomplete == len(golden().batches)
    assert all(any(one.code == 1 and "tfotrace: " in one.text for one in packet.opts) for packet in found)


def test_each_file_of_a_rotation_counts_its_own_packets(tmp_path: Path) -> None:
    recorded = np.concatenate([events for events, _ in golden().batches[:4]])
    sink = Pcapng(OutputFile(target(tmp_path / "f.pcapng"), Rotation(size=1000)), Composer(INTERFACES))
    sink.start(golden().start)
    for row in range(4):
        made = packets((int(recorded["id"][row]), int(recorded["syn_ns"][row]), int(recorded["syn_ns"][row])))
        made["captured"], made["headers_len"], made["frame_len"], made["ifindex"] = 60, 60, 60, row % 2 + 1
        sink.take_packets(made.repeat(row + 1))
        sink.write(decode(recorded[row : row + 1], LocalSet(), NO_PAYLOADS))
        sink.tick()
    sink.close(None)
    files = [path for path in tmp_path.iterdir() if path.name != "f.pcapng"]  # the last one ends with the run's end
    assert len(files) > 1
    for path in files:
        data = path.read_bytes()
        assert delivered(data) == len(packets_of(data))


@pytest.mark.parametrize("size", [None, 700, 1000, 1500, 3000])
def test_ever_new_interfaces_make_new_sections(
    size: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pcapng, "INTERFACES_MAX", 3)
    recorded = np.concatenate([events for events, _ in golden().batches])[:12]
    composer = Composer({index: TracedInterface(index, f"veth{index}", "tcx", "a test") for index in range(1, 13)})
    sink = Pcapng(OutputFile(target(tmp_path / "f.pcapng"), Rotation(size=size) if size else None), composer)
    sink.start(golden().start)
    for row in range(len(recorded)):
        made = packets((int(recorded["id"][row]), int(recorded["syn_ns"][row]), row))
        made["captured"], made["headers_len"], made["frame_len"], made["ifindex"] = 60, 60, 60, row + 1
        sink.take_packets(made.repeat(2))
        sink.write(decode(recorded[row : row + 1], LocalSet(), NO_PAYLOADS))
        if row % 5:
            sink.tick()
    assert len(sink._descriptions) <= 3
    sink.close(End(SCHEMA, "", "asked", 0, 1.0, Aggregate().totals(), None, {}))
    names: list[str | None] = []
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        assert delivered(data) == len(packets_of(data))
        reader = Capture(open_input(path))
        while not reader.at_end:
            if (part := reader.read()) is not None:
                names += [reader.interfaces[place].name for place in part.places.tolist()]
        assert reader.damage is None
        reader.source.close()
    assert sorted(map(str, names)) == sorted(2 * [f"veth{index}" for index in range(1, 13)])


def delivered(data: bytes) -> int:
    """How many packets the statistics of a file say there are."""
    found, at = 0, 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        if kind == 5:
            (option,) = [at + place for place in range(20, length, 4) if data[at + place :][:4] == b"\x08\0\x08\0"]
            found += int.from_bytes(data[option + 4 : option + 12], "little")
        at += length
    return found


def test_payloads_are_only_joined_where_the_headers_are_whole(tmp_path: Path) -> None:
    recorded = golden_with_data()
    payloads = SynPayloads.of(golden().payloads)
    key = (int(recorded["id"][0]), int(recorded["syn_ns"][0]))
    for captured, joined in ((60, True), (59, False)):
        path = tmp_path / f"{captured}.pcapng"
        sink = Pcapng(OutputFile(target(path)), Composer(INTERFACES))
        sink.start(golden().start)
        made = packets((*key, key[1]))
        made["captured"], made["headers_len"], made["frame_len"] = captured, 60, 2000
        sink.take_packets(made)
        sink.write(decode(recorded, LocalSet(), payloads))
        sink.close(None)
        (found,) = packets_of(path.read_bytes())
        assert found.pkt_data == bytes(captured) + (payloads[key].data if joined else b"")
        assert found.pkt_len == 2000


def golden_with_data() -> np.ndarray:
    """One recorded handshake whose SYN's payload is recorded too."""
    keys = {(one.id, one.syn_ns) for one in golden().payloads}
    for recorded, _ in golden().batches:
        for row in range(len(recorded)):
            if (int(recorded["id"][row]), int(recorded["syn_ns"][row])) in keys:
                return recorded[row : row + 1]
    pytest.fail("no payload was recorded")
