"""`tfotrace probe`: asks servers with connections of its own, and traces just these.

May import replay/ and everything beneath it.
"""
