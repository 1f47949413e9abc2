"""verify.py KEPT: lets this kernel's verifier check every program that precompile.py made for it.

Prints one line per variant: how many programs were accepted and how many instructions the verifier processed for the
costliest; for a rejected one, the end of the verifier's log. Exit code 1 if one was rejected.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

from tracer.linux import bpfsys
from tracer.loader import artifact, cache

LOG_BYTES = 16 << 20
LOG_LEVEL, LOG_STATS = 1, 4  # include/linux/bpf_verifier.h


def judge(kind: int, name: str, code: bytes, level: int) -> tuple[str, str]:
    """Load a program and unload it again; returns (error or "", log)."""
    text = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(LOG_BYTES)
    fields = (kind, len(code) // 8, text, licence, level, LOG_BYTES, log, 0, 0, name.encode("ascii")[:15])
    try:
        os.close(bpfsys._call(bpfsys._PROG_LOAD, "=IIQQIIQII16s", *fields))
    except OSError as error:
        return str(error), log.value.decode("utf-8", "replace")
    return "", log.value.decode("utf-8", "replace")


def verify(kept: artifact.Artifact) -> tuple[str, bool]:
    """The lines to print, and whether every program was accepted."""
    maps: dict[str, int] = {}
    costs: dict[str, int] = {}
    try:
        artifact._make_maps(kept, maps, {})
        fds = [maps[one.name] for one in kept.maps]
        for program in kept.programs:
            code = artifact._completed(program, fds, artifact.random_hash_key())
            error, log = judge(program.type, program.name, code, LOG_STATS)
            if error:
                _, log = judge(program.type, program.name, code, LOG_LEVEL)
                return f"{program.name} REFUSED: {error}\n" + "\n".join(log.splitlines()[-60:]), False
            costs[program.name] = int(log.split("processed ")[-1].split()[0])
    finally:
        for fd in maps.values():
            os.close(fd)
    costliest = max(costs, key=lambda name: costs[name])
    return f"{len(costs)} programs accepted, {costs[costliest]:,} instructions for {costliest}", True


def main(kept: Path) -> int:
    """Verify all variants; returns the exit code."""
    good = True
    # before 5.11 it limits maps and programs
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for name, key in json.loads((kept / "variants").read_text()).items():
        found = cache.fetch(key, kept / "programs")
        line, taken = ("not kept", False) if found is None else verify(found)
        print(f"{name}: {line}", flush=True)
        good &= taken
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
