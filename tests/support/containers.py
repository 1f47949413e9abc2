"""A host of two containers behind a bridge, as Docker builds it, and a client outside.

outside (10.97.0.2) -- host (10.97.0.1, bridge 172.28.0.1) -- one (172.28.0.2), two (172.28.0.3). A port of the host is
forwarded by an entry of a map. Who comes from a container is masqueraded, also on the way back to the bridge.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.support.hosts import TCP_FASTOPEN, WIRE
from tests.support.netbox import Boxes, NetBox
from tests.support.patience import SHORT_S
from tests.support.tracing import INFERRING, Run, tracing
from tests.support.trials import Places

HOST, OUTSIDE, BRIDGE, ONE, TWO = "10.97.0.1", "10.97.0.2", "172.28.0.1", "172.28.0.2", "172.28.0.3"
GONE = "172.28.0.99"  # an address of the containers' network that none has
_UPLINK, _BRIDGE, _ETH = "uplink", "bridge0", "eth0"
_RULES = """table ip containers {
  map forwarded { type inet_service : ipv4_addr . inet_service; }
  chain before { type nat hook prerouting priority dstnat; fib daddr type local dnat ip to tcp dport map @forwarded; }
  chain own { type nat hook output priority -100;
              ip daddr != 127.0.0.0/8 fib daddr type local dnat ip to tcp dport map @forwarded; }
  chain masquerades { ip saddr 172.28.0.0/24 oifname uplink masquerade;
                      ip saddr 172.28.0.0/24 ct status dnat masquerade; }
  chain after { type nat hook postrouting priority srcnat; jump masquerades; }
}"""


class Containers(Boxes):
    """The four hosts. Fast Open is on in the containers; the host has the usual setting, its client's bit alone."""

    def __init__(self) -> None:
        super().__init__(4)

    def _build(self, *boxes: NetBox) -> None:
        self.outside, self.host, self.one, self.two = boxes
        for box in self.boxes:
            fast_open = 1 if box is self.host else 3
            box.run("sysctl", "-qw", f"net.ipv4.tcp_fastopen={fast_open}", "net.ipv4.conf.all.rp_filter=0",
                    "net.ipv4.conf.default.rp_filter=0", "net.ipv4.tcp_fastopen_blackhole_timeout_sec=0")  # fmt: skip
            box.run("ip", "link", "set", "lo", "up")
        # bridged segments go by the bridge alone
        self.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=0")
        self.host.run("ip", "link", "add", _BRIDGE, "type", "bridge")
        self._join(self.outside, WIRE, _UPLINK, OUTSIDE)
        for box, port, ip in ((self.one, "one", ONE), (self.two, "two", TWO)):
            self._join(box, _ETH, port, ip)
            self.host.run("ip", "link", "set", port, "master", _BRIDGE)
            # what a container sends to itself by way of the host must leave by the port on which it came
            self.host.run("ip", "link", "set", port, "type", "bridge_slave", "hairpin", "on")
        for link, ip in ((_UPLINK, HOST), (_BRIDGE, BRIDGE)):
            self.host.run("ip", "address", "add", f"{ip}/24", "dev", link)
        self.host.run("ip", "link", "set", _BRIDGE, "up")
        for box, gateway in ((self.outside, HOST), (self.one, BRIDGE), (self.two, BRIDGE)):
            box.run("ip", "route", "add", "default", "via", gateway)
        self.host.run("nft", _RULES)

    def _join(self, box: NetBox, inner: str, outer: str, ip: str) -> None:
        self.host.run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", box.name)
        self.host.run("ip", "link", "set", outer, "up")
        box.run("ip", "link", "set", inner, "up")
        box.run("ip", "address", "add", f"{ip}/24", "dev", inner)

    @contextmanager
    def forward(self, port: int, ip: str = ONE, to_port: int = 0) -> Iterator[None]:
        """Forward a port of the host to a container, to the same port unless told otherwise."""
        self.host.run("nft", f"add element ip containers forwarded {{ {port} : {ip} . {to_port or port} }}")
        try:
            yield
        finally:
            self.host.run("nft", f"delete element ip containers forwarded {{ {port} }}")

    @contextmanager
    def no_masquerade(self) -> Iterator[None]:
        """As on a host that was told to forward, and not how the answers come back."""
        self.host.run("nft", "flush chain ip containers after")
        try:
            yield
        finally:
            self.host.run("nft", "add rule ip containers after jump masquerades")


def listen(box: NetBox, ip: str, port: int, queue: int | None = 64) -> socket.socket:
    """A listener; `queue` None leaves Fast Open off."""
    with box.inside():
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(SHORT_S)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((ip, port))
    if queue is not None:
        made.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, queue)
    made.listen(64)
    return made


@contextmanager
def container_places() -> Iterator[tuple[Containers, Places]]:
    """All of them, traced on every interface."""
    with ExitStack() as opened:
        hosts = Containers()
        opened.callback(hosts.close)

        def run(box: NetBox, *interfaces: str) -> Run:
            return opened.enter_context(tracing(*interfaces, "--json", INFERRING, "--netns", box.name))

        host = run(hosts.host, _UPLINK, _BRIDGE, "one", "two")
        yield hosts, Places({
            "outside": (run(hosts.outside, WIRE), WIRE), "uplink": (host, _UPLINK), "bridge": (host, _BRIDGE),
            "port of one": (host, "one"), "port of two": (host, "two"),
            "one": (run(hosts.one, _ETH), _ETH), "two": (run(hosts.two, _ETH), _ETH),
        })  # fmt: skip
