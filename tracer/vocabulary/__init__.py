"""The words of RFC 7413, the records and the screens, and what they mean. Imports nothing but errors."""
