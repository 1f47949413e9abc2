"""Doors to the kernel, which know nothing of handshakes: bpf(2), netlink, namespaces, BTF, cgroups, /proc, libpcap.

It imports nothing of tracer but errors. Only functions that the root part does not call import numpy; only pyroute.py
and tcp_metrics.py import pyroute2.
"""
