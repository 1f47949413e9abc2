"""The words of RFC 7413, of the records and of the screens, and what they mean. Imports nothing but errors."""
