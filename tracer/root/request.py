"""What the command line asks of the root part."""

from __future__ import annotations

from dataclasses import dataclass

from tracer.loader.load import LoadOptions
from tracer.vocabulary.vocabulary import HookChoice


@dataclass(frozen=True, slots=True)
class RootRequest:
    """Interfaces as named (`any`, groups `a+b`), how to attach, what to compile, when to give up on a silent server."""

    interfaces: tuple[str, ...]
    hook: HookChoice
    load: LoadOptions
    response_timeout_s: float
    netns: str | None = None
