"""Copies of attached exchange objects, made as the bot made them before it attached.

A copy within the process follows the key as the object does that it was made from. A pickle takes no
key along: where it is opened, the object reads its key anew and follows it, and confirms none, for another
process does so for it.
"""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyturn.client import hooked
from keyturn.client.source import Source

if TYPE_CHECKING:
    from keyturn.client.link import Link


@dataclass(frozen=True)
class Recipe:
    """What attaches an object again in another process."""

    credential: str
    #: Of the inventory or the bundle.
    place: Path | None
    source: Source | None
    interval: float | None


def copied(exchange: Any, link: Link | None) -> Any:
    """Do what `copy.copy` did before the object was attached."""
    base = hooked.base_of(exchange)
    if hasattr(base, "__copy__"):
        return base.__copy__(exchange)
    new = _empty(base)
    _fill(new, _state(exchange, link))
    if link is not None:
        link.of_copy(new)
    return new


def deep_copied(exchange: Any, link: Link | None, memo: dict[int, Any]) -> Any:
    """Do what `copy.deepcopy` did before the object was attached."""
    base = hooked.base_of(exchange)
    if hasattr(base, "__deepcopy__"):
        return base.__deepcopy__(exchange, memo)
    new = memo[id(exchange)] = _empty(base)
    _fill(new, copy.deepcopy(_state(exchange, link), memo))
    if link is not None:
        link.of_copy(new)
    return new


def reduced(exchange: Any, link: Link | None, protocol: int) -> Any:
    """Give pickle what it needs, without a key.

    Raises:
        pickle.PicklingError: the object was attached to a `source` that cannot be pickled.
    """
    base: Any = hooked.base_of(exchange)
    if base.__reduce_ex__ is not object.__reduce_ex__ or base.__reduce__ is not object.__reduce__:
        return base.__reduce_ex__(exchange, protocol)
    state = _state(exchange, link)
    if link is None or link.recipe is None:
        return _empty, (base,), (state, None), None, None, _opened
    _check(link.recipe)
    fields = state[0] if isinstance(state, tuple) else state
    for theirs in hooked.FIELDS.values() if isinstance(fields, dict) else ():
        fields.pop(theirs, None)
    return _empty, (base,), (state, link.recipe), None, None, _opened


def _check(recipe: Recipe) -> None:
    try:
        pickle.dumps(recipe)
    except Exception as error:  # noqa: BLE001 - whatever the bot's own source raises
        raise pickle.PicklingError(
            f"This exchange object is attached to {recipe.credential} by a source that cannot be pickled"
            f" ({type(error).__name__}). Attach it with inventory=... instead, or pickle the object before"
            " it is attached, and call keyturn.client.attach in the other process."
        ) from None


def _empty(base: Any) -> Any:
    return base.__new__(base)


def _state(exchange: Any, link: Link | None) -> Any:
    """Give what the object holds, as it would without its link."""
    state = exchange.__getstate__()
    fields = state[0] if isinstance(state, tuple) else state
    if isinstance(fields, dict):
        fields = {name: value for name, value in fields.items() if name != hooked.MARK}
        if link is not None:
            fields = {**fields, **link.set_aside}
    return (fields, *state[1:]) if isinstance(state, tuple) else fields


def _fill(new: Any, state: Any) -> None:
    if hasattr(new, "__setstate__"):
        new.__setstate__(state)
        return
    fields, slots = state if isinstance(state, tuple) else (state, None)
    new.__dict__.update(fields)
    for name, value in (slots or {}).items():
        setattr(new, name, value)


def _opened(new: Any, given: tuple[Any, Recipe | None]) -> None:
    """Fill an object that comes out of a pickle, and attach it again."""
    state, recipe = given
    _fill(new, state)
    if recipe is not None:
        from keyturn.client.attachment import follow

        follow(new, recipe)
