"""A second implementation of record filters: random trees, written as text and evaluated in the plainest way.

Nothing here knows tracer.filters.filter: the rules are those of its help text, the values those of the JSON.
"""

from __future__ import annotations

import ipaddress
import operator
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]

NUMBERS = {
    "port": ["server.port"], "server.port": ["server.port"], "client.port": ["client.port"],
    "mss": ["syn.mss"], "synack.mss": ["synack.mss"], "syn.wscale": ["syn.wscale"], "wscale": ["syn.wscale"],
    "window": ["syn.window"], "ttl": ["syn.ttl"], "hops": ["syn.hops"], "synack.hops": ["synack.hops"],
    "syn.ts_val": ["syn.ts_val"], "synack.ts_ecr": ["synack.ts_ecr"], "payload_len": ["syn.payload_len"],
    "acked": ["synack.acked_payload_len"], "syn_count": ["handshake.syn_count"],
    "handshake.late_syns": ["handshake.late_syns"], "handshake.icmp.type": ["handshake.icmp.type"],
    "tfo.cookie_len": ["tfo.cookie_len"], "tfo.synack_kind": ["tfo.synack_kind"], "syn.seq": ["syn.seq"],
    "client.process.pid": ["client.process.pid"], "handshake.copies": ["handshake.copies"],
    "handshake.misfits.rst": ["handshake.misfits.rst"], "handshake.reset.hops": ["handshake.reset.hops"],
    "handshake.answered_syn": ["handshake.answered_syn"], "handshake.request_repeats": ["handshake.request_repeats"],
}  # fmt: skip
DURATIONS = {
    "rtt": ["handshake.rtt_us"], "handshake.rtt": ["handshake.rtt_us"], "handshake.rtt_us": ["handshake.rtt_us"],
    "first_response": ["handshake.first_response_us"], "synack_delay": ["handshake.synack_delay_us"],
    "connect": ["handshake.connect_us"], "handshake.reset.after_us": ["handshake.reset.after_us"],
    "first_request": ["handshake.first_request_us"], "ack_delay": ["handshake.ack_delay_us"],
    "saved": ["tfo.rtt_saved_us"], "delay": ["tfo.delay_us"],
}  # fmt: skip
FLAGS = {
    "syn.sack_permitted": ["syn.sack_permitted"], "synack.md5": ["synack.md5"],
    "negotiated.wscale": ["negotiated.wscale"], "negotiated.mptcp": ["negotiated.mptcp"],
    "payload.captured": ["payload.captured"], "handshake.request_acked": ["handshake.request_acked"],
    "payload.truncated": ["payload.truncated"], "ech": ["tls.ech"],
}  # fmt: skip
WORDS = {
    "outcome": ["tfo.outcome"], "tfo.outcome": ["tfo.outcome"], "group": ["tfo.group"], "request": ["tfo.request"],
    "result": ["handshake.result"], "settled_by": ["handshake.settled_by"], "vantage": ["vantage"],
    "ecn": ["negotiated.ecn"], "synack.ecn": ["synack.ecn"], "protocol": ["payload.protocol"], "hook": ["hook"],
    "after": ["handshake.after"], "handshake.resumed": ["handshake.resumed"],
    "handshake.reset.from": ["handshake.reset.from"], "handshake.answered_ecn": ["handshake.answered_ecn"],
}  # fmt: skip
# of these lists show more, so that parts of what they show are asked of them elsewhere (test_shown_words.py)
SHOWN = ("outcome", "result")
# the words of lists, where these are others than the record's
BRIEF = {
    "handshake.result": {"rejected": "refused", "aborted": "reset", "no_reply": "no reply", "half_open": "half open"},
    "tfo.outcome": {
        "syn_timeout_fallback": "plain SYN after timeout", "cookie_only": "cookie without data",
        "over_acked": "acked more than was sent",
    },
}  # fmt: skip
BRIEF["handshake.resumed"] = BRIEF["handshake.result"]
TEXTS = {
    "sni": ["tls.sni"], "http_host": ["http.host"], "method": ["http.method"], "dns.name": ["dns.name"],
    "name": ["tls.sni", "http.host", "dns.name"], "interface": ["interface"], "id": ["id"], "ts": ["ts"],
    "p0f": ["signature.p0f"], "community_id": ["community_id"], "cookie_id": ["tfo.cookie_id"],
    "process": ["client.process.name", "server.process.name"], "mptcp": ["syn.mptcp"],
}  # fmt: skip
ADDRESSES = {
    "ip": ["client.ip", "server.ip"], "client": ["client.ip"], "server.ip": ["server.ip"], "server": ["server.ip"],
}  # fmt: skip
LISTS = {
    "options": ["syn.options"], "synack.options": ["synack.options"], "alpn": ["tls.alpn"], "vlan": ["vlan"],
}  # fmt: skip
NAMES = {**NUMBERS, **DURATIONS, **FLAGS, **WORDS, **TEXTS, **ADDRESSES, **LISTS}
BARE = ["client.ip", "server.ip", "tls.sni", "http.host", "dns.name"]

ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
UNITS = {"us": 1, "ms": 1000, "s": 1_000_000}


