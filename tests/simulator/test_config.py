"""A simulation's settings are refused where they make no sense, with the reason."""

from __future__ import annotations

import msgspec
import pytest

from anomaly import settings
from anomaly.errors import ConfigError, UsageError
from anomaly.simulator import SCENARIOS, SimulationConfig, SimulationFile, scenario


@pytest.mark.parametrize("every", ["500ms", "2d", "often"])
def test_impossible_rhythm(every: str) -> None:
    """A time between readings that is not between a second and a day is refused."""
    with pytest.raises(ValueError, match=every):
        SimulationConfig(every=every)


def test_what_comes_after_the_history_needs_one() -> None:
    """Sensor faults or newcomers without a history are refused by name."""
    with pytest.raises(ValueError, match=r"newcomers, sensor_faults: .*train_share"):
        SimulationConfig(newcomers=0.1, sensor_faults=0.1)


def test_every_problem_of_a_file_is_named() -> None:
    """A simulation file with several mistakes names each of them."""
    with pytest.raises(ConfigError) as caught:
        settings.parse("vehicels = 3\ndays = 0\nfaults = 2.0", SimulationFile, "simulation.toml")
    text = str(caught.value)
    assert all(word in text for word in ("did you mean `vehicles`", "days", "faults", "seed: missing"))


def test_config_without_its_seed() -> None:
    """A simulation file's config is the same settings without the seed."""
    one = SimulationConfig(vehicles=7, late=0.1, kinds=("misfire",))
    file = msgspec.convert({**msgspec.to_builtins(one), "seed": 4}, SimulationFile)
    assert file.config == one


def test_scenarios_have_names_and_a_history() -> None:
    """There are ten stories besides the demo's, each with a history; their settings can be changed."""
    assert list(SCENARIOS) == ["demo", *"ABCDEFGHIJ"]
    assert all(0 < config.train_share < 1 for name, (_, config) in SCENARIOS.items() if name != "demo")
    changed = scenario("D", vehicles=7, every="1h", kinds=["tyre_leak"])
    assert (changed.vehicles, changed.step_ms, changed.kinds) == (7, 3_600_000, ("tyre_leak",))
    assert changed.firmware


@pytest.mark.parametrize(("name", "change"), [("K", {}), ("A", {"days": 0}), ("A", {"kinds": ["rust"]})])
def test_impossible_scenario(name: str, change: dict[str, object]) -> None:
    """An unknown scenario, or a change that cannot be, is a usage error."""
    with pytest.raises(UsageError, match=r"no scenario `K`|cannot be simulated"):
        scenario(name, **change)
