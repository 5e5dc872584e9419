"""The commands: where each is, and how the application is put together.

Only the module of the command that is called is imported, and each imports what it needs when it runs:
`keyturn status` is typed often and must not wait for Prefect or ccxt.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from keyturn.cli.guard import guarded

_SET_UP, _LOOK, _ACT = "Set up", "Look", "Act"
#: What help says of the groups: commands of two words.
_GROUPS = {"store": "Move credentials between stores, or encrypt them for other readers."}
#: Command -> where its function is, and under which heading help shows it.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init:init", _SET_UP),
    "check": ("check:check", _SET_UP),
    "put": ("put:put", _SET_UP),
    "adopt": ("adopt:adopt", _SET_UP),
    "forget": ("forget:forget", _SET_UP),
    "client-bundle": ("client_bundle:client_bundle", _SET_UP),
    "doctor": ("doctor:doctor", _SET_UP),
    "up": ("serve:serve", _SET_UP),
    "schema": ("schema:schema", _SET_UP),
    "status": ("status:status", _LOOK),
    "plan": ("plan:plan", _LOOK),
    "history": ("history:history", _LOOK),
    "verify-journal": ("verify_journal:verify_journal", _LOOK),
    "rotate": ("rotate:rotate", _ACT),
    "sweep": ("sweep:sweep", _ACT),
    "confirm": ("steer:confirm", _ACT),
    "resume": ("steer:resume", _ACT),
    "abort": ("steer:abort", _ACT),
    "rollback": ("steer:rollback", _ACT),
    "store move": ("store:move", _ACT),
    "store reseal": ("reseal:reseal", _ACT),
}


class _Commands(TyperGroup):
    """The commands; an error about a command line repeats none of its values: one may be a secret."""

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **options: Any) -> Any:
        """Read the command line."""
        self._typed = list(args)
        try:
            return super().make_context(info_name, args, *more, **options)
        except Exception as error:
            self._forget_values(error)
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the command; its own arguments are read here."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            self._forget_values(error)
            raise

    def _forget_values(self, error: Any) -> None:
        if hasattr(error, "format_message"):
            from keyturn.cli.names import without_values

            text = without_values(error.format_message(), self._typed)
            error.format_message = lambda: text


def _show_version(value: bool) -> None:
    if value:
        from keyturn import __version__

        typer.echo(f"keyturn {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    """Rotate the API keys of crypto exchanges: mint, store, cut over, prove, revoke."""


def build(names: Sequence[str]) -> typer.Typer:
    """Make the application with these commands."""
    app = typer.Typer(
        cls=_Commands,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Exit codes and the shapes of --json: docs/cli.md.",
    )
    app.callback()(_root)
    groups: dict[str, typer.Typer] = {}
    for name in names:
        place, heading = COMMANDS[name]
        module, _, function = place.partition(":")
        command = getattr(import_module(f"keyturn.cli.{module}"), function)
        first, _, second = name.partition(" ")
        if second and first not in groups:
            groups[first] = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
            app.add_typer(groups[first], name=first, help=_GROUPS[first], rich_help_panel=heading)
        (groups[first] if second else app).command(second or first, rich_help_panel=heading)(guarded(command))
    return app
