"""The table of all commands. A command is imported when it is called, so that `--help` stays quick."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from anomaly import __version__
from anomaly.errors import AnomalyError


class Entry(NamedTuple):
    """Where a command lives, "module:name" of a function or of a typer app, and its line in `--help`."""

    target: str
    help: str


COMMANDS: dict[str, Entry] = {
    "demo": Entry("training.cli.demo:demo", "The whole loop on a sample fleet, in under two minutes."),
    "init": Entry("anomaly.cli.init:init", "Write a fleet file from a history."),
    "config": Entry("anomaly.cli.config:app", "Check, show or describe a fleet file."),
    "train": Entry("training.cli.train:train", "Turn a fleet's history into a model."),
    "backtest": Entry("training.cli.backtest:backtest", "Score a past with a model and say how good it was."),
    "models": Entry("anomaly.cli.models:app", "List, show, verify, promote and roll back models."),
    "topics": Entry("anomaly.cli.topics:app", "Create or check a fleet's topics."),
    "produce": Entry("anomaly.cli.produce:produce", "Put a file's readings onto topics."),
    "score": Entry("anomaly.cli.score:score", "Score the live stream."),
    "replay": Entry("anomaly.cli.replay:replay", "Score the past again and compare."),
    "vehicle": Entry("anomaly.cli.vehicle:app", "What is known of one vehicle."),
    "dlq": Entry("anomaly.cli.dlq:app", "List and retry dead letters."),
    "feedback": Entry("anomaly.cli.feedback:app", "Bring labels in."),
    "experiment": Entry("anomaly.cli.experiment:app", "See and compare the arms of a rollout."),
    "simulate": Entry("anomaly.cli.simulate:app", "Make a physical fleet that fails in known ways."),
    "warmup": Entry("anomaly.cli.warmup:warmup", "Compile the kernels once, so that a start is quick."),
    "doctor": Entry("anomaly.cli.doctor:doctor", "Check this machine, the fleet file and the broker."),
}


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
        except KeyboardInterrupt:
            print("anomaly: interrupted", file=sys.stderr)
            sys.exit(130)


app = typer.Typer(
    cls=_Lazy,
    no_args_is_help=True,
    add_completion=False,
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


def main() -> None:
    """Run the command line; an AnomalyError is one message on stderr and its exit code."""
    try:
        app()
    except AnomalyError as error:
        print(f"anomaly: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
