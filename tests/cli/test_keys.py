"""Tests that the meaning of keys and their reference keep up with the fleet file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anomaly import settings
from anomaly.cli.keys import ACTS, KEYS, defaults, reference
from anomaly.fleet import Fleet

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "fleet-file.md"


def test_every_key_has_a_meaning_and_no_other_has() -> None:
    """A key that is added or taken away must be explained or forgotten."""
    assert list(KEYS) == list(defaults())


def test_the_reference_is_what_holds() -> None:
    """The document carries the generated tables, and what each kind of change asks for."""
    text = DOCUMENT.read_text()
    assert text.endswith(reference()), "run `make docs`"
    for acts, meaning in ACTS.items():
        assert f"- **{acts}**: {meaning}." in text


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL))
def test_examples_of_the_document_can_be_loaded(example: str) -> None:
    """Each fleet file in the document is a good one."""
    assert settings.parse(example, Fleet, "example").signals
