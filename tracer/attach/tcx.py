"""tc programs by TCX link (Linux 6.6): first in the chain, and gone with their last descriptor, even after SIGKILL."""

from __future__ import annotations

import errno
import os

from tracer.linux import bpfsys

# errors of kernels without TCX (EINVAL: before 6.6; the others: built without CONFIG_NET_XGRESS)
NOT_HERE = frozenset((errno.EINVAL, errno.EOPNOTSUPP, bpfsys.ENOTSUPP))


class TcxLink:
    """A program on one direction of an interface."""

    def __init__(self, ifindex: int, egress: bool, prog_fd: int) -> None:
        """Attach ahead of every other program. Raises OSError, one of NOT_HERE if the kernel has no TCX."""
        attach_type = bpfsys.TCX_EGRESS if egress else bpfsys.TCX_INGRESS
        self._fd = bpfsys.link_create_tcx(prog_fd, ifindex, attach_type, before=True)

    def is_intact(self) -> bool:
        """False once the interface is gone, or after detach."""
        return self._fd >= 0 and bpfsys.link_info(self._fd).ifindex != 0

    def detach(self) -> None:
        """Close the link: the kernel takes off this program and no other."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
