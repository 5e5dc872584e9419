"""Drivers of exchanges: one folder a venue, found by its `driver.toml`."""
