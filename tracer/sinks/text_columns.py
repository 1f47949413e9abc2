"""The columns of --text: those of the dashboard's list, by the same names, and which a run has."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace

from tracer.errors import UsageError
from tracer.filters.fields import FIELDS
from tracer.filters.filter import fields_of, names
from tracer.filters.shown import SHOWN
from tracer.records.notes import notes
from tracer.records.record import Handshake
from tracer.records.run import Start
from tracer.store.list_columns import COLUMNS, UNKNOWN, ListColumn, field_column
from tracer.vocabulary.fates import CERTAIN
from tracer.vocabulary.printable import printable

DEFAULT = ("time", "interface", "result", "cause", "rtt", "client", "server", "notes")
MORE = "+"  # before fields that come beside those


def _cause(record: Handshake) -> str:
    """The cause, and how sure it is unless it is certain."""
    timing, tfo = record.handshake, record.tfo
    words = SHOWN["cause"].of(record)
    sure = timing.cause_confidence if timing.cause is not None else tfo.cause_confidence
    return UNKNOWN if words is None else words if sure in (None, CERTAIN) else f"{words} ({printable(sure)})"


# what else there is to say: dashboards have the detail for it
NOTES = replace(
    COLUMNS["name"],
    name="notes",
    title="Notes",
    width=40,
    text=lambda record: ", ".join(notes(record)) or UNKNOWN,
    says="who refused it, what was sent again, what else happened, and the name in the SYN's data",
)
_COLUMNS = {**COLUMNS, NOTES.name: NOTES}

# what lines have otherwise than the list: titles that explain themselves, widths of what is usual
_OWN: dict[str, Callable[[ListColumn], ListColumn]] = {
    "result": lambda column: replace(column, width=25, title="Result or Fast Open"),
    "cause": lambda column: replace(column, width=30, text=_cause),
    "client": lambda column: replace(column, width=20),
    "server": lambda column: replace(column, width=18),
}


def column(name: str) -> ListColumn:
    """The column of a name: the list's, a filter's, or a field's of the record. Raises UsageError."""
    found = _COLUMNS.get(name)
    if found is not None:
        return _OWN[name](found) if name in _OWN else found
    fields = fields_of(name)
    if len(fields) == 1:
        return field_column(fields[0].name)
    if fields:
        raise UsageError(f"--fields: {name} stands for {' and '.join(one.name for one in fields)}: choose of these")
    inside = [one for one in FIELDS if one.startswith(f"{name}.")]
    if inside and name:
        raise UsageError(f"--fields: {name} has several fields: {', '.join(inside[:6])}{', ...' if inside[6:] else ''}")
    near = difflib.get_close_matches(name.lower(), (*_COLUMNS, *names()), 1)
    hint = f"did you mean {near[0]}?" if near else "`--fields help` lists them"
    raise UsageError(f'--fields: there is no field "{name}"; {hint}')


def columns(chosen: Sequence[str]) -> tuple[ListColumn, ...]:
    """The columns of these names; such as `+vlan` come beside the usual ones. Raises UsageError."""
    beside = [name.removeprefix(MORE) for name in chosen if name.startswith(MORE)]
    wanted = [name for name in chosen if not name.startswith(MORE)] or list(DEFAULT)
    if beside and wanted[-1] == NOTES.name:  # the only one without an end
        beside.append(wanted.pop())
    return tuple(column(name) for name in (*wanted, *beside))


def parse(text: str) -> tuple[str, ...]:
    """The names in a list such as `time,server,result` or `+vlan,process`. Raises UsageError."""
    found = [name.strip() for name in text.split(",")]
    if text.lstrip().startswith(MORE):  # one is enough for all
        found = [name if name.startswith(MORE) else MORE + name for name in found]
    if not all(name.removeprefix(MORE) for name in found):
        raise UsageError("--fields needs names with commas between them, such as time,server,result")
    columns(found)
    return tuple(found)


def of_run(chosen: Sequence[str] | None, start: Start) -> tuple[ListColumn, ...]:
    """The columns of a run: without the interface where there is one and no other can come, unless it was chosen."""
    if chosen is not None and any(not name.startswith(MORE) for name in chosen):
        return columns(chosen)
    found = columns(chosen or ())
    interfaces = {one.name for one in start.interfaces}
    if len(interfaces) == 1 and "any" not in start.argv:
        return tuple(one for one in found if one.name != "interface")
    width = max((len(name) for name in interfaces), default=15)  # IFNAMSIZ - 1
    return tuple(replace(one, width=max(9, min(15, width))) if one.name == "interface" else one for one in found)


def table() -> list[str]:
    """Every field and what it says, for `--fields help`."""
    wide = max(map(len, _COLUMNS))
    usual = ",".join(DEFAULT)
    return [
        f"usual: {usual} (interface only where there may be several); +NAME adds one",
        *(f"{one.name:{wide}}  {one.says or one.title}".rstrip() for one in _COLUMNS.values()),
        "the names of filters (tls.sni and sni, say) can be used, too",
    ]
