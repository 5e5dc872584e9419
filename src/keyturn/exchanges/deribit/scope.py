"""Read what a scope of Deribit grants: which of its words are rights, and what they mean.

A scope is words with blanks between. Of a key it holds rights alone; of a token also how the token is bound
(`connection`, `session:rest-PRwURohyuaQ=`), for how long, `mainaccount`, and `name:<the key's name>`, which
no page of the documentation lists and every published answer for a named key has ("Access scope", read
2026-11-21; captures of 2021 to 2023). So a word is a right by its form, `category:level`, and the rest are
remarks. Where one of the two parts is known and the other is not, it counts as a right: what keyturn does not
know yet must not pass unseen.

What a name can do to this: it is free text, so `name:` is never a right, whatever follows (a key may be named
`read_write`). It can hide no right, since each word is judged alone and none takes away from another. A name
with a blank in it, if the venue should take one, could show more rights than the key has (`name:x
trade:read_write`); nothing in the text tells them apart, so they count: a key that seems to be able to do
more is refused, not accepted. Keys that keyturn mints have names without blanks (`LabelRules`), so that what
is proved about a new key rests on no such word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from keyturn.domain.keys import Permission

_CATEGORIES = frozenset({"account", "trade", "wallet", "block_trade", "block_rfq", "custody"})
_LEVELS = ("none", "read", "read_write")
# Words whose second part is free text: of whoever named the key, or asked for the token.
_FREE_TEXT = frozenset({"name", "session"})
# What a token's scope is known to say besides rights.
_REMARKS = frozenset({"connection", "mainaccount"})
_REMARK_KINDS = _FREE_TEXT | {"expires", "ip"}
# Deribit's word -> what it lets a key do beside looking.
_MEANINGS: Mapping[str, tuple[Permission, ...]] = {
    "account:read_write": (Permission.MANAGE_KEYS,),
    "trade:read_write": (Permission.TRADE,),
    "block_trade:read_write": (Permission.TRADE,),
    "block_rfq:read_write": (Permission.TRADE,),
    "wallet:read_write": (Permission.WITHDRAW, Permission.TRANSFER),
    "custody:read_write": (Permission.WITHDRAW, Permission.TRANSFER),
}
_READS_ACCOUNT = frozenset({"account:read", "account:read_write"})


def of_token(text: str) -> frozenset[str]:
    """Give the rights that a token's scope names."""
    return frozenset(word for word in text.split() if _is_right(word))


def _is_right(word: str) -> bool:
    category, colon, level = word.partition(":")
    if not (colon and category and level) or category in _FREE_TEXT or level == "none":
        return False
    return category in _CATEGORIES or level in _LEVELS


def of_key(words: Iterable[str]) -> frozenset[str]:
    """Give the rights that the `max_scope` of a key in the list names: all but known remarks.

    The list has the name in a field of its own, so that a word of a form that is not known is a right here.
    """
    return frozenset(word for word in words if not (_is_remark(word) or word.endswith(":none")))


def _is_remark(word: str) -> bool:
    return word in _REMARKS or word.partition(":")[0] in _REMARK_KINDS


def highest(grants: frozenset[str]) -> frozenset[str]:
    """Give of two levels of one category the higher."""
    levels: dict[str, str] = {}
    for word in grants:
        category, _, level = word.partition(":")
        levels[category] = max(levels.get(category, level), level, key=_LEVELS.index)
    return frozenset(f"{category}:{level}" for category, level in levels.items())


def reads_account(grants: frozenset[str]) -> bool:
    """Tell whether a key with these rights may ask whose it is."""
    return bool(_READS_ACCOUNT & grants)


def permissions(grants: frozenset[str]) -> frozenset[Permission]:
    """Give the rights in keyturn's words, as far as it has some."""
    found = {permission for word in grants for permission in _MEANINGS.get(word, ())}
    if any(grant.startswith("account:") for grant in grants):
        found.add(Permission.READ)
    return frozenset(found)


def unnamed(grants: frozenset[str]) -> frozenset[str]:
    """Give the rights that let a key do more than look, and for which keyturn has no word."""
    return frozenset(word for word in grants if word not in _MEANINGS and not word.endswith(":read"))
