"""A file instead of a wire: recorded events become batches again, packets of a capture pass the kernel programs.

May import run/ and everything beneath it.
"""
