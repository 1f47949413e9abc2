"""Which account the user part uses."""

from __future__ import annotations

import errno
import os
import pwd

import pytest

from tracer.errors import CannotTraceError, UsageError
from tracer.linux import netns
from tracer.linux.privileges import target_user

NOBODY = pwd.getpwnam("nobody")


def test_the_user_behind_sudo() -> None:
    user = target_user(None, {"SUDO_UID": "1234", "SUDO_GID": "5678", "SUDO_USER": "ada"})
    assert user is not None
    assert (user.name, user.uid, user.gid) == ("ada", 1234, 5678)


@pytest.mark.parametrize(
    "environment",
    [{}, {"SUDO_UID": "0", "SUDO_GID": "0"}, {"SUDO_UID": "x", "SUDO_GID": "1"}, {"SUDO_UID": "²", "SUDO_GID": "1"}],
)
def test_nobody_behind_it_means_stay(environment: dict[str, str]) -> None:
    assert target_user(None, environment) is None


@pytest.mark.parametrize("name", ["nobody", str(NOBODY.pw_uid)])
def test_an_account_by_name_or_number_wins_over_sudo(name: str) -> None:
    user = target_user(name, {"SUDO_UID": "1234", "SUDO_GID": "5678"})
    assert user is not None
    assert (user.uid, user.gid) == (NOBODY.pw_uid, NOBODY.pw_gid)


@pytest.mark.parametrize("name", ["no-such-account", "²", "4294967294", ""])
def test_an_unknown_account_is_wrong_usage(name: str) -> None:
    with pytest.raises(UsageError, match=f'no user "{name}"'):
        target_user(name, {})


@pytest.mark.parametrize(("uid", "words"), [(0, "by root here"), (1000, "without root: run it with sudo")])
def test_a_namespace_that_may_not_be_entered(monkeypatch: pytest.MonkeyPatch, uid: int, words: str) -> None:
    def refuse(_: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(netns, "enter", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(CannotTraceError, match=words):
        netns.enter_named("pid:1")
