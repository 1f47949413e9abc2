"""The lab's network: client --- server, and behind the server three hosts. Each is a namespace, links are veth pairs.

client   connects; tfotrace traces its interface
server   answers with Fast Open on, and routes to those behind it
far      has Fast Open off by sysctl, behind a link with a smaller MTU
eu, us   are far away: their round trip takes 20 and 80 ms (road.py)
The server also answers for addresses that are unreachable (ICMP). Each scenario has its own server address, and so its
own cookie history, which a Linux client keeps per address.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.lab import netns

if TYPE_CHECKING:
    from pyroute2.iproute import IPRoute

CLIENT_INTERFACE = "demo-client"
SERVER_INTERFACE = "demo-server"
_TO_FAR, _FAR = "to-far", "far"
FAR_MTU = 1300  # bytes
SERVICE_HOSTS = 4  # addresses of the server for ordinary traffic
SERVICE_TLS, SERVICE_HTTP, SERVICE_DNS = 443, 80, 53  # ports of the ordinary services
_FIRST_SERVICE = 2
_FIRST_SCENARIO = 20


class Place(Enum):
    """Where a server address is: the third byte of an IPv4 address and the prefix of an IPv6 address."""

    SERVER = (13, "fd00:7413::")
    FAR = (14, "fd00:7413:0:14::")
    UNREACHABLE = (15, "fd00:7413:0:15::")
    EU = (20, "fd00:7413:0:20::")
    US = (80, "fd00:7413:0:80::")


BEHIND = (Place.FAR, Place.EU, Place.US)  # hosts of their own


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Descriptors of the network namespaces that scenarios use."""

    client: int
    server: int
    far: int


def has_ipv6() -> bool:
    """Does this kernel have IPv6 at all?"""
    return Path("/proc/sys/net/ipv6").is_dir()


def versions() -> tuple[int, ...]:
    """The IP versions that this kernel can show."""
    return (4, 6) if has_ipv6() else (4,)


def address(place: Place, host: int, version: int) -> str:
    """Address of host number `host` in `place` for IP version 4 or 6."""
    third, prefix = place.value
    return f"10.74.{third}.{host}" if version == 4 else f"{prefix}{host:x}"


def network(place: Place, version: int) -> str:
    """The network of `place`, for routes."""
    third, prefix = place.value
    return f"10.74.{third}.0/24" if version == 4 else f"{prefix}/64"


def client_address(version: int) -> str:
    """The client's only address of that IP version."""
    return address(Place.SERVER, 1, version)


def service_address(number: int, version: int) -> str:
    """Address `number` (from 0) of the server's ordinary services; 0 is the server's main address."""
    return address(Place.SERVER, _FIRST_SERVICE + number, version)


def scenario_address(position: int, place: Place, version: int) -> str:
    """The server address of the scenario at `position` of the table."""
    return address(place, _FIRST_SCENARIO + position, version)


