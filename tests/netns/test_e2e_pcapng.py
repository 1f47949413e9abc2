"""-w FILE.pcapng with the real command: what tcpdump saw, with the verdict as a comment that tshark prints."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.hosts import ADDRESSES, WIRE, Hosts, Service, service
from tests.support.netbox import NetBox, wait_until
from tests.support.patience import FACTOR, LONG_S, PATIENCE_S
from tests.support.shark import comment_is_right, frames, handshake_id, shark
from tests.support.tracing import CHECKOUT, Run, assert_balanced, tracing
from tracer.records.record import Handshake

pytestmark = pytest.mark.root

INBOUND, OUTBOUND = "Inbound", "Outbound"
# of a demo, long enough for the outcomes looked for
DURATION = "7" if FACTOR == 1 else "60"
REQUESTS_A_COOKIE = {"cookie_request", "cookie_request_and_data"}


@contextmanager
def tcpdump(box: NetBox, path: Path, interface: str = WIRE) -> Iterator[None]:
    """A full capture next to ours, complete at the end of the block."""
    with box.inside():
        process = subprocess.Popen(
            # a small frame and a large buffer: by default it loses some on a busy machine
            ["tcpdump", "-i", interface, "-w", str(path), "-s", "2000", "-B", "8192", "-U", "--immediate-mode",
             "-Z", "root"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if b"listening on" in line:
                break
        yield
        # what tcpdump has not read yet is lost when it ends: wait for a datagram behind all the rest
        mark = os.urandom(16)
        with box.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(mark, (ADDRESSES[4][1], 9))
        wait_until(lambda: mark in path.read_bytes(), "tcpdump to read everything", PATIENCE_S)
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def capture(run: Run) -> Path:
    return run.folder / "f.pcapng"


@pytest.mark.parametrize(
    "words",
    [["--hook", "tc"], ["--hook", "clsact"], ["--hook", "xdp-generic"], ["--hook", "xdp-native"],
     ["--transport", "perf"]],
    ids=lambda words: words[1],
)  # fmt: skip
def test_packets_are_those_that_tcpdump_saw(hosts: Hosts, tmp_path: Path, words: list[str]) -> None:
    whole = tmp_path / "tcpdump.pcap"
    hosts.client.run("ip", "tcp_metrics", "flush")
    with (
        tracing(
            WIRE, "--json", "--show-cookies", "-w", "{folder}/f.pcapng", "--netns", hosts.client.name, *words
        ) as run,
        service(hosts.client, hosts.server, ADDRESSES[6][1]) as six,
        service(hosts.client, hosts.server) as four,
    ):
        with tcpdump(hosts.client, whole):
            ports = [web.exchange(fast_open=fast) for web in (four, six) for fast in (True, True, False)]
            records = [run.wait_port(port) for port in ports]
        assert run.stop() == 0
        assert_balanced(run.end)
        assert (run.end.counters["packets_kept"], run.end.counters["packets_lost"]) == (24, 0)
        ours, theirs = frames(capture(run)), frames(whole)
        rows = shark(
            capture(run), "frame.comment", "frame.packet_flags_direction", "frame.interface_name", "tcp.srcport",
            "tcp.flags.syn", "tcp.len", "frame.len",
        )  # fmt: skip
        assert len(ours) == len(rows) == 24
    for data, row in zip(ours, rows, strict=True):
        # headers and nothing else, but for the first SYN, which is whole
        matching = [frame for frame in theirs if frame.startswith(data)]
        assert matching, row
        if row["frame.comment"]:
            assert data in theirs
        assert int(row["frame.len"]) in {len(frame) for frame in matching}
        from_client = int(row["tcp.srcport"]) in ports
        # a numbered direction in older versions of tshark, a word in newer ones
        assert row["frame.packet_flags_direction"] in ({"2", "0x2", "0x00000002", OUTBOUND} if from_client
                                                       else {"1", "0x1", "0x00000001", INBOUND})  # fmt: skip
        assert row["frame.interface_name"] == WIRE
    comments = {int(row["tcp.srcport"]): row["frame.comment"] for row in rows if row["frame.comment"]}
    assert len(comments) == 6
    for record in records:
        comment_is_right(comments[record.client.port], record)
    outcomes = Counter(record.tfo.outcome for record in records)
    assert outcomes == {"cookie_granted": 2, "data_acked": 2, "not_attempted": 2}


@pytest.mark.parametrize("family", [4, 6])
def test_cookies_are_covered(hosts: Hosts, tmp_path: Path, family: int) -> None:
    whole = tmp_path / "tcpdump.pcap"
    hosts.client.run("ip", "tcp_metrics", "flush")
    with (
        tracing(WIRE, "--json", "-w", "{folder}/f.pcapng", "--netns", hosts.client.name) as run,
        service(hosts.client, hosts.server, ADDRESSES[family][1]) as web,
        tcpdump(hosts.client, whole),
    ):
        records = [run.wait_port(web.exchange(fast_open=True)) for _ in range(3)]
        assert run.stop() == 0
        data = capture(run).read_bytes()
        shown = [row["tcp.options.tfo.cookie"] for row in shark(capture(run), "tcp.options.tfo.cookie")]
    assert [one.tfo.cookie for one in records] == [None] * 3
    cookies = {row["tcp.options.tfo.cookie"] for row in shark(whole, "tcp.options.tfo.cookie")} - {""}
    (cookie,) = cookies
    assert bytes.fromhex(cookie) not in data
    assert cookie.encode() not in data
    assert b"are covered" in data
    ids = {one.tfo.cookie_id or one.tfo.synack_cookie_id for one in records}
    assert {one[:8] for one in shown if one} == ids
    assert sum(bool(one) for one in shown) == 3  # granted once, used twice


@pytest.mark.parametrize("shows", [True, False])
def test_who_may_read_files_with_cookies(hosts: Hosts, web: Service, shows: bool) -> None:
    names = ("f.pcapng", "f.jsonl", "f.jsonl.gz")
    words = [word for name in names for word in ("-w", "{folder}/" + name)] + ["--show-cookies"] * shows
    with tracing(WIRE, "--json", "--rotate-time", "1s", "--netns", hosts.client.name, *words) as run:
        run.wait_port(web.exchange(fast_open=True))
        wait_until(lambda: len(list(run.folder.glob("f.*"))) > len(names), "a file of its own", PATIENCE_S)
        assert run.stop() == 0
        modes = {path.name: path.stat().st_mode & 0o777 for path in run.folder.glob("f.*")}
    assert len(modes) > len(names)
    assert set(modes.values()) == ({0o600} if shows else {0o644})


def test_times_are_those_of_the_records(hosts: Hosts, web: Service) -> None:
    with tracing(WIRE, "--json", "-w", "{folder}/f.pcapng", "--netns", hosts.client.name) as run:
        records = {one.client.port: one for one in [run.wait_port(web.exchange(fast_open=True)) for _ in range(3)]}
        assert run.stop() == 0
        rows = shark(capture(run), "frame.time_epoch", "tcp.srcport", "tcp.dstport", "tcp.flags.syn", "tcp.flags.ack")
    for port, record in records.items():
        times = [
            float(row["frame.time_epoch"]) for row in rows if str(port) in (row["tcp.srcport"], row["tcp.dstport"])
        ]
        assert times == sorted(times)
        assert record.handshake.synack_delay_us is not None
        assert (times[1] - times[0]) * 1e6 == pytest.approx(record.handshake.synack_delay_us, abs=1)
        (syn,) = [row for row in rows if row["tcp.srcport"] == str(port) and row["tcp.flags.syn"] in ("1", "True")]
        seconds, fraction = syn["frame.time_epoch"].split(".")
        shown = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(int(seconds)))
        # the clocks' offset is measured again every second, and this packet is written up to a second after its record
        assert shown[:16] == record.ts[:16]
        assert abs(float(f"0.{fraction}") - float("0." + record.ts[20:29])) < 0.001


def test_every_file_of_a_rotated_capture_is_one_by_itself(hosts: Hosts, web: Service) -> None:
    words = (WIRE, "--json", "-w", "{folder}/f.pcapng", "--rotate-size", "2K", "--netns", hosts.client.name)
    with tracing(*words) as run:
        for _ in range(3):
            records = [run.wait_port(web.exchange(fast_open=True)) for _ in range(3)]

            def written(last: Handshake = records[-1]) -> bool:
                return any(last.id.encode() in one.read_bytes() for one in run.folder.glob("f.*pcapng"))

            wait_until(written, "the packets", PATIENCE_S)  # within a second: else all would be one batch
        assert run.stop() == 0
        files = list(run.folder.glob("f.*pcapng"))
        assert len(files) > 1
        comments = [row["frame.comment"] for one in files for row in shark(one, "frame.comment", only="frame.comment")]
        assert sorted(handshake_id(one) for one in comments) == sorted(one.id for one in run.handshakes)


def test_a_filter_of_records_is_one_of_packets_too(hosts: Hosts, web: Service) -> None:
    with service(hosts.client, hosts.server) as other:
        words = ("--filter-record", f"server.port == {other.address[1]}", "-w", "{folder}/f.pcapng")
        with tracing(WIRE, "--json", "--netns", hosts.client.name, *words) as run:
            web.exchange()
            record = run.wait_port(other.exchange())
            assert run.stop() == 0
            rows = shark(capture(run), "tcp.port")
            assert len(rows) == 4
            assert all(str(record.client.port) in row["tcp.port"] for row in rows)


@pytest.mark.slow
def test_tshark_agrees_on_every_handshake_of_the_demo(tmp_path: Path) -> None:
    path = tmp_path / "demo.pcapng"
    words = ("demo", "--json", "--show-cookies", "--duration", DURATION, "-w", str(path))
    with tracing(*words, command=[str(CHECKOUT / "tfotrace")]) as run:
        assert run.wait_end(LONG_S) == 0
        records = {one.id: one for one in run.handshakes}
        end = run.end
    assert end.counters["packets_lost"] == 0
    assert {record.tfo.outcome for record in records.values()} > {"data_acked", "data_not_acked", "rejected"}
    syns = shark(
        path, "frame.comment", "tcp.seq_raw", "tcp.len", "tcp.options.tfo.request", "tcp.options.tfo.cookie",
        "tcp.analysis.tfo_syn", only="frame.comment",
    )  # fmt: skip
    assert {handshake_id(row["frame.comment"]) for row in syns} == set(records)
    for row in syns:
        record = records[handshake_id(row["frame.comment"])]
        comment_is_right(row["frame.comment"], record)
        assert int(row["tcp.seq_raw"]) == record.syn.seq
        assert int(row["tcp.len"]) == record.syn.payload_len
        if record.tfo.request == "malformed" or record.tfo.kind in (253, 254):
            continue  # the RFC decides on the former; tshark does not read the latter as Fast Open
        assert bool(row["tcp.options.tfo.request"]) == (record.tfo.request in REQUESTS_A_COOKIE)
        assert (row["tcp.options.tfo.cookie"] or None) == (record.tfo.cookie or None)
    answers = shark(
        path, "tcp.seq_raw", "tcp.dstport", "tcp.analysis.tfo_ack", "tcp.analysis.tfo_ignored",
        only="tcp.flags.syn == 1 && tcp.flags.ack == 1",
    )  # fmt: skip
    judged = {(int(row["tcp.seq_raw"]), int(row["tcp.dstport"])): row for row in answers}
    compared = Counter[str]()
    for record in records.values():
        if record.synack is None or not record.tfo.cookie_len or record.handshake.syn_count > 1:
            continue
        row = judged[record.synack.seq, record.client.port]
        if record.tfo.outcome in ("data_acked", "data_acked_new_cookie"):
            assert row["tcp.analysis.tfo_ack"], record
        elif record.tfo.outcome in ("data_not_acked", "data_not_acked_new_cookie", "data_not_acked_same_cookie"):
            assert row["tcp.analysis.tfo_ignored"], record
        else:
            continue
        compared[str(record.tfo.outcome)] += 1
    assert compared["data_acked"] > 10
    assert len(compared) >= 4
