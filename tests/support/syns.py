"""Varied SYNs, built by scapy, as frames and as a capture; and random tcpdump expressions about them."""

from __future__ import annotations

import random
import struct
import subprocess
from pathlib import Path
from typing import Any

from tests.support.patience import LONG_S

FIRST_PORT = 10_000
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02", "02:aa:bb:cc:dd:ee")
IPV4 = ("10.0.0.1", "10.0.0.2", "10.1.2.3", "192.0.2.1", "192.0.2.77", "198.51.100.9", "172.16.5.4")
IPV6 = ("2001:db8::1", "2001:db8::2", "2001:db8:1::7", "fd00::1", "fe80::1")
PORTS = (22, 53, 80, 443, 853, 8080, 8443, 65535)
VLANS = (1, 5, 10, 100, 4094)
DLT_EN10MB, DLT_RAW = 1, 101  # LINKTYPE_ numbers of files


def frames(seed: int, count: int) -> list[bytes]:
    """SYNs, the n-th from port FIRST_PORT + n."""
    from scapy.layers.inet import IP, TCP, IPOption_NOP, IPOption_Router_Alert
    from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting
    from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
    from scapy.packet import Raw

    pick = random.Random(seed)
    found = []
    for number in range(count):
        frame: Any = Ether(src=pick.choice(MACS), dst=pick.choice(MACS))
        tags = pick.choices((0, 1, 2), (6, 3, 1))[0]
        for at in range(tags):
            kind = Dot1AD if at == 0 and pick.random() < 0.3 else Dot1Q
            frame /= kind(vlan=pick.choice(VLANS), prio=pick.choice((0, 0, 3, 7)))
        if pick.random() < 0.55:
            options = pick.choice(([], [], [], [IPOption_NOP()] * 4, [IPOption_Router_Alert()]))
            frame /= IP(
                src=pick.choice(IPV4), dst=pick.choice(IPV4), ttl=pick.choice((1, 32, 63, 64, 128, 255)),
                tos=pick.choice((0, 0, 2, 0x10, 0xB8)), id=pick.choice((0, 1, 0xBEEF)),
                flags=pick.choice((0, "DF")), options=options,
            )  # fmt: skip
        else:
            frame /= IPv6(
                src=pick.choice(IPV6), dst=pick.choice(IPV6), hlim=pick.choice((1, 64, 255)),
                tc=pick.choice((0, 2, 0xB8)), fl=pick.choice((0, 0x12345)),
            )  # fmt: skip
            for extension in pick.choice(((), (), (), (IPv6ExtHdrDestOpt,), (IPv6ExtHdrHopByHop, IPv6ExtHdrRouting))):
                frame /= extension()
        options = [
            one for one in (
                ("MSS", pick.choice((536, 1220, 1460, 8960))), ("WScale", pick.choice((0, 7, 14))), ("SAckOK", b""),
                ("Timestamp", (pick.randrange(1 << 32), 0)), (34, pick.choice((b"", bytes(8), b"\xde\xad\xbe\xef"))),
            ) if pick.random() < 0.5
        ]  # fmt: skip
        frame /= TCP(
            sport=FIRST_PORT + number, dport=pick.choice(PORTS), seq=pick.randrange(1 << 32),
            flags=pick.choice(("S", "S", "SEC", "SP")), window=pick.choice((1024, 64240, 65535)), options=options,
        )  # fmt: skip
        if pick.random() < 0.4:
            data = pick.choice(
                (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", bytes(1), bytes(range(256)) * 4)
            )
            frame /= Raw(data[: pick.randint(1, len(data))])
        found.append(bytes(frame))
    return found


def write_capture(path: Path, packets: list[bytes], link: int = DLT_EN10MB, snaplen: int = 262144) -> None:
    """A pcap file; the n-th packet's time is n seconds. Each is cut at `snaplen`."""
    with path.open("wb") as file:
        file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snaplen, link))
        for number, packet in enumerate(packets):
            kept = packet[:snaplen]
            file.write(struct.pack("=IIII", number, 0, len(kept), len(packet)) + kept)


def tcpdump_selects(capture: Path, expression: str) -> set[int] | None:
    """The numbers of the packets that tcpdump selects; None if it refuses the expression."""
    run = subprocess.run(
        ["tcpdump", "-r", str(capture), "-w", "-", expression], capture_output=True, timeout=LONG_S, check=False
    )
    if run.returncode:
        return None
    data, at = run.stdout, 24
    order = "<" if data[:4] == b"\xd4\xc3\xb2\xa1" else ">"
    found = set()
    while at < len(data):
        number, _, kept, _ = struct.unpack_from(order + "IIII", data, at)
        found.add(number)
        at += 16 + kept
    return found


