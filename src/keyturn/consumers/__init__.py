"""Consumers: how those who use a credential are told that it changed, and how they prove that they moved."""
