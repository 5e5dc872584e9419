"""The errors of keyturn, in two families.

* `ProgrammingError`: the caller broke a rule of the machine. It is our bug and is never caught.
* `KeyturnError`: the world said no. Every one answers three questions (what happened, what is true
  now, what to do next) and never carries a secret: adapters build the text from codes, ids and
  fingerprints, and raise `from None` where the cause could quote a request or a response.
"""

from __future__ import annotations

from enum import StrEnum

from keyturn.domain.printable import printable


class ProgrammingError(Exception):
    """A rule of the machine was broken by the calling code."""


class IllegalTransitionError(ProgrammingError):
    """The event does not belong to the state that the rotation is in."""


class KeyturnError(Exception):
    """Base of all expected failures.

    Args:
        what: what happened, one sentence.
        now: what is true now (what was changed, what was not).
        todo: what to do next.
    """

    #: Exit status of the command line for this kind of failure; documented in `docs/cli.md`.
    exit_code = 1

    def __init__(self, what: str, *, now: str = "", todo: str = "") -> None:
        super().__init__(printable(what))
        # Here, for all that is ever shown of an error: a code or a host name in it may come from outside.
        self.what = printable(what)
        self.now = printable(now)
        self.todo = printable(todo)

    def diagnostics(self) -> str:
        """Tell what happened, what is true now and what to do, one line each."""
        lines = [self.what]
        if self.now:
            lines.append(f"Now: {self.now}")
        if self.todo:
            lines.append(f"Do: {self.todo}")
        return "\n".join(lines)


class InventoryError(KeyturnError):
    """The inventory cannot be used. `problems` holds every finding, each with its place."""

    exit_code = 2

    def __init__(self, what: str, *, problems: tuple[str, ...] = (), now: str = "", todo: str = "") -> None:
        super().__init__(what, now=now, todo=todo)
        self.problems = problems

    def diagnostics(self) -> str:
        """Tell every problem on a line of its own, then what is true now and what to do."""
        first, *rest = super().diagnostics().split("\n")
        return "\n".join([first, *self.problems, *rest])


class RefusedError(KeyturnError):
    """The request is understood and refused: unknown credential, busy, wrong state, past the pivot."""

    exit_code = 3


class MachineError(KeyturnError):
    """This machine cannot do it: a folder that may not be written, a full disk, an unusable proxy."""

    exit_code = 12


class ExchangeFault(StrEnum):
    """The closed set into which every driver translates its venue's errors."""

    #: The venue knows no such key, where it was asked: the only refusal that can prove that a key is dead.
    UNKNOWN_KEY = "unknown_key"
    #: The venue knows the key and refuses the call: signature, passphrase, disabled, expired, ban.
    KEY_REFUSED = "key_refused"
    #: The venue refuses the key and does not say which of the two it means.
    UNCLEAR_REFUSAL = "unclear_refusal"
    #: Nothing was sent: what is stored cannot sign (a truncated PEM, a secret of another kind).
    CANNOT_SIGN = "cannot_sign"
    #: The key's own list does not have the address.
    WRONG_IP = "wrong_ip"
    #: The venue serves nobody who calls from there, a region or an address; it says nothing about the key.
    BARRED_REGION = "barred_region"
    MISSING_PERMISSION = "missing_permission"
    CLOCK_SKEW = "clock_skew"
    KEY_QUOTA = "key_quota"
    RATE_LIMITED = "rate_limited"
    VENUE_DOWN = "venue_down"
    OUTCOME_UNKNOWN = "outcome_unknown"
    SECOND_FACTOR = "second_factor"
    NOT_SUPPORTED = "not_supported"
    #: Something of this machine kept the call from leaving it: the venue was not asked.
    MACHINE = "machine"
    #: The venue understood the call and refused it for a reason outside this set; the code is in the text.
    REJECTED = "rejected"


