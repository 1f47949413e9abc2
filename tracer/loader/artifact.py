"""Compiled programs without the compiler: bytecode taken from bcc, which bpf(2) alone can load again.

An Artifact is bytecode with two blanks: the descriptors of the maps, and the random key of the flow hash. Loading fills
them in, with a new key each time, so that a kept artifact contains no secret.
Instructions are struct bpf_insn (include/uapi/linux/bpf.h): opcode, registers, offset, 32-bit immediate, 8 bytes.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import msgspec

from tracer.linux import bpfsys
from tracer.linux.bpfsys import MapInfo

_SIZE = 8
_LOAD_IMM64 = 0x18  # BPF_LD | BPF_IMM | BPF_DW: two instructions, the immediate's low half first
_CALL = 0x85
_PSEUDO_MAP_FD = 1
_PLAIN = 0  # source register of a plain 64-bit constant, and of a call of a kernel helper


class Program(msgspec.Struct, frozen=True):
    """A program. `maps` is (instruction, index into Artifact.maps), `keys` the instructions that load the hash key."""

    name: str
    type: int
    code: bytes
    maps: list[tuple[int, int]]
    keys: list[int]


class Artifact(msgspec.Struct, frozen=True):
    """All that a run loads into the kernel. `btf` has the types of the maps' keys and values, or is empty.

    `words`: what numbers that the programs send mean, by the name of the kernel's enum.
    """

    programs: list[Program]
    maps: list[MapInfo]  # without ids, which differ from run to run
    btf: bytes
    words: dict[str, dict[int, str]] = {}
    names_processes: bool = False  # its programs read the kernel's memory to find out whose socket it is


class NotKeepableError(Exception):
    """The compiler's output cannot be loaded again this way."""


def random_hash_key() -> int:
    """A key for the flow hash: odd, and random, so that nobody can target one set of the table."""
    return int.from_bytes(os.urandom(8), "little") | 1


# --- taking ---


