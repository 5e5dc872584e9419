"""One venue's class of ccxt, without the modules of the hundred others.

`import ccxt` loads every venue: half a second of a core and 50 MB in each process that speaks to one (ccxt
4.5.90, measured 2026-11-29). So its packages are put in place without their contents, and fill themselves
when somebody asks for what is not there yet. Where ccxt is imported already, it stays as it is.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType
from typing import Any

__all__ = ["BaseError", "venue_class"]

_PACKAGE, _ASYNC = "ccxt", "ccxt.async_support"
# What ccxt's own modules take from the package: errors, and this class.
_ERRORS, _EXCHANGE = "ccxt.base.errors", "ccxt.base.exchange"
# Python asks every module for names like these; only a package with its contents can tell them.
_CONTENTS = frozenset({"__all__", "__version__"})
_filling = RLock()
_begun: set[str] = set()


class _Unfilled(ModuleType):
    """A package whose `__init__.py` has not run."""

    def __getattr__(self, name: str) -> Any:
        """Give what is not there yet, from the module that has it or by running `__init__.py`."""
        if name.startswith("__") and name not in _CONTENTS:
            raise AttributeError(name)
        errors = import_module(_ERRORS)
        if hasattr(errors, name):
            return getattr(errors, name)
        if (self.__name__, name) == (_PACKAGE, "Exchange"):
            return import_module(_EXCHANGE).Exchange
        _fill(self)
        if name not in vars(self):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return vars(self)[name]


def _fill(package: _Unfilled) -> None:
    """Run `__init__.py`, once; who asks meanwhile in another thread waits."""
    with _filling:
        if package.__name__ in _begun:
            return
        _begun.add(package.__name__)
        try:
            loader: Any = package.__loader__
            loader.exec_module(package)
        except BaseException:
            _begun.remove(package.__name__)
            raise
        package.__class__ = ModuleType  # type: ignore[assignment]


def _put_in_place() -> None:
    if _PACKAGE in sys.modules:
        return
    for name in (_PACKAGE, _ASYNC):
        spec = find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        package = module_from_spec(spec)
        package.__class__ = _Unfilled
        sys.modules[name] = package
    sys.modules[_PACKAGE].async_support = sys.modules[_ASYNC]  # type: ignore[attr-defined]


_put_in_place()
from ccxt.base.errors import BaseError  # noqa: E402 - with the packages in place


def venue_class(ccxt_id: str) -> Any:
    """Give a venue's class for asyncio."""
    found = getattr(import_module(f"{_ASYNC}.{ccxt_id}"), ccxt_id)
    package = sys.modules[_ASYNC]
    if isinstance(package, _Unfilled):
        # An import leaves the venue's module where the filled package has its class.
        for name, value in list(vars(package).items()):
            if isinstance(value, ModuleType) and isinstance(vars(value).get(name), type):
                delattr(package, name)
    return found
