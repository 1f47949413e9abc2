"""Every field of a handshake record by its name, and the language in which people ask for some of them.

May import handshake/ and everything beneath it.
"""
