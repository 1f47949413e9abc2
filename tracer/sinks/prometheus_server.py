"""The address that Prometheus scrapes: bound early, so that we can report a wrong one; served once the run starts."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from tracer.errors import UsageError
from tracer.sinks.address import Address

_TIMEOUT_S = 10.0  # for a client that sends nothing
_REQUESTS_MAX = 16  # at a time; more are refused


class _Handler(WSGIRequestHandler):
    timeout = _TIMEOUT_S

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
    request_queue_size = _REQUESTS_MAX

    def __init__(self, family: socket.AddressFamily, address: tuple[Any, ...]) -> None:
        self.address_family = family
        self._free = threading.BoundedSemaphore(_REQUESTS_MAX)
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
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

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
