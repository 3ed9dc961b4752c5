"""Tests that the documented messages are what the program reads."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np

from anomaly.fleet import Fleet
from anomaly.telemetry.decode import Decoder
from anomaly.telemetry.decode_records import decode_events, decode_labels
from anomaly.telemetry.records import Label, VehicleEvent

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "messages.md").read_text()


def examples(kind: str) -> list[bytes]:
    """The documented messages of a kind."""
    return [found.encode() for found in re.findall(rf"```json {kind}\n(.*?)```", TEXT, re.DOTALL)]


def test_documented_readings_are_decoded() -> None:
    """Every reading in the document is read whole, and nothing in it is unknown."""
    table = {"name": "buses", "vehicle": "bus", "time": "at", "time_unit": "ms"}
    signals: dict[str, object] = {"coolant_c": {}, "oil_pressure_kpa": {}}
    fleet = msgspec.convert({"fleet": table, "signals": signals}, Fleet)
    found = examples("reading")
    decoded = Decoder(fleet).decode(found, np.arange(len(found)))
    assert (decoded.failures, dict(decoded.unknown)) == ([], {})
    assert len(decoded.batch) == 4
    assert decoded.batch.context == {"region": [None, "north", None, None]}


def test_documented_events_and_labels_are_decoded() -> None:
    """Every event and label in the document is read."""
    events, labels = examples("event"), examples("label")
    assert [len(part) for part in decode_events(events)] == [2, 0]
    assert [len(part) for part in decode_labels(labels)] == [1, 0]


def test_every_field_of_a_record_is_documented() -> None:
    """No field of an event or a label is missing from the document."""
    for kind in (VehicleEvent, Label):
        for field in msgspec.structs.fields(kind):
            assert f"`{field.encode_name}`" in TEXT, field.encode_name