#: Refusals of the key that signed, whichever of its faults the venue means.
KEY_FAULTS = frozenset({ExchangeFault.UNKNOWN_KEY, ExchangeFault.KEY_REFUSED, ExchangeFault.UNCLEAR_REFUSAL})


class ExchangeError(KeyturnError):
    """An exchange refused, failed, or left the outcome open.

    `OUTCOME_UNKNOWN` is raised only for calls that change something: the request left and no
    answer came, so that it may or may not have happened. A read that got no answer is `VENUE_DOWN`.
    """

    exit_code = 4

    def __init__(
        self,
        fault: ExchangeFault,
        what: str,
        *,
        code: str = "",
        retry_after: float | None = None,
        unexplained: bool = False,
        now: str = "",
        todo: str = "",
    ) -> None:
        super().__init__(what, now=now, todo=todo)
        self.fault = fault
        #: Whether the outcome is open because the venue answered and no table explains what: with a code that
        #: nobody has seen, or without what its documentation promises. Waiting does not mend that.
        self.unexplained = unexplained
        #: The venue's own code, when it gave one.
        self.code = code
        #: Seconds that the venue asked us to wait, when it said so.
        self.retry_after = retry_after


class StoreFault(StrEnum):
    """The closed set of store failures."""

    #: Somebody else moved the slot since it was read; nothing was written.
    CONFLICT = "conflict"
    #: The store did not take the request; nothing was written.
    UNAVAILABLE = "unavailable"
    #: The write left and no answer came. Reading back tells.
    OUTCOME_UNKNOWN = "outcome_unknown"
    DENIED = "denied"
    #: Wrong key, wrong mount, wrong version: a person must mend the settings.
    MISCONFIGURED = "misconfigured"
    #: What is stored cannot be read as a credential; it is left untouched.
    CORRUPT = "corrupt"
    NO_SPACE = "no_space"
    #: The format in which the key is kept cannot carry this very value to its reader; another may do.
    UNFIT = "unfit"


class StoreError(KeyturnError):
    """A secret store refused, failed, or left the outcome open."""

    exit_code = 5

    def __init__(self, fault: StoreFault, what: str, *, now: str = "", todo: str = "") -> None:
        super().__init__(what, now=now, todo=todo)
        self.fault = fault


class ConsumerFault(StrEnum):
    """The closed set of consumer failures."""

    UNREACHABLE = "unreachable"
    #: The consumer answered and did not take the notice.
    REFUSED = "refused"
    #: The notice left and no answer came. Notices are idempotent, so it is simply sent again.
    OUTCOME_UNKNOWN = "outcome_unknown"
    MISCONFIGURED = "misconfigured"
    #: Something was said in its name, and nothing shows that who said it holds the key that it is about.
    UNAUTHENTICATED = "unauthenticated"


class ConsumerError(KeyturnError):
    """A consumer could not be told, or refused."""

    exit_code = 6

    def __init__(self, fault: ConsumerFault, what: str, *, now: str = "", todo: str = "") -> None:
        super().__init__(what, now=now, todo=todo)
        self.fault = fault


class JournalFault(StrEnum):
    """The closed set of journal failures."""

    #: Another worker moved this rotation on, or opened one for this credential first.
    CONFLICT = "conflict"
    #: The journal did not take the write: it did not happen.
    UNAVAILABLE = "unavailable"
    #: The write was sent and its commit was not confirmed. Reading back tells.
    OUTCOME_UNKNOWN = "outcome_unknown"
    #: Written by a newer keyturn; this one must not touch it.
    NEWER_VERSION = "newer_version"
    #: The hash chain does not hold: a row was changed, removed or inserted.
    TAMPERED = "tampered"
    NO_SPACE = "no_space"


class JournalError(KeyturnError):
    """The journal refused, failed, or does not verify."""

    exit_code = 7

    def __init__(self, fault: JournalFault, what: str, *, now: str = "", todo: str = "") -> None:
        super().__init__(what, now=now, todo=todo)
        self.fault = fault
