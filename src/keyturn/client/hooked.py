"""The class of an attached exchange object: the bot's own, with hooks that know whose call passes through.

An object is attached by giving it a subclass of its class, so that every hook is handed the object that
was called. A hook in the object's own dictionary would be bound to that object for good: `copy.copy` takes
the dictionary over, and the copy would sign with the key of the object that it was made from.
(Python lets `__class__` be set between classes of one layout; the subclass adds no field.)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

from keyturn.client import copies

if TYPE_CHECKING:
    from keyturn.client.link import Link

#: Where an attached object keeps its link, in its own dictionary.
MARK = "_keyturn_link"
#: ccxt's names for the parts of a credential.
FIELDS = {"api_key": "apiKey", "secret": "secret", "passphrase": "password"}
_CALLS = ("sign", "check_required_credentials", "fetch2")
_STREAMS = ("watch", "watch_multiple")


def link_of(exchange: Any) -> Link | None:
    """Give the link of an attached object; a copy of one gets a link of its own here."""
    link: Link | None = exchange.__dict__.get(MARK)
    if link is not None and link.exchange is not exchange:
        link = link.of_copy(exchange)
    return link if link is not None and link.active else None


def base_of(exchange: Any) -> type:
    """Give the class that the object has without its hooks."""
    kind = type(exchange)
    return kind.__mro__[2] if issubclass(kind, Hooked) else kind


def watches(base: type) -> bool:
    """Tell whether objects of a class have websocket streams."""
    return inspect.iscoroutinefunction(getattr(base, "fetch2", None)) and hasattr(base, "watch")


def stream_names(base: type) -> list[str]:
    """Name the methods of a class that pass through hooks for its streams."""
    if not watches(base):
        return []
    names = [n for n in dir(base) if n.startswith("watch") and n not in {*_STREAMS, "watchMultiple"}]
    names = [name for name in names if callable(getattr(base, name))]
    login = inspect.iscoroutinefunction(getattr(base, "authenticate", None))
    return [*names, *_STREAMS, *(("client", "authenticate") if login else ())]


def hooked_names(base: type) -> list[str]:
    """Name every method of a class that passes through a hook."""
    return [*_CALLS, *stream_names(base)]


class KeyField:
    """One of the fields that hold the key: the current one's value, while the object is attached.

    Args:
        base: the bot's class.
        ours: keyturn's name of the field.
    """

    def __init__(self, base: type, ours: str) -> None:
        self.ours, self.theirs = ours, FIELDS[ours]
        self._base = base
        # A class of the bot's may have made a property of it.
        self._beneath = inspect.getattr_static(base, self.theirs, "")

    def __get__(self, exchange: Any, owner: type | None = None) -> Any:
        if exchange is None:
            return getattr(self._base, self.theirs)
        link = link_of(exchange)
        value = link.reading(self.ours) if link is not None else None
        return self.stored(exchange) if value is None else value

    def __set__(self, exchange: Any, value: Any) -> None:
        link = link_of(exchange)
        if link is None:
            self.store(exchange, value)
        else:
            link.set_by_bot(self, value)

    def stored(self, exchange: Any) -> Any:
        """Read what the object itself holds."""
        if hasattr(type(self._beneath), "__set__"):
            return self._beneath.__get__(exchange, type(exchange))
        return exchange.__dict__.get(self.theirs, self._beneath)

    def store(self, exchange: Any, value: Any) -> None:
        """Write into the object itself, as if it were not attached."""
        if hasattr(type(self._beneath), "__set__"):
            self._beneath.__set__(exchange, value)
        else:
            exchange.__dict__[self.theirs] = value


class Hooked:
    """What every attached class has beside the hooks: it copies and pickles as the bot's own class does."""

    # No `__slots__`: the layout must be that of an object with a dictionary, as the bot's class has.

    def __init_subclass__(cls, **_: Any) -> None:
        """Keep the bot's own `__init_subclass__` from taking the attached class for one of the bot's."""

    def __copy__(self) -> Any:
        return copies.copied(self, link_of(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copies.deep_copied(self, link_of(self), memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return copies.reduced(self, link_of(self), protocol)


@cache
def hooked_class(base: type) -> type:
    """Give the class of attached objects of the bot's class; it has that one's name."""
    body: dict[str, Any] = {name: _through(base, name) for name in hooked_names(base)}
    body |= {theirs: KeyField(base, ours) for ours, theirs in FIELDS.items()}
    body |= {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    kind: type = type(base)(base.__name__, (Hooked, base), body)
    return kind


def key_fields(base: type) -> list[KeyField]:
    """Give the fields of attached objects of the bot's class."""
    return [hooked_class(base).__dict__[theirs] for theirs in FIELDS.values()]


def _through(base: type, name: str) -> Callable[..., Any]:
    original = getattr(base, name)
    if inspect.iscoroutinefunction(original):

        @wraps(original)
        async def through_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            link = link_of(self)
            hook = link.hooks.get(name) if link is not None else None
            return await (original(self, *args, **kwargs) if hook is None else hook(*args, **kwargs))

        return through_async

    @wraps(original)
    def through(self: Any, *args: Any, **kwargs: Any) -> Any:
        link = link_of(self)
        hook = link.hooks.get(name) if link is not None else None
        return original(self, *args, **kwargs) if hook is None else hook(*args, **kwargs)

    return through
