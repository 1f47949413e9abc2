"""Doors to the kernel, knowing nothing of handshakes: bpf(2), netlink, namespaces, BTF, cgroups, /proc, libpcap.

Imports nothing of tracer but errors; numpy only inside functions that the root part does not call; pyroute2 only in
pyroute.py and tcp_metrics.py.
"""
