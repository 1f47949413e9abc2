"""Hosts in a row, each in its own namespace: client -- near box -- router -- far box -- server.

The boxes lose segments; client, router and server are places to watch. Interfaces are "left" and "right", addresses
10.96.N.1 and 10.96.N.2 of link N.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.netbox import Boxes, NetBox

LEFT, RIGHT = "left", "right"
SERVER_IP = "10.96.4.2"


class Chain(Boxes):
    """The five hosts."""

    def __init__(self) -> None:
        super().__init__(5)

    def _build(self, *boxes: NetBox) -> None:
        self.client, self.near, self.router, self.far, self.server = boxes
        last = len(self.boxes) - 1
        for number in range(1, last + 1):
            one, other = self.boxes[number - 1 : number + 1]
            one.run("ip", "link", "add", RIGHT, "type", "veth", "peer", "name", LEFT, "netns", other.name)
            for box, link, end in ((one, RIGHT, 1), (other, LEFT, 2)):
                box.run("ip", "address", "add", f"10.96.{number}.{end}/24", "dev", link)
                box.run("ip", "link", "set", link, "up")
        for place, box in enumerate(self.boxes):
            box.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0")
            for number in range(1, last + 1):
                if number > place + 1:
                    box.run("ip", "route", "add", f"10.96.{number}.0/24", "via", f"10.96.{place + 1}.2")
                elif number < place:
                    box.run("ip", "route", "add", f"10.96.{number}.0/24", "via", f"10.96.{place}.1")


@contextmanager
def chained() -> Iterator[Chain]:
    made = Chain()
    try:
        yield made
    finally:
        made.close()
