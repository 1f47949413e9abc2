"""What stays root: load, attach, sweep, count, follow interfaces, answer questions about the host, detach.

May import ring/, attach/, loader/, linux/, ipc/, records/ and vocabulary/, but not numpy, which this process does
without.
"""