class Expressions:
    """Random ones; a few of them are refused."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def expression(self, depth: int = 3) -> str:
        way = self.random.random()
        if depth == 0 or way < 0.35:
            return self.primitive()
        if way < 0.45:
            return f"{self.random.choice(['not', '!'])} ({self.expression(depth - 1)})"
        if way < 0.52:
            return f"vlan {self.random.choice(['', str(self.random.choice(VLANS))])} and ({self.expression(depth - 1)})"
        join = self.random.choice(["and", "and", "or", "or", "&&", "||"])
        left, right = self.expression(depth - 1), self.expression(depth - 1)
        return f"({left}) {join} ({right})" if self.random.random() < 0.7 else f"{left} {join} {right}"

    def primitive(self) -> str:
        pick = self.random
        return pick.choice(
            (self.host, self.host, self.net, self.port, self.port, self.protocol, self.link, self.length, self.bytes,
             self.bytes, self.bytes, self.flags)
        )()  # fmt: skip

    def direction(self) -> str:
        return self.random.choice(["", "src ", "dst ", "src or dst ", "src and dst "])

    def host(self) -> str:
        return f"{self.direction()}host {self.random.choice(IPV4 + IPV6)}"

    def net(self) -> str:
        pick = self.random
        if pick.random() < 0.6:
            bits = pick.choice((0, 1, 8, 15, 16, 24, 31, 32))
            address = int.from_bytes(bytes(map(int, pick.choice(IPV4).split("."))), "big") >> (32 - bits) << (32 - bits)
            text = ".".join(map(str, address.to_bytes(4, "big")))
        else:
            text, bits = pick.choice((("2001:db8::", 32), ("2001:db8:1::", 48), ("fe80::", 10), ("::", 0)))
        return f"{self.direction()}net {text}/{bits}"

    def port(self) -> str:
        pick = self.random
        protocol = pick.choice(["", "tcp ", "udp "])
        if pick.random() < 0.3:
            low = pick.choice((1, 80, 443, FIRST_PORT, FIRST_PORT + 50))
            return f"{protocol}{self.direction()}portrange {low}-{low + pick.randint(0, 9000)}"
        return f"{protocol}{self.direction()}port {pick.choice((*PORTS, FIRST_PORT + pick.randrange(200)))}"

    def protocol(self) -> str:
        return self.random.choice(
            ["ip", "ip6", "tcp", "udp", "arp", "icmp", "ip proto 6", "ip6 proto 6", "proto 6", "ip6 proto 60",
             "ip6 proto 0", "ip broadcast", "ip multicast", "ip6 multicast", "vlan",
             f"vlan {self.random.choice(VLANS)}", "mpls", "pppoes", "icmp6", "igmp", "sctp"]
        )  # fmt: skip

    def link(self) -> str:
        kind = self.random.choice(["host", "src", "dst"])
        proto = self.random.choice(["0x0800", "0x86dd", "0x8100", "\\\\ip", "\\\\ip6", "0x88a8"]).replace("\\\\", "\\")
        return self.random.choice(
            [f"ether {kind} {self.random.choice(MACS)}", f"ether proto {proto}", "ether broadcast", "ether multicast"]
        )

    def length(self) -> str:
        number = self.random.choice((40, 54, 60, 66, 74, 78, 90, 100, 200, 1000))
        return self.random.choice(
            [f"less {number}", f"greater {number}", f"len {self.relation()} {number}", f"len % {number % 7} = 1",
             f"len - 54 {self.relation()} {number % 50}"]
        )  # fmt: skip

    def relation(self) -> str:
        return self.random.choice(["=", "!=", "<", ">", "<=", ">=", "=="])

    def load(self) -> str:
        pick = self.random
        protocol, most = pick.choice((("ether", 30), ("ip", 30), ("tcp", 70), ("ip6", 60), ("tcp", 20), ("ether", 200)))
        place = str(pick.randrange(most))
        if pick.random() < 0.25:
            place = pick.choice(
                [f"{protocol}[{pick.randrange(20)}] & 15", "(tcp[12] & 0xf0) >> 2",
                 f"{place} + (ip[0] & 0xf) * 4", f"len - {pick.randint(1, 60)}",
                 f"{pick.randrange(9)} - {pick.randrange(9)}", f"ip[8] % {pick.randrange(4)}"]
            )  # fmt: skip
        size = pick.choice(["", "", ":1", ":2", ":4"])
        return f"{protocol}[{place}{size}]"

    def bytes(self) -> str:
        pick = self.random
        number = pick.choice((0, 1, 2, 6, 0x45, 64, 255, 443, 0x0800, 0x16030102, 0xDEADBEEF, 0xFFFFFFFF))
        operation = pick.choice(
            ["", "", "", " & 0xf0", " & 1", " | 2", " ^ 5", " + 7", " - 3", " * 3", " / 2", " % 16", " << 2", " >> 4",
             f" & {self.load()}", f" / {self.load()}", f" % {self.load()}", f" << ({self.load()} & 63)",
             f" >> {self.load()}", f" - {self.load()}"]
        )  # fmt: skip
        right = self.load() if pick.random() < 0.2 else hex(number)
        return f"{self.load()}{operation} {self.relation()} {right}"

    def flags(self) -> str:
        return self.random.choice(
            ["tcp[tcpflags] & tcp-syn != 0", "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn", "tcp[tcpflags] == tcp-syn",
             "tcp[13] & 0xc0 = 0xc0", "tcp[tcpflags] & tcp-push != 0", "ip[6] & 0x40 != 0", "ip[1] & 3 = 2",
             "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420"]
        )  # fmt: skip
