"""Real handshakes in bulk: two namespaces, the load generator of bench/, and `tfotrace` tracing them."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import patience

ROOT = Path(__file__).parents[2]
SOURCES_C = [ROOT / "bench" / name for name in ("handshakes.c", "handshakes_options.c")]
HEADER = ROOT / "bench" / "handshakes.h"
PROGRAM = ROOT / "bench" / "build" / "handshakes"
SNI = "load.example"
PATIENCE_S = 2 * patience.PATIENCE_S

# Addresses of the two hosts; clients may use as many as --sources says, from the first one on.
SERVER = {4: "10.77.0.1", 6: "fd77::1"}
CLIENT = {4: "10.77.1.1", 6: "fd77::1:1"}
SOURCES = 20


def generator() -> Path:
    """The load generator, compiled if its source is newer. Raises RuntimeError with the compiler's words."""
    PROGRAM.parent.mkdir(exist_ok=True)
    with open(PROGRAM.parent / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests may run side by side
        newest = max(path.stat().st_mtime for path in (*SOURCES_C, HEADER))
        if not PROGRAM.exists() or PROGRAM.stat().st_mtime < newest:
            fresh = PROGRAM.with_suffix(".new")
            words = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(fresh), *map(str, SOURCES_C)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"the load generator does not compile: {done.stderr}")
            fresh.rename(PROGRAM)
    return PROGRAM


