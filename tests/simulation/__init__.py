"""Deterministic simulation: workers, a person, venue, stores, journal and clock under a seeded scheduler."""
