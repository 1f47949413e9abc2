"""The address that Prometheus scrapes: bound while a wrong one can still be told, served when the run has begun."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from tracer.errors import UsageError
from tracer.sinks.address import Address

_TIMEOUT_S = 10.0  # a client that says nothing
_REQUESTS_MAX = 16  # at a time; more are sent away


class _Handler(WSGIRequestHandler):
    timeout = _TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Requests are nobody's news."""

    def get_stderr(self) -> Any:
        """A client that leaves in the middle is none either."""
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
            TCPServer.server_bind(self)  # HTTPServer's would ask the DNS for its own name
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
        """A client that leaves in the middle is no reason to write to the terminal."""


class Listener:
    """A bound address; `serve` begins to answer, `close` ends it."""

    def __init__(self, address: Address) -> None:
        """Bind. Raises UsageError with what is wrong and what to do."""
        try:
            family, _, _, _, where = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self._server = _Server(family, where)
        except socket.gaierror as error:
            raise UsageError(f"no address {address.host} for --prometheus: {error.strerror}") from None
        except OSError as error:
            raise UsageError(
                f"cannot listen on {address} for --prometheus: {error.strerror}; name another port or address"
            ) from None
        self.address = Address(str(self._server.server_address[0]), int(self._server.server_address[1]))
        self._thread: threading.Thread | None = None

    def serve(self, application: Callable[..., Any]) -> None:
        """Answer requests from now on, in threads."""
        self._server.set_app(application)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more, and give the port back."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()
