"""`tfotrace compare` with three places of one path: on which part, and in which direction, each segment was lost."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.answering import answering
from tests.support.chain import LEFT, RIGHT, SERVER_IP, Chain, chained
from tests.support.hosts import ANSWER, REQUEST
from tests.support.netbox import NetBox, wait_until
from tests.support.patience import PATIENCE_S
from tests.support.stage import BARE_SYN, SYN_ACK
from tests.support.tracing import INFERRING, Run, run, tracing

pytestmark = [pytest.mark.root, pytest.mark.slow]

TIMES = 3  # connections of a scene
FIRST_PORT = 8001


@dataclass(frozen=True, slots=True)
class Scene:
    """What a box between two places loses, and what is to be told of that part of the path."""

    name: str
    box: str | None  # near or far
    match: str = ""
    piece: str = ""
    all_of_them: bool = False

    @property
    def port(self) -> int:
        return FIRST_PORT + SCENES.index(self)


SCENES = [
    Scene("nothing", None),
    Scene("syn before the router", "near", f"tcp dport PORT {BARE_SYN}", "syn"),
    Scene("syn behind the router", "far", f"tcp dport PORT {BARE_SYN}", "syn"),
    Scene("synack before the router", "near", f"tcp sport PORT {SYN_ACK}", "synack"),
    Scene("synack behind the router", "far", f"tcp sport PORT {SYN_ACK}", "synack"),
    Scene("request before the router", "near", "tcp dport PORT tcp flags & psh == psh", "request"),
    Scene("request behind the router", "far", "tcp dport PORT tcp flags & psh == psh", "request"),
    Scene("response before the router", "near", "tcp sport PORT tcp flags & psh == psh", "response", True),
    Scene("response behind the router", "far", "tcp sport PORT tcp flags & psh == psh", "response", True),
]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What each place recorded, by its name."""

    folder: Path
    lines: Mapping[str, list[bytes]]

    def of(self, place: str, port: int) -> str:
        """A place's recording with the handshakes of one server's port, and of the undisturbed one."""
        path = self.folder / f"{place}-{port}.jsonl"
        path.write_bytes(b"".join(line for line in self.lines[place] if _port(line) in (None, FIRST_PORT, port)))
        return str(path)


def _port(line: bytes) -> int | None:
    record = json.loads(line)
    return int(record["server"]["port"]) if record["event"] == "handshake" else None


def lose(box: NetBox, one: Scene) -> None:
    """A rule of the box: it drops what matches, the first of each client or all."""
    match, port = one.match.replace("PORT", str(one.port)), "sport" if "dport" in one.match else "dport"
    rules = f"{match} drop" if one.all_of_them else (
        f"{match} tcp {port} @ports accept; {match} add @ports {{ tcp {port} }} drop"
    )  # fmt: skip
    table = f"lose-{one.port}"
    ports = "set ports { type inet_service; flags dynamic; size 64; }"
    box.run("nft", f"table ip {table} {{ {ports}; chain c {{ type filter hook forward priority 0; {rules}; }}; }}")


def talk(chain: Chain, one: Scene) -> socket.socket:
    """A whole connection, or one that waits for its answer in vain."""
    with chain.client.inside():
        client = socket.socket()
    client.settimeout(PATIENCE_S)
    client.connect((SERVER_IP, one.port))
    client.sendall(REQUEST)
    if not one.all_of_them:
        assert client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER
    return client


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with ExitStack() as opened:
        chain = opened.enter_context(chained())
        places = {
            "client": (chain.client, (RIGHT,)),
            "router": (chain.router, (LEFT, RIGHT)),
            "server": (chain.server, (LEFT,)),
        }
        words = ("--json", INFERRING, "--response-timeout", "4")
        runs = {
            name: opened.enter_context(tracing(*interfaces, *words, "--netns", box.name))
            for name, (box, interfaces) in places.items()
        }
        for one in SCENES:
            with chain.server.inside():
                listener = opened.enter_context(socket.create_server((SERVER_IP, one.port), backlog=64))
            answering(listener)
            if one.box is not None:
                lose(getattr(chain, one.box), one)
        # one connection is whole before the others and one behind them, to see that all places watched meanwhile
        talk(chain, SCENES[0]).close()
        with ThreadPoolExecutor(TIMES * len(SCENES)) as pool:
            clients = [pool.submit(talk, chain, one) for one in SCENES for _ in range(TIMES)]
        for client in clients:
            opened.enter_context(client.result())
        every = 1 + TIMES * len(SCENES)
        for name, each in (("client", 1), ("router", 2), ("server", 1)):
            wait_until(lambda: _told(runs[name]) >= each * every, name, PATIENCE_S)  # noqa: B023
        talk(chain, SCENES[0]).close()
        for watch in runs.values():
            wait_until(lambda: _told(watch) > every, "the last one", PATIENCE_S)  # noqa: B023
            assert watch.stop() == 0, watch.said
        yield Recorded(tmp_path_factory.mktemp("three"), {name: watch.lines for name, watch in runs.items()})


def _told(watch: Run) -> int:
    return sum(b'"event":"handshake"' in line for line in list(watch.lines))


def lost(between: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    """What was lost between two places: by segment and where it went, how often."""
    return {
        (one["piece"], one["towards"]): one["count"]
        for one in between["findings"]
        if one["what"] == "lost" and one["before"] != "sent again"
    }


@pytest.mark.parametrize("one", SCENES, ids=[one.name for one in SCENES])
def test_each_loss_is_located(recorded: Recorded, one: Scene) -> None:
    router = recorded.of("router", one.port)
    files = (recorded.of("client", one.port), f"{router}:{LEFT}", f"{router}:{RIGHT}", recorded.of("server", one.port))
    done = run("compare", "--json", *files, patience_s=4 * PATIENCE_S)
    assert done.code == 0, done.err
    parts = json.loads(done.out)["between"]
    before, router_itself, behind = map(lost, parts)
    towards = "client" if one.piece in ("synack", "response") else "server"
    told = {} if one.box is None else {(one.piece, towards): TIMES}
    assert (before, router_itself, behind) == (
        told if one.box == "near" else {}, {}, told if one.box == "far" else {}
    ), parts  # fmt: skip
    for part in parts:
        assert {finding["what"] for finding in part["findings"]} <= {"lost"}
    assert [part["hops"] for part in parts] == [1, 1, 1], parts


def test_a_whole_recording_of_the_router_is_a_place_too(recorded: Recorded) -> None:
    files = [recorded.of(place, FIRST_PORT) for place in ("client", "router", "server")]
    done = run("compare", "--json", *files, patience_s=4 * PATIENCE_S)
    parts = json.loads(done.out)["between"]
    assert [(part["both"], part["findings"]) for part in parts] == [(TIMES + 2, [])] * 2, parts


def test_an_interface_that_the_recording_lacks(recorded: Recorded) -> None:
    client, router = (recorded.of(place, FIRST_PORT) for place in ("client", "router"))
    done = run("compare", client, f"{router}:eth9")
    assert (done.code, done.out) == (2, b"")
    assert f"has no handshake at eth9: it has {LEFT}, {RIGHT}" in done.err
