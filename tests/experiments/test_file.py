"""The experiment file: typed, complete, and every problem said at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anomaly.errors import ConfigError
from anomaly.experiments.file import load, names
from tests.experiments.plan import TEXT, experiment


def test_a_file_is_read_with_its_defaults(tmp_path: Path) -> None:
    """The arms have their roles, and what is not written has the documented default."""
    (tmp_path / "colder.toml").write_text(TEXT)
    (name,) = names(tmp_path)
    found = load(tmp_path / f"{name}.toml")
    assert (found.control.model, found.treatment.model) == ("fleet/1", "fleet@challenger")
    assert (found.unit, found.revision, found.on_fail, found.on_inconclusive) == ("vehicle", 1, "rollback", "hold")
    assert names(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("min_days = 7", "min_day = 7", "min_day: unknown key; did you mean `min_days`?"),
        ('id = "colder"', 'id = "colder"\nunit = "event"', "unit: 'event' is refused: those of one vehicle"),
        ("share = 0.5\n[[arms]]", "share = 0.4\n[[arms]]", "the shares sum to 0.9; they must sum to 1"),
        ('role = "treatment"', 'role = "control"', "2 have the role control; there must be one"),
        ('name = "new"', 'name = "old"', "arms: old is there twice"),
        ('model = "fleet/1"', 'model = "fleet one"', "arms[0].model: "),
        ("min_days = 7", "min_days = 99", "min_days: 99 is above max_days 90"),
        ('metric = "false_alarms"', 'metric = "f1"', "primary.metric: 'f1' is refused: it changes with"),
        ('id = "colder"', 'id = "colder"\nramp = [{share = 0.5}, {share = 0.1}]', "must rise from step to step"),
        ('id = "colder"', 'id = "colder"\nlayer = {range = [10, 10]}', "must rise within 0 to 10000"),
        ('id = "colder"', 'id = "colder"\nunit = "reading"', "'reading' is refused: those of one vehicle resemble"),
        ('metric = "false_alarms"', 'metric = "latency"', "'latency' is refused: the models of one process"),
        ("max_harm = 0.1", 'max_harm = 0.1, method = "fixed"', "fixed is read once"),
        ("margin = 0.0", 'margin = 0.0, method = "first_event"', "first_event finds harm alone"),
        ("margin = 0.0", 'margin = 0.0, method = "betting"', "false_alarms cannot be judged by betting"),
        ("max_harm = 0.1", "max_harm = 0.1, alpha = 0.2", "their alpha sums to 0.2"),
        ('role = "control"', 'role = "control"\nmode = "shadow"', "old is the control and must be live"),
        ('model = "fleet@challenger"', "", "new is neither another model nor another threshold"),
        ('id = "colder"', 'id = "colder"\neligibility = {region = []}', "eligibility.region: the list is empty"),
        ('on_pass = "promote"', 'on_pass = "pray"', "on_pass: 'pray' is not known"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(old: str, new: str, said: str) -> None:
    """A person reads which key, what is wrong, and what would be right."""
    assert old in TEXT
    with pytest.raises(ConfigError) as refused:
        experiment(TEXT.replace(old, new, 1))
    assert said in str(refused.value)


def test_all_problems_are_said_together() -> None:
    """Two mistakes are one refusal."""
    with pytest.raises(ConfigError) as refused:
        experiment(TEXT.replace("min_days = 7", "min_day = 7").replace('"promote"', '"pray"'))
    assert len(refused.value.problems) == 2


def test_the_id_is_the_files_name(tmp_path: Path) -> None:
    """A copied file that kept its old id is refused, for its state would be the other's."""
    (tmp_path / "warmer.toml").write_text(TEXT)
    with pytest.raises(ConfigError, match="must be the file's name, `warmer`"):
        load(tmp_path / "warmer.toml")


def test_the_digest_is_of_what_is_said_not_of_how() -> None:
    """Comments and order leave it, a changed value does not."""
    assert experiment("# a comment\n" + TEXT).digest() == experiment().digest()
    assert experiment(TEXT.replace("min_days = 7", "min_days = 8")).digest() != experiment().digest()


def test_the_documented_file_is_a_file(tmp_path: Path) -> None:
    """The example in the reference can be copied as it stands."""
    reference = Path(__file__).resolve().parents[2] / "docs" / "reference" / "experiment-file.md"
    (example,) = re.findall(r"```toml\n(.*?)```", reference.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "colder.toml").write_text(example, encoding="utf-8")
    assert [step.share for step in load(tmp_path / "colder.toml").ramp] == [0.05, 1.0]
