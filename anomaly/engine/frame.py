"""The frame: everything that the state of vehicles and cohorts depends on, an artefact with its own digest."""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.errors import ModelError

VERSION = 2
MOST_AWAY = 3.0
Features = Literal["evidence", "wide", "conformal"]
BLOCKS: dict[Features, tuple[str, ...]] = {
    "evidence": ("evidence",),
    "wide": ("deviation", "change", "evidence", "fast", "slow", "spread"),
    "conformal": ("level", "change", "season", "shift"),
}
"""Names of the blocks of d columns that a row of features is made of, in order."""
STATISTICS = BLOCKS["conformal"]


class FrameArrays(NamedTuple):
    """A frame as the kernels take it: R regimes over c regime signals, d scored signals."""

    center: NDArray[np.float64]
    inv_scale: NDArray[np.float64]
    mean: NDArray[np.float64]
    inv_sd: NDArray[np.float64]
    slope: NDArray[np.float64]
    inv_usual: NDArray[np.float32]
    prior: NDArray[np.float32]
    gain: NDArray[np.float32]
    burn_in: int
    weight: np.float32
    period: int
    wide: bool
    conformal: bool
    quick_weight: np.float32
    basis: NDArray[np.float32]
    between: NDArray[np.float32]
    step: NDArray[np.float32]
    rhythm: np.float32
    reach: NDArray[np.float64]
    statistics: NDArray[np.bool_]
    recent: int
    decay: np.float32


