"""The errors of the Vault store, in the port's words. None of them ever holds a token or a value."""

from __future__ import annotations

from keyturn.domain.errors import StoreError, StoreFault

NOTHING = "Nothing was written."
#: Why an answer counts as none: a proxy's page, half of one, or fields of other types than documented.
FOREIGN = "an answer that is not the server's"


def conflict(what: str, todo: str) -> StoreError:
    """Say that somebody else moved the slot."""
    return StoreError(StoreFault.CONFLICT, what, now=NOTHING, todo=todo)


def moved(path: str, expected: str | None, found: str | None) -> StoreError:
    """Say that current is not what the caller saw."""
    return conflict(
        f"Current of {path} has moved: expected {expected or 'none'}, found {found or 'none'}.",
        "Read current again and decide anew.",
    )


def misconfigured(what: str, todo: str, *, now: str = NOTHING) -> StoreError:
    """Say that a person must mend the settings."""
    return StoreError(StoreFault.MISCONFIGURED, what, now=now, todo=todo)


def denied(what: str, todo: str) -> StoreError:
    """Say that the login is refused, or may not do this."""
    return StoreError(StoreFault.DENIED, what, now=NOTHING, todo=todo)


def corrupt(path: str, problem: str) -> StoreError:
    """Say that what is stored cannot be read as a credential."""
    return StoreError(
        StoreFault.CORRUPT,
        f"What is stored at {path} cannot be used: {problem}.",
        now="It is left as it is.",
        todo="See who wrote it: vault kv metadata get. An older version may be good: vault kv rollback.",
    )


def busy(path: str) -> StoreError:
    """Say that other writers were faster, time and again."""
    return StoreError(
        StoreFault.UNAVAILABLE,
        f"Other writers kept moving {path}.",
        now=NOTHING,
        todo="Nothing: it is tried again. If it goes on, find who else writes there.",
    )


def silent(store: str, reason: str, *, may_be_done: bool) -> StoreError:
    """Say that no usable answer came."""
    if may_be_done:
        return StoreError(
            StoreFault.OUTCOME_UNKNOWN,
            f"The store {store} did not answer a write ({reason}).",
            now="It may have been written or not; reading it back tells.",
            todo="Nothing: it is read back. If it goes on, see the server.",
        )
    return StoreError(
        StoreFault.UNAVAILABLE,
        f"The store {store} cannot be used now ({reason}).",
        now=NOTHING,
        todo="Unseal it: vault operator unseal." if "sealed" in reason else "See that the server runs.",
    )


def off_the_list(store: str, host: str) -> StoreError:
    """Say that the server sent us to a host that the inventory does not name."""
    return misconfigured(
        f"The store {store} redirects to {host}, which is not one of its addresses.",
        "Add it to `addresses` if it is yours; if not, see who answers there. Our token was not sent to it.",
    )
