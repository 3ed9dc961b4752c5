"""`anomaly models`: what a person sees of the registry, and what its exit codes mean."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer.testing

from anomaly.cli.models import app
from anomaly.errors import GateError, ModelError
from tests.registry.stock import stocked


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models of which the second is champion."""
    folder = tmp_path_factory.mktemp("shelf")
    registry = stocked(folder, 2)
    registry.set_alias("bus", "champion", 1, "first")
    registry.set_alias("bus", "champion", 2, "better")
    return folder


@pytest.fixture
def models(shelf: Path, tmp_path: Path) -> Path:
    """The same, to be changed at will."""
    return Path(shutil.copytree(shelf, tmp_path / "models"))


def run(*words: str, models: Path, fails: type[Exception] | None = None) -> str:
    """What a command prints on stdout; `fails` is the error it must end with."""
    done = typer.testing.CliRunner().invoke(app, [*words, "--models", str(models)])
    assert type(done.exception) is (fails or type(None)), done.output
    return done.stdout


def run_json(*words: str, models: Path) -> Any:
    """The same with --json, parsed."""
    return json.loads(run(*words, "--json", models=models))


def test_list_shows_every_model_and_its_alias(models: Path) -> None:
    """One line a model, with alias, family and the beginning of its digest."""
    first, second = run("list", models=models).splitlines()[1:]
    assert first.split()[:2] == ["bus/1", "distance"]
    assert second.split()[:3] == ["bus/2", "champion", "distance"]
    rows = run_json("list", models=models)
    assert [row["aliases"] for row in rows] == [[], ["champion"]]
    assert second.split()[-1] == rows[1]["digest"][:12]


def test_list_goes_on_past_a_broken_model(models: Path) -> None:
    """A manifest that was changed is a line with its problem; the others are listed as ever."""
    (models / "bus" / "1" / "manifest.json").write_text("{}")
    assert "no manifest" in run_json("list", models=models)[0]["problem"]
    assert "champion" in run("list", models=models)


def test_list_of_nothing_says_what_makes_a_model(tmp_path: Path) -> None:
    """An empty registry is an empty list and a hint, no failure."""
    assert run("list", models=tmp_path / "none") == ""
    assert run_json("list", models=tmp_path / "none") == []


def test_show_prints_the_manifest(models: Path) -> None:
    """By alias, in lines for people and whole as JSON."""
    text = run("show", "bus@champion", models=models)
    assert text.splitlines()[0] == "bus/2  champion"
    assert "false_alarms value 0.9, low 0.4, high 1.6" in text
    tree = run_json("show", "bus/2", models=models)
    assert (tree["number"], tree["k"], tree["aliases"]) == (2, 7.25, ["champion"])


def test_verify_finds_the_model_that_was_changed(models: Path) -> None:
    """All models are tried; one changed byte makes the command fail and names the model and the file."""
    assert run("verify", models=models).splitlines() == ["bus/1: ok", "bus/2: ok"]
    assert run_json("verify", "bus/1", models=models) == [{"model": "bus/1", "problem": None, "ok": True}]
    path = models / "bus" / "1" / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    text = run("verify", models=models, fails=GateError)
    assert "bus/1: " in text
    assert "model.onnx was changed" in text
    assert "bus/2: ok" in text


def test_promote_and_rollback_move_the_champion(models: Path) -> None:
    """Each says what was and what is; a model that is not whole is not promoted."""
    assert run("rollback", "bus", "--reason", "alarms", models=models) == "bus: champion is 1, was 2\n"
    assert run("promote", "bus/2", "--reason", "mended", models=models) == "bus: champion is 2, was 1\n"
    (models / "bus" / "1" / "card.md").write_text("other")
    run("promote", "bus/1", "--reason", "no", models=models, fails=ModelError)
    assert run_json("list", models=models)[1]["aliases"] == ["champion"]
