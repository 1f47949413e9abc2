"""Sums that never grow with the traffic: totals, peers, distributions, what Fast Open is worth, metrics.

May import causes/ and everything beneath it.
"""
