"""What the root part reports about the traced namespace, each second and on request.

Counters and sysctls; on request also cookies, listening sockets and clients' sockets. Whoever asks waits at most
100 ms, and packets go on meanwhile. So all that is asked is bounded in number and time, and what is not known by then
is answered as not known; the next question finds it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import suppress

import msgspec

from tracer.ipc.messages import (
    ClientAnswer,
    CookieQuestion,
    FlowQuestion,
    ForwardQuestion,
    Host,
    HostAnswer,
    HostQuestion,
    ListenerAnswer,
)
from tracer.linux import conntrack, sock_diag
from tracer.linux.hoststate import read_counters, read_sysctls
from tracer.linux.interfaces import near_ipv6
from tracer.linux.modules import Modules
from tracer.linux.patience import FACTOR
from tracer.linux.routes import forwarded_by, hides_ways, leaves_by
from tracer.root.cookie_keys import CookieKeys, Others, network_of, was_refused
from tracer.root.key_history import KeyHistory
from tracer.root.listeners import AGAIN_NS, OTHERS_AGAIN_NS, Listeners, that_listen
from tracer.root.queues import Queues
from tracer.vocabulary.addresses import IPV4_MAPPED
from tracer.vocabulary.vocabulary import CookieCheck, CookieOrigin

CHECKS_A_SECOND = 1000  # a check takes about 0.1 ms, and this process has a table to sweep
SEARCHES_A_SECOND = 200  # and to find out whose a cookie is 0.3 ms
FLOWS_A_SECOND = 2000  # a connection takes about 0.05 ms
FLOWS_MAX = 256  # in one answer
CLIENTS_MAX = 64
# What an answer may take up to the end of each of its parts, of the 100 ms that the user part waits. On most hosts all
# of it takes less than 5 ms, unless other processes want the CPU.
FOUND_NS, HEARD_NS, LOOKED_NS, JUDGED_NS, LISTENED_NS = (int(ms * 1_000_000 * FACTOR) for ms in (15, 30, 50, 60, 70))
ORIGINS_HELD = 1024
NEAR_MAX = 256
NEAR_AGAIN_NS = 1_000_000_000
_ADDRESS, _COOKIE_MAX = 16, 18


class Witness:
    """Reads the namespace of the process that made it."""

    def __init__(self, modules: Modules | None = None) -> None:
        self._modules = modules if modules is not None else Modules()
        self._keys = CookieKeys()
        self._listeners = Listeners(self._modules)
        self._queues = Queues(self._modules)
        self._checks = _Allowance(CHECKS_A_SECOND)
        self._flows = _Allowance(FLOWS_A_SECOND)
        self._searches = _Allowance(SEARCHES_A_SECOND)
        self._origins: OrderedDict[tuple[bytes, bytes, int, bytes], CookieOrigin] = OrderedDict()
        self._origins_of = 0  # the number of key changes
        self._near: tuple[int, set[bytes]] | None = None
        self._says_fail = sock_diag.says_client_fail()

    def host(self) -> Host:
        """Counters and sysctls as of now. Also reads the keys, to know when they changed, and full listeners."""
        self._keys.read()
        begun_ns = time.monotonic_ns()
        counters, sysctls = read_counters(), read_sysctls()
        taken_ns = time.monotonic_ns()
        self._queues.look(counters, begun_ns)
        return Host(counters, sysctls, taken_ns, self._key_changes(), begun_ns)

    def answer(self, ask: HostQuestion) -> HostAnswer:
        """The host's state, and an answer to each question in order, up to what this second allows."""
        host = self.host()
        cookies = ask.cookies[: self._checks.take(len(ask.cookies), host.taken_ns)]
        listeners = ask.listeners[: self._flows.take(min(len(ask.listeners), FLOWS_MAX), host.taken_ns)]
        clients = ask.clients[: self._flows.take(min(len(ask.clients), CLIENTS_MAX), host.taken_ns)]
        begun_ns = host.taken_ns
        self._look_for_new(cookies, listeners, begun_ns + FOUND_NS)
        words = self._ask_clients(clients, begun_ns + HEARD_NS)
        self._listeners.search(begun_ns + LOOKED_NS)
        checks, origins = self._judge(cookies, begun_ns + JUDGED_NS)
        found = self._find_listeners(listeners, begun_ns + LISTENED_NS)
        ways = self._find_ways(ask.forwarded, begun_ns + LISTENED_NS)
        return HostAnswer(ask.serial, host, checks, origins, found, words, ways)

    def advance(self) -> None:
        """Do a slice of what is looked for between answers."""
        self._listeners.advance()

    def wait_s(self) -> float:
        """In how many seconds advance() has something to do."""
        return self._listeners.wait_s()

    def _look_for_new(self, cookies: list[CookieQuestion], flows: list[FlowQuestion], until_ns: int) -> None:
        """Find listeners that nobody has asked about so far, to look for their processes now if there is time."""
        places = {(one.server, one.port) for one in cookies if _is_cookie(one) and one.port}
        places |= {(one.server, one.server_port) for one in flows if _is_flow(one)}
        self._listeners.read(port for _, port in places)
        for server, port in places:
            if time.monotonic_ns() < until_ns:
                for one in that_listen(self._listeners.at(port, until_ns) or [], server) or ():
                    self._listeners.queue(one.inode)

    def _key_changes(self) -> int:
        return self._keys.changes + self._listeners.key_changes

    # --- cookies ---

    def _judge(self, questions: list[CookieQuestion], until_ns: int) -> tuple[list[int], list[int]]:
        checks, origins = [], []
        for one in questions:
            check, origin = CookieCheck.NONE, CookieOrigin.UNKNOWN
            if _is_cookie(one):
                keys = self._keys_at(one.server, one.port, until_ns)
                check = self._keys.check(one, keys)
                origin = self._origin(one, check, keys, until_ns)
            checks.append(int(check))
            origins.append(int(origin))
        return checks, origins

    def _keys_at(self, server: bytes, port: int, until_ns: int) -> list[KeyHistory | None]:
        """Own keys of the sockets that listen there, None for one that is not known; none if nobody does."""
        if not port:
            return []
        at_port = self._listeners.at(port, until_ns)
        found = that_listen(at_port, server) if at_port is not None else None
        if found is None or time.monotonic_ns() >= until_ns:
            return [None]
        return [self._listeners.own_keys(one.inode) for one in found]

    def _origin(
        self, question: CookieQuestion, check: CookieCheck, keys: list[KeyHistory | None], until_ns: int
    ) -> CookieOrigin:
        if self._origins_of != self._key_changes():
            self._origins_of = self._key_changes()
            self._origins.clear()
        place = (question.client, question.server, question.port, question.cookie)
        if not was_refused(question, check):
            return CookieOrigin.UNKNOWN
        known = self._origins.get(place)
        if known is not None:
            return known
        now_ns = time.monotonic_ns()
        if now_ns >= until_ns or not self._searches.take(1, now_ns):
            return CookieOrigin.UNKNOWN
        near = self._near_to(question.server)
        for again_ns in (OTHERS_AGAIN_NS, AGAIN_NS):
            everyones, complete = self._listeners.all_keys(until_ns, again_ns)
            if not complete:
                self._listeners.search(until_ns)
                everyones, complete = self._listeners.all_keys(until_ns, again_ns)
            others = Others(list(everyones.values()), complete)
            found = self._keys.origin(question, check, keys, others, near)
            if found is not CookieOrigin.NOT_OURS:
                break  # else a listener may have got a key since it was read
        if found is not CookieOrigin.UNKNOWN:
            self._origins[place] = found
            while len(self._origins) > ORIGINS_HELD:
                self._origins.popitem(last=False)
        return found

    def _near_to(self, server: bytes) -> list[bytes]:
        """For which addresses a balancer may have had the cookie: the /24; of IPv6 local ones and neighbours."""
        if server.startswith(IPV4_MAPPED):
            return network_of(server)
        now = time.monotonic_ns()
        if self._near is None or now - self._near[0] >= NEAR_AGAIN_NS:
            self._near = (now, set())
            with suppress(OSError):
                self._near = (now, near_ipv6(NEAR_MAX))
        return list(self._near[1])

    # --- connections ---

    def _find_listeners(self, questions: list[FlowQuestion], until_ns: int) -> list[ListenerAnswer]:
        flows = [_flow(one) for one in questions if _is_flow(one)]
        elsewhere = conntrack.translated(flows, self._modules) if flows else {}
        places: dict[tuple[bytes, int], ListenerAnswer] = {}
        answers = []
        for one in questions:
            place = (one.server, one.server_port)
            if place not in places:
                places[place] = self._find_listener(*place, until_ns) if _is_flow(one) else ListenerAnswer()
            way = None
            if _is_flow(one) and time.monotonic_ns() < until_ns:
                way = leaves_by(one.server, one.server_port, one.client, one.client_port)
            answers.append(msgspec.structs.replace(places[place], translated=elsewhere.get(_flow(one)), leaves_by=way))
        return answers

    def _find_listener(self, server: bytes, port: int, until_ns: int) -> ListenerAnswer:
        at_port = self._listeners.at(port, until_ns)
        found = that_listen(at_port, server) if at_port is not None else None
        if found is None:
            return ListenerAnswer()
        queues = [self._listeners.queue(one.inode) for one in found if time.monotonic_ns() < until_ns]
        accept = self._queues.of(self._listeners.with_queue(one) for one in found)
        return ListenerAnswer(
            len(found), [queue for queue in queues if queue is not None], accept=accept,
            alone=self._queues.is_blind and self._listeners.nobody_else(found), defers=self._defer(found, until_ns),
        )  # fmt: skip

    def _defer(self, found: list[sock_diag.Listener], until_ns: int) -> bool | None:
        """Has any of them TCP_DEFER_ACCEPT? None if that is not known of all."""
        each = [self._listeners.defers(one.inode) for one in found if time.monotonic_ns() < until_ns]
        return True if True in each else None if None in each or len(each) < len(found) else False

    def _find_ways(self, questions: list[ForwardQuestion], until_ns: int) -> list[int | None]:
        granted = self._flows.take(min(len(questions), FLOWS_MAX), time.monotonic_ns())
        ways: list[int | None] = []
        if not granted or hides_ways(self._modules):
            return ways
        # what is sent elsewhere leaves by the way to there
        elsewhere = conntrack.translated([_flow(one.flow) for one in questions if _is_flow(one.flow)], self._modules)
        for one in questions[:granted]:
            if time.monotonic_ns() >= until_ns:
                break
            flow = one.flow
            asked = _is_flow(flow) and 0 < one.came_by < 1 << 31 and elsewhere.get(_flow(flow)) is False
            ways.append(
                forwarded_by(one.came_by, flow.client, flow.client_port, flow.server, flow.server_port)
                if asked else None
            )  # fmt: skip
        return ways

    def _ask_clients(self, questions: list[FlowQuestion], until_ns: int) -> list[ClientAnswer | None]:
        answers: list[ClientAnswer | None] = [None] * len(questions)
        if not questions or not self._modules.present(sock_diag.MODULE):
            return answers
        with suppress(OSError), sock_diag.connect() as sock:
            for number, one in enumerate(questions):
                if time.monotonic_ns() >= until_ns:
                    break
                if not _is_flow(one):
                    continue
                found = sock_diag.client(sock, one.client, one.client_port, one.server, one.server_port)
                if found is not None and (found.fail or self._says_fail):
                    answers[number] = ClientAnswer(found.fail, found.syn_data_acked)
        return answers

    def syns_sent(self, questions: list[FlowQuestion]) -> list[int | None]:
        """How many SYNs these clients have sent (sock_diag.syns_sent); None where there is no time to find out."""
        answers: list[int | None] = [None] * len(questions)
        if not questions or not self._modules.present(sock_diag.MODULE):
            return answers
        until_ns = time.monotonic_ns() + HEARD_NS
        with suppress(OSError), sock_diag.connect() as sock:
            for number, one in enumerate(questions):
                if time.monotonic_ns() >= until_ns:
                    break
                if _is_flow(one):
                    answers[number] = sock_diag.syns_sent(
                        sock, one.client, one.client_port, one.server, one.server_port
                    )
        return answers


class _Allowance:
    """So many a second."""

    def __init__(self, a_second: int) -> None:
        self._a_second = a_second
        self._second = 0
        self._taken = 0

    def take(self, wanted: int, now_ns: int) -> int:
        """How many of these there may be in this second."""
        second = now_ns // 1_000_000_000
        if second != self._second:
            self._second, self._taken = second, 0
        granted = min(wanted, self._a_second - self._taken)
        self._taken += granted
        return granted


# The user part reads hostile bytes and may be compromised: what it asks may be anything of the right types.


def _is_cookie(one: CookieQuestion) -> bool:
    sizes = len(one.client) == len(one.server) == _ADDRESS and max(len(one.cookie), len(one.given)) <= _COOKIE_MAX
    return sizes and 0 <= one.port < 1 << 16


def _is_flow(one: FlowQuestion) -> bool:
    ends = len(one.client) == len(one.server) == _ADDRESS
    # no connection has ends of both families
    alike = one.client.startswith(IPV4_MAPPED) == one.server.startswith(IPV4_MAPPED)
    return ends and alike and all(0 < port < 1 << 16 for port in (one.client_port, one.server_port))


def _flow(one: FlowQuestion) -> conntrack.Flow:
    return one.client, one.client_port, one.server, one.server_port