def _instructions(code: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(index, opcode, source register, immediate) of each; a 64-bit constant counts once, with all bits, unsigned."""
    index, count = 0, len(code) // _SIZE
    while index < count:
        opcode, registers, _, low = struct.unpack_from("<BBhI", code, index * _SIZE)
        wide = opcode == _LOAD_IMM64
        if wide and index + 1 >= count:
            raise NotKeepableError("the code ends within an instruction")
        high = struct.unpack_from("<I", code, (index + 1) * _SIZE + 4)[0] if wide else 0
        yield index, opcode, registers >> 4, high << 32 | low
        index += 2 if wide else 1


def _put(code: bytearray, index: int, value: int) -> None:
    """Set the immediate of a 64-bit constant."""
    struct.pack_into("<I", code, index * _SIZE + 4, value & 0xFFFFFFFF)
    struct.pack_into("<I", code, (index + 1) * _SIZE + 4, value >> 32)


class _Taker:
    """Collects the maps that programs refer to by descriptor."""

    def __init__(self, names: Mapping[str, int]) -> None:
        self._name_of = {fd: name for name, fd in names.items()}
        self._index_of: dict[int, int] = {}
        self._btf_id = 0
        self.maps: list[MapInfo] = []
        for fd in names.values():
            self.map_index(fd)

    def map_index(self, fd: int) -> int:
        found = self._index_of.get(fd)
        if found is not None:
            return found
        info = bpfsys.map_get_info(fd)
        if info.btf_id and self._btf_id not in (0, info.btf_id):
            raise NotKeepableError("the maps' types come from more than one place")
        self._btf_id = info.btf_id or self._btf_id
        self.maps.append(replace(info, name=self._name_of.get(fd, info.name), id=0, btf_id=0))
        self._index_of[fd] = len(self.maps) - 1
        return self._index_of[fd]

    def program(self, name: str, kind: int, code: bytes, hash_key: int) -> Program:
        left_open = bytearray(code)
        maps: list[tuple[int, int]] = []
        keys: list[int] = []
        halves = (hash_key & 0xFFFFFFFF, hash_key >> 32)
        for index, opcode, source, value in _instructions(code):
            if opcode == _LOAD_IMM64 and source == _PSEUDO_MAP_FD:
                maps.append((index, self.map_index(value)))
                _put(left_open, index, 0)
            elif opcode in (_LOAD_IMM64, _CALL) and source != _PLAIN:
                raise NotKeepableError(f"{name} refers to something other than a map")
            elif opcode == _LOAD_IMM64 and value == hash_key:
                keys.append(index)
                _put(left_open, index, 0)
            elif value in halves:
                raise NotKeepableError(f"{name} has the hash key in pieces")
        return Program(name, kind, bytes(left_open), maps, keys)

    def btf(self) -> bytes:
        return bpfsys.btf_by_id(self._btf_id) if self._btf_id else b""


def take(
    programs: Mapping[str, tuple[int, bytes]],
    maps: Mapping[str, int],
    hash_key: int,
    keyed: bool = True,
    typed: bool = True,
) -> Artifact:
    """The artifact of what this process has compiled.

    `programs` is name -> (type, bytecode with this process's map descriptors), `maps` is name -> descriptor of those
    that user space looks up by name. `keyed`: at least one hashes flows. `typed`: keep the maps' types, which takes
    CAP_SYS_ADMIN. Raises NotKeepableError and OSError.
    """
    taker = _Taker(maps)
    taken = [taker.program(name, kind, code, hash_key) for name, (kind, code) in programs.items()]
    if keyed and not any(program.keys for program in taken):
        raise NotKeepableError("no program contains the hash key")
    return Artifact(taken, taker.maps, taker.btf() if typed else b"")


def joined(first: Artifact, second: Artifact, programs: Sequence[str]) -> Artifact:
    """Join two artifacts with the same maps; `programs` is the order. Raises NotKeepableError if the maps differ."""
    index_of = {one.name: index for index, one in enumerate(first.maps)}
    with_first_maps = list(first.programs)
    for program in second.programs:
        names = [(index, second.maps[number].name) for index, number in program.maps]
        if any(name not in index_of for _, name in names):
            raise NotKeepableError("the two parts do not have the same maps")
        maps = [(index, index_of[name]) for index, name in names]
        with_first_maps.append(msgspec.structs.replace(program, maps=maps))
    by_name = {program.name: program for program in with_first_maps}
    return msgspec.structs.replace(first, programs=[by_name[name] for name in programs])


# --- loading ---


def load(
    artifact: Artifact, hash_key: int, given: Mapping[str, int] | None = None
) -> tuple[dict[str, int], dict[str, int]]:
    """Make the maps, but for the `given` ones, and load the programs; returns new descriptors by name.

    If it fails, nothing is left.

    Raises:
        OSError: the kernel refuses.
        ValueError, IndexError: the artifact contradicts itself.
    """
    maps: dict[str, int] = {}
    given = given or {}
    try:
        _make_maps(artifact, maps, given)
        fds = [given.get(one.name, maps.get(one.name, -1)) for one in artifact.maps]
        codes = {one.name: (one.type, _completed(one, fds, hash_key)) for one in artifact.programs}
        return load_programs(codes), maps
    except BaseException:
        for fd in maps.values():
            os.close(fd)
        raise


def load_programs(programs: Mapping[str, tuple[int, bytes]]) -> dict[str, int]:
    """Load name -> (type, bytecode), two at a time. If it fails, nothing is left. Raises OSError.

    bpf(2) runs without the interpreter's lock, and the kernel verifies without any.
    """
    loaded: dict[str, int] = {}
    failures: list[BaseException] = []
    left = sorted(programs, key=lambda name: len(programs[name][1]))  # the longest is last, and is popped first

    def run() -> None:
        with suppress(IndexError):  # none is left
            while not failures:
                name = left.pop()
                kind, code = programs[name]
                try:
                    loaded[name] = bpfsys.prog_load(kind, name, code)
                except BaseException as error:  # raised again below, in the caller's thread  # noqa: BLE001
                    failures.append(error)

    other = threading.Thread(target=run, name="load")
    other.start()
    run()
    other.join()
    if failures:
        for fd in loaded.values():
            os.close(fd)
        raise failures[0]
    return loaded


def _make_maps(artifact: Artifact, made: dict[str, int], given: Mapping[str, int]) -> None:
    btf_fd = bpfsys.btf_load(artifact.btf) if artifact.btf else 0
    try:
        for one in artifact.maps:
            if one.name in given:
                continue
            if one.name in made:
                raise ValueError(f"{one.name} is there twice")
            made[one.name] = bpfsys.map_create(one, btf_fd if one.btf_value_type else 0)
    finally:
        if btf_fd:
            os.close(btf_fd)  # the maps keep it


def _completed(program: Program, map_fds: list[int], hash_key: int) -> bytes:
    """The bytecode with its blanks filled in."""
    code = bytearray(program.code)
    places = [(index, map_fds[number]) for index, number in program.maps] + [(i, hash_key) for i in program.keys]
    for index, value in places:
        if not 0 <= index < len(code) // _SIZE - 1 or code[index * _SIZE] != _LOAD_IMM64:
            raise ValueError(f"{program.name} has no constant at {index}")
        _put(code, index, value)
    return bytes(code)
