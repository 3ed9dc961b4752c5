"""A candidate is let through by every gate, or refused with the reason of each that it fails."""

from __future__ import annotations

from functools import cache

import msgspec
import numpy as np
import pytest

from anomaly.engine.model import Floats
from tests.training.aging import asked, champion, fleet, frame, sources
from training.history import History
from training.loop.gates import Candidate, Gates, card_lines, gates, harmless, latency_us, model_of
from training.loop.record import retrain


@cache
def past() -> tuple[History, int]:
    """What the gates replay."""
    found = retrain(fleet(), sources(), frame(), asked()).past
    return found.whole, found.since


def judged(candidate: Candidate) -> Gates:
    """The gates' report on a candidate."""
    return gates(fleet(), frame(), model_of(champion(), "aging/1"), candidate, past())


def honest() -> Candidate:
    """The champion once more."""
    return Candidate(model_of(champion(), "candidate"), champion().onnx, champion().parity)


class Deaf:
    """A scorer that never finds anything."""

    def score(self, features: Floats) -> Floats:
        """Nothing."""
        return np.zeros(len(features), np.float32)

    def contributions(self, features: Floats) -> Floats:
        """Equal shares."""
        return np.full((len(features), 2), 0.5, np.float32)


def test_the_champion_itself_passes_every_gate() -> None:
    """A candidate that decides as the champion does loses no canary and is let through."""
    report = judged(honest())
    assert report.reasons == []
    assert report.canaries.count >= 3
    assert report.canaries.lost == []


def test_a_deaf_candidate_loses_the_canaries() -> None:
    """Past confirmed faults that the champion finds must still be found; the report names those that are not."""
    candidate = honest()
    report = judged(candidate._replace(model=candidate.model._replace(scorer=Deaf())))
    assert any(reason.startswith("canaries: ") for reason in report.reasons)
    assert len(report.canaries.lost) == report.canaries.count


def test_an_export_that_differs_is_refused() -> None:
    """A model that is not what was fitted is not let through."""
    report = judged(honest()._replace(parity=0.1))
    assert [reason.split(":")[0] for reason in report.reasons] == ["parity"]


def test_a_hostile_file_is_refused_with_what_the_registry_says() -> None:
    """Bytes that are no harmless model are refused before they are published."""
    assert harmless(b"not a model", 2) != ""
    report = judged(honest()._replace(onnx=b"not a model"))
    assert [reason.split(":")[0] for reason in report.reasons] == ["file"]


@pytest.mark.parametrize(("field", "value", "gate"), [("SLOWEST_US", 0.0, "latency"), ("MOST_BYTES", 10, "size")])
def test_a_slow_or_large_model_is_refused(monkeypatch: pytest.MonkeyPatch, field: str, value: float, gate: str) -> None:
    """Beyond the limits of time and size, the reason says how far."""
    monkeypatch.setattr(f"training.loop.gates.{field}", value)
    monkeypatch.setattr("training.loop.gates.SLOWER", 0.0)
    assert gate in [reason.split(":")[0] for reason in judged(honest()).reasons]


def test_the_report_is_written_for_the_card() -> None:
    """The card has the canaries, the latency and the whole report as JSON."""
    report = judged(honest())
    text = "\n".join(card_lines(report))
    assert f"{report.canaries.count} of {report.canaries.count} past faults" in text
    assert msgspec.json.decode(text.split("```json\n")[1].split("\n```")[0], type=Gates) == report


def test_latency_is_measured_by_the_reading() -> None:
    """A reading takes more than nothing and less than a millisecond."""
    assert 0.0 < latency_us(model_of(champion(), "c"), frame()) < 1_000.0