class OwnPast(msgspec.Struct, frozen=True, kw_only=True):
    """What conformal features look at: which `statistics` of a signal (all, if empty), the `recent` readings among
    which one has to be the rarest, and the `memory` of what is usual, in readings (0: for ever)."""

    statistics: tuple[str, ...] = ()
    recent: int = 300
    memory: int = 5_000


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """Fitted offline; models that share a frame share the state of vehicles.

    `center[r]` is the place of regime r among the regime signals, `scale` their spread; `mean[r]` and `sd[r]` are
    the signals' healthy mean and spread there; `prior` and `gain` give the baseline after burn-in as
    prior + gain (own mean - prior) (empirical Bayes); evidence is an exponential mean with weight 1/time_constant;
    `cohort` are the context fields that make one (None: no cohort), `period` its length in ticks.
    `features` says what models are given of a reading with d signals: "evidence", one block of d columns, or "wide",
    six: deviation, its change since the last reading, its exponential means with weight 1/time_constant, 0.3 and
    0.01, and the root of its exponential variance with weight 1/time_constant; or "conformal", four that the vehicle's
    own past alone decides (`anomaly.engine.conformal`): they know no cohort, and `period` is an hour (0: no clock).

    `abrupt_time_constant` is that of a second evidence vector, in columns of its own behind the others (0: none).
    `basis` W [d, d] and `between` t [d] judge how a vehicle is born: with u = W (own mean of n readings - prior), in
    which the noise of a reading is 1 and vehicles differ by t, the distance is sqrt(mean(u^2 / (t + 1/n))); empty: not
    judged. `step` is how far, in healthy spreads, one signal alone may be from its evidence before its sensor is at
    fault (0: any). `rhythm` is the 99 % point of the ticks between two readings of a vehicle (0: silence is no matter).
    `reach[r]` is how far from center r, in spreads, a reading may be before its regime is one that training has not
    seen (empty: as far as it likes); thresholds are half as much again there. `own_past` is of conformal features.
    `slope[r][c]` is what a spread of regime signal c, away from center r, does to the signals there, in their healthy
    spreads (empty: nothing). Beyond MOST_AWAY spreads it does no more.
    `usual[j]` is the size of evidence of signal j that one reading in ten passes in the history. Where one vehicle in
    ten of a cohort, and two more, pass s > 1 times as much, models are given evidence over s (empty: as it is).
    """

    signals: tuple[str, ...]
    regime: tuple[str, ...]
    center: tuple[tuple[float, ...], ...]
    scale: tuple[float, ...]
    mean: tuple[tuple[float, ...], ...]
    sd: tuple[tuple[float, ...], ...]
    prior: tuple[float, ...]
    gain: tuple[tuple[float, ...], ...]
    burn_in: int
    time_constant: int
    cohort: tuple[str, ...] | None = None
    period: int = 0
    features: Features = "evidence"
    abrupt_time_constant: int = 0
    basis: tuple[tuple[float, ...], ...] = ()
    between: tuple[float, ...] = ()
    step: tuple[float, ...] = ()
    rhythm: float = 0.0
    reach: tuple[float, ...] = ()
    own_past: OwnPast = OwnPast()
    slope: tuple[tuple[tuple[float, ...], ...], ...] = ()
    usual: tuple[float, ...] = ()
    version: int = VERSION

    @property
    def blocks(self) -> int:
        """Blocks of the feature matrix: column b * d + j is of signal j, in block b."""
        return len(BLOCKS[self.features])

    @property
    def quick(self) -> int:
        """Column at which the evidence of abrupt faults begins: behind the blocks, padded to a multiple of 8."""
        return -(-self.blocks * len(self.signals) // 8) * 8

    @property
    def width(self) -> int:
        """Columns of the feature matrix: the blocks, and the evidence of abrupt faults, each padded to a multiple of 8.

        Rows then start aligned, so that a score does not depend on where in a batch its reading stands.
        """
        return self.quick + (-(-len(self.signals) // 8) * 8 if self.abrupt_time_constant else 0)

    def to_json(self) -> bytes:
        """The artefact's bytes; its digest is their SHA-256. What older frames do not have is left out where it says
        nothing: an empty `reach`, `slope` or `usual`, a plain `own_past`."""
        fields = msgspec.to_builtins(self)
        for name in ("reach", "slope", "usual"):
            if not fields[name]:
                del fields[name]
        if self.own_past == OwnPast():
            del fields["own_past"]
        return msgspec.json.encode(fields)

    @classmethod
    def from_json(cls, data: bytes) -> Frame:
        """Read a frame; ModelError if it is none, or newer than this program."""
        try:
            frame = msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise ModelError(f"this is no frame: {error}") from error
        if frame.version > VERSION:
            raise ModelError(f"frame version {frame.version} is newer than this program reads ({VERSION}); update it")
        return frame

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the artefact."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def arrays(self) -> FrameArrays:
        """The frame as the kernels take it."""
        regimes, fields, signals = len(self.center), len(self.regime), len(self.signals)
        return FrameArrays(
            center=np.array(self.center, np.float64).reshape(regimes, fields),
            inv_scale=1.0 / np.array(self.scale, np.float64).reshape(fields),
            mean=np.array(self.mean, np.float64).reshape(regimes, signals),
            inv_sd=1.0 / np.array(self.sd, np.float64).reshape(regimes, signals),
            slope=np.array(self.slope, np.float64).reshape(regimes, fields if self.slope else 0, signals),
            inv_usual=1.0 / np.array(self.usual, np.float32),
            prior=np.array(self.prior, np.float32),
            gain=np.array(self.gain, np.float32).reshape(signals, signals),
            burn_in=self.burn_in,
            weight=np.float32(1.0 / self.time_constant),
            period=self.period,
            wide=self.features == "wide",
            conformal=self.features == "conformal",
            quick_weight=np.float32(1.0 / self.abrupt_time_constant if self.abrupt_time_constant else 0.0),
            basis=np.array(self.basis, np.float32).reshape(len(self.between), signals),
            between=np.array(self.between, np.float32),
            step=np.array([size or np.inf for size in self.step or [0.0] * signals], np.float32),
            rhythm=np.float32(self.rhythm),
            reach=np.array(self.reach or [np.inf] * regimes, np.float64) ** 2,
            statistics=np.array([name in (self.own_past.statistics or STATISTICS) for name in STATISTICS], np.bool_),
            recent=self.own_past.recent,
            decay=np.float32(1.0 - 1.0 / self.own_past.memory if self.own_past.memory else 1.0),
        )
