"""The version, in one place for code that must not look at package metadata (a checkout may have none)."""

__version__ = "0.1.0"
