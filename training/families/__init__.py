"""The families of models: each turns healthy evidence, and labels where there are some, into an ONNX graph."""

from __future__ import annotations

from training.families.autoencoder import fit_autoencoder
from training.families.conformal import fit_conformal
from training.families.distance import fit_distance
from training.families.family import Evidence, Family, Fitted
from training.families.isolation_forest import fit_isolation_forest
from training.families.pca import fit_pca

__all__ = ["FAMILIES", "Evidence", "Family", "Fitted"]

FAMILIES: dict[str, Family] = {
    "distance": Family(fit_distance),
    "pca": Family(fit_pca),
    "isolation-forest": Family(fit_isolation_forest, threshold_from="validation"),
    "autoencoder": Family(fit_autoencoder),
    "conformal": Family(fit_conformal),
}
