"""Tests of typed settings: everything wrong is said at once, in words that help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from anomaly import settings
from anomaly.errors import ConfigError


class Wheel(msgspec.Struct, forbid_unknown_fields=True):
    """A table inside a table."""

    size: Annotated[int, msgspec.Meta(ge=1)] = 1
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high\nhigh is below low")


class Car(msgspec.Struct, forbid_unknown_fields=True):
    """A table with one of each kind."""

    name: str
    fuel: Literal["petrol", "diesel"] = "petrol"
    wheels: dict[str, Wheel] = {}
    spare: list[Wheel] = []
    trailer: Wheel | None = None


def problems(text: str) -> list[str]:
    """What is wrong with a file."""
    with pytest.raises(ConfigError) as caught:
        settings.parse(text, Car, "car.toml")
    assert caught.value.exit_code == 3
    assert str(caught.value).startswith("car.toml")
    return caught.value.problems


def test_a_good_file_is_read_with_its_defaults() -> None:
    """What is written is read, the rest has its default."""
    car = settings.parse('name = "a"\n[wheels.left]\nsize = 3\n[[spare]]\n', Car, "car.toml")
    assert car == Car(name="a", wheels={"left": Wheel(size=3)}, spare=[Wheel()])


def test_everything_wrong_is_said_at_once() -> None:
    """Unknown keys, wrong types, limits and missing keys come in one report, wherever they are."""
    text = "naem = 1\nfuel = 3\n[wheels.left]\nsize = 0\n[[spare]]\nsiz = 1\n[trailer]\nlow = 'x'\n"
    assert problems(text) == [
        "naem: unknown key; did you mean `name`?",
        "fuel: must be `str`, not `int`",
        "wheels.left.size: must be `int` >= 1, not 0",
        "spare[0].siz: unknown key; did you mean `size`?",
        "trailer.low: must be `float`, not `str`",
        "name: missing",
    ]


def test_an_unknown_key_without_a_near_word_lists_what_is_known() -> None:
    """Where no known word is near, all of them are named."""
    assert problems('name = "a"\nzzz = 1') == ["zzz: unknown key; known here: fuel, name, spare, trailer, wheels"]


def test_an_unknown_word_names_the_nearest_and_all() -> None:
    """A word that is not among those allowed names its nearest, and all of them."""
    expected = "fuel: 'disel' is not known; did you mean `diesel`? one of diesel, petrol"
    assert problems('name = "a"\nfuel = "disel"') in (
        [expected],
        [expected.replace("diesel, petrol", "petrol, diesel")],
    )


def test_rules_of_a_whole_table_come_a_problem_a_line() -> None:
    """What only a table as a whole can say is reported with its place, beside problems elsewhere."""
    text = "name = 1\n[wheels.left]\nlow = 2\nhigh = 1\nsize = 4\nx = 1\n"
    assert problems(text)[-2:] == ["wheels.left: low is above high", "wheels.left: high is below low"]


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_numbers_are_finite(number: str) -> None:
    """TOML can say nan and inf; no setting may be one."""
    shown = float(number)
    assert problems(f'name = "a"\n[wheels.left]\nhigh = {number}') == [f"wheels.left.high: {shown} is no finite number"]


def test_text_that_is_no_toml_is_refused_with_its_place() -> None:
    """The line and column of a TOML error are in the message."""
    with pytest.raises(ConfigError, match=r"car.toml is not valid TOML: .*line 2"):
        settings.parse("name = 'a'\nfuel = = 1", Car, "car.toml")


def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    """A folder, a missing file and bytes that are no text are refused by name."""
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for name in ("bytes.toml", "missing.toml", "."):
        with pytest.raises(ConfigError, match="cannot be read"):
            settings.load(tmp_path / name, Car)
