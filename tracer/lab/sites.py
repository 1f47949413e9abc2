"""Sites that are far away, each a name and an address, and what listens there. Their names tell what ails them."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tracer.lab import netns, sockets, topology
from tracer.lab.topology import SERVICE_HTTP, SERVICE_TLS, Place

BUSY_S = 7.0  # a busy server accepts nothing for so long: longer than a tracer waits for its answer
BUSY_BACKLOG = 2
_QUEUE = 1024
# A SYN without data has at most 60 bytes of TCP header.
_EATS_SYN_DATA = "table ip firewall {{ chain input {{ type filter hook input priority 0; \
ip daddr {} tcp flags & (syn | ack) == syn meta length > 80 drop; }}; }}"


@dataclass(frozen=True, slots=True)
class Site:
    """One of them; `listen` makes its listeners in the calling thread's namespace, at the site's address."""

    name: str
    place: Place
    host: int
    about: str  # a clause
    listen: Callable[[str], list[socket.socket]]

    @property
    def address(self) -> str:
        """IPv4 only."""
        return topology.address(self.place, self.host, 4)


def _healthy(ip: str) -> list[socket.socket]:
    """Fast Open as it should be."""
    return [sockets.listener(4, ip, SERVICE_TLS, _QUEUE)]


def _two_keys(ip: str) -> list[socket.socket]:
    """Two servers with a key each. By a hash of the ports the kernel chooses one, as a balancer does."""
    return [sockets.listener(4, ip, SERVICE_TLS, _QUEUE, os.urandom(16), shared=True) for _ in range(2)]


def _behind_firewall(ip: str) -> list[socket.socket]:
    """A firewall in front of the server eats SYNs with data; without nft a filter of the socket does."""
    try:
        by_nft = not subprocess.run(["nft", _EATS_SYN_DATA.format(ip)], check=False, capture_output=True).returncode
    except OSError:
        by_nft = False
    return [sockets.listener(4, ip, SERVICE_TLS, _QUEUE, drop=None if by_nft else sockets.DROP_SYN_WITH_DATA)]


def _busy(ip: str) -> list[socket.socket]:
    """A short accept queue: Linux takes one connection more than the backlog."""
    return [sockets.listener(4, ip, SERVICE_HTTP, queue=None, backlog=BUSY_BACKLOG)]


EU = Site("eu.example", Place.EU, 2, "Fast Open works", _healthy)
FIREWALL = Site("firewall.eu.example", Place.EU, 3, "its firewall drops SYNs with data", _behind_firewall)
BUSY = Site("busy.eu.example", Place.EU, 4, "its accept queue is full most of the time", _busy)
US = Site("us.example", Place.US, 2, "Fast Open works", _healthy)
TWO_KEYS = Site("two-keys.us.example", Place.US, 3, "its two servers do not share a cookie key", _two_keys)
SITES = (EU, US, TWO_KEYS, FIREWALL, BUSY)


def listen(site: Site, spaces: Mapping[Place, int]) -> list[socket.socket]:
    """Its listeners, in its own namespace: `spaces` has the descriptors. Raises OSError."""
    with netns.entered(spaces[site.place]):
        return site.listen(site.address)
