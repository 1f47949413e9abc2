"""Other programs on the interface stay the same, in the same order, and work the same, whatever we do there."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.decoder import ACK, RST, SYN
from tests.support.hooks import BY_DEFAULT, TCX_HERE
from tests.support.longer import either
from tests.support.netbox import ETHERTYPE, NetBox, wait_until
from tests.support.packets import Flow, address
from tests.support.patience import PATIENCE_S
from tests.support.rawprog import SCHED_CLS, TC_ACT_OK, TC_ACT_UNSPEC, XDP, XDP_PASS, Counting
from tests.support.tracing import Run, assert_balanced, run, tracing, with_run_dir
from tracer.attach import clsact, xdp
from tracer.linux import bpfsys, interfaces

pytestmark = pytest.mark.root

FRAMES = 50
SIDES = (False, True)  # egress?
PRIORITIES = (1, 2, 100, 49152)
TCX_PROGRAMS = 3
FLOW = Flow(address("192.0.2.1"), address("192.0.2.2"), 40_000, 443)


@dataclass
class Neighbours:
    """Programs of others on "left", and what was counted by each."""

    box: NetBox
    ingress: list[Counting] = field(default_factory=list)
    egress: list[Counting] = field(default_factory=list)

    @property
    def index(self) -> int:
        with self.box.inside():
            return interfaces.find("left").index

    def order(self) -> dict[str, list[object]]:
        """All other programs on the hooks, in the order in which packets pass them."""
        ids = {one.id for one in self.ingress + self.egress}
        found: dict[str, list[object]] = {}
        with self.box.inside():
            index = interfaces.find("left").index
            found["xdp"] = [one for one in xdp.programs(index) if one.program_id in ids]
            for egress in SIDES:
                side = bpfsys.TCX_EGRESS if egress else bpfsys.TCX_INGRESS
                parent = clsact.PARENT_EGRESS if egress else clsact.PARENT_INGRESS
                if TCX_HERE:
                    found[f"tcx {side}"] = [one for one in bpfsys.tcx_query(index, side) if one in ids]
                there = clsact.filters(index, parent)
                found[f"tc {parent}"] = [one for one in there if not one.name.startswith("tfotrace-")]
        return found

    def counts(self) -> list[int]:
        """What each program has seen of FRAMES frames and a refused handshake in each direction."""
        before = [one.count for one in self.ingress + self.egress]
        for number in range(FRAMES):
            data = b"\xff" * 6 + b"\x02\0\0\0\0\1" + ETHERTYPE.to_bytes(2, "big") + bytes(46 + number % 9)
            self._send("right", data)
            self._send("left", data)
        self.handshake()

        def counted() -> list[int]:
            now = [one.count for one in self.ingress + self.egress]
            return [new - old for new, old in zip(now, before, strict=True)]

        wait_until(lambda: min(counted()) >= FRAMES + 1, "every frame at every program", PATIENCE_S)
        return counted()

    def handshake(self) -> None:
        """One that is refused."""
        self._send("right", FLOW.frame(SYN, 1000))
        self._send("left", FLOW.back.frame(RST | ACK, 0, 1001))

    def _send(self, interface: str, frame: bytes) -> None:
        with self.box.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind((interface, 0))
            sock.send(frame)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run directory for all tests here: the first run compiles, the others find that."""
    return with_run_dir(tmp_path_factory.mktemp("run"))


@pytest.fixture
def there(box: NetBox) -> Iterator[tuple[Neighbours, ExitStack]]:
    with ExitStack() as stack:
        yield Neighbours(box), stack


