"""docs/FIDELITY.md: what was compared, what agrees, and what every remaining disagreement is."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from scripts.fidelity.comparing import Compared, Disagreement

KNOWN = Path(__file__).with_name("known.json")
UNKNOWN = "not looked into"
_VALUE_MAX = 60  # characters

_HEAD = """# Fidelity

How well tfotrace's records say what is in a capture, held against an independent judge: tshark decodes the packets,
and `scripts/fidelity/` derives the fields by rules that were written a second time, from RFC 7413 and the contract,
with nothing imported from the tracer. tfotrace replays the same capture through its kernel programs.

```
sudo make fidelity CAPTURES=DIR      # every file below DIR; needs tshark; writes this file
```
"""


@dataclass(frozen=True)
class Kind:
    """A kind of disagreement that was looked into. What is empty matches everything."""

    kind: str
    fault: str  # judge, capture, limit (what tfotrace promises) or defect
    reason: str
    note: str = ""  # one of the judge's notes of the handshake
    capture: str = ""  # a pattern of file names
    handshake: str = ""  # a pattern
    fields: tuple[str, ...] = ()

    def explains(self, one: Disagreement) -> bool:
        """Is this disagreement of this kind?"""
        return (
            (not self.note or self.note in one.notes)
            and (not self.capture or fnmatch(one.capture, self.capture))
            and (not self.handshake or fnmatch(one.handshake, self.handshake))
            and (not self.fields or any(fnmatch(one.field, each) for each in self.fields))
        )


def known() -> list[Kind]:
    """The table of what was looked into."""
    table = json.loads(KNOWN.read_text())
    return [Kind(**{**row, "fields": tuple(row.get("fields", ()))}) for row in table]


def kind_of(one: Disagreement, kinds: Iterable[Kind]) -> str:
    """The name of the first kind that explains it."""
    return next((each.kind for each in kinds if each.explains(one)), UNKNOWN)


def text(results: Sequence[Compared], tshark: str, version: str, day: str) -> str:
    """The document."""
    kinds = known()
    return "\n".join(
        [
            _HEAD,
            *_numbers(results, tshark, version, day),
            *_folders(results),
            *_fields(results),
            *_remaining(results, kinds),
        ]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(str(cell) for cell in row)} |"
    yield ""


def _numbers(results: Sequence[Compared], tshark: str, version: str, day: str) -> Iterator[str]:
    skipped = Counter(one.skipped for one in results if one.skipped is not None)
    read = [one for one in results if one.skipped is None]
    values = sum(sum(one.compared.values()) for one in read)
    wrong = [each for one in read for each in one.disagreements]
    handshakes = sum(one.handshakes for one in read)
    touched = len({(each.capture, each.handshake) for each in wrong})
    options, alike = sum(one.options_read for one in read), sum(one.options_alike for one in read)
    yield f"## The run of {day}\n"
    rows: list[tuple[str, object]] = [
        ("traced by", version), ("judge", tshark), ("captures", f"{len(results):,}"),
        *((f"skipped: {why}", f"{count:,}") for why, count in sorted(skipped.items())),
        ("compared", f"{len(read):,}, {sum(one.handshakes > 0 for one in read):,} of them with handshakes"),
        ("handshakes", f"{handshakes:,}, {handshakes - touched:,} of them alike in every field"),
        ("of them Fast Open attempts", f"{sum(one.attempts for one in read):,}"),
        ("values compared", f"{values:,}, {values - len(wrong):,} alike"),
        ("SYNs and SYN-ACKs whose options tshark reads like the judge", f"{alike:,} of {options:,}"),
    ]  # fmt: skip
    yield from _table(("what", "how many"), rows)


def _folders(results: Sequence[Compared]) -> Iterator[str]:
    captures: Counter[str] = Counter()
    handshakes: Counter[str] = Counter()
    for one in results:
        folder = one.capture.partition("/")[0] if "/" in one.capture else "."
        captures[folder] += 1
        handshakes[folder] += one.handshakes
    yield "## Captures\n"
    rows = ((name, count, f"{handshakes[name]:,}") for name, count in sorted(captures.items()))
    yield from _table(("folder", "captures", "handshakes"), rows)


def _fields(results: Sequence[Compared]) -> Iterator[str]:
    compared: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for one in results:
        compared.update(one.compared)
        wrong.update(each.field for each in one.disagreements)
    compared["handshake"] += 0
    wrong["handshake"] = wrong.pop("missing", 0) + wrong.pop("extra", 0)
    yield "## Fields\n"
    yield "`handshake`: both sides have it. Durations count as alike within 0.01 microseconds, those since a later SYN"
    yield "within 1, which is what a record keeps of it.\n"
    rows = ((f"`{name}`", f"{compared[name]:,}", f"{compared[name] - wrong[name]:,}", wrong[name]) for name in compared)
    yield from _table(("field", "compared", "agree", "disagree"), rows)


def _remaining(results: Sequence[Compared], kinds: Sequence[Kind]) -> Iterator[str]:
    found: dict[str, list[Disagreement]] = defaultdict(list)
    for capture in results:
        for one in capture.disagreements:
            found[kind_of(one, kinds)].append(one)
    yield "## What every remaining disagreement is\n"
    if not found:
        yield "None remains.\n"
        return
    rows: dict[str, tuple[object, ...]] = {}
    for kind in (*kinds, Kind(UNKNOWN, "?", "nobody has looked at the packets yet")):
        wrong = found.get(kind.kind, [])
        if wrong and kind.kind not in rows:
            handshakes = len({(one.capture, one.handshake) for one in wrong})
            rows[kind.kind] = (kind.kind, kind.fault, handshakes, len(wrong), kind.reason)
    yield from _table(("kind", "whose", "handshakes", "values", "what it is"), rows.values())
    for name in rows:
        yield f"### {name}\n"
        yield from _listed(found[name])


def _listed(wrong: Sequence[Disagreement]) -> Iterator[str]:
    by_handshake: dict[tuple[str, str], list[Disagreement]] = defaultdict(list)
    for one in wrong:
        by_handshake[one.capture, one.handshake].append(one)
    rows = []
    for (capture, handshake), each in by_handshake.items():
        said = "; ".join(f"`{one.field}` {_short(one.judge)} / {_short(one.tfotrace)}" for one in each)
        rows.append((capture, handshake, said))
    yield from _table(("capture", "handshake", "field: judge / tfotrace"), rows)


def _short(value: Any) -> str:
    said = json.dumps(value).replace("|", "\\|")
    return said if len(said) <= _VALUE_MAX else said[: _VALUE_MAX - 1] + "…"
