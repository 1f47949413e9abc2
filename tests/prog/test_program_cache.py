"""Programs from a cached artifact are the compiled ones: the same instructions, the same records; and when the cache is
not used. A child that must not compile cannot start, which shows which way was taken."""

from __future__ import annotations

import os
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.prog.conftest import need_root
from tests.support.packets import Maker
from tests.support.sentences import START_NS
from tests.support.testrun import LOOPBACK
from tracer.errors import CannotTraceError
from tracer.ipc.event_header import struct as struct_of
from tracer.linux import bpfsys
from tracer.loader import artifact as artifact_module
from tracer.loader import cache, load
from tracer.loader.artifact import Artifact
from tracer.loader.load import Loaded, Loader, LoadOptions
from tracer.ring.ringbuf import HEADER, LENGTH, WORD, Ring, padded
from tracer.root.kernel import Kernel
from tracer.vocabulary.vocabulary import Transport

SMALL = LoadOptions(table_size=512)
ROOMY = 8192  # entries: so many that no set of the table, picked by a secret, evicts one of a few hundred
VARIANTS = {
    "tc": SMALL,
    "xdp": LoadOptions(table_size=ROOMY, xdp=True),
    "perf": LoadOptions(table_size=512, transport=Transport.PERF, event_ring_bytes=1 << 20, payload_ring_bytes=1 << 20),
    "replay": LoadOptions(table_size=ROOMY, replay=True),
    "sums": LoadOptions(table_size=512, details=False),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where artifacts are kept, for this test alone."""
    need_root()
    path = tmp_path / "run" / "programs"
    monkeypatch.setattr(cache, "DIRECTORY", path)
    return path


@dataclass(frozen=True)
class Compiled:
    """What a start that compiled has loaded, and the file that it kept."""

    loaded: Loaded
    file: Path

    def copy_to(self, folder: Path) -> None:
        """Another start from this folder finds the file."""
        folder.parent.mkdir(mode=0o755)
        folder.mkdir(mode=0o700)
        shutil.copy(self.file, folder / self.file.name)


Compile = Callable[[LoadOptions], Compiled]
Both = Callable[[LoadOptions], tuple[Loaded, Loaded]]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compile]:
    """Starts that compile, each variant once for all tests: it takes seconds."""
    need_root()
    made: dict[LoadOptions, Compiled] = {}

    def start(options: LoadOptions) -> Compiled:
        if options not in made:
            path = tmp_path_factory.mktemp("kept") / "run" / "programs"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(cache, "DIRECTORY", path)
                loaded = Loader(options).result()
            made[options] = Compiled(loaded, the_file(path))
        return made[options]

    yield start
    for one in made.values():
        one.loaded.close()


@pytest.fixture
def kept_folder(folder: Path, compiled: Compile) -> Path:
    """A folder with the file that a start with SMALL keeps."""
    compiled(SMALL).copy_to(folder)
    return folder


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and from then on nothing can be compiled."""

    def refuse(*_: object) -> None:
        raise RuntimeError("compiled once more")

    return lambda: monkeypatch.setattr(load, "_compile", refuse)


def start_and_stop(options: LoadOptions) -> None:
    Loader(options).result().close()


def the_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def the_artifact(folder: Path, options: LoadOptions) -> Artifact:
    key = load._cache_key(options)
    assert key is not None
    found = cache.fetch(key, folder)
    assert found is not None
    return found


# --- the same programs ---


@dataclass(frozen=True)
class Seen:
    """What came of the packets."""

    events: list[bytes]
    payloads: list[bytes]
    counters: dict[str, int]

    def timeless_payloads(self) -> list[bytes]:
        """Payload events in order, without their second word, which is a time."""
        return sorted(payload[:8] + payload[16:] for payload in self.payloads)


def records(ring: Ring) -> Iterator[bytes]:
    position, end = ring.consumed, ring.produced()
    while position < end:
        length = WORD.unpack_from(ring.data, position & ring.mask)[0] & LENGTH
        start = (position & ring.mask) + HEADER
        yield bytes(ring.data[start : start + length])
        position += padded(length)
    ring.release(position)


def frames() -> list[bytes]:
    maker = Maker(6)
    # what is shorter than its IP header BPF_PROG_TEST_RUN refuses (bpf_prog_test_run_skb)
    return [frame[:1500] for frame in (maker.frame() for _ in range(400)) if len(frame) >= 54]


def traced(loaded: Loaded, *, told_time: bool, entry: str) -> Seen:
    """Run many packets of every kind through the programs, and settle what comes of them."""
    kernel = Kernel(loaded)
    kernel.configure(5.0)
    kernel.trace_interface(LOOPBACK, 0, True)
    for number, frame in enumerate(frames()):
        ctx = bytearray(192 if told_time else 0)
        if told_time:
            struct.pack_into("<Q", ctx, 152, START_NS + number * 1000)  # tstamp of struct __sk_buff
        bpfsys.prog_test_run(loaded.programs[entry], frame, bytes(ctx))
    kernel.flush(lambda: True)
    options = loaded.options
    sizes = (("events", options.event_ring_bytes), ("payloads", options.payload_ring_bytes))
    rings = [Ring(loaded.maps[name], size) for name, size in sizes]
    events, payloads = (list(records(ring)) for ring in rings)
    at = struct_of("handshake_event").field("settled_ns").offset  # the end of the run settles by the clock
    events = [event[:at] + bytes(8) + event[at + 8 :] for event in events]
    seen = Seen(events, payloads, kernel.counters())
    for ring in rings:
        ring.close()
    return seen


@pytest.fixture
def both(compiled: Compile, folder: Path, no_compiler: Callable[[], None]) -> Iterator[Both]:
    """What a start with these options has compiled and loaded, and what another one has loaded from what it kept."""
    opened: list[Loaded] = []

    def start(options: LoadOptions) -> tuple[Loaded, Loaded]:
        first = compiled(options)
        first.copy_to(folder)
        no_compiler()
        opened.append(Loader(options).result())
        return first.loaded, opened[0]

    yield start
    for one in opened:
        one.close()


def test_the_same_packets_make_the_same_records(both: Both) -> None:
    compiled, kept = (traced(one, told_time=True, entry="tc_ingress") for one in both(VARIANTS["replay"]))
    assert len(compiled.events) > 50
    assert compiled.payloads
    assert kept.counters == compiled.counters
    assert kept.payloads == compiled.payloads
    # the flush goes through the table by the hash, which has another random key
    assert sorted(kept.events) == sorted(compiled.events)


def test_xdp_counts_the_same(both: Both) -> None:
    compiled, kept = (traced(one, told_time=False, entry="xdp_ingress") for one in both(VARIANTS["xdp"]))
    assert len(compiled.events) > 50
    assert kept.counters == compiled.counters
    assert len(kept.events) == len(compiled.events)
    assert compiled.payloads
    assert kept.timeless_payloads() == compiled.timeless_payloads()


@pytest.mark.parametrize("variant", VARIANTS)
def test_kept_programs_and_maps_are_those_compiled(both: Both, variant: str) -> None:
    options = VARIANTS[variant]
    compiled, kept = both(options)
    assert kept.names_processes == compiled.names_processes
    assert list(kept.programs) == list(compiled.programs) == list(options.programs)
    assert list(kept.maps) == list(compiled.maps)
    for name in compiled.programs:
        before, after = (bpfsys.program_info(loaded.programs[name]) for loaded in (compiled, kept))
        assert (after.type, after.name) == (before.type, before.name)
        assert after.id != before.id
    for name in compiled.maps:
        first, second = (bpfsys.map_get_info(loaded.maps[name]) for loaded in (compiled, kept))
        for field in ("type", "key_size", "value_size", "max_entries", "flags", "name", "btf_value_type"):
            assert getattr(second, field) == getattr(first, field), f"{field} of {name}"


def test_the_hash_key_leaves_no_other_trace_in_the_code(folder: Path, compiled: Compile) -> None:
    """Two compilations have two random keys and leave the same artifact: so a third key may be put in."""
    options = VARIANTS["xdp"]
    start_and_stop(options)
    first, second = the_artifact(folder, options), the_artifact(compiled(options).file.parent, options)
    assert first.programs == second.programs
    assert {program.name for program in first.programs if program.keys} == {
        "tc_ingress", "tc_egress", "tc_uncommon", "tc_icmp", "xdp_ingress", "xdp_uncommon", "xdp_icmp",
    }  # fmt: skip


def test_bcc_loads_what_cannot_be_loaded_side_by_side(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_programs: object) -> None:
        raise OSError(22, "no")

    monkeypatch.setattr(artifact_module, "load_programs", refuse)
    start_and_stop(SMALL)
    assert the_artifact(folder, SMALL).programs


def test_a_refused_program_leaves_no_descriptor(kept_folder: Path) -> None:
    bad = refused_by_the_verifier(the_artifact(kept_folder, SMALL))
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="argument"):
        artifact_module.load(bad, 1)
    assert set(os.listdir("/proc/self/fd")) == before