def build(spaces: Namespaces, places: list[Place]) -> None:
    """Make links, addresses, routes and sysctls; `places` has one entry per scenario. Raises OSError."""
    from tracer.linux.pyroute import route_socket  # here, since others only use the addresses

    for descriptor in (spaces.client, spaces.server, spaces.far):
        with netns.entered(descriptor):
            quiet_defaults()
    with netns.entered(spaces.server):
        _server_sysctls()
        with route_socket() as route:
            peer = {"ifname": CLIENT_INTERFACE, "net_ns_fd": spaces.client}
            route.link("add", ifname=SERVER_INTERFACE, kind="veth", peer=peer)
            peer = {"ifname": _FAR, "net_ns_fd": spaces.far, "mtu": FAR_MTU}
            route.link("add", ifname=_TO_FAR, kind="veth", mtu=FAR_MTU, peer=peer)
            here = up(route, SERVER_INTERFACE)
            behind = up(route, _TO_FAR)
            for version in versions():
                for number in range(SERVICE_HOSTS):
                    add_address(route, here, service_address(number, version))
                add_address(route, behind, address(Place.FAR, 1, version))
                for position, place in enumerate(places):
                    if place is Place.SERVER:
                        add_address(route, here, scenario_address(position, place, version))
                family = _family(version)
                route.route("add", dst=network(Place.UNREACHABLE, version), type="unreachable", family=family)
    with netns.entered(spaces.far):
        netns.write_sysctl("ipv4/tcp_fastopen", "0")
        with route_socket() as route:
            link = up(route, _FAR)
            for version in versions():
                for position, place in enumerate(places):
                    if place is Place.FAR:
                        add_address(route, link, scenario_address(position, place, version))
                gateway = address(Place.FAR, 1, version)
                route.route("add", dst="default", gateway=gateway, family=_family(version))
    with netns.entered(spaces.client):
        _client_sysctls()
        with route_socket() as route:
            link = up(route, CLIENT_INTERFACE)
            for version in versions():
                add_address(route, link, client_address(version))
                far_away = (Place.EU, Place.US) if version == 4 else ()
                for place in (Place.FAR, Place.UNREACHABLE, *far_away):
                    gateway = service_address(0, version)
                    route.route("add", dst=network(place, version), gateway=gateway, family=_family(version))


def forget_path_mtu() -> None:
    """Make the calling thread's namespace forget path MTUs (those of IPv6 expire, see `_client_sysctls`)."""
    netns.write_sysctl("ipv4/route/flush", "1")


def _family(version: int) -> int:
    return int(socket.AF_INET if version == 4 else socket.AF_INET6)


def up(route: IPRoute, name: str) -> int:
    """Set a link and the loopback of the calling thread's namespace up; returns the link's index."""
    for each in ("lo", name):
        index = int(route.link_lookup(ifname=each)[0])
        route.link("set", index=index, state="up")
    return index


def add_address(route: IPRoute, index: int, ip: str) -> None:
    """Give a link an address of one of the lab's networks."""
    ipv6 = ":" in ip
    # 0x02 = IFA_F_NODAD: otherwise duplicate address detection takes a second
    extra = {"flags": 0x02} if ipv6 else {}
    route.addr("add", index=index, address=ip, prefixlen=64 if ipv6 else 24, **extra)


def quiet_defaults() -> None:
    """Keep other traffic off the links of the calling thread's namespace, undo settings that would spoil scenarios."""
    for scope in ("all", "default"):
        netns.write_sysctl(f"ipv4/conf/{scope}/rp_filter", "0")
        netns.write_sysctl(f"ipv6/conf/{scope}/disable_ipv6", "0")
        netns.write_sysctl(f"ipv6/conf/{scope}/accept_dad", "0")
        netns.write_sysctl(f"ipv6/conf/{scope}/accept_ra", "0")
        netns.write_sysctl(f"ipv6/conf/{scope}/router_solicitations", "0")
    netns.write_sysctl("ipv4/tcp_fastopen_blackhole_timeout_sec", "0")


def _server_sysctls() -> None:
    netns.write_sysctl("ipv4/tcp_fastopen", "3")
    netns.write_sysctl("ipv4/tcp_fastopen_key", "-".join(os.urandom(4).hex() for _ in range(4)))
    netns.write_sysctl("ipv4/ip_forward", "1")
    netns.write_sysctl("ipv6/conf/all/forwarding", "1")
    # Each scenario needs its ICMP error. Do not use icmp_ratelimit: at 0 it empties the peer's tokens, and the routing
    # code (ip_error) also needs one a second.
    netns.write_sysctl("ipv4/icmp_ratemask", "0")
    netns.write_sysctl("ipv6/icmp/ratelimit", "0")


def _client_sysctls() -> None:
    netns.write_sysctl("ipv4/tcp_fastopen", "1")
    netns.write_sysctl("ipv6/route/mtu_expires", "1")  # seconds, so that each round meets the small MTU again
