"""precompile.py KEPT: compiles the programs for an emulated guest's kernel on the host, where that takes seconds.

KEPT/asked (written by `precompile.py --ask` in guest.sh) has everything on which compiling in the guest depends. The
results go to KEPT/programs, where tracer/loader/cache.py finds them in the guest under the same keys; KEPT/variants
names them. The guest compiles missing ones itself. Run it as root with KEPT/boot_id bound over
/proc/sys/kernel/random/boot_id.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from tracer.loader import cache, kernel_words, load, packet_filter, process_offsets
from tracer.loader.load import LoadOptions
from tracer.vocabulary.vocabulary import Transport


def ask() -> None:
    """Print what differs from kernel to kernel."""
    flags = {"variant": process_offsets.variant_flags(), "offsets": process_offsets.offset_flags()}
    words = None
    with suppress(kernel_words.CannotHearError):
        words = kernel_words.of_kernel()
    print(json.dumps({"uname": list(os.uname()), **flags, "words": words}))


def wanted() -> dict[str, LoadOptions]:
    """The variants that most tests load."""
    some = packet_filter.parse("tcp")
    perf = {
        "event_ring_bytes": 1 << 20,
        "payload_ring_bytes": 1 << 20,
        "packet_ring_bytes": 1 << 20,
    }  # run/live.py
    return {
        "plain": LoadOptions(),
        "--hook xdp": LoadOptions(xdp=True),
        "-w FILE.pcapng": LoadOptions(packets=True),
        "--quiet": LoadOptions(details=False),
        "--quiet --hook xdp": LoadOptions(details=False, xdp=True),
        "--hook xdp -w FILE.pcapng": LoadOptions(xdp=True, packets=True),
        "--filter": LoadOptions(filter=some),
        "--hook xdp --filter": LoadOptions(xdp=True, filter=some),
        "--replay": LoadOptions(replay=True),
        "--replay --filter": LoadOptions(replay=True, filter=some),
        "--transport perf": LoadOptions(transport=Transport.PERF, **perf),
    }


def compile_for(kept: Path) -> None:
    """Fill KEPT/programs."""
    asked = json.loads((kept / "asked").read_text())
    guest = os.uname_result(asked["uname"])
    os.uname = lambda: guest
    process_offsets.variant_flags = lambda: asked["variant"]
    if asked.get("words") is not None:
        offsets, words = asked["words"]
        numbered = {enum: {int(number): name for number, name in names.items()} for enum, names in words.items()}
        kernel_words.of_kernel = lambda: (offsets, numbered)
    cache.KEPT = 32  # only here; a guest drops old ones when it compiles something itself
    keys = {}
    for name, options in wanted().items():
        key = load._cache_key(options)
        assert key is not None
        keys[name] = key
        if cache.fetch(key, kept / "programs") is None:
            made = load._compile(options, asked["offsets"])
            cache.store(key, made, kept / "programs")
        if asked.get("words") is not None and options.transport is Transport.RING and not options.replay:
            flags = kernel_words.flags_with_ring(options.flags(), options.drop_ring_bytes)
            key = kernel_words.cache_key(flags)
            if key is not None and cache.fetch(key, kept / "programs") is None:
                cache.store(key, kernel_words.compiled(flags), kept / "programs")
    (kept / "variants").write_text(json.dumps(keys))


if __name__ == "__main__":
    if sys.argv[1] == "--ask":
        ask()
    else:
        compile_for(Path(sys.argv[1]))
