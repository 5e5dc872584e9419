"""Prefect tasks: one engine call each, ids in, small public results out."""