def value_at(record: Record, path: str) -> Any:
    """The value at a dotted name; None if any step is missing or null."""
    found: Any = record
    for step in path.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(step)
    return found


@dataclass(frozen=True)
class Leaf:
    """`fits` judges one known value that is no list; `inverted` is != and !~."""

    text: str
    paths: Sequence[str]
    fits: Callable[[Any], bool]
    inverted: bool = False

    def write(self, random: random.Random) -> str:
        return self.text

    def holds(self, record: Record) -> bool:
        known = [value for value in (value_at(record, path) for path in self.paths) if value is not None]
        hit = any(
            any(self.fits(one) for one in value) if isinstance(value, (list, tuple)) else self.fits(value)
            for value in known
        )
        return bool(known) and not hit if self.inverted else hit


@dataclass(frozen=True)
class Unknown:
    """== null and != null."""

    text: str
    paths: Sequence[str]
    wanted: bool

    def write(self, random: random.Random) -> str:
        return self.text

    def holds(self, record: Record) -> bool:
        return all(value_at(record, path) is None for path in self.paths) is self.wanted


@dataclass(frozen=True)
class Tree:
    """`not` of one part, `and` and `or` of several."""

    join: str
    parts: Sequence[Any]

    def write(self, random: random.Random) -> str:
        written = []
        for part in self.parts:
            text = part.write(random)
            # as few parentheses as can be: what binds how tightly is what is being tested
            loose = isinstance(part, Tree) and ("or", "and", "not").index(part.join) <= ("or", "and", "not").index(
                self.join
            )
            if loose and part.join != "not":
                text = f"({text})"
            elif random.random() < 0.1:
                text = f"( {text} )"
            written.append(text)
        if self.join == "not":
            return random.choice(["not ", "NOT ", "!", "! "]) + written[0]
        word = {"and": ["and", "AND", "&&"], "or": ["or", "Or", "||"]}[self.join]
        return "".join(f" {random.choice(word)} {text}" if at else text for at, text in enumerate(written))

    def holds(self, record: Record) -> bool:
        if self.join == "not":
            return not self.parts[0].holds(record)
        return (all if self.join == "and" else any)(part.holds(record) for part in self.parts)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Maker:
    """Random filters over values that some records have."""

    def __init__(self, seed: int, records: Sequence[Record]) -> None:
        self.random = random.Random(seed)
        self.seen: dict[str, list[Any]] = {}
        for path in {path for paths in NAMES.values() for path in paths}:
            values: dict[Any, None] = {}
            for record in records:
                value = value_at(record, path)
                for one in value if isinstance(value, (list, tuple)) else (value,):
                    if one is not None:
                        values[one] = None
            self.seen[path] = list(values)

    def tree(self, depth: int = 3) -> Any:
        kind = self.random.random()
        if depth == 0 or kind < 0.4:
            return self.leaf()
        if kind < 0.55:
            return Tree("not", [self.tree(depth - 1)])
        join = "and" if kind < 0.78 else "or"
        return Tree(join, [self.tree(depth - 1) for _ in range(self.random.randint(2, 3))])

    def leaf(self) -> Leaf | Unknown:
        pick = self.random
        if pick.random() < 0.06:
            return self.bare()
        tables: list[tuple[dict[str, list[str]], Callable[[str, list[str]], Leaf]]] = [
            (NUMBERS, self.number), (DURATIONS, self.duration), (FLAGS, self.flag), (WORDS, self.word),
            (TEXTS, self.words), (ADDRESSES, self.address), (LISTS, self.element),
        ]  # fmt: skip
        table, make = pick.choice(tables)
        name = pick.choice(list(table))
        paths = table[name]
        if pick.random() < 0.08:
            wanted = pick.random() < 0.5
            return Unknown(f"{name} {'==' if wanted else '!='} {pick.choice(['null', 'NULL'])}", paths, wanted)
        return make(pick.choice([name, name, name.upper()]), paths)

    def some(self, paths: Sequence[str], otherwise: Any) -> Any:
        values = [value for path in paths for value in self.seen[path]]
        return self.random.choice(values) if values and self.random.random() < 0.85 else otherwise

    def blank(self) -> str:
        return self.random.choice(["", " ", "  "])

    def compared(self, name: str, paths: Sequence[str], text: str, wanted: float) -> Leaf:
        sign = self.random.choice(["==", "=", "!=", "<", "<=", ">", ">="])
        compare = ORDER.get(sign, operator.eq)
        return Leaf(
            f"{name}{self.blank()}{sign}{self.blank()}{text}", paths, lambda v: compare(v, wanted), sign == "!="
        )

    def number(self, name: str, paths: list[str]) -> Leaf:
        value = int(self.some(paths, self.random.randint(0, 70_000)))
        if self.random.random() < 0.2:
            values = [value, *(int(self.some(paths, 443)) for _ in range(self.random.randint(0, 3)))]
            return Leaf(f"{name} in ({', '.join(map(str, values))})", paths, lambda v: v in values)
        text = self.random.choice([str(value), str(value), hex(value), f"{value}.0"])
        return self.compared(name, paths, text, value)

    def duration(self, name: str, paths: list[str]) -> Leaf:
        value = float(self.some(paths, self.random.randint(0, 2_000_000)))
        unit = self.random.choice(list(UNITS))
        text = f"{value / UNITS[unit]:.{self.random.choice([0, 1, 3, 9])}f}"
        return self.compared(name, paths, text + unit, float(text) * UNITS[unit])

    def flag(self, name: str, paths: list[str]) -> Leaf:
        text = self.random.choice(["true", "false", "yes", "no", "True"])
        wanted = text.lower() in ("true", "yes")
        sign = self.random.choice(["==", "!="])
        return Leaf(f"{name} {sign} {text}", paths, lambda v: v is wanted, sign == "!=")

    def word(self, name: str, paths: list[str]) -> Leaf:
        values = [self.some(paths, self.seen[paths[0]][0]) for _ in range(self.random.randint(1, 3))]
        if len(values) > 1:
            return Leaf(f"{name} in ({','.join(values)})", paths, lambda v: v in values)
        brief = BRIEF.get(paths[0], {})
        if self.random.random() < 0.2 and name.lower() not in SHOWN:
            piece = self.piece(values[0])
            sign = self.random.choice(["~", "!~"])
            return Leaf(
                f"{name} {sign} {quoted(piece)}", paths,
                lambda v: any(piece in form for form in (v, v.replace("_", " "), brief.get(v, v))), sign == "!~",
            )  # fmt: skip
        sign = self.random.choice(["==", "!="])
        text = self.random.choice([
            values[0], quoted(values[0]), values[0].upper(), quoted(values[0].replace("_", " ")),
            quoted(brief.get(values[0], values[0])),
        ])  # fmt: skip
        return Leaf(f"{name} {sign} {text}", paths, lambda v: v == values[0], sign == "!=")

    def words(self, name: str, paths: list[str]) -> Leaf:
        value = str(self.some(paths, "example"))
        way = self.random.random()
        if way < 0.3:
            return self.contains(name, paths, value)
        if way < 0.45:
            expression = re.escape(value[: self.random.randint(1, 8)]) + self.random.choice(
                ["", ".*", ".", "[a-f0-9]+"]
            )
            anchored = self.random.choice(["", "^"]) + expression
            return Leaf(f"{name} =~ {quoted(anchored)}", paths, lambda v: bool(re.search(anchored, v, re.IGNORECASE)))
        if way < 0.6:
            return Leaf(f"{name} in (x, {quoted(value)})", paths, lambda v: v in ("x", value))
        sign = self.random.choice(["==", "!="])
        return Leaf(f"{name} {sign} {quoted(value)}", paths, lambda v: v == value, sign == "!=")

    def piece(self, text: str) -> str:
        begin = self.random.randint(0, len(text) - 1)
        return text[begin : begin + self.random.randint(1, 6)]

    def contains(self, name: str, paths: Sequence[str], value: str) -> Leaf:
        piece = self.piece(value)
        sign = self.random.choice(["~", "!~"])
        shown = self.random.choice([piece, piece.upper()])
        return Leaf(f"{name} {sign} {quoted(shown)}", paths, lambda v: piece.lower() in str(v).lower(), sign == "!~")

    def network(self, text: str) -> tuple[str, Callable[[Any], bool]]:
        version = 6 if ":" in text else 4
        bits = self.random.choice([0, 1, 8, 20, 24, 32] if version == 4 else [0, 1, 16, 64, 96, 127, 128])
        wide = 32 if version == 4 else 128
        shift = wide - bits
        wanted = int(ipaddress.ip_address(text)) >> shift

        def within(value: Any) -> bool:
            return (6 if ":" in value else 4) == version and int(ipaddress.ip_address(value)) >> shift == wanted

        return f"{text}/{bits}", within

    def address(self, name: str, paths: list[str]) -> Leaf:
        value = self.some(paths, "10.1.2.3")
        if self.random.random() < 0.2:
            return self.contains(name, paths, value)
        sign = self.random.choice(["==", "!="])
        if self.random.random() < 0.5:
            return Leaf(f"{name} {sign} {value}", paths, lambda v: v == value, sign == "!=")
        text, within = self.network(value)
        return Leaf(f"{name} {sign} {text}", paths, within, sign == "!=")

    def element(self, name: str, paths: list[str]) -> Leaf:
        value = str(self.some(paths, "tfo"))
        if self.random.random() < 0.3:
            return self.contains(name, paths, value)
        sign = self.random.choice(["==", "!="])
        return Leaf(f"{name} {sign} {quoted(value)}", paths, lambda v: str(v) == value, sign == "!=")

    def bare(self) -> Leaf:
        value = str(
            self.some(self.random.choice([["client.ip"], ["server.ip"], ["tls.sni"], ["dns.name"]]), "10.0.0.1")
        )
        if value.replace(".", "").isdigit() or ":" in value:
            text, within = self.network(value)
            return Leaf(text, ["client.ip", "server.ip"], within)
        piece = self.piece(value)
        return Leaf(quoted(piece), BARE, lambda v: piece.lower() in v.lower())
