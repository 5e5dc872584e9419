"""A small inventory that is right, for tests that damage it."""

from __future__ import annotations

FAKE = "not-a-real-secret-1"

GOOD = """\
version: 1
stores:
  vault: {kind: age_files, path: secrets, key: {file: age.txt}}
accounts:
  main: {exchange: open, manager: {store: vault, path: managers/main}}
credentials:
  mm:
    account: main
    permissions: [read]
    ip_allowlist: [203.0.113.7]
    store: vault
    path: bots/mm
    consumers: [bot]
consumers:
  bot: {kind: client}
"""