def add_filters(there: Neighbours, stack: ExitStack) -> None:
    """clsact filters at several priorities, made by another library; all but the last let the next one look too."""
    from pyroute2 import IPRoute, NetlinkError

    with there.box.inside(), IPRoute() as ipr:
        index = interfaces.find("left").index
        try:
            ipr.tc("add", "clsact", index)
        except NetlinkError as error:
            if error.code != errno.EEXIST:  # tfotrace came first, where it has no TCX
                raise
        for egress in SIDES:
            for priority in PRIORITIES:
                verdict = TC_ACT_OK if priority == PRIORITIES[-1] else TC_ACT_UNSPEC
                name = f"other_{priority}"
                program = Counting.make(SCHED_CLS, verdict, name)
                stack.callback(program.close)
                ipr.tc(
                    "add-filter", "bpf", index, fd=program.fd, name=name, prio=priority, direct_action=True,
                    parent="ffff:fff3" if egress else "ffff:fff2", classid=1,
                )  # fmt: skip
                (there.egress if egress else there.ingress).append(program)


def add_tcx(there: Neighbours, stack: ExitStack) -> None:
    """TCX links, all of which let the next one look too."""
    for egress in SIDES:
        for number in range(TCX_PROGRAMS):
            program = Counting.make(SCHED_CLS, TC_ACT_UNSPEC, f"other_{number}")
            stack.callback(program.close)
            side = bpfsys.TCX_EGRESS if egress else bpfsys.TCX_INGRESS
            with there.box.inside():
                index = interfaces.find("left").index
                stack.callback(os.close, bpfsys.link_create_tcx(program.fd, index, side, before=bool(number % 2)))
            (there.egress if egress else there.ingress).append(program)


def add_xdp(there: Neighbours, stack: ExitStack, level: str, by_link: bool, name: str) -> Counting:
    """An XDP program in its place, by link or by netlink as `ip link set ... xdp` does."""
    flags = bpfsys.XDP_FLAGS_DRV_MODE if level == "driver" else bpfsys.XDP_FLAGS_SKB_MODE
    program = Counting.make(XDP, XDP_PASS, name)
    stack.callback(program.close)
    with there.box.inside():
        piece = xdp.XdpAttachment(interfaces.find("left").index, program.fd, flags, lambda key: None, use_link=by_link)
    stack.callback(_inside, there.box, piece)
    there.ingress.append(program)
    return program


def _inside(box: NetBox, piece: xdp.XdpAttachment) -> None:
    with box.inside():
        piece.detach()


@contextmanager
def unchanged(there: Neighbours, hook: str, prefix: list[str]) -> Iterator[Run]:
    """Trace with neighbours; everything that holds for them without us also holds with us and after us."""
    before, without = there.order(), there.counts()
    assert without == [FRAMES + 1] * len(without)
    with tracing("left", "--json", "--hook", hook, "--netns", there.box.name, prefix=prefix) as traced:
        assert there.order() == before
        assert there.counts() == without
        assert traced.wait_port(FLOW.sport).handshake.result == "rejected"
        yield traced
        assert there.order() == before
        assert traced.stop() == 0
        assert_balanced(traced.end)
    assert there.order() == before
    assert there.counts() == without
    done = run("detach", prefix=prefix)
    assert (done.code, done.out) == (0, b"nothing was left behind\n")
    assert there.order() == before


@pytest.mark.parametrize("hook", ["auto", "clsact", "xdp-native", *either([], ["xdp-generic"])])
def test_filters_at_any_priority_and_tcx_links(
    there: tuple[Neighbours, ExitStack], prefix: list[str], hook: str
) -> None:
    others, stack = there
    add_filters(others, stack)
    if TCX_HERE and hook != "clsact":  # behind TCX links a clsact filter sees nothing that these end; it says so
        add_tcx(others, stack)
    with unchanged(others, hook, prefix) as traced:
        (interface,) = traced.start.interfaces
        named = " ".join(interface.others)
        assert all(f"other_{priority}" in named for priority in PRIORITIES)
        assert interface.warnings == ()


