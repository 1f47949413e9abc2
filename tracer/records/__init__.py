"""The one definition of the record: its fields, their types, and what the schema says of them.

May import dissect/ and vocabulary/.
"""
