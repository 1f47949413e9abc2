"""C becomes loaded programs: the compiler's child, the cache of what it made, packet filters.

May import linux/ and everything beneath it; not numpy.
"""
