"""Servers that answer whatever they are asked, each connection in a thread of its own, until they are closed."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from tests.support.hosts import ANSWER
from tests.support.patience import PATIENCE_S


def answering(listener: socket.socket, answer: bytes = ANSWER) -> None:
    """Answer each request at this listener, and wait for the client to close; `answer` b"" is silence."""
    listener.settimeout(None)
    threading.Thread(target=_accept, args=(listener, answer), daemon=True).start()


def _accept(listener: socket.socket, answer: bytes) -> None:
    with suppress(OSError):
        while True:
            threading.Thread(target=_serve, args=(listener.accept()[0], answer), daemon=True).start()


def _serve(child: socket.socket, answer: bytes) -> None:
    with child, suppress(OSError):
        child.settimeout(PATIENCE_S)
        if child.recv(65536):
            child.sendall(answer)
        while child.recv(65536):
            pass
