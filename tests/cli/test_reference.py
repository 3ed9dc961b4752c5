"""The reference of the command line is what the commands say."""

from __future__ import annotations

from pathlib import Path

from anomaly.cli.reference import reference

ROOT = Path(__file__).resolve().parents[2]


def test_the_reference_is_what_the_commands_say_today() -> None:
    """`make docs` was run after the last change of a command."""
    assert (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8") == reference(), "run `make docs`"
