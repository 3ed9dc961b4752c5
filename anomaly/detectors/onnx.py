"""An offline model in ONNX form, as the engine's scorer and as a River anomaly detector."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from river import base

from anomaly.detectors.program import program_of
from anomaly.engine.frame import BLOCKS
from anomaly.engine.model import Floats
from anomaly.engine.program import run
from anomaly.errors import ModelError


class OnnxDetector(base.AnomalyDetector):  # type: ignore[misc]  # River is untyped to mypy here
    """Scores whole micro-batches on one thread, from bytes.

    The model has the input `features` float32[n, width], the output `score` float32[n] in nats, and possibly
    `contribution` float32[n, d], d being the number of signals. The width says what the features are: evidence, one
    block of d columns, or wide, the six blocks of `anomaly.engine.frame.BLOCKS`; column j of each block belongs to
    signal j, and up to 7 columns beyond are padding and always 0. Healthy medians are the numbers [width] of
    `median` in the model's metadata (JSON), else 0, as those of deviations from what is healthy are. Where width is
    a multiple of 8, a row's score has the same bits wherever it stands in whatever batch.

    Scores of a few operators, as those of the distance are, are a program of one kernel; others, and all
    contributions, are run by ONNX Runtime.

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
        median = self._session.get_modelmeta().custom_metadata_map.get("median")
        quick = -(-len(self.signals) // 8) * 8 if "score_abrupt" in self._outputs else 0
        self._width, self._blocks = _layout(inputs["features"].shape, quick, len(self.signals), median is not None)
        self._median = np.concatenate([_median(median, self._width - quick), np.zeros(quick, np.float32)])
        scores = [name for name in self._outputs if name.startswith("score")]
        self._programs = {name: program_of(model, name, self._width) for name in scores}

    @property
    def width(self) -> int:
        """Columns of the feature matrix, padding included."""
        return self._width

    @property
    def columns(self) -> tuple[str, ...]:
        """What each column is but for the padding: the signal, for wide features after its block, "change.slip"."""
        if len(self._blocks) == 1:
            return self.signals
        return tuple(f"{block}.{signal}" for block in self._blocks for signal in self.signals)

    def score(self, features: Floats) -> Floats:
        """float32[n, width] to scores in nats, float32[n]."""
        return self._run("score", features)

    @property
    def abrupt(self) -> AbruptScorer | None:
        """The model's second channel, for abrupt faults, where it has one."""
        return AbruptScorer(self._run, len(self.signals)) if "score_abrupt" in self._outputs else None

    def contributions(self, features: Floats) -> Floats:
        """float32[n, width] to the share of each signal, float32[n, signals]; >= 0, rows sum to 1.

        The model's closed form where it has one, else by how much the score drops when all columns of a signal are
        at their healthy medians. Negative parts are cut; a row without positive parts is uniform.
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
        """The score of one reading's features by the names of `columns`; a missing one is at its healthy median."""
        row = self._median.copy()
        for column, name in enumerate(self.columns):
            row[column] = x.get(name, row[column])
        return float(self.score(row[np.newaxis])[0])

    def learn_one(self, x: Mapping[str, float]) -> None:
        """Does nothing: the model was fitted offline, and only thresholds learn on the stream."""

    def __reduce__(self) -> tuple[type[OnnxDetector], tuple[bytes, tuple[str, ...]]]:
        return type(self), (self.model, self.signals)  # a copy opens a session of its own

    def __repr__(self) -> str:
        return f"OnnxDetector({hashlib.sha256(self.model).hexdigest()[:12]}, {len(self.signals)} signals)"

    def _drops(self, features: Floats) -> Floats:
        whole = self.score(features)
        drops = np.empty((len(features), len(self.signals)), np.float32)
        for signal in range(len(self.signals)):
            columns = np.arange(len(self._blocks)) * len(self.signals) + signal
            without = features.copy()
            without[:, columns] = self._median[columns]
            drops[:, signal] = whole - self.score(without)
        return drops

    def _run(self, output: str, features: Floats) -> Floats:
        if features.ndim != 2 or features.shape[1] != self._width or features.dtype != np.float32:
            raise ModelError(f"features must be float32[n, {self._width}], not {features.dtype}{list(features.shape)}")
        program = self._programs.get(output)
        if program is not None:
            return run(program, features if features.flags.carray else np.array(features, order="C"))
        try:
            result: Floats = self._session.run([output], {"features": np.ascontiguousarray(features)})[0]
        except self._refusals as error:
            raise ModelError(f"the model cannot be run: {_plain(error)}") from error
        return result

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield from ()  # a detector is nothing without a model, which only the caller of River's checks has


class AbruptScorer:
    """The outputs `score_abrupt` and `contribution_abrupt` of a model, as the engine takes a scorer."""

    def __init__(self, run: Callable[[str, Floats], Floats], signals: int) -> None:
        self._run, self._signals = run, signals

    def score(self, features: Floats) -> Floats:
        """float32[n, width] to scores of the quick evidence in nats, float32[n]."""
        return self._run("score_abrupt", features)

    def contributions(self, features: Floats) -> Floats:
        """float32[n, width] to the share of each signal, float32[n, signals]; >= 0, rows sum to 1."""
        return self._run("contribution_abrupt", features)[:, : self._signals]


def _layout(shape: list[Any], quick: int, signals: int, has_median: bool) -> tuple[int, tuple[str, ...]]:
    """Width and blocks of features of `shape`: each block has a column a signal, and up to 7 columns of padding follow;
    then come `quick` columns of the evidence for abrupt faults.

    For one signal, evidence and wide features may be as wide; then the model with medians is the one of wide features.
    """
    width = shape[1] if len(shape) == 2 and isinstance(shape[1], int) else -1
    for blocks in sorted(BLOCKS.values(), key=len, reverse=has_median):
        if 0 <= width - quick - len(blocks) * signals < 8:
            return width, blocks
    widths = " or ".join(str(len(blocks) * signals) for blocks in BLOCKS.values())
    raise ModelError(
        f"`features` must be [n, width] with a width of {widths} for {signals} signals, or up to 7 more, not {shape}"
    )


def _median(text: str | None, width: int) -> Floats:
    """The healthy median of each column, from a model's metadata; 0 where it says nothing."""
    if text is None:
        return np.zeros(width, np.float32)
    try:
        with np.errstate(over="ignore"):  # infinite, and refused below
            median = np.array(msgspec.json.decode(text, type=list[float]), np.float32)
    except msgspec.MsgspecError as error:
        raise ModelError(f"`median` in the model's metadata is no list of numbers: {error}") from error
    if median.shape != (width,) or not np.isfinite(median).all():
        raise ModelError(f"`median` in the model's metadata must be {width} finite numbers, and has {len(median)}")
    return median


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
