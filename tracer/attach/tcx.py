"""tc programs by TCX link (Linux 6.6): first in the chain, and gone with their last descriptor, even by SIGKILL."""

from __future__ import annotations

import errno
import os

from tracer.linux import bpfsys

# what kernels without TCX say to a link of that type (EINVAL: before 6.6; the others: built without CONFIG_NET_XGRESS)
NOT_HERE = frozenset((errno.EINVAL, errno.EOPNOTSUPP, bpfsys.ENOTSUPP))


class TcxLink:
    """One program on one direction of an interface."""

    def __init__(self, ifindex: int, egress: bool, prog_fd: int) -> None:
        """Attach before every other program. Raises OSError; one of NOT_HERE where the kernel has no TCX."""
        attach_type = bpfsys.TCX_EGRESS if egress else bpfsys.TCX_INGRESS
        self._fd = bpfsys.link_create_tcx(prog_fd, ifindex, attach_type, before=True)

    def is_intact(self) -> bool:
        """False once the interface has gone, or after detach."""
        return self._fd >= 0 and bpfsys.link_info(self._fd).ifindex != 0

    def detach(self) -> None:
        """Close the link; the kernel takes the program off, and only this one."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
