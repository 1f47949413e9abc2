"""Two private hosts with real Fast Open traffic between them. They vanish with this process, without a trace.

The namespaces have no names. Only two child processes and the descriptors here keep them, so they vanish however this
process ends, even by SIGKILL.
"""

from __future__ import annotations

import os
import select
import socket
import time

from tracer.errors import CannotTraceError
from tracer.lab import child, director, topology

_START_S = 60.0


class Lab:
    """Context manager: the two hosts exist inside the block. Enter it once, before starting threads.

    `__enter__` raises CannotTraceError if namespaces or links cannot be made. Interfaces and paths are only valid
    inside the block.
    """

    client_interface = topology.CLIENT_INTERFACE
    client_ipv4 = topology.client_address(4)
    client_ipv6 = topology.client_address(6)

    def __init__(self) -> None:
        self.faults: list[str] = []  # scenarios that could not be played, each once
        self.rounds_over = 0
        self._children: list[child.Child] = []
        self._namespaces: list[int] = []  # client, server, far
        self._rounds_waited = 0

    def __enter__(self) -> Lab:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def client_pid(self) -> int:
        """The process in the client's network namespace."""
        return self._children[1].pid

    @property
    def server_pid(self) -> int:
        """The process in the server's network namespace."""
        return self._children[0].pid

    @property
    def client_netns(self) -> str:
        """Path of the client's network namespace, for setns(2) or `--netns`."""
        return f"/proc/{self.client_pid}/ns/net"

    @property
    def server_netns(self) -> str:
        """Path of the server's network namespace."""
        return f"/proc/{self.server_pid}/ns/net"

    def start_traffic(self, rounds: int | None = None, background_per_s: float = 30) -> None:
        """Start the scenarios, `rounds` times or until the lab ends, and ordinary connections beside them.

        Returns at once; may be called once. The ordinary connections continue after the last round.
        Raises CannotTraceError if the client's process died.
        """
        order = f"traffic {-1 if rounds is None else rounds} {background_per_s}"
        try:
            self._children[1].control.send(order.encode())
        except OSError as error:
            raise _cannot("a process of the lab died") from error

    def wait_round(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the end of the next round; each True stands for one round.

        Raises CannotTraceError if the client's process died.
        """
        deadline = time.monotonic() + timeout
        while self.rounds_over <= self._rounds_waited:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._receive(self._children[1].control, left)
        self._rounds_waited += 1
        return True

    def stop(self) -> None:
        """End all processes and close the namespaces. Harmless the second time."""
        children, self._children = self._children, []
        for each in reversed(children):  # the client first: no connection to a dead server
            each.end()
        namespaces, self._namespaces = self._namespaces, []
        for descriptor in namespaces:
            os.close(descriptor)

    def _start(self) -> None:
        if self._children:
            raise RuntimeError("the lab is running already")
        server = child.spawn("demo-server", director.be_server)
        self._children.append(server)
        far = self._receive_namespace(server.control)
        self._namespaces.append(far)
        serving = os.open(self.server_netns, os.O_RDONLY | os.O_CLOEXEC)
        self._namespaces.insert(0, serving)
        server.control.send(b"serve")

        def direct(control: socket.socket) -> None:
            director.Director(control, serving, far).run()

        client = child.spawn("demo-client", direct, keep=(serving, far))
        self._children.append(client)
        self._await_ready(client.control)
        self._namespaces.insert(0, os.open(self.client_netns, os.O_RDONLY | os.O_CLOEXEC))
        self._await_ready(server.control)

    def _await_ready(self, control: socket.socket) -> None:
        deadline = time.monotonic() + _START_S
        while self._receive(control, deadline - time.monotonic()) != "ready":
            if time.monotonic() > deadline:
                raise CannotTraceError(f"The demo lab did not start within {_START_S:.0f} seconds: try again.")
            if self.faults:
                raise _cannot(self.faults[-1])

    def _receive(self, control: socket.socket, timeout: float) -> str:
        """Receive and book one message of a child; "" if none came in `timeout` seconds."""
        if not select.select([control], [], [], max(0.0, timeout))[0]:
            return ""
        try:
            text = control.recv(child.MESSAGE_MAX).decode(errors="replace")
        except ConnectionResetError:  # it died with our messages unread
            text = ""
        if not text:
            raise _cannot(self.faults[-1] if self.faults else "a process of the lab died")
        word, _, rest = text.partition(" ")
        if word == "round":
            self.rounds_over = int(rest)
        elif word == "fault" and rest not in self.faults:
            self.faults.append(rest)
        return word

    def _receive_namespace(self, control: socket.socket) -> int:
        """Receive the descriptor that the server's process sends first."""
        text, fds, _, _ = socket.recv_fds(control, child.MESSAGE_MAX, 1, socket.MSG_CMSG_CLOEXEC)
        if not fds:
            raise _cannot(text.decode(errors="replace").partition(" ")[2] or "a process of the lab died")
        return fds[0]


def _cannot(why: str) -> CannotTraceError:
    if os.geteuid() != 0 or "PermissionError" in why:
        return CannotTraceError("The demo lab needs the right to make network namespaces and links: run it as root.")
    return CannotTraceError(f"The demo lab cannot run here ({why}): check that this kernel has veth links.")
