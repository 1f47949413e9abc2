"""nginx and curl, traced at both ends at once, with tcpdump, tshark and the kernel's counters as witnesses."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.hosts import ADDRESSES, WIRE, Hosts, tcp_counters, two_hosts
from tests.support.netbox import NetBox
from tests.support.nginx import NAME, nginx
from tests.support.patience import PATIENCE_S
from tests.support.tracing import Run, assert_balanced, tracing
from tracer.records.record import Handshake

pytestmark = pytest.mark.root

FIELDS = (
    "tcp.srcport", "tcp.dstport", "tcp.flags.syn", "tcp.flags.ack", "tcp.seq_raw", "tcp.ack_raw", "tcp.len",
    "tcp.options.tfo.request", "tcp.options.tfo.cookie", "tls.handshake.extensions_server_name",
)  # fmt: skip


@contextmanager
def tcpdump(box: NetBox, path: Path) -> Iterator[None]:
    """Everything on the wire into `path`; complete when the block is left."""
    words = box.command("tcpdump", "-i", WIRE, "-w", str(path), "--immediate-mode", "-U", "-Z", "root", "tcp")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "listening on" in line:
                break
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)


def curl(box: NetBox, address: str, fast_open: bool) -> int:
    """One request; returns the client's port."""
    target = f"[{address}]" if ":" in address else address
    # the ClientHello with OpenSSL's usual groups, since 3.5, does not fit into a SYN
    words = ["curl", "-sk", "--curves", "prime256v1", "--noproxy", "*", "--max-time", "20",
             "-w", "%{http_code} %{local_port}", "--resolve", f"{NAME}:443:{target}",
             *(["--tcp-fastopen"] if fast_open else []), f"https://{NAME}/"]  # fmt: skip
    code, port = box.run(*words).split()
    assert code == "204"
    return int(port)


@dataclass(frozen=True)
class Witness:
    """One connection as tshark reads it."""

    payload_len: int
    requests_cookie: bool
    cookie: str
    granted_cookie: str
    acked: int
    sni: str


def witness(path: Path, port: int) -> Witness:
    words = ["tshark", "-r", str(path), "-Y", f"tcp.port == {port}", "-T", "fields", "-E", "separator=|"]
    for field in FIELDS:
        words += ["-e", field]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    rows = [dict(zip(FIELDS, line.split("|"), strict=True)) for line in done.stdout.splitlines()]
    syns = [row for row in rows if row["tcp.flags.syn"] in ("1", "True")]
    (syn,) = [row for row in syns if row["tcp.flags.ack"] in ("0", "False")]
    (synack,) = [row for row in syns if row["tcp.flags.ack"] in ("1", "True")]
    acked = (int(synack["tcp.ack_raw"]) - int(syn["tcp.seq_raw"]) - 1) % 2**32
    return Witness(
        int(syn["tcp.len"]), bool(syn["tcp.options.tfo.request"]), syn["tcp.options.tfo.cookie"],
        synack["tcp.options.tfo.cookie"], acked, syn["tls.handshake.extensions_server_name"],
    )  # fmt: skip


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with two_hosts() as hosts:
        yield hosts


def both(client: Run, server: Run, port: int) -> tuple[Handshake, Handshake]:
    return client.wait_port(port), server.wait_port(port)


@pytest.mark.parametrize("version", [4, 6])
def test_nginx_and_curl_at_both_ends(hosts: Hosts, tmp_path: Path, version: int) -> None:
    address = ADDRESSES[version][1]
    capture = tmp_path / "wire.pcap"
    before = tcp_counters(hosts.client), tcp_counters(hosts.server)
    with (
        nginx(hosts.server, tmp_path),
        tcpdump(hosts.client, capture),
        tracing(WIRE, "--json", "--show-cookies", "--netns", hosts.client.name) as at_client,
        tracing(WIRE, "--json", "--show-cookies", "--netns", hosts.server.name) as at_server,
    ):
        ports = [curl(hosts.client, address, fast_open) for fast_open in (True, True, True, False)]
        pairs = [both(at_client, at_server, port) for port in ports]
        assert (at_client.stop(), at_server.stop()) == (0, 0)
        ends = at_client.end, at_server.end
    first, second, third, plain = pairs

    for record in first:
        assert (record.tfo.request, record.tfo.outcome, record.tfo.kind) == ("cookie_request", "cookie_granted", 34)
        assert record.tls is None
    for record in (*second, *third):
        assert (record.tfo.request, record.tfo.outcome) == ("cookie_and_data", "data_acked")
        assert record.payload is not None
        assert (record.payload.protocol, record.payload.captured, record.payload.truncated) == ("tls", True, False)
        assert record.tls is not None
        assert record.tls.sni == NAME
        assert record.tfo.cookie == first[0].tfo.synack_cookie
    for record in plain:
        assert (record.tfo.request, record.tfo.outcome, record.tfo.kind) == ("none", "not_attempted", None)

    for client, server in pairs:
        assert (client.vantage, server.vantage) == ("client", "server")
        assert client.id == server.id
        assert client.community_id == server.community_id
        for one, other in ((client.client, server.client), (client.server, server.server)):
            assert (one.ip, one.port) == (other.ip, other.port)
        assert (client.syn, client.synack, client.negotiated) == (server.syn, server.synack, server.negotiated)
        assert client.handshake.result == server.handshake.result == "established"
        assert client.handshake.rtt_us == client.handshake.synack_delay_us is not None
        assert server.handshake.rtt_us == server.handshake.ack_delay_us is not None
        accepted = client.tfo.outcome == "data_acked"
        assert client.tfo.rtt_saved_us == (client.handshake.rtt_us if accepted else 0)
        assert (client.handshake.syn_count, client.handshake.synack_count) == (1, 1)
    for end in ends:
        assert_balanced(end)
        assert end.totals.handshakes == 4

    for port, (record, _) in zip(ports, pairs, strict=True):
        seen = witness(capture, port)
        assert record.synack is not None
        assert (seen.payload_len, seen.acked) == (record.syn.payload_len, record.synack.acked_payload_len)
        assert seen.requests_cookie is (record.tfo.request == "cookie_request")
        assert seen.cookie == (record.tfo.cookie or "")
        assert seen.granted_cookie == (record.tfo.synack_cookie or "")
        assert seen.sni == (record.tls.sni if record.tls is not None else "")

    after = tcp_counters(hosts.client), tcp_counters(hosts.server)
    moved = [{name: new[name] - old[name] for name in new} for old, new in zip(before, after, strict=True)]
    taken = ends[0].totals.outcomes["data_acked"]
    assert moved[0]["TCPFastOpenActive"] == moved[1]["TCPFastOpenPassive"] == taken == 2
    assert moved[1]["TCPFastOpenCookieReqd"] == ends[1].totals.requests["cookie_request"] == 1
