"""Pages that the kernel fills become batches: ring buffers, perf buffers, and the pace at which they are looked at.

May import handshake/ and everything beneath it.
"""
