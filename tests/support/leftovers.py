"""What killed runs may have left, to check what was done about it."""

from __future__ import annotations

from pathlib import Path

from tracer.attach.instances import InstanceFile, instances


def find_leftovers(directory: Path) -> list[InstanceFile]:
    """Killed runs that may have left something: their lock is free and they listed attachments."""
    return [item for item in instances(directory) if not item.running and item.entries]
