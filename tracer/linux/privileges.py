"""The account of the user part: the user behind sudo, or --user; root only if there is neither."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tracer.errors import CannotTraceError, UsageError
from tracer.linux import capabilities
from tracer.linux.libc import libc

_PR_SET_NO_NEW_PRIVS = 38


@dataclass(frozen=True, slots=True)
class User:
    """An unprivileged account."""

    name: str
    uid: int
    gid: int


def require_root() -> None:
    """Raises CannotTraceError unless the effective user is root."""
    if os.geteuid() != 0:
        raise CannotTraceError("tracing needs root: run it with sudo")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def target_user(name: str | None, environment: Mapping[str, str] = os.environ) -> User | None:
    """The account to become: `name` (--user), else the one behind sudo; None if there is neither.

    Raises:
        UsageError: the account does not exist.
    """
    if name is not None:
        try:
            entry = pwd.getpwuid(int(name)) if _is_number(name) else pwd.getpwnam(name)
        except KeyError:
            raise UsageError(f'no user "{name}" here: --user takes a name or number of /etc/passwd') from None
        return User(entry.pw_name, entry.pw_uid, entry.pw_gid)
    uid = environment.get("SUDO_UID", "")
    gid = environment.get("SUDO_GID", "")
    if not _is_number(uid) or not _is_number(gid) or uid == "0":
        return None
    return User(environment.get("SUDO_USER", uid), int(uid), int(gid))


def drop(user: User | None) -> None:
    """Become `user` for good (None: stay root), and never gain privileges again by executing a program.

    Raises:
        CannotTraceError: the kernel refuses.
        UsageError: the user may not read this program, most of which is yet to be imported.
    """
    if user is not None and user.uid != os.geteuid():
        try:
            os.setgroups(os.getgrouplist(user.name, user.gid))
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
        except OSError as error:
            missing = capabilities.lacking_to_change_user(capabilities.effective())
            why = f": root here lacks {', '.join(missing)}" if missing else ""
            raise CannotTraceError(f"cannot become user {user.name} ({error.strerror}){why}") from None
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if user is not None and not os.access(__file__, os.R_OK):
        place = os.path.dirname(__file__)
        raise UsageError(
            f"user {user.name} may not read {place}, where tfotrace is: install it for everybody (make install), open "
            "the folders above it, or name another --user"
        )


@contextmanager
def acting_as(user: User | None) -> Iterator[None]:
    """Open files with the rights of `user` inside the block (None: with those of now), and be root again after it."""
    if user is None or os.geteuid() != 0:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    try:
        os.setgroups(os.getgrouplist(user.name, user.gid))  # only this group if nobody has the name
        os.setegid(user.gid)
        os.seteuid(user.uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)
