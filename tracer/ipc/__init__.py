"""What the two parts of a run say to each other, and the layout of the C structs that the kernel sends.

May import vocabulary/; numpy only inside functions that the root part does not call.
"""
