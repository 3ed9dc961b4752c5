"""Tests of the fleet file: what it allows, what it refuses, and what it says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly import fleet as fleets
from anomaly import settings
from anomaly.duration import duration_ms
from anomaly.errors import ConfigError
from anomaly.fleet import Fleet, usable_name

HEAD = '[fleet]\nname = "buses"\nvehicle = "bus"\ntime = "at"\ntime_unit = "ms"\n'


def fleet(text: str = "[signals.a]\n", head: str = HEAD) -> Fleet:
    """A fleet from the rest of its file."""
    return settings.parse(head + text, Fleet, "fleet.toml")


def problems(text: str, head: str = HEAD) -> list[str]:
    """What is wrong with a fleet file."""
    with pytest.raises(ConfigError) as caught:
        fleet(text, head)
    return caught.value.problems


def test_columns_are_the_signals_in_order_then_the_regime() -> None:
    """The order of the file is the order of the matrix; regime signals come after those that are scored."""
    assert fleet('[signals.b]\n[signals.a]\n[context]\nregime = ["z", "c"]\n').columns == ["b", "a", "z", "c"]


def test_the_region_is_always_kept_and_only_once() -> None:
    """A reading's region is kept, whether it makes a cohort or not."""
    assert fleet().context_fields == ["region"]
    assert fleet('[signals.a]\n[context]\ncohort = ["region", "type"]\n').context_fields == ["region", "type"]


def test_everything_wrong_with_signals_and_times_is_said_at_once() -> None:
    """Rules over the whole file are all reported, each by name."""
    head = HEAD.replace('"at"', '"bus"').replace('"ms"', '"cycles"')
    text = '[signals.a]\n[signals.bus]\n[signals."x\\"y"]\n[context]\nregime = ["a", "a"]\ncohort = []\nperiod = "1w"\n'
    found = "\n".join(problems(text, head))
    for words in (
        "a: both a signal and a regime signal",
        "context.regime: a is there twice",
        "bus: says who or when, and is a signal as well",
        "signal 'x\"y': a signal's name",
        "fleet.vehicle and fleet.time are both `bus`",
        "context.cohort needs a common clock",
        "context.period: `1w` is no duration",
    ):
        assert words in found


def test_a_fleet_needs_a_signal() -> None:
    """An empty table of signals is refused."""
    assert problems("[signals]\n") == ["[signals] is empty: a fleet needs at least one signal"]


def test_limits_of_a_signal_must_leave_room() -> None:
    """`min` at or above `max` is refused with both values."""
    assert problems("[signals.a]\nmin = 2\nmax = 2\n") == ["signals.a: min 2.0 is not below max 2.0"]


@pytest.mark.parametrize("name", ["a b", "", "-x", "é", "a" * 121])
def test_a_fleet_name_is_fit_for_topics_and_folders(name: str) -> None:
    """Names that no topic or folder could have are refused."""
    assert problems("[signals.a]\n", HEAD.replace("buses", name))[0].startswith("fleet.name:")


@given(st.text(min_size=1, max_size=20))
def test_every_usable_name_can_be_a_signal(name: str) -> None:
    """Whatever printable name a signal has, the decoder can be made for it."""
    from anomaly.telemetry.decode import Decoder

    if usable_name(name) and name not in ("bus", "at"):
        Decoder(fleet(f'[signals."{name}"]\n'))


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90_000), ("1h", 3_600_000), ("7d", 604_800_000), ("5min", 300_000), ("2m", 120_000)]
)
def test_durations_are_read(text: str, expected: int) -> None:
    """A number and its unit are milliseconds."""
    assert duration_ms(text) == expected


