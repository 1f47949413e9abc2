"""Keeps compiled programs from one run to the next, so that only the first start after a boot needs the compiler.

/run/tfotrace/programs has a file for each way to compile, named by a hash of all that goes into compiling. Its programs
will run in the kernel, so it is trusted only if nobody but root could have written it. Nothing here fails visibly: if
anything is odd, the programs are compiled.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from tracer.linux.proc import boot_id
from tracer.linux.run_dir import RUN_DIR, require_own
from tracer.loader.artifact import Artifact

DIRECTORY = RUN_DIR / "programs"
FORMAT = 4  # of the file; raise it when the same sources make another artifact
KEPT = 32  # one is about 100 kB; each set of options has two
_LIMIT = 4 << 20  # bytes read of one file
_SUFFIX = ".programs"
_DIGEST = 32

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Artifact)


# --- the key ---


def key(sources: Path, flags: Sequence[str], names: Sequence[str], compiler: str = "bcc") -> str | None:
    """The name under which to keep the result of compiling the folder `sources` with `flags`; None: do not keep it.

    `names` are the programs and maps that are taken from it. The file of the compiler's Python module (which is not
    imported) stands for the compiler; release, machine and boot stand for the kernel.
    """
    spec = importlib.util.find_spec(compiler)
    if spec is None or spec.origin is None:
        return None  # compiling will report it
    try:
        module = os.stat(spec.origin)
        host = os.uname()
        digest = hashlib.sha256()
        parts = [str(FORMAT), host.release, host.version, host.machine, boot_id()]
        parts += [spec.origin, str(module.st_size), str(module.st_mtime_ns)]
        for part in (*parts, *flags, "", *names, ""):
            _add(digest, part.encode("utf-8", "surrogateescape"))
        for path in sorted(path for path in sources.rglob("*") if path.is_file()):
            _add(digest, os.fsencode(path.relative_to(sources)))
            _add(digest, path.read_bytes())
    except OSError:
        return None
    return digest.hexdigest()


def _add(digest: hashlib._Hash, part: bytes) -> None:
    digest.update(len(part).to_bytes(8, "little"))
    digest.update(part)


# --- the files ---


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    """Descriptor of the directory, if nobody else can write to it or its parent. Raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    parent = os.open(directory.parent, flags)
    try:
        require_own(os.fstat(parent))
        fd = os.open(directory.name, flags, dir_fd=parent)
    finally:
        os.close(parent)
    try:
        require_own(os.fstat(fd), 0o077)
        yield fd
    finally:
        os.close(fd)


def fetch(name: str, directory: Path) -> Artifact | None:
    """The artifact kept under this key; None if there is none that can be trusted."""
    try:
        with _opened(directory) as folder:
            fd = os.open(name + _SUFFIX, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            with open(fd, "rb") as file:
                status = os.fstat(fd)
                require_own(status, 0o077)
                if not stat.S_ISREG(status.st_mode) or status.st_size > _LIMIT:
                    return None
                data = file.read(_LIMIT)
        return _decode(name, data)
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return None


def store(name: str, artifact: Artifact, directory: Path) -> None:
    """Keep it under this key, replacing what was there, and remove the oldest if there are many. Raises OSError."""
    for path, mode in ((directory.parent, 0o755), (directory, 0o700)):
        with suppress(FileExistsError):
            path.mkdir(mode=mode)
    with _opened(directory) as folder:
        draft = f".{os.getpid()}-{os.urandom(4).hex()}"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            with open(fd, "wb") as file:
                file.write(_encode(name, artifact))
            os.rename(draft, name + _SUFFIX, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft, dir_fd=folder)
            raise
        _remove_oldest(folder)


def _remove_oldest(folder: int) -> None:
    """Drafts of killed runs count, too; one that is being written is among the newest."""
    written: dict[str, int] = {}
    for one in os.listdir(folder):
        with suppress(OSError):
            written[one] = os.stat(one, dir_fd=folder, follow_symlinks=False).st_mtime_ns
    for one in sorted(written, key=lambda name: written[name], reverse=True)[KEPT:]:
        with suppress(OSError):
            os.unlink(one, dir_fd=folder)


def _digest(name: str, body: bytes) -> bytes:
    """The hash covers the name: a renamed file is not trusted."""
    return hashlib.sha256(name.encode() + b"\0" + body).digest()


def _encode(name: str, artifact: Artifact) -> bytes:
    body = _encoder.encode(artifact)
    return _digest(name, body) + body


def _decode(name: str, data: bytes) -> Artifact:
    """Raises ValueError unless this is a whole file of that name."""
    body = data[_DIGEST:]
    if data[:_DIGEST] != _digest(name, body):
        raise ValueError("not what was written")
    return _decoder.decode(body)
