"""`tfotrace probe`: resolves, connects in turn at a bounded rate, and judges each target once it is through."""

from __future__ import annotations

import os
import socket
import stat
from argparse import Namespace
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, suppress
from threading import Event

import msgspec

from tracer.errors import ExitCode, UsageError
from tracer.linux import own_tree, privileges
from tracer.linux.ecn_sockets import EcnSockets
from tracer.probe import host, targets
from tracer.probe.connection import Address, Payloads, connect, source_for
from tracer.probe.judge import is_good, judged
from tracer.probe.lines import as_json
from tracer.probe.model import Answer, Asks, Connection, Passage, Payload, Probed, Target
from tracer.probe.pace import Pace
from tracer.probe.passage import EXTRAS, passage
from tracer.probe.text import lines
from tracer.probe.trace import FILTERED_MAX, Trace, packet_filter, way_to
from tracer.replay.progress import Progress

AT_ONCE = 32  # targets
_EVERYWHERE = "any"
# In turn, but not one by one: a balancer that does the same would show each kind only one of two servers.
_ORDER = (Asks.PLAIN, Asks.FAST_OPEN, Asks.FAST_OPEN, Asks.PLAIN)
_EXTRA_TRIES = 2  # one unanswered SYN may be a lost packet
_IN_VAIN = 4  # connections to an address, all failed: it gets no more

Narrate = Callable[[str], None]
Say = Callable[..., None]


def probe(options: Namespace, narrate: Narrate, say: Say) -> int:
    """Ask all targets; returns the exit status. `say` prints lines on standard output.

    Raises:
        UsageError: a target cannot be read, or the only one has no address.
        CannotTraceError: it cannot be tried here.
    """
    user = privileges.target_user(None)
    asked = [targets.target(name) for name in options.targets]
    if options.hosts is not None:
        asked += targets.read(options.hosts, user)
    asked = targets.each_once(asked)
    if not asked:
        raise UsageError("name a server to probe, such as example.org:443, or give a list of them with --hosts FILE")
    host.require(options.force)
    unsafe = own_tree.warning()
    if unsafe is not None:
        narrate(unsafe)
    done, cut = _done_before(options) if options.json else (set(), False)
    left = [one for one in asked if one.name not in done]
    if len(left) < len(asked):
        narrate(f"{len(asked) - len(left)} of {len(asked)} servers are in the output already: they are not asked again")
    if cut:
        say("")  # a line that was cut off stays alone
    if not left:
        return int(ExitCode.OK)
    return _Run(options, left, user, narrate, say).run()


def _done_before(options: Namespace) -> tuple[set[str], bool]:
    """Targets that a file which is standard output already has; and whether its last line has no end."""
    if options.hosts is None or not stat.S_ISREG(os.fstat(1).st_mode):
        return set(), False
    found, line = set(), b"\n"
    try:
        with open("/proc/self/fd/1", "rb") as file:
            for line in file:
                one = _target_of(line)
                if one is not None:
                    found.add(one)
    except OSError:
        return set(), False
    return found, not line.endswith(b"\n")


def _target_of(line: bytes) -> str | None:
    try:
        record = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not isinstance(record, dict) or record.get("event") != "probe":
        return None
    name = record.get("target")
    return name if isinstance(name, str) else None


