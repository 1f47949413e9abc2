"""The long ways of the lab: from the server host, which routes, to hosts that are 20 and 80 ms away.

The kernel's netem delays packets where it is there; else a relay does, in a process of its own.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from tracer.lab import netns, topology
from tracer.lab.child import come_first
from tracer.lab.relay import Lane, Relay
from tracer.lab.sites import SITES
from tracer.lab.topology import Place

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # include/uapi/linux/if_tun.h


@dataclass(frozen=True, slots=True)
class Road:
    """A way to one place, with a round trip of so many milliseconds on top of what the hosts take."""

    place: Place
    round_trip_ms: int

    @property
    def here(self) -> str:
        """The server host's interface."""
        return f"to-{self.place.name.lower()}"

    @property
    def there(self) -> str:
        """The interface at the other end."""
        return self.place.name.lower()


DELAYED, NEAR = "delayed", "near"  # what `build` could make of them
ROADS = (Road(Place.EU, 20), Road(Place.US, 80))


def build(server: int, far: Mapping[Place, int]) -> tuple[str, list[int]]:
    """Make links and addresses between the namespaces of these descriptors. Raises OSError.

    Returns DELAYED and the tun devices that a relay must join: none where the kernel has netem. They go with their
    descriptors. With neither the links have no delay: NEAR.
    """
    netem = knows_qdisc(server, "netem")
    devices = [] if netem else _tun_devices(server, far)
    for road in ROADS:
        space = far[road.place]
        with netns.entered(space):
            topology.quiet_defaults()
        if not devices:
            _make_veth(road, server, space, netem)
        _address(road, server, space)
    return DELAYED if netem or devices else NEAR, devices


def be_relay(devices: list[int]) -> None:
    """Main function of the relay's process: join the devices that `build` made, until the process ends."""
    come_first()
    lanes: list[Lane] = []
    for road, here, there in zip(ROADS, devices[::2], devices[1::2], strict=True):
        delay_s = road.round_trip_ms / 2000
        lanes += (Lane(here, there, delay_s), Lane(there, here, delay_s))
    Relay(lanes).run()


def knows_qdisc(space: int, kind: str) -> bool:
    """Does the kernel have this queueing discipline? Tries it on the loopback of a namespace that nobody uses yet."""
    from tracer.linux.pyroute import route_socket  # here, since others only use the table

    with netns.entered(space), suppress(FileNotFoundError), route_socket() as route:
        loopback = int(route.link_lookup(ifname="lo")[0])
        route.tc("add", kind, index=loopback)
        route.tc("del", index=loopback, handle=0, root=True)  # 0: whatever handle it got
        return True
    return False


def _make_veth(road: Road, server: int, far: int, netem: bool) -> None:
    from tracer.linux.pyroute import route_socket

    with netns.entered(server), route_socket() as route:
        route.link("add", ifname=road.here, kind="veth", peer={"ifname": road.there, "net_ns_fd": far})
    for space, name in ((server, road.here), (far, road.there)):
        if netem:
            with netns.entered(space), route_socket() as route:
                delay_us = road.round_trip_ms * 500
                route.tc("add", "netem", index=int(route.link_lookup(ifname=name)[0]), delay=delay_us)


def _tun_devices(server: int, far: Mapping[Place, int]) -> list[int]:
    """A device at each end of each road; none where the kernel has no such devices."""
    made: list[int] = []
    try:
        for road in ROADS:
            for space, name in ((server, road.here), (far[road.place], road.there)):
                with netns.entered(space):
                    made.append(os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
                    fcntl.ioctl(made[-1], _TUNSETIFF, struct.pack("16sH14x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError:
        while made:
            os.close(made.pop())
    return made


def _address(road: Road, server: int, far: int) -> None:
    from tracer.linux.pyroute import route_socket

    gateway = topology.address(road.place, 1, 4)
    with netns.entered(server), route_socket() as route:
        topology.add_address(route, topology.up(route, road.here), gateway)
    with netns.entered(far), route_socket() as route:
        netns.write_sysctl("ipv4/tcp_fastopen", "3")
        link = topology.up(route, road.there)
        for site in SITES:
            if site.place is road.place:
                topology.add_address(route, link, site.address)
        route.route("add", dst="default", gateway=gateway, family=socket.AF_INET)
