"""Makes loaded programs of C: the compiler's child, the cache of what it compiled, packet filters.

May import linux/ and everything beneath it, but not numpy.
"""
