"""What a training publishes, and which frame the next one keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anomaly.fleet import Fleet
from anomaly.registry.manifest import Manifest
from anomaly.registry.store import Registry
from tests.training.test_fit import fleet, wearing
from training.fit import fit
from training.history import split_vehicles
from training.train import Recipe, champion_frame, publish


def published(registry: Registry, asked: Fleet) -> Manifest:
    """A model of the fleet file, in the registry."""
    history = wearing(1)
    split = split_vehicles(history.names, 0, 1)
    trained = fit(asked, history, split, 0, champion_frame(registry, asked))
    return publish(registry, Recipe(asked, history, split, 0), trained)


def test_the_manifest_names_every_column(tmp_path: Path) -> None:
    """Features are named after block and signal, in the order of the matrix."""
    registry = Registry(tmp_path)
    assert published(registry, fleet()).features == ("evidence.a", "evidence.b", "evidence.c")
    wide = published(registry, fleet("pca", "wide"))
    assert len(wide.features) == 18
    assert (wide.features[0], wide.features[7], wide.width) == ("deviation.a", "evidence.b", 24)


def test_a_champion_with_other_features_lends_no_frame(tmp_path: Path) -> None:
    """The frame is kept for another family on the same features, and made anew for other features."""
    registry = Registry(tmp_path)
    first = published(registry, fleet())
    assert published(registry, fleet("pca")).frame == first.frame
    assert champion_frame(registry, fleet("pca", "wide")) is None
    assert published(registry, fleet("pca", "wide")).frame != first.frame


def test_a_model_on_wide_features_loads_and_has_a_share_for_each_signal(tmp_path: Path) -> None:
    """What was published passes the registry's checks, a trial run among them, and serves."""
    registry = Registry(tmp_path)
    manifest = published(registry, fleet("autoencoder", "wide"))
    scorer = registry.load(registry.resolve(manifest.reference)).engine_model().scorer
    assert scorer.contributions(np.zeros((5, manifest.width), np.float32)).shape == (5, 3)
