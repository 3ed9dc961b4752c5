"""A retraining can be done again from its record, to the same digest, and from other data it is refused."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
import pytest

from anomaly.errors import DataError
from anomaly.registry.store import Registry
from tests.training.aging import DAY, asked, events, fleet, frame, labels, readings, sources
from training.loop.record import Retrained, Sources, data_digests, read_record, repeat, retrain, write_record
from training.train import Recipe, publish


@cache
def made() -> Retrained:
    """A retraining."""
    return retrain(fleet(), sources(), frame(), asked())


def test_the_record_alone_gives_the_same_digest(tmp_path: Path) -> None:
    """Written, read and repeated, a record leads to the model it tells of."""
    write_record(tmp_path / "record.json", made().record)
    again = repeat(fleet(), sources(), frame(), read_record(tmp_path / "record.json"))
    assert again.record == made().record
    assert again.trained.onnx == made().trained.onnx


def test_the_digest_is_the_one_that_the_registry_gives(tmp_path: Path) -> None:
    """What the record calls the model is what the registry calls it."""
    retrained = made()
    recipe = Recipe(fleet(), retrained.past.training, retrained.split, retrained.record.seed)
    assert publish(Registry(tmp_path), recipe, retrained.trained).digest == retrained.record.digest


def test_what_came_after_the_cutoff_gives_the_same_digest() -> None:
    """A longer archive and later labels, shuffled in, change nothing of a retraining."""
    told = [label for label in labels() if (label.reported_at or 0) > made().record.cutoff]
    cut = readings().rows(0, int((readings().ts <= made().record.cutoff).sum()))
    early = Sources(cut, events(), [label for label in labels() if label not in told])
    assert told
    assert retrain(fleet(), early, frame(), asked()).record == made().record


def test_other_data_are_refused_by_name() -> None:
    """A record is not repeated on labels that it was not made from."""
    changed = [msgspec.structs.replace(label, verdict="no_fault") for label in labels()]
    with pytest.raises(DataError, match="cycle 3 cannot be repeated: data are not"):
        repeat(fleet(), Sources(readings(), events(), changed), frame(), made().record)


def test_a_digest_does_not_depend_on_the_order_of_labels() -> None:
    """The same labels, told in another order, are the same data."""
    other = Sources(readings(), events(), labels()[::-1])
    assert data_digests(fleet(), other, 91 * DAY) == data_digests(fleet(), sources(), 91 * DAY)


def test_a_file_that_is_no_record_is_named(tmp_path: Path) -> None:
    """A broken record is an error that says which file."""
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(DataError, match=r"record\.json is no record of a retraining"):
        read_record(tmp_path / "record.json")
