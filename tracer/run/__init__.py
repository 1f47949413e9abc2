"""One run as the user sees it: the pipeline from the rings to the sinks, the dashboard's thread, the demo.

May import report/ and everything beneath it.
"""
