"""Thousands of interfaces with large indexes, as on a host of many containers."""

from __future__ import annotations

import subprocess

from tests.support.netbox import NetBox

FIRST_INDEX = 100_001


def add_links(box: NetBox, count: int, first_index: int = FIRST_INDEX) -> None:
    """Make `count` interfaces, an even number, in the namespace: pairs of veth, a0 and b0, a1 and b1, ..., all up.

    Their indexes are consecutive, from `first_index` on.
    """
    lines = []
    for number in range(count // 2):
        one, other = f"a{number}", f"b{number}"
        index = first_index + 2 * number
        lines += [
            f"link add {one} index {index} type veth peer name {other} index {index + 1}",
            f"link set {one} up",
            f"link set {other} up",
        ]
    done = subprocess.run(
        box.command("ip", "-batch", "-"), input="\n".join(lines), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
