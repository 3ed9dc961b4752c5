"""An offline model in ONNX form, as the engine's scorer and as a River anomaly detector."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from river import base

from anomaly.engine.model import Floats
from anomaly.errors import ModelError


class OnnxDetector(base.AnomalyDetector):  # type: ignore[misc]  # River is untyped to mypy here
    """Scores whole micro-batches on one thread, from bytes; column j of the features belongs to signal j.

    The model has the input `features` float32[n, width], the output `score` float32[n] in nats, and possibly
    `contribution` float32[n, signals]. Features are deviations from what is healthy, so that 0 is the healthy
    median; columns beyond the signals are padding and always 0. Where width is a multiple of 8, a row's score has
    the same bits wherever it stands in whatever batch.

    Parameters
    ----------
    model
        The bytes of the ONNX file, already found harmless by `anomaly.registry.safety`.
    signals
        Names of the signals, in the order of the features.

    """

    def __init__(self, model: bytes, signals: Sequence[str]) -> None:
        self.model = model
        self.signals = tuple(signals)
        self._session, self._refusals = _open(model)
        inputs = {item.name: item for item in self._session.get_inputs()}
        self._outputs = [item.name for item in self._session.get_outputs()]
        if list(inputs) != ["features"] or "score" not in self._outputs:
            raise ModelError(
                f"a model has the input `features` and the output `score`; this one has "
                f"{', '.join(inputs) or 'none'} and {', '.join(self._outputs) or 'none'}"
            )
        shape = inputs["features"].shape
        if len(shape) != 2 or not isinstance(shape[1], int) or shape[1] < len(self.signals):
            raise ModelError(f"`features` must be [n, width] with width >= {len(self.signals)}, not {shape}")
        self._width: int = shape[1]

    @property
    def width(self) -> int:
        """Columns of the feature matrix, padding included."""
        return self._width

    def score(self, features: Floats) -> Floats:
        """float32[n, width] to scores in nats, float32[n]."""
        return self._run("score", features)

    def contributions(self, features: Floats) -> Floats:
        """float32[n, width] to the share of each signal, float32[n, signals]; >= 0, rows sum to 1.

        The model's closed form where it has one, else by how much the score drops when a signal is at its healthy
        median. Negative parts are cut; a row without positive parts is uniform.
        """
        count = len(self.signals)
        if "contribution" in self._outputs:
            raw = self._run("contribution", features)[:, :count]
        else:
            raw = self._drops(features)
        parts = np.where(np.isfinite(raw) & (raw > 0), raw, 0).astype(np.float64)
        total = parts.sum(axis=1, keepdims=True)
        uniform = np.full_like(parts, 1.0 / count)
        np.divide(parts, total, out=uniform, where=total > 0)
        return uniform.astype(np.float32)

    def score_one(self, x: Mapping[str, float]) -> float:
        """The score of one reading's features by signal name; a missing one is at its healthy median."""
        row = np.zeros((1, self._width), np.float32)
        row[0, : len(self.signals)] = [x.get(name, 0.0) for name in self.signals]
        return float(self.score(row)[0])

    def learn_one(self, x: Mapping[str, float]) -> None:
        """Does nothing: the model was fitted offline, and only thresholds learn on the stream."""

    def __reduce__(self) -> tuple[type[OnnxDetector], tuple[bytes, tuple[str, ...]]]:
        return type(self), (self.model, self.signals)  # a copy opens a session of its own

    def __repr__(self) -> str:
        return f"OnnxDetector({hashlib.sha256(self.model).hexdigest()[:12]}, {len(self.signals)} signals)"

    def _drops(self, features: Floats) -> Floats:
        whole = self.score(features)
        drops = np.empty((len(features), len(self.signals)), np.float32)
        for column in range(len(self.signals)):
            without = features.copy()
            without[:, column] = 0.0
            drops[:, column] = whole - self.score(without)
        return drops

    def _run(self, output: str, features: Floats) -> Floats:
        if features.ndim != 2 or features.shape[1] != self._width or features.dtype != np.float32:
            raise ModelError(f"features must be float32[n, {self._width}], not {features.dtype}{list(features.shape)}")
        try:
            result: Floats = self._session.run([output], {"features": np.ascontiguousarray(features)})[0]
        except self._refusals as error:
            raise ModelError(f"the model cannot be run: {_plain(error)}") from error
        return result

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield from ()  # a detector is nothing without a model, which only the caller of River's checks has


def _open(model: bytes) -> tuple[Any, tuple[type[Exception], ...]]:
    """A session on one thread, and the exceptions that ONNX Runtime raises."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    refusals = tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except refusals as error:
        raise ModelError(f"ONNX Runtime refuses the model: {_plain(error)}") from error
    return session, refusals


def _plain(error: Exception) -> str:
    """What ONNX Runtime says, in a line."""
    text = " ".join(str(error).split())
    if "Failed to allocate memory" in text or "bad_alloc" in text:
        return "it asks for more memory than it may have"
    return text[:300] or type(error).__name__
