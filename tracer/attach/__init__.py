"""Programs on their hooks: TCX, clsact and XDP, beside the programs of others; and what killed runs left there.

May import linux/ and everything beneath it; not numpy.
"""
