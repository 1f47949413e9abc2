"""Some private hosts with real Fast Open traffic between them. They vanish with this process, without a trace.

The namespaces have no names. Only child processes and the descriptors here keep them, so they vanish however this
process ends, even by SIGKILL.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable

from tracer.errors import CannotTraceError
from tracer.lab import child, director, road, topology, visitors
from tracer.lab.sites import SITES
from tracer.linux.patience import FACTOR

_START_S = 60.0 * FACTOR
_DESCRIPTORS_MAX = 16  # in a message
_SERVER, _CLIENT, _RELAY, _VISITORS = "demo-server", "demo-client", "demo-relay", "demo-visitors"


class Lab:
    """Context manager: the two hosts exist inside the block. Enter it once, before starting threads.

    `__enter__` raises CannotTraceError if namespaces or links cannot be made. Interfaces and paths are only valid
    inside the block.
    """

    client_interface = topology.CLIENT_INTERFACE
    client_ipv4 = topology.client_address(4)
    client_ipv6 = topology.client_address(6)

    def __init__(self) -> None:
        self.rounds_over = 0
        self.delayed = False  # are servers far away?
        self._faults: list[str] = []
        self._children: dict[str, child.Child] = {}  # by their processes' names
        self._namespaces: list[int] = []  # client, server, those behind it
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
        return self._children[_CLIENT].pid

    @property
    def server_pid(self) -> int:
        """The process in the server's network namespace."""
        return self._children[_SERVER].pid

    @property
    def pids(self) -> tuple[int, ...]:
        """All processes of the lab."""
        return tuple(each.pid for each in self._children.values())

    @property
    def faults(self) -> list[str]:
        """Traffic that could not be made, each once. Raises CannotTraceError if a process of the lab died."""
        for each in self._children.values():
            while self._receive(each.control, 0):
                pass
        return list(self._faults)

    @property
    def client_netns(self) -> str:
        """Path of the client's network namespace, for setns(2) or `--netns`."""
        return f"/proc/{self.client_pid}/ns/net"

    @property
    def server_netns(self) -> str:
        """Path of the server's network namespace."""
        return f"/proc/{self.server_pid}/ns/net"

    def about(self) -> list[str]:
        """Sentences that say whose addresses a reader sees."""
        near = "near, as this kernel has neither netem nor tun devices"
        ways = {one.place: f"{one.round_trip_ms} ms away" if self.delayed else near for one in road.ROADS}
        return [
            *(f"in this demo {one.address} is {one.name}, {ways[one.place]}: {one.about}" for one in SITES),
            "its other servers are near: most of those with port 8443 fail on purpose, each in a way of its own",
        ]

    def start_traffic(self, rounds: int | None = None, background_per_s: float = 30) -> None:
        """Start the scenarios, `rounds` times or until the lab ends, and ordinary connections beside them.

        With `background_per_s` of them a second to servers nearby come visits of the sites far away; with 0 nothing.
        Returns at once; may be called once. The ordinary connections continue after the last round.
        Raises CannotTraceError if a process of the lab died.
        """
        try:
            self._children[_CLIENT].control.send(f"traffic {-1 if rounds is None else rounds}".encode())
            if background_per_s:
                self._children[_VISITORS].control.send(f"visit {background_per_s}".encode())
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
            self._receive(self._children[_CLIENT].control, left)
        self._rounds_waited += 1
        return True

    def stop(self) -> None:
        """End all processes and close the namespaces. Harmless the second time."""
        children, self._children = self._children, {}
        for each in reversed(children.values()):  # the visitors first: no connection to a dead server
            each.end()
        namespaces, self._namespaces = self._namespaces, []
        for descriptor in namespaces:
            os.close(descriptor)

    def _start(self) -> None:
        if self._children:
            raise RuntimeError("the lab is running already")
        server = self._spawn(_SERVER, director.be_server)
        _, behind = self._receive_descriptors(server.control)
        self._namespaces += behind
        serving = os.open(self.server_netns, os.O_RDONLY | os.O_CLOEXEC)
        self._namespaces.insert(0, serving)
        spaces = dict(zip(topology.BEHIND, behind, strict=True))
        client = self._spawn(
            _CLIENT, lambda control: director.Director(control, serving, spaces).run(), (serving, *behind)
        )
        word, devices = self._receive_descriptors(client.control)
        self.delayed = word == road.DELAYED
        if devices:
            self._spawn(_RELAY, lambda _: road.be_relay(devices), tuple(devices))
        for device in devices:
            os.close(device)
        home = os.open(self.client_netns, os.O_RDONLY | os.O_CLOEXEC)
        self._namespaces.insert(0, home)
        server.control.send(b"serve")
        self._await_ready(server.control)
        self._spawn(_VISITORS, lambda control: visitors.be_visitors(control, home), (home,))

    def _spawn(self, name: str, main: Callable[[socket.socket], None], keep: tuple[int, ...] = ()) -> child.Child:
        made = self._children[name] = child.spawn(name, main, keep)
        return made

    def _await_ready(self, control: socket.socket) -> None:
        deadline = time.monotonic() + _START_S
        while self._receive(control, deadline - time.monotonic()) != "ready":
            if time.monotonic() > deadline:
                raise _too_slow()
            if self._faults:
                raise _cannot(self._faults[-1])

    def _receive(self, control: socket.socket, timeout: float) -> str:
        """Receive and book one message of a child; "" if none came in `timeout` seconds."""
        if not select.select([control], [], [], max(0.0, timeout))[0]:
            return ""
        try:
            text = control.recv(child.MESSAGE_MAX).decode(errors="replace")
        except ConnectionResetError:  # it died with our messages unread
            text = ""
        if not text:
            raise _cannot(self._faults[-1] if self._faults else "a process of the lab died")
        word, _, rest = text.partition(" ")
        if word == "round":
            self.rounds_over = int(rest)
        elif word == "fault" and rest not in self._faults:
            self._faults.append(rest)
        return word

    def _receive_descriptors(self, control: socket.socket) -> tuple[str, list[int]]:
        """Receive the message of a child that may carry descriptors: its first one."""
        if not select.select([control], [], [], _START_S)[0]:
            raise _too_slow()
        text, fds, _, _ = socket.recv_fds(control, child.MESSAGE_MAX, _DESCRIPTORS_MAX, socket.MSG_CMSG_CLOEXEC)
        word, _, rest = text.decode(errors="replace").partition(" ")
        if word in ("", "fault"):
            raise _cannot(rest or "a process of the lab died")
        return word, fds


def _too_slow() -> CannotTraceError:
    return CannotTraceError(f"The demo lab did not start within {_START_S:.0f} seconds: try again.")


def _cannot(why: str) -> CannotTraceError:
    if os.geteuid() != 0 or "PermissionError" in why:
        return CannotTraceError("The demo lab needs the right to make network namespaces and links: run it as root.")
    return CannotTraceError(f"The demo lab cannot run here ({why}): check that this kernel has veth links.")
