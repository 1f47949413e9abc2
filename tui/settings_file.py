"""Finds, reads and writes tfotrace.toml.

It is $XDG_CONFIG_HOME/tfotrace/tfotrace.toml (also $XDG_CONFIG_HOME/tfotrace.toml, if that exists), where
XDG_CONFIG_HOME is ~/.config unless it is set.

The dashboard runs as the user behind sudo, so files are opened with that user's rights, and are that user's. Where it
stays root (a root shell, --user root) a user could plant files for root: what sudo left in the environment is not
believed then, and no folder is used that others can write to. A file is replaced as a whole, never written through
a link.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tui.settings import Settings, SettingsError, changed, parse

NAME = "tfotrace.toml"
_MAX = 1 << 16  # bytes


@dataclass(frozen=True, slots=True)
class Found:
    """The file, or where it would be; its settings; a sentence if anything in it is not as it should be."""

    path: Path
    settings: Settings = field(default_factory=Settings)
    says: str = ""


def settings_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the settings are, or would be written."""
    folder = _config_home(environment, os.geteuid())
    alone = folder / NAME
    return alone if os.path.lexists(alone) else folder / "tfotrace" / NAME


def _config_home(environment: Mapping[str, str], uid: int) -> Path:
    """XDG_CONFIG_HOME or ~/.config, if that is of the account we run as; else ~/.config of that account."""
    home = environment.get("HOME", "")
    named = [environment.get("XDG_CONFIG_HOME", ""), os.path.join(home, ".config") if home else ""]
    if uid != 0 or "SUDO_UID" not in environment:
        for folder in named:
            if os.path.isabs(folder) and _owner(folder) == uid:
                return Path(folder)
    with suppress(KeyError):
        return Path(pwd.getpwuid(uid).pw_dir) / ".config"
    return Path("/nonexistent")


def _owner(folder: str) -> int | None:
    """Who owns a folder, or what would hold it."""
    while not os.path.exists(folder) and folder != "/":
        folder = os.path.dirname(folder)
    try:
        return os.stat(folder).st_uid
    except OSError:
        return None


def load(environment: Mapping[str, str] = os.environ) -> Found:
    """Read the settings; without a file these are the defaults."""
    path = settings_path(environment)
    try:
        text = _read(path)
        settings, unknown = parse(text)
    except (FileNotFoundError, NotADirectoryError):
        return Found(path)
    except (OSError, SettingsError) as error:
        why = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
        return Found(path, says=f"{path}, {why.rstrip('.')}. The dashboard goes by its defaults.")
    if unknown:
        says = f"{path}: {', '.join(unknown)} {'means' if len(unknown) == 1 else 'mean'} nothing here"
        hint = " Help (F1) names each action." if any(name.startswith("keys.") for name in unknown) else ""
        return Found(path, settings, f"{says} and {'is' if len(unknown) == 1 else 'are'} left alone.{hint}")
    return Found(path, settings)


def save(path: Path, settings: Settings) -> None:
    """Write these settings into the file; what else it has stays.

    Raises:
        OSError: it cannot be written.
        SettingsError: what is there is not TOML.
    """
    os.makedirs(path.parent, mode=0o700, exist_ok=True)
    try:
        before = _read(path)
    except FileNotFoundError:
        before = ""
    text = changed(before, settings)
    with _folder(path) as folder:
        mode = 0o600
        with suppress(FileNotFoundError):
            there = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(there.st_mode):
                raise OSError(0, "it is a link, and only a file is written")
            mode = stat.S_IMODE(there.st_mode) & 0o777
        new = f".{path.name}.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.fdopen(os.open(new, flags, mode, dir_fd=folder), "w", encoding="utf-8")
        try:
            with file:
                os.fchmod(file.fileno(), mode)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(new, dir_fd=folder)
            raise


def _read(path: Path) -> str:
    with _folder(path) as folder:
        # a pipe without a writer must not hold up the start
        fd = os.open(path.name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(0, "it is no regular file")
        data = file.read(_MAX + 1)
    if len(data) > _MAX:
        raise OSError(0, f"it is longer than {_MAX} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError(f"line {data[: error.start].count(10) + 1}: this is not UTF-8") from None


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    """The folder of a file, open; for root only one that nobody else can write to."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        about = os.fstat(fd)
        if os.geteuid() == 0 and (about.st_uid != 0 or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
            raise OSError(0, "others than root can write to its folder")
        yield fd
    finally:
        os.close(fd)
