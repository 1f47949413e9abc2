"""Sums that never grow with the traffic: totals, peers, distributions, what Fast Open is worth, metrics.

May import handshake/ and everything beneath it.
"""
