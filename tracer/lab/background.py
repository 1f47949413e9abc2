"""Ordinary traffic: services for TLS, HTTP and DNS with Fast Open, and clients that use them at a steady rate."""

from __future__ import annotations

import random
import selectors
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tracer.lab import sockets, topology
from tracer.lab.payloads import HTTP_ANSWER, HTTP_REQUEST, ClientHello, client_tls, dns_answer, dns_query, server_tls
from tracer.lab.topology import SERVICE_DNS, SERVICE_HTTP, SERVICE_TLS

_NAMES = ("www.demo.example", "api.demo.example", "static.demo.example", "login.demo.example")
_FAST_OPEN_SHARE = 0.75
_WORKERS = 8

_client_context = threading.local()


def serve(control: socket.socket) -> None:
    """Serve on every address of the calling thread's namespace, for ever. Sends `ready` when it listens."""
    context = server_tls()
    pool = ThreadPoolExecutor(_WORKERS)
    waiting = selectors.DefaultSelector()
    for version in topology.versions():
        for port in (SERVICE_TLS, SERVICE_HTTP, SERVICE_DNS):
            listener = sockets.listener(version, "0.0.0.0" if version == 4 else "::", port, queue=1024)
            listener.setblocking(False)  # a client may be gone before accept
            waiting.register(listener, selectors.EVENT_READ, port)
    control.send(b"ready")
    while True:
        for key, _ in waiting.select():
            assert isinstance(key.fileobj, socket.socket)
            try:
                client, _ = key.fileobj.accept()
            except OSError:
                continue
            pool.submit(_answer, client, key.data, context)


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
    """Open `per_s` connections a second to the services, until one fails: raises OSError."""
    chance = random.Random(7413)
    versions = topology.versions()
    due = time.monotonic()
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due, time.monotonic() - 1.0) + 1.0 / per_s
        server = topology.service_address(chance.randrange(topology.SERVICE_HOSTS), chance.choice(versions))
        fast_open = chance.random() < _FAST_OPEN_SHARE
        what = chance.random()
        if what < 0.6:
            exchange_tls(server, SERVICE_TLS, chance.choice(_NAMES), fast_open)
        elif what < 0.85:
            _exchange(server, SERVICE_HTTP, HTTP_REQUEST, fast_open)
        else:
            _exchange(server, SERVICE_DNS, dns_query(chance.choice(_NAMES)), fast_open)