# --- when it is not used ---


def harm_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def harm_owner(path: Path) -> None:
    os.chown(path, 65534, 65534)


def harm_link(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to("elsewhere")


HARM: dict[str, Callable[[Path], None]] = {
    "tampered with": harm_header,
    "cut": lambda path: os.truncate(path, 5000),
    "another's": harm_owner,
    "writable for all": lambda path: path.chmod(0o666),
    "a link": harm_link,
    "in another's folder": lambda path: harm_owner(path.parent),
    "in a folder open to all": lambda path: path.parent.chmod(0o777),
}


@pytest.mark.parametrize("what", HARM)
def test_an_odd_file_is_not_used(kept_folder: Path, no_compiler: Callable[[], None], what: str) -> None:
    no_compiler()
    start_and_stop(SMALL)  # as it is it is used
    HARM[what](the_file(kept_folder))
    with pytest.raises(CannotTraceError, match="compiled once more"):
        Loader(SMALL).result()


def refused_by_the_verifier(artifact: Artifact) -> Artifact:
    import msgspec

    first, *rest = artifact.programs
    # the end is missing: the program would run out of its code
    return msgspec.structs.replace(artifact, programs=[msgspec.structs.replace(first, code=first.code[:-8]), *rest])


def without_a_map(artifact: Artifact) -> Artifact:
    import msgspec

    return msgspec.structs.replace(artifact, maps=artifact.maps[:3])


def without_a_program(artifact: Artifact) -> Artifact:
    import msgspec

    return msgspec.structs.replace(artifact, programs=artifact.programs[:-1])


@pytest.mark.parametrize("spoil", [refused_by_the_verifier, without_a_map, without_a_program])
def test_what_the_kernel_refuses_is_compiled_and_replaced(
    kept_folder: Path, no_compiler: Callable[[], None], spoil: Callable[[Artifact], Artifact]
) -> None:
    good = the_artifact(kept_folder, SMALL)
    key = load._cache_key(SMALL)
    assert key is not None
    cache.store(key, spoil(good), kept_folder)
    start_and_stop(SMALL)  # quietly as if nothing had been kept
    assert the_artifact(kept_folder, SMALL).programs == good.programs
    no_compiler()
    start_and_stop(SMALL)


def test_a_folder_that_cannot_be_written_is_no_failure(folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("a file where the folder would be")
    start_and_stop(SMALL)
    assert folder.read_text() == "a file where the folder would be"


def test_sources_that_change_meanwhile_are_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = iter(["before", "after"])
    monkeypatch.setattr(load, "_cache_key", lambda _options: next(keys))
    start_and_stop(SMALL)
    assert not folder.exists()


def test_two_starts_at_once(folder: Path, no_compiler: Callable[[], None]) -> None:
    for loader in [Loader(SMALL), Loader(SMALL)]:
        loader.result().close()
    assert the_artifact(folder, SMALL).programs
    no_compiler()
    for loader in [Loader(SMALL), Loader(SMALL), Loader(SMALL)]:
        loader.result().close()


def test_a_start_that_is_killed_leaves_nothing_half_done(folder: Path, no_compiler: Callable[[], None]) -> None:
    Loader(SMALL).kill()
    assert not list(folder.glob("*.programs"))
    start_and_stop(SMALL)
    no_compiler()
    loader = Loader(SMALL)
    os.kill(loader.pid, signal.SIGSTOP)
    loader.kill()
    start_and_stop(SMALL)
