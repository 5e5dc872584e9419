"""The entry point: `keyturn COMMAND`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from keyturn.cli.output import settle_streams
from keyturn.processes import keep_memory_private


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with an exit code of `codes.ExitCode`."""
    keep_memory_private()
    settle_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        from keyturn.cli.app import COMMANDS, build
    except ModuleNotFoundError as error:
        # A bot's machine has keyturn.client and this script, and not what the command line needs.
        sys.exit(f"Error: {error.name} is not installed.\nDo: pip install 'keyturn[orchestrator]'")
    called = next((argument for argument in given if not argument.startswith("-")), "")
    meant = [name for name in COMMANDS if name.split(" ")[0] == called]
    app = build(meant or list(COMMANDS))
    app(args=given, prog_name="keyturn")


if __name__ == "__main__":
    main()
