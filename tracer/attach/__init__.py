"""Puts programs on their hooks (TCX, clsact, XDP) beside those of others, and removes what killed runs left there.

May import linux/ and everything beneath it, but not numpy.
"""
