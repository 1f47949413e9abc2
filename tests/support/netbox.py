"""A network namespace with a unique name for a test, and its removal."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.patience import SHORT_S
from tracer.linux import netns

ETHERTYPE = 0x88B5  # for local experiments (IEEE 802): no stack answers to it


def wait_until(condition: Callable[[], bool], what: str, seconds: float = SHORT_S) -> None:
    """Poll until it holds; fails, naming `what`, when it does not in that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.005)


class NetBox:
    """A namespace without IPv6 and without other traffic; with a veth pair "left" and "right" in it by make_pair()."""

    def __init__(self) -> None:
        self.name = f"tfotest-{os.getpid()}-{secrets.token_hex(3)}"
        self.path = f"/run/netns/{self.name}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        for scope in ("all", "default"):
            self.run("sysctl", "-qw", f"net.ipv6.conf.{scope}.disable_ipv6=1")

    def close(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False)

    def command(self, *words: str) -> list[str]:
        return ["nsenter", f"--net={self.path}", *words]

    def run(self, *words: str) -> str:
        done = subprocess.run(self.command(*words), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def ip_batch(self, commands: Iterable[str]) -> None:
        """Many `ip` commands in one process."""
        text = "\n".join(commands)
        done = subprocess.run(
            self.command("ip", "-batch", "-"), input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words) or "[]")

    def make_pair(self, left: str = "left", right: str = "right") -> None:
        self.run("ip", "link", "add", left, "type", "veth", "peer", "name", right)
        for name in (left, right):
            self.run("ip", "link", "set", name, "up")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in the namespace meanwhile."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            netns.enter(self.path)
            try:
                yield
            finally:
                netns.enter(f"/proc/self/fd/{home}")
        finally:
            os.close(home)

    def send(self, interface: str, count: int) -> None:
        """Send `count` frames that no stack answers; call it inside()."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind((interface, 0))
            frame = b"\xff" * 6 + b"\x02\0\0\0\0\1" + ETHERTYPE.to_bytes(2, "big") + bytes(46)
            for _ in range(count):
                sock.send(frame)


class Boxes:
    """Several namespaces, made and removed together; `_build` joins them."""

    def __init__(self, count: int) -> None:
        self.boxes: list[NetBox] = []
        try:
            for _ in range(count):
                self.boxes.append(NetBox())
            self._build(*self.boxes)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for box in self.boxes:
            box.close()

    def _build(self, *boxes: NetBox) -> None:
        raise NotImplementedError
