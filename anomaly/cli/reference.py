"""The references of the command line and of the fleet file, written from the code itself: `make docs`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from typer.core import TyperCommand, TyperGroup

from anomaly.cli import keys
from anomaly.cli.main import COMMANDS
from anomaly.cli.tree import resolve

HEAD = """# Command line

Written by `make docs` from the commands themselves. Exit codes: 0 fine, 1 a gate or check failed, 2 usage,
3 configuration, 4 broker or peer unreachable, 5 data refused or disk full, 130 interrupted.
"""


def reference() -> str:
    """Markdown with the help of every command."""
    parts = [f"## `anomaly {name}`\n\n```\n{_help(name, command)}\n```\n" for name, command in _commands()]
    return "\n".join([HEAD, *parts])


def _commands() -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    for name in COMMANDS:
        command = resolve(name)
        if isinstance(command, TyperGroup) and command.invoke_without_command:
            yield name, command
        inner = command.commands.items() if isinstance(command, TyperGroup) else [("", command)]
        yield from ((f"{name} {part}".strip(), own) for part, own in inner if isinstance(own, TyperCommand))


def _help(name: str, command: TyperCommand | TyperGroup) -> str:
    context = command.context_class(command, info_name=f"anomaly {name}", terminal_width=100, max_content_width=100)
    return command.get_help(context).strip()


if __name__ == "__main__":
    Path(sys.argv[1], "cli.md").write_text(reference(), encoding="utf-8")
    fleet_file = Path(sys.argv[1], "fleet-file.md")
    prose = fleet_file.read_text(encoding="utf-8").partition("## `[")[0]
    fleet_file.write_text(prose + keys.reference(), encoding="utf-8")
