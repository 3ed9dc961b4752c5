"""The table of commands as typer sees it: each is imported when it is called, so that `--help` stays quick."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from anomaly import __version__
from anomaly.cli.main import COMMANDS


def resolve(name: str) -> TyperCommand | TyperGroup:
    """Import the command `name` and make it ready to be called."""
    module, _, attribute = COMMANDS[name].target.partition(":")
    target: Any = getattr(importlib.import_module(module), attribute)
    if not isinstance(target, typer.Typer):
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name, help=COMMANDS[name].help if target.__doc__ is None else None)(target)
        target = app
    command: TyperCommand | TyperGroup = typer.main.get_command(target)  # type: ignore[assignment]  # typed wider
    command.name = name
    return command


class _Lazy(TyperGroup):
    """Lists the table without importing anything; imports the one command that is called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # the framework calls it so
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:  # noqa: ARG002
        entry = COMMANDS.get(cmd_name)
        return TyperCommand(cmd_name, help=entry.help, short_help=entry.help) if entry else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, (resolve(name) if name and command else command), rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # the framework would end with 1
            print("anomaly: interrupted", file=sys.stderr)
            sys.exit(130)


app = typer.Typer(
    cls=_Lazy,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True, callback=_print_version),
) -> None:
    """Find failing vehicles early: train, score, adapt, learn from what came of it, roll out and back."""
