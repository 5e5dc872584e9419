"""Rotate the API keys of crypto exchanges: mint, store, cut over, prove, revoke."""

__version__ = "0.1.0"
