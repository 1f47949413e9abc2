"""Translated connections, as the tables in /proc have them."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from tracer.linux import conntrack
from tracer.linux.conntrack import Flow, translated
from tracer.linux.modules import Modules
from tracer.vocabulary.addresses import sixteen_bytes

TCP = (
    "ipv4     2 tcp      6 431999 ESTABLISHED src=192.0.2.1 dst=198.51.100.1 sport=4000 dport=443 packets=9 bytes=99 "
    "src={} dst=192.0.2.1 sport={} dport=4000 packets=9 bytes=99 [ASSURED] mark=0 zone=0 use=2"
)
IPVS = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData"


def flow(client: str, port: int, server: str, server_port: int) -> Flow:
    one, other = (sixteen_bytes(ipaddress.ip_address(text).packed) for text in (client, server))
    return one, port, other, server_port


FLOW = flow("192.0.2.1", 4000, "198.51.100.1", 443)


@pytest.mark.parametrize(
    ("line", "elsewhere"),
    [
        (TCP.format("198.51.100.1", 443), False),
        (TCP.format("10.0.0.2", 443), True),
        (TCP.format("198.51.100.1", 8443), True),
        (TCP.format("198.51.100.1", 443).replace("tcp ", "udp "), None),
        (TCP.format("198.51.100.1", 443).replace("sport=4000", "sport=4001"), None),
        ("nonsense", None),
        ("", None),
        ("a b tcp src= dst= sport= dport=", None),
        ("\udcff=\udcff b tcp", None),
    ],
)
def test_conntracks_table(tmp_path: Path, line: str, elsewhere: bool | None) -> None:
    (tmp_path / "nf_conntrack").write_text(line + "\n", errors="surrogateescape")
    found = conntrack._in_table(str(tmp_path / "nf_conntrack"), conntrack._line, {FLOW})
    assert found == ({} if elsewhere is None else {FLOW: elsewhere})


def test_ipvs(tmp_path: Path) -> None:
    six = flow("2001:db8::1", 4000, "2001:db8::2", 443)
    here = flow("192.0.2.9", 4000, "198.51.100.1", 443)
    lines = [
        IPVS,
        "TCP C0000201 0FA0 C6336401 01BB 0A000002 01BB ESTABLISHED     899",
        "TCP C0000209 0FA0 C6336401 01BB C6336401 01BB ESTABLISHED     899",
        "UDP C0000202 0FA0 C6336401 01BB 0A000002 01BB UDP             899",
        "TCP 2001:0db8:0000:0000:0000:0000:0000:0001 0FA0 2001:0db8:0000:0000:0000:0000:0000:0002 01BB "
        "2001:0db8:0000:0000:0000:0000:0000:0003 01BB SYN_RECV        899",
    ]
    (tmp_path / "ip_vs_conn").write_text("\n".join(lines) + "\n")
    unknown = flow("192.0.2.2", 4000, "198.51.100.1", 443)
    flows = [FLOW, here, six, unknown]
    found = translated(flows, Modules(*[str(tmp_path)] * 3), str(tmp_path))
    assert found == {FLOW: True, here: False, six: True, unknown: False}


def test_a_table_that_is_too_long_says_nothing(tmp_path: Path) -> None:
    line = "TCP C0000201 0FA0 C6336401 01BB 0A000002 01BB ESTABLISHED     899\n"
    (tmp_path / "ip_vs_conn").write_text(line * (1 + conntrack.READ_MAX // len(line)))
    assert translated([FLOW], Modules(*[str(tmp_path)] * 3), str(tmp_path)) == {}


@pytest.mark.parametrize("raw", [b"", b"\x08\0\x01\x80\0\0\0\0", b"\xff" * 40, bytes(64)])
def test_what_is_no_tuple(raw: bytes) -> None:
    assert conntrack._tuple(raw) is None
