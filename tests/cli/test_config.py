"""Tests of `anomaly config`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anomaly import settings
from anomaly.cli.config import app, differences, to_toml
from anomaly.errors import ConfigError
from anomaly.fleet import Fleet

HEAD = '[fleet]\nname = "buses"\nvehicle = "bus"\ntime = "at"\ntime_unit = "ms"\n'
TEXT = HEAD + '[signals."oil p.x"]\nmax = 7\n[signals.a]\n[context]\nregime = ["gear"]\n'


def fleet(text: str) -> Fleet:
    """A fleet from the text of its file."""
    return settings.parse(text, Fleet, "fleet.toml")


def run(*arguments: str) -> str:
    """What a call prints on standard output; its error is raised."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception:
        raise result.exception
    assert result.stderr == ""
    return result.stdout


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A good fleet file."""
    path = tmp_path / "fleet.toml"
    path.write_text(TEXT)
    return path


def test_a_good_file_is_ok_in_a_few_words(file: Path) -> None:
    """`check` says ok and what the file amounts to, for people and as JSON."""
    text = run("check", str(file))
    assert text.splitlines()[0] == f"{file}: ok"
    assert "regime: gear" in text
    found = json.loads(run("check", str(file), "--json"))
    assert (found["ok"], found["signals"], found["time_unit"]) == (True, 2, "ms")


def test_a_bad_file_is_refused_with_everything_wrong(file: Path) -> None:
    """`check` reports every problem at once, with exit code 3."""
    file.write_text(TEXT.replace("max", "mx") + "[alerts]\ngap = 0\n")
    with pytest.raises(ConfigError) as caught:
        run("check", str(file))
    assert caught.value.exit_code == 3
    assert len(caught.value.problems) == 2


def test_what_is_shown_means_the_same(file: Path) -> None:
    """`show` prints a fleet file with all defaults that loads as the same fleet."""
    text = run("show", str(file))
    assert fleet(text) == fleet(TEXT)
    assert "gap = 10" in text
    assert json.loads(run("show", str(file), "--json"))["alerts"] == {"gap": 10, "lasting_after": 20}
    assert fleet(to_toml(fleet(TEXT + "cohort = []\n"))).context.cohort == ()


def test_the_schema_names_every_table() -> None:
    """`schema` prints a JSON schema with the tables of a fleet file."""
    schema = json.loads(run("schema"))
    assert set(schema["$defs"]["Fleet"]["properties"]) == set(Fleet.__struct_fields__)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("max = 7", "max = 8"), [('signals."oil p.x".max', 7.0, 8.0, "start")]),
        (('["gear"]', '["gear", "b"]'), [("context.regime", ("gear",), ("gear", "b"), "state")]),
        (("[context]", "[threshold]\nfalse_alarms = 2.0\n[context]"), [("threshold.false_alarms", 1.0, 2.0, "model")]),
        (("[context]", "[stream]\npartitions = 8\n[context]"), [("stream.partitions", 4, 8, "topics")]),
        (("[context]", "# nothing\n[context]"), []),
    ],
)
def test_a_change_says_what_it_asks_for(change: tuple[str, str], expected: list[tuple[object, ...]]) -> None:
    """Each difference comes with its place, both values, and what has to be done."""
    assert [tuple(found) for found in differences(fleet(TEXT), fleet(TEXT.replace(*change)))] == expected


def test_signals_in_another_order_are_another_frame() -> None:
    """The same signals in another order, one more or one less, ask for a new frame."""
    signals = HEAD + "[signals.a]\n[signals.b]\n"
    for other in (HEAD + "[signals.b]\n[signals.a]\n", HEAD + "[signals.a]\n", signals + "[signals.c]\n"):
        found = differences(fleet(signals), fleet(other))
        assert [(change.key, change.acts) for change in found] == [("signals", "state")]


def test_differences_are_grouped_by_what_they_ask_for(file: Path, tmp_path: Path) -> None:
    """`diff` prints the heaviest first; equal files say so; JSON has all of it."""
    other = tmp_path / "other.toml"
    other.write_text(TEXT.replace("max = 7", "max = 8") + "[baseline]\nburn_in = 20\n")
    lines = run("diff", str(file), str(other)).splitlines()
    assert lines[0].startswith("a new frame")
    assert lines[1] == "  baseline.burn_in: 30 -> 20"
    assert lines[3] == '  signals."oil p.x".max: 7.0 -> 8.0'
    assert run("diff", str(file), str(file)) == "no difference\n"
    assert [found["acts"] for found in json.loads(run("diff", str(file), str(other), "--json"))] == ["start", "state"]
