"""The process of those who use the lab's servers: ordinary traffic to the near ones, and visits of those far away.

It has a process of its own, since they must not wait for each other's interpreter: how soon a client goes on after its
handshake is part of what is measured.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial

from tracer.lab import background, netns, sites, sockets
from tracer.lab.child import MESSAGE_MAX, come_first, say
from tracer.lab.payloads import http_request
from tracer.lab.sites import Site
from tracer.lab.topology import SERVICE_HTTP, SERVICE_TLS

_PAUSE_S = 0.1  # after a visit
_LATER_S = 1.0  # after a failure


def be_visitors(control: socket.socket, client: int) -> None:
    """Main function: live in the namespace `client`, wait for `visit RATE`, and visit until the lab ends."""
    netns.enter(client)
    come_first()
    words = control.recv(MESSAGE_MAX).split()
    if len(words) != 2:  # the lab ended without traffic
        return
    per_s = float(words[1])
    tours: list[tuple[str, Callable[[], None]]] = [("ordinary traffic", lambda: background.run_clients(per_s))]
    tours += [(site.name, partial(_tour, site)) for site in sites.SITES]
    for name, tour in tours:
        threading.Thread(target=_keep_on, args=(control, name, tour), daemon=True, name=name).start()
    control.recv(MESSAGE_MAX)


def _keep_on(control: socket.socket, name: str, tour: Callable[[], None]) -> None:
    while True:
        try:
            tour()
        except OSError as error:
            say(control, f"fault {name}: {error}")
        time.sleep(_LATER_S)


def _tour(site: Site) -> None:
    """Visit a site again and again, until a visit fails: raises OSError."""
    while True:
        if site is sites.BUSY:
            _crowd(site)
            continue
        for fast_open in (True,) if site is sites.TWO_KEYS else (True, False):
            background.exchange_tls(site.address, SERVICE_TLS, site.name, fast_open)
            time.sleep(_PAUSE_S)


def _crowd(site: Site) -> None:
    """Some fill the queue but for one place; then several come at once, and wait until they get what they want.

    All of these get a SYN-ACK. As no more come at once than the backlog has room for, none of them is a SYN cookie.
    """
    early = sites.BUSY_BACKLOG
    with ExitStack() as stack:
        clients = [stack.enter_context(sockets.stream(4)) for _ in range(2 * early + 1)]
        for number, client in enumerate(clients):
            client.setblocking(number < early)
            with suppress(BlockingIOError):
                client.connect((site.address, SERVICE_HTTP))
        for client in clients:
            client.settimeout(3 * sites.BUSY_S)
            client.sendall(http_request(site.name))
        for client in clients:
            client.recv(4096)
            client.close()  # or the server waits for it
    time.sleep(_PAUSE_S)
