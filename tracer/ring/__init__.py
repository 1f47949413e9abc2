"""Turns the kernel's pages into batches: ring buffers, perf buffers, and how often to read them.

May import handshake/ and everything beneath it.
"""
