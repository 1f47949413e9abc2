"""Doors to the kernel, which know nothing of handshakes: bpf(2), netlink, namespaces, BTF, cgroups, /proc, libpcap.

May import vocabulary/. Only functions that the root part does not call import numpy; only pyroute.py
and tcp_metrics.py import pyroute2.
"""
