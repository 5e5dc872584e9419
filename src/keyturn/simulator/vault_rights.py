"""Tokens and policies of the Vault simulator: who may do what, and for how long."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

_STANZA = re.compile(r'path\s+"([^"]+)"\s*\{[^}]*?capabilities\s*=\s*\[([^\]]*)\]', re.DOTALL)
#: What every token may do unless it was made without the default policy.
DEFAULT = """
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
"""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9.]+)([smh])")


def seconds(value: Any) -> float:
    """Read a duration: a number of seconds, or text with its units, such as `1h0m0s`."""
    text = str(value or 0)
    if text[-1] not in _UNITS:
        return float(text)
    sign = -1.0 if text[0] == "-" else 1.0
    return sign * sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def parse_policy(text: str) -> dict[str, frozenset[str]]:
    """Read the stanzas of a policy in HCL."""
    plain = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    return {path: frozenset(re.findall(r'"(\w+)"', rights)) for path, rights in _STANZA.findall(plain)}


def _matches(pattern: str, path: str) -> bool:
    glob = pattern.endswith("*")
    parts = [("[^/]+" if part == "+" else re.escape(part)) for part in pattern.rstrip("*").split("/")]
    return bool(re.fullmatch("/".join(parts) + (".*" if glob else ""), path, flags=re.DOTALL))


def _rank(pattern: str) -> tuple[int, bool, int, int]:
    # https://developer.hashicorp.com/vault/docs/concepts/policies#priority-matching (read 2026-11-21)
    first = re.search(r"[+*]", pattern)
    wild = first.start() if first else len(pattern) + 1
    return wild, not pattern.endswith("*"), -pattern.count("+"), len(pattern)


@dataclass
class Token:
    """A token, its policies and its time."""

    policies: frozenset[str]
    ttl: float = 0.0
    max_ttl: float = 0.0
    renewable: bool = True
    kind: str = "service"
    made: float = field(default_factory=time.monotonic)
    text: str = field(default_factory=lambda: f"s.fake-{secrets.token_hex(12)}", repr=False)
    ends: float = float("inf")

    def __post_init__(self) -> None:
        if self.ttl:
            self.ends = self.made + self.ttl

    @property
    def left(self) -> float:
        """Seconds until it ends; 0 for one that does not."""
        return 0.0 if self.ends == float("inf") else max(0.0, self.ends - time.monotonic())

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return time.monotonic() < self.ends

    def renew(self) -> float:
        """Renew it, up to its maximum; give the lease that is left."""
        until = time.monotonic() + self.ttl
        self.ends = min(until, self.made + self.max_ttl) if self.max_ttl else until
        return self.left


class Rights:
    """The tokens and policies of a server."""

    def __init__(self, root: str) -> None:
        self.policies: dict[str, dict[str, frozenset[str]]] = {"default": parse_policy(DEFAULT)}
        self.tokens: dict[str, Token] = {}
        self.add(Token(frozenset({"root"}), renewable=False, text=root))

    def add(self, token: Token) -> Token:
        """Make a token valid."""
        self.tokens[token.text] = token
        return token

    def revoke(self, text: str) -> None:
        """Make a token invalid."""
        self.tokens.pop(text, None)

    def valid(self, text: str | None) -> Token | None:
        """Find a token that lives."""
        token = self.tokens.get(text or "")
        return token if token and token.alive else None

    def capabilities(self, token: Token, path: str) -> frozenset[str]:
        """Tell what a token may do at a path; empty for nothing."""
        if "root" in token.policies:
            return frozenset({"root"})
        merged: dict[str, frozenset[str]] = {}
        for pattern, rights in self._stanzas(token.policies):
            merged[pattern] = merged.get(pattern, frozenset()) | rights
        fitting = [pattern for pattern in merged if _matches(pattern, path)]
        rights = merged[max(fitting, key=_rank)] if fitting else frozenset()
        return frozenset() if "deny" in rights else rights

    def touches(self, token: Token, mount: str) -> bool:
        """Tell whether a token may do anything on a mount."""
        stanzas = self._stanzas(token.policies)
        return "root" in token.policies or any(p.startswith(f"{mount}/") and r for p, r in stanzas)

    def _stanzas(self, names: Iterable[str]) -> list[tuple[str, frozenset[str]]]:
        return [stanza for name in names for stanza in self.policies.get(name, {}).items()]
