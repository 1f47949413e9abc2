"""Command lines of this program to advise, spelled as the user started it, so that they can be pasted.

For text that this host's user reads now. Records, notices and what is said of other hosts keep the plain name.
"""

from __future__ import annotations

import os
import shlex
import sys

from tracer.vocabulary.printable import printable

NAME = "tfotrace"
STARTED_AS = "TFOTRACE_STARTED_AS"  # a start script's own name, which its exec loses
_MODULE = ["-m", "tracer"]
# where sudo looks for commands on Debian; the user's own PATH does not count there
_SUDO_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def sudo() -> str:
    """ "sudo " if the user's shell lacks root, also behind sudo; "" in a shell of root."""
    return "sudo " if os.geteuid() != 0 or os.environ.get("SUDO_UID", "0") != "0" else ""


def tfotrace(*words: str, root: bool = True) -> str:
    """`sudo ./tfotrace detach`: this program with `words`; `root` tells whether that command needs root."""
    before = sudo() if root else ""
    return printable(" ".join([before + _started_as(bool(before)), *map(shlex.quote, words)]))


def _started_as(with_sudo: bool) -> str:
    """What stands for this program in a shell."""
    name = os.environ.get(STARTED_AS)
    if not name:
        for at in range(1, len(sys.orig_argv) - 1):
            if sys.orig_argv[at : at + 2] == _MODULE:
                return shlex.join(sys.orig_argv[: at + 2])
        name = sys.argv[0] if os.path.basename(sys.argv[0]) == NAME else NAME
    if os.path.isabs(name) and (not with_sudo or os.path.dirname(name) in _SUDO_PATH):
        import shutil  # which imports compressors: where memory is short Python could not even say so

        if shutil.which(NAME) == name:
            return NAME
    return shlex.quote(name)