class _Run:
    def __init__(
        self, options: Namespace, asked: list[Target], user: privileges.User | None, narrate: Narrate, say: Say
    ) -> None:
        self._options, self._asked, self._user = options, asked, user
        self._narrate, self._say = narrate, say
        self._family = {4: socket.AF_INET, 6: socket.AF_INET6}.get(options.version, 0)
        self._payload: Payload = options.payload
        self._stop = Event()
        self._pace = Pace(options.rate, self._stop)
        self._known: dict[Target, tuple[list[Address], str]] = {}
        self._found: dict[Target, Probed] = {}
        self._good = self._through = 0
        self._ecn: EcnSockets | None = None

    def run(self) -> int:
        if len(self._asked) <= FILTERED_MAX:
            self._known = {one: targets.addresses(one, self._family) for one in self._asked}
            if not any(found for found, _ in self._known.values()):
                return self._without_addresses()
        interfaces, expression = self._where()
        stopped = False
        with ExitStack() as opened:
            with suppress(OSError):  # then ECN is not tried
                self._ecn = opened.enter_context(EcnSockets())
            trace = None
            if interfaces:
                trace = opened.enter_context(Trace(interfaces, expression, self._options.timeout))
            privileges.drop(self._user)
            try:
                for one in opened.enter_context(closing(self._ask_all(trace))):
                    self._take(one)
                if trace is not None:
                    trace.check()
            except KeyboardInterrupt:
                stopped = True
        return self._tell(stopped)

    def _take(self, one: Probed) -> None:
        """A target is through."""
        self._good += is_good(one.answers)
        self._through += 1
        if self._options.json:
            self._say(as_json(one, self._payload).decode())
            return
        if not self._options.verbose and len(self._asked) > 1:
            for answer in one.answers:
                answer.connections.clear()  # a table needs none of them
        self._found[one.target] = one

    def _tell(self, stopped: bool) -> int:
        found = [self._found[one] for one in self._asked if one in self._found]
        if found:
            self._say(*lines(found, self._payload, self._options.verbose))
        if stopped:
            self._narrate(f"stopped: {self._through} of {len(self._asked)} servers were asked to the end")
            return int(ExitCode.OK)
        return int(ExitCode.OK if self._good == len(self._asked) else ExitCode.PROBLEM)

    def _without_addresses(self) -> int:
        found = [Probed(one, [], why) for one, (_, why) in self._known.items()]
        if len(found) == 1:
            raise UsageError(f"{found[0].target.name}: {found[0].problem}")
        for one in found:
            self._take(one)
        return self._tell(stopped=False)

    def _where(self) -> tuple[tuple[str, ...], str]:
        """Interfaces to trace, and the filter; no interface where no server has a route."""
        if not self._known:
            ends = [(one.host, one.port) for one in self._asked]
            return (self._options.interface or _EVERYWHERE,), packet_filter(ends)
        servers, ways = set(), set()
        for one, (found, _) in self._known.items():
            for address in found:
                servers.add((address[0].partition("%")[0], one.port))
                ways.add(self._way(address))
        if self._options.interface is not None:
            return (self._options.interface,), packet_filter(servers)
        known = tuple(sorted(way for way in ways if way))
        return (_EVERYWHERE,) if None in ways else known, packet_filter(servers)

    def _way(self, address: Address) -> str | None:
        """The interface to a server; "" without a route, None where it is not known."""
        try:
            source = source_for(address, self._options.interface)
        except OSError:
            return ""
        return way_to(source, address, address[1])

    def _ask_all(self, trace: Trace | None) -> Generator[Probed, None, None]:
        """Each target once it is through; those that cannot be begun because of a stop are left out."""
        progress = Progress(len(self._asked), "servers")
        waiting = iter(self._asked)
        with ThreadPoolExecutor(min(AT_ONCE, len(self._asked))) as pool:
            try:
                running: set[Future[Probed | None]] = set()
                done = 0
                while True:
                    while len(running) < AT_ONCE and (one := next(waiting, None)) is not None:
                        running.add(pool.submit(self._ask, one, trace))
                    if not running:
                        break
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        done += 1
                        probed = future.result()
                        if len(self._asked) > 1:
                            progress.clear()
                        if probed is not None:
                            yield probed
                        if len(self._asked) > 1:
                            progress.show(done, done)
            finally:
                self._stop.set()
                progress.clear()

    def _ask(self, one: Target, trace: Trace | None) -> Probed | None:
        found, problem = self._known.get(one) or targets.addresses(one, self._family)
        payloads = Payloads(self._payload, one)
        try:
            payloads.next()
        except ValueError:
            return Probed(one, [], f"its name fits into no request of {self._payload.value}")
        answers = []
        for address in found:
            answer = self._ask_address(address, payloads, trace)
            if answer is None:
                return None
            answers.append(answer)
        return Probed(one, answers, problem)

    def _ask_address(self, address: Address, payloads: Payloads, trace: Trace | None) -> Answer | None:
        """Connections of both kinds in turn, then those that ask for more; None if the probe is to stop."""
        made: list[Connection] = []
        for number in range(2 * self._options.count):
            if not self._pace.wait():
                return None
            made.append(self._connect(address, _ORDER[number % len(_ORDER)], payloads))
            if len(made) == _IN_VAIN and not any(one.connected for one in made):
                break
        if trace is not None:
            trace.settle(made, self._options.timeout)
        answer = judged(made[0].server[0], made, self._payload)
        if trace is not None and any(one.connected for one in made):
            for asks in EXTRAS:
                # where this host asks for it anyway
                found: Passage | None = passage(asks, answer.connections[0].record)
                if found is Passage.NOT_TRIED and (asks is not Asks.MPTCP or _may_try_mptcp(answer)):
                    found = self._passage(address, asks, payloads, trace)
                if found is None:
                    return None
                answer.passage[asks] = found
        return answer

    def _passage(self, address: Address, asks: Asks, payloads: Payloads, trace: Trace) -> Passage | None:
        """Dropped only if that happens each time."""
        found = Passage.NOT_TRIED
        for _ in range(_EXTRA_TRIES):
            if not self._pace.wait():
                return None
            one = self._connect(address, asks, payloads)
            trace.settle([one], self._options.timeout)
            found = passage(asks, one.record)
            if found is not Passage.DROPPED:
                break
        return found

    def _connect(self, address: Address, asks: Asks, payloads: Payloads) -> Connection:
        timeout_s, interface = self._options.timeout, self._options.interface
        if asks is Asks.MPTCP:
            timeout_s = min(timeout_s, host.MPTCP_S)
        return connect(address, asks, payloads.next(), timeout_s, interface, self._ecn)


def _may_try_mptcp(answer: Answer) -> bool:
    """Not where the answer to a SYN may take longer than such a connection may wait."""
    rtt_us = answer.plain.rtt_us
    return rtt_us is not None and rtt_us < host.MPTCP_S / 3 * 1e6 and host.may_try_mptcp()
