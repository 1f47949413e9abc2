"""What to do where nothing happens yet: is Fast Open on at this host, and who says more?"""

from __future__ import annotations

from tracer.doctor.model import Level
from tracer.doctor.settings import bits, switches
from tracer.store.snapshot import Snapshot
from tracer.vocabulary.own_command import sudo, tfotrace
from tui.lines import Line, wrap

_PREFIX = "net.ipv4."
_ASK = (
    "Programs must ask for it: servers with TCP_FASTOPEN on the listening socket, clients with TCP_FASTOPEN_CONNECT or "
    "MSG_FASTOPEN."
)


def advice_lines(snapshot: Snapshot, cells: int) -> list[Line]:
    """What doctor says of this host's switches, with the command; nothing where the host is not known."""
    host = snapshot.host
    if host is None:
        return []
    value = bits({name.removeprefix(_PREFIX): text for name, text in host.sysctls.items()})
    if value is None:
        return []
    lines: list[Line] = []
    found = list(switches(value, sudo()))
    for one in found:
        good = one.level is Level.OK
        fact = one.text.partition(". ")[0].partition(": ")[0]
        text = f"{'✓' if good else '~'} Fast Open is {fact}."
        lines += wrap(text, cells, "text" if good else "degraded")
    # one command answers both
    commands = dict.fromkeys(one.command for one in found if one.command is not None)
    lines += [line for command in commands for line in wrap(command, cells, "strong", 4)]
    if not commands:
        lines += wrap(_ASK, cells)
    return [*lines, *wrap(f"Who listens, and with Fast Open? {tfotrace('doctor')}", cells)]
