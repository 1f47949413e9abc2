"""A private lab of two hosts with Fast Open traffic of every outcome, which `tfotrace demo` and the tests trace.

May import linux/ and everything beneath it.
"""
