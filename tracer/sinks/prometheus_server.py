"""The address that Prometheus scrapes: bound early, so that we can report a wrong one; served once the run starts.

Anybody who reaches the address may connect and then send or read slowly. So a request has a deadline from its first to
its last byte, and while all places are taken, the oldest one gives way to the next: a scrape takes some milliseconds.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from tracer.errors import UsageError
from tracer.sinks.address import Address

REQUEST_S = 10.0  # from the connection to the last byte of the answer: Prometheus gives up after as long
_REQUESTS_MAX = 16  # at a time
_THREADS_MAX = 64  # with those that still work for a connection that is gone; more have to wait


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Do not log requests."""

    def get_stderr(self) -> Any:
        """Do not report a client that leaves early."""
        return _Nowhere()


class _Nowhere:
    def write(self, _: str) -> None: ...
    def flush(self) -> None: ...


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128  # connections that wait to be accepted

    def __init__(self, family: socket.AddressFamily, address: tuple[Any, ...]) -> None:
        self.address_family = family
        self._open: dict[Any, float] = {}  # connection: when it came, the oldest first
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(_THREADS_MAX)
        super().__init__(address, _Handler, bind_and_activate=False)
        try:
            TCPServer.server_bind(self)  # HTTPServer's version looks its own name up in the DNS
            self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
            self.setup_environ()
            self.server_activate()
        except OSError:
            self.server_close()
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(timeout=1.0):
            self.shutdown_request(request)
            return
        with self._lock:
            while len(self._open) >= _REQUESTS_MAX:
                self._end(next(iter(self._open)))
            self._open[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()  # no thread could be started: nobody else does it
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def service_actions(self) -> None:
        """End requests that take too long; serve_forever() calls this several times a second."""
        overdue = time.monotonic() - REQUEST_S
        with self._lock:
            for request in [one for one, began in self._open.items() if began < overdue]:
                self._end(request)

    def _end(self, request: Any) -> None:
        """Let the thread that has this connection find it closed."""
        del self._open[request]
        with suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        """The request is over: close its connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Do not write to the terminal when a client leaves early."""


class MetricsServer:
    """A bound address; `serve` starts to answer, `close` stops."""

    def __init__(self, address: Address) -> None:
        """Bind. Raises UsageError."""
        try:
            family, _, _, _, where = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self._server = _Server(family, where)
        except socket.gaierror as error:
            raise UsageError(f"cannot resolve {address.host} for --prometheus: {error.strerror}") from None
        except OSError as error:
            raise UsageError(
                f"cannot listen on {address} for --prometheus: {error.strerror}; use another port or address"
            ) from None
        self.address = Address(str(self._server.server_address[0]), int(self._server.server_address[1]))
        self._thread: threading.Thread | None = None

    def serve(self, application: Callable[..., Any]) -> None:
        """Start to answer requests, in threads."""
        self._server.set_app(application)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering and release the port."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()