# what is there: at which level, by link or netlink, its name (libxdp's chain looks like one named xdp_dispatcher)
OCCUPANTS = [
    ("driver", True, "xdp_dispatcher"), ("driver", False, "firewall"), ("generic", True, "firewall"),
    ("generic", False, "xdp_dispatcher"),
]  # fmt: skip
HOOKS = ["auto", "xdp", "xdp-native", "xdp-generic"]
PAIRS = list(zip(OCCUPANTS, HOOKS, strict=True))


@pytest.mark.parametrize(("occupant", "hook"), either(PAIRS, list(itertools.product(OCCUPANTS, HOOKS))))
def test_xdp_is_taken_and_stays_so(
    there: tuple[Neighbours, ExitStack], prefix: list[str], occupant: tuple[str, bool, str], hook: str
) -> None:
    others, stack = there
    level, by_link, name = occupant
    program = add_xdp(others, stack, level, by_link, name)
    with unchanged(others, hook, prefix) as traced:
        (interface,) = traced.start.interfaces
        words = f'XDP program "{name}" (id {program.id}) at {level} level'
        assert interface.hook == BY_DEFAULT.value
        assert interface.others == (words,)
        if hook != "auto":
            assert f"because {words} is there already" in interface.why
        assert any("tc instead of" in line and name in line for line in traced.said) == (hook != "auto")


def test_who_comes_and_goes_while_tracing_is_neither_held_nor_hurt(
    there: tuple[Neighbours, ExitStack], prefix: list[str]
) -> None:
    others, stack = there
    with tracing("left", "--json", "--netns", others.box.name, prefix=prefix) as traced:
        add_filters(others, stack)
        if TCX_HERE:
            add_tcx(others, stack)
        add_xdp(others, stack, "generic", True, "late")
        with_all = others.order()
        assert others.counts() == [FRAMES + 1] * len(others.ingress + others.egress)
        assert traced.wait_port(FLOW.sport).handshake.result == "rejected"
        assert traced.stop() == 0
        assert_balanced(traced.end)
    assert others.order() == with_all
    assert others.counts() == [FRAMES + 1] * len(others.ingress + others.egress)


# an object of xdp-tools' own whose program lets every packet pass
LIBXDP_OBJECT = "xdpfilt_alw_all.o"


def load_by_libxdp(box: NetBox) -> None:
    """What `xdp-loader load` does: libxdp's dispatcher, and the program as a part of it."""
    objects = [one for place in ("lib*", "lib*/*") for one in Path("/usr").glob(f"{place}/bpf/{LIBXDP_OBJECT}")]
    if not objects or shutil.which("xdp-loader") is None:  # libxdp1 brings the objects, xdp-tools the program
        pytest.skip("xdp-tools is not installed here")
    box.run("xdp-loader", "load", "--mode", "skb", "left", str(objects[0]))


@pytest.mark.parametrize("hook", HOOKS)
def test_libxdps_dispatcher_keeps_its_programs(
    there: tuple[Neighbours, ExitStack], prefix: list[str], hook: str
) -> None:
    others, stack = there
    load_by_libxdp(others.box)
    stack.callback(others.box.run, "xdp-loader", "unload", "left", "--all")

    def status() -> str:
        return others.box.run("xdp-loader", "status", "left")

    before = status()
    if "xdp_dispatcher" not in before:
        pytest.skip("libxdp cannot load its dispatcher on this kernel, only the program alone")
    with tracing("left", "--json", "--hook", hook, "--netns", others.box.name, prefix=prefix) as traced:
        assert status() == before
        others.handshake()
        assert traced.wait_port(FLOW.sport).handshake.result == "rejected"
        (interface,) = traced.start.interfaces
        assert interface.hook == BY_DEFAULT.value
        assert [one.split(" (id")[0] for one in interface.others] == ['XDP program "xdp_dispatcher"']
        assert traced.stop() == 0
        assert_balanced(traced.end)
    assert status() == before
    done = run("detach", prefix=prefix)
    assert (done.code, done.out) == (0, b"nothing was left behind\n")
    assert status() == before
