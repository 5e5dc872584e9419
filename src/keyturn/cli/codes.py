"""The exit codes of the command line: one table, which `docs/cli.md` repeats and a test compares."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the exit status says. 2 to 7 and 12 are what the errors in `keyturn.domain.errors` bring."""

    OK = 0
    UNEXPECTED = 1
    INVENTORY = 2
    REFUSED = 3
    EXCHANGE = 4
    STORE = 5
    CONSUMER = 6
    JOURNAL = 7
    FINDINGS = 8
    NEEDS_A_PERSON = 9
    IN_THE_WAY = 10
    UNDONE = 11
    MACHINE = 12
    INTERRUPTED = 130
    NOBODY_READS = 141


MEANING = {
    ExitCode.OK: "Done, or on its way: a rotation that waits for its grace period goes on by itself.",
    ExitCode.UNEXPECTED: "An error that keyturn did not expect: a bug.",
    ExitCode.INVENTORY: "The inventory, a secret that it refers to, or the command line cannot be used.",
    ExitCode.REFUSED: "Understood and refused: unknown name, busy, wrong state, not confirmed.",
    ExitCode.EXCHANGE: "An exchange refused, failed, or cannot be reached.",
    ExitCode.STORE: "A secret store refused, failed, or cannot be reached.",
    ExitCode.CONSUMER: "A consumer could not be told.",
    ExitCode.JOURNAL: "The journal failed, is from a newer keyturn, or does not verify.",
    ExitCode.FINDINGS: "`doctor` or `sweep` found something that is not as it should be.",
    ExitCode.NEEDS_A_PERSON: (
        "A rotation is parked: it says why and what to do. Nothing is revoked while it is parked."
    ),
    ExitCode.IN_THE_WAY: "A rotation met a failure and is unfinished; the sweep tries again.",
    ExitCode.UNDONE: "A rotation ended undone: it says which key is current, and what became of the new one.",
    ExitCode.MACHINE: (
        "This machine cannot do it: a folder that may not be written, a full disk, an unusable proxy."
    ),
    ExitCode.INTERRUPTED: "Ctrl-C. A rotation that had begun stays in its state; the sweep goes on with it.",
    ExitCode.NOBODY_READS: "Whoever read the output went away; what was begun was finished.",
}
