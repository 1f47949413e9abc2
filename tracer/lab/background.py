"""Ordinary traffic: services for TLS, HTTP and DNS with Fast Open, and clients that use them at a steady rate."""

from __future__ import annotations

import random
import select
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from tracer.lab import sockets, topology
from tracer.lab.payloads import HTTP_ANSWER, ClientHello, client_tls, dns_answer, dns_query, http_request, server_tls
from tracer.lab.sites import BUSY, BUSY_S, SITES, listen
from tracer.lab.topology import SERVICE_DNS, SERVICE_HTTP, SERVICE_TLS, Place

_NAMES = ("near.example", "api.near.example", "static.near.example", "login.near.example")  # one an address
_WORKERS = 8

_client_context = threading.local()


def serve(control: socket.socket, spaces: Mapping[Place, int]) -> None:
    """Serve on every address of the calling thread's namespace, and the sites in `spaces`, for ever.

    Sends `ready` when it listens. Raises OSError if it cannot.
    """
    context = server_tls()
    pool = ThreadPoolExecutor(_WORKERS)
    waiting = selectors.DefaultSelector()
    for version in topology.versions():
        for port in (SERVICE_TLS, SERVICE_HTTP, SERVICE_DNS):
            listener = sockets.listener(version, "0.0.0.0" if version == 4 else "::", port, queue=1024)
            listener.setblocking(False)  # a client may be gone before accept
            waiting.register(listener, selectors.EVENT_READ, port)
    for site in SITES:
        for listener in listen(site, spaces):
            listener.setblocking(False)
            if site is BUSY:
                threading.Thread(target=_serve_busily, args=(listener, context), daemon=True).start()
            else:
                waiting.register(listener, selectors.EVENT_READ, SERVICE_TLS)
    control.send(b"ready")
    while True:
        for key, _ in waiting.select():
            assert isinstance(key.fileobj, socket.socket)
            client = _accept(key.fileobj)
            if client is not None:
                pool.submit(_answer, client, key.data, context)


def _accept(listener: socket.socket) -> socket.socket | None:
    """The next client, unless it has gone."""
    try:
        return listener.accept()[0]
    except OSError:
        time.sleep(0.01)  # never in a circle: this thread comes before others
        return None


def _serve_busily(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Accept nothing for BUSY_S seconds once somebody has come, then answer all who wait; for ever."""
    while True:
        select.select([listener], [], [])
        time.sleep(BUSY_S)
        while (client := _accept(listener)) is not None:
            _answer(client, SERVICE_HTTP, context)


def _answer(client: socket.socket, port: int, context: ssl.SSLContext) -> None:
    """Answer one request. Ignores clients that break off."""
    try:
        client.settimeout(3)
        if port == SERVICE_TLS:
            with context.wrap_socket(client, server_side=True) as secure:
                secure.recv(4096)
                secure.sendall(HTTP_ANSWER)
                secure.recv(1)
        else:
            with client:
                request = client.recv(4096)
                client.sendall(dns_answer(request) if port == SERVICE_DNS else HTTP_ANSWER)
                client.recv(1)
    except OSError:  # ssl.SSLError is one
        client.close()


def exchange_tls(server: str, port: int, name: str, fast_open: bool) -> None:
    """Make one TLS connection. With `fast_open` and a cookie, the ClientHello is in the SYN. Raises OSError."""
    if not hasattr(_client_context, "tls"):
        _client_context.tls = client_tls()
    hello = ClientHello(_client_context.tls, name)
    with _open(server, port, hello.first_flight, fast_open) as client:
        while (reply := hello.receive(_some(client))) is None:
            pass
        client.sendall(reply)
        _some(client)


def _exchange(server: str, port: int, request: bytes, fast_open: bool) -> None:
    with _open(server, port, request, fast_open) as client:
        _some(client)


def _open(server: str, port: int, first: bytes, fast_open: bool) -> socket.socket:
    client = sockets.stream(6 if ":" in server else 4)
    try:
        if fast_open:
            client.sendto(first, sockets.MSG_FASTOPEN, (server, port))
        else:
            client.connect((server, port))
            client.sendall(first)
    except OSError:
        client.close()
        raise
    return client


def _some(client: socket.socket) -> bytes:
    data = client.recv(65536)
    if not data:
        raise ConnectionError("the server closed too early")
    return data


def run_clients(per_s: float) -> None:
    """Open `per_s` connections a second to the services, until one fails: raises OSError.

    Each thing is asked for with Fast Open and without, in turn, so that the two can be compared.
    """
    chance = random.Random(7413)
    versions = topology.versions()
    due = time.monotonic()
    while True:
        number = chance.randrange(topology.SERVICE_HOSTS)
        server, name, what = topology.service_address(number, chance.choice(versions)), _NAMES[number], chance.random()
        for fast_open in (True, False):
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic() - 1.0) + 1.0 / per_s
            if what < 0.6:
                exchange_tls(server, SERVICE_TLS, name, fast_open)
            elif what < 0.85:
                _exchange(server, SERVICE_HTTP, http_request(name), fast_open)
            else:
                _exchange(server, SERVICE_DNS, dns_query(name), fast_open)