def client_hello(name: str = SNI) -> bytes:
    """A real TLS ClientHello, as it would ride in a SYN."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.set_ecdh_curve("prime256v1")  # the post-quantum key of OpenSSL 3.5 and newer is longer than a SYN
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class Host:
    """A network namespace, with one end of the wire as its eth0."""

    def __init__(self, role: str) -> None:
        self.name = f"tfoload-{role}-{os.getpid()}-{secrets.token_hex(3)}"
        self.path = f"/run/netns/{self.name}"
        try:
            _run("ip", "netns", "add", self.name)
        except BaseException:  # a signal that ends the bench may come when it is there already
            subprocess.run(["ip", "netns", "del", self.name], stderr=subprocess.DEVNULL, check=False)
            raise

    @classmethod
    def existing(cls, name: str) -> Host:
        """A namespace of `ip netns` that the caller makes and removes."""
        host = cls.__new__(cls)
        host.name, host.path = name, f"/run/netns/{name}"
        return host

    def run(self, *words: str) -> str:
        """Run a command in here. Raises RuntimeError if it fails."""
        return _run("nsenter", f"--net={self.path}", *words)

    def batch(self, lines: list[str]) -> None:
        """Run commands of ip. Raises RuntimeError if one fails."""
        words = ["nsenter", f"--net={self.path}", "ip", "-batch", "-"]
        done = subprocess.run(words, input="\n".join(lines), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"ip -batch: {done.stderr.strip()}")

    def tcp_counters(self) -> dict[str, int]:
        """TcpExt of this namespace (/proc/net/netstat), by name."""
        lines = self.run("cat", "/proc/thread-self/net/netstat").splitlines()
        for names, values in itertools.pairwise(lines):
            if names.startswith("TcpExt:") and values.startswith("TcpExt:"):
                return dict(zip(names.split()[1:], map(int, values.split()[1:]), strict=True))
            if names.startswith("IpExt:"):
                break
        raise RuntimeError("no TcpExt in /proc/net/netstat")

    def receive_on_cpu(self, cpu: int) -> None:
        """Packets that arrive at eth0 are processed on this CPU (receive packet steering)."""
        # ip netns exec, because that shows the namespace's own /sys
        _run("ip", "netns", "exec", self.name, "sh", "-c",
             f"echo {1 << cpu:x} >/sys/class/net/eth0/queues/rx-0/rps_cpus")  # fmt: skip

    def close(self) -> None:
        """Remove the namespace and all that is in it."""
        subprocess.run(["ip", "netns", "del", self.name], check=False)


class Wire:
    """A server host and a client host with a veth pair between their eth0, Fast Open on at both (sysctl 3)."""

    def __init__(self) -> None:
        self.server = Host("server")
        try:
            self.client = Host("client")
        except BaseException:
            self.server.close()
            raise
        try:
            self._connect()
            self._directory = tempfile.TemporaryDirectory(prefix="tfoload-")
            self.payload = Path(self._directory.name) / "payload"
            self.payload.write_bytes(client_hello())
        except BaseException:
            self._remove()
            raise

    def _connect(self) -> None:
        server, client = self.server, self.client
        server.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", client.name)
        for host in (server, client):
            host.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=3", "net.ipv6.conf.all.accept_dad=0",
                     "net.ipv6.conf.eth0.accept_dad=0", "net.ipv4.ip_local_port_range=1024 65000",
                     "net.ipv4.tcp_max_syn_backlog=8192", "net.core.somaxconn=8192")  # fmt: skip
            host.run("ip", "link", "set", "lo", "up")
        server.run("ip", "address", "add", f"{SERVER[4]}/16", "dev", "eth0")
        server.run("ip", "address", "add", f"{SERVER[6]}/64", "dev", "eth0", "nodad")
        sources = [f"10.77.1.{1 + i}" for i in range(SOURCES)] + [f"fd77::1:{1 + i:x}" for i in range(SOURCES)]
        client.batch([f"address add {one}/{64 if ':' in one else 16} dev eth0" for one in sources])
        for host in (server, client):
            host.run("ip", "link", "set", "eth0", "up")
        # neighbours by hand: the first SYN of a run does not wait for one
        for host, peer, addresses in ((server, client, sources), (client, server, list(SERVER.values()))):
            mac = json.loads(peer.run("ip", "-j", "link", "show", "eth0"))[0]["address"]
            host.batch([f"neigh replace {one} lladdr {mac} dev eth0" for one in addresses])

    def handshakes(self, count: int, **options: int | bool) -> dict[str, Any]:
        """Make `count` handshakes; `options` are those of bench/handshakes.c, and `family`. Raises RuntimeError."""
        return json.loads(_run(*self.command(count, **options)))

    def command(self, count: int, **options: int | bool) -> list[str]:
        """The command that makes them."""
        family = int(options.pop("family", 4))
        words = [
            str(generator()), "--server-ns", self.server.path, "--client-ns", self.client.path,
            "--server", SERVER[family], "--client", CLIENT[family], "--payload", str(self.payload),
            "--count", str(count),
        ]  # fmt: skip
        for name, value in options.items():
            if value is not False:
                words.append("--" + name.replace("_", "-"))
                words += [] if value is True else [str(value)]
        return words

    def _remove(self) -> None:
        self.server.close()
        self.client.close()

    def close(self) -> None:
        """Remove everything."""
        self._directory.cleanup()
        self._remove()


@contextlib.contextmanager
def wire() -> Iterator[Wire]:
    """A Wire, always removed."""
    made = Wire()
    try:
        yield made
    finally:
        made.close()


@dataclass
class Records:
    """What a run wrote, by kind of record."""

    exit_code: int
    narration: str
    handshakes: list[dict[str, Any]] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=list)

    @property
    def end(self) -> dict[str, Any]:
        """The last record, which must be `end`."""
        assert self.others, f"no records; it said: {self.narration}"
        assert self.others[-1]["event"] == "end", f"the last record is {self.others[-1]}; it said: {self.narration}"
        return self.others[-1]

    def count(self, part: str, name: str) -> Counter[str]:
        """How often each value of e.g. tfo.outcome occurs."""
        return Counter(record[part][name] for record in self.handshakes)


class Traced:
    """A running `tfotrace ... --json`, its records in a file."""

    def __init__(
        self,
        host: Host | None,
        *words: str,
        interface: str = "eth0",
        record: bool = True,
        launcher: tuple[str, ...] = (sys.executable, "-m", "tracer"),
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="tfoload-")
        folder = Path(self._directory.name)
        self._records, self._narration, self.ready_file = folder / "records", folder / "narration", folder / "ready"
        where = ("--netns", host.path) if host is not None else ()
        command = [*launcher, interface, "--json", *where, "--ready-file", str(self.ready_file)]
        self.began = time.monotonic()
        with open(self._records if record else os.devnull, "wb") as out, open(self._narration, "wb") as err:
            self.process = subprocess.Popen([*command, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            cwd=ROOT)  # fmt: skip

    def wait_ready(self) -> None:
        """Until every program is attached. Raises AssertionError with what it said instead."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.ready_file.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"tracing did not begin: {self.narration}")
            time.sleep(0.001)

    @property
    def narration(self) -> str:
        """What it has said on standard error."""
        return self._narration.read_text(encoding="utf-8", errors="replace")

    def lines(self) -> int:
        """Lines written so far."""
        return self._records.read_bytes().count(b"\n")

    def stop(self) -> Records:
        """End it by SIGINT and read what it wrote."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(PATIENCE_S)
        records = Records(code, self.narration)
        if self._records.exists():
            for line in self._records.read_bytes().splitlines():
                record = json.loads(line)
                (records.handshakes if record["event"] == "handshake" else records.others).append(record)
        self._directory.cleanup()
        return records

    def close(self) -> None:
        """End it if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._directory.cleanup()


@contextlib.contextmanager
def traced(host: Host | None, *words: str, interface: str = "eth0", record: bool = True) -> Iterator[Traced]:
    """An attached `tfotrace`, always ended. `record` False drops its lines."""
    run = Traced(host, *words, interface=interface, record=record)
    try:
        run.wait_ready()
        yield run
    finally:
        run.close()


def assert_nothing_lost(records: Records) -> None:
    """The run ended well, its balance sheet is exact and every record in it was written."""
    assert records.exit_code == 0, records.narration
    sheet = records.end["balance"]
    accounted = sum(sheet[name] for name in ("emitted", "lost", "evicted", "suppressed", "still_open"))
    assert sheet["opened"] == accounted, sheet
    assert [sheet[name] for name in ("lost", "evicted", "suppressed", "still_open", "dropped")] == [0] * 5, sheet
    assert sheet["received"] == sheet["emitted"] == len(records.handshakes), sheet
    assert records.end["counters"]["payloads_lost"] == 0
    ids = Counter(record["id"] for record in records.handshakes)
    assert len(ids) == len(records.handshakes), f"more than once: {ids.most_common(3)}"
