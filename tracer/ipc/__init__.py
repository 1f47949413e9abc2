"""The messages between the two parts of a run, and the layout of the C structs that the kernel sends.

May import records/ and vocabulary/; numpy only inside functions that the root part does not call.
"""