@pytest.mark.parametrize("text", ["", "d", "1", "1.5h", "-1d", "1 d", "²d", "1D", "9" * 5_000 + "d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Anything but a whole number and a known unit is refused."""
    with pytest.raises(ValueError, match="is no duration"):
        duration_ms(text)


def test_durations_become_ticks_of_the_fleet() -> None:
    """A duration counts in the fleet's own unit, a day is a day, and a cycle is a day of its own."""
    assert (fleet().ticks("90s"), fleet().ticks_per_day) == (90_000, 86_400_000)
    seconds = fleet(head=HEAD.replace('"ms"', '"s"'))
    assert (seconds.ticks("90s"), seconds.ticks_per_day) == (90, 86_400)
    assert fleet(head=HEAD.replace('"ms"', '"cycles"')).ticks_per_day == 1


def test_a_duration_below_a_second_is_refused() -> None:
    """Nothing is shorter than a tick of any fleet."""
    assert problems('[signals.a]\n[context]\nperiod = "500ms"\n') == ["context.period: `500ms` must be at least 1s"]


def test_a_duration_beyond_what_a_clock_counts_is_refused() -> None:
    """Times and durations together stay within an int64 of milliseconds."""
    assert problems('[signals.a]\n[quality]\nmax_ahead = "999999999999d"\n') == [
        "quality.max_ahead: `999999999999d` must be at most 36500d"
    ]


def test_topics_have_the_prefix_else_the_name() -> None:
    """Topics are named after the fleet unless the file says otherwise."""
    assert fleet().topic("alerts") == "buses.alerts"
    assert fleet('[signals.a]\n[stream]\nprefix = "north"\n').topic("alerts") == "north.alerts"


def test_the_digest_is_of_what_holds() -> None:
    """Comments and written-out defaults do not change the digest; a setting and the order of signals do."""
    assert fleet().digest() == fleet("# hello\n[signals.a]\nunit = ''\n[alerts]\ngap = 10\n").digest()
    assert fleet().digest() != fleet("[signals.a]\n[alerts]\ngap = 11\n").digest()
    assert fleet("[signals.a]\n[signals.b]\n").digest() != fleet("[signals.b]\n[signals.a]\n").digest()


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    """The message names the command that writes a fleet file."""
    with pytest.raises(ConfigError, match="anomaly init HISTORY"):
        fleets.load(tmp_path / "fleet.toml")


@pytest.mark.parametrize(
    ("family", "instead"),
    [
        ("local-outlier-factor", "slower than scikit-learn itself; write `distance`, or `isolation-forest`"),
        ("elliptic-envelope", "no converter to ONNX; write `distance`"),
        ("one-class-svm", "write `isolation-forest` or `autoencoder`; `anomaly backtest --model river:OneClassSVM`"),
    ],
)
def test_a_family_that_is_refused_says_why_and_what_instead(family: str, instead: str) -> None:
    """Who asks for a family that would be too slow or cannot be exported is told which to write."""
    (problem,) = problems(f'[signals.a]\n[model]\nfamily = "{family}"\n')
    assert problem.startswith(f"model.family: '{family}' is refused: ")
    assert instead in problem


def test_wide_features_are_for_the_families_that_take_them() -> None:
    """`distance` on wide features is refused with both ways out; the others take them."""
    wide = '[signals.a]\n[model]\nfeatures = "wide"\n'
    (problem,) = problems(wide)
    assert 'write features = "evidence", or one of family = "pca"' in problem
    for family in ("pca", "isolation-forest", "autoencoder"):
        assert fleet(f'{wide}family = "{family}"\n').model.features == "wide"


def test_a_signal_needs_a_column_of_its_own() -> None:
    """In Arrow messages a signal cannot have the name of another column; in JSON it can."""
    text = "[signals.ts]\n[signals.region]\n[stream]\nformat = "
    found = problems(f'{text}"arrow"\n')
    assert [problem.partition(":")[0] for problem in found] == ["region", "ts"]
    assert fleet(f'{text}"json"\n').columns == ["ts", "region"]


@pytest.mark.parametrize("asked", ["statistics = []", 'statistics = ["level", "level"]', "recent = 301", "memory = -1"])
def test_settings_of_single_streams_that_cannot_be_are_refused(asked: str) -> None:
    """No statistic or one twice, more readings than a vehicle's state holds, a memory below nothing."""
    (problem,) = problems(f'[signals.a]\n[model]\nfamily = "conformal"\n[model.conformal]\n{asked}\n')
    assert problem.startswith("model.conformal")
    assert asked.split(" ")[0] in problem
