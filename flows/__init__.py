"""Prefect flows: choose, fan out, report. The journal is the record; a flow that dies loses nothing."""
