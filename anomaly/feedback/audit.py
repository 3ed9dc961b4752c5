"""How good the platform is, estimated from an audit sample: inspections that did not depend on the score.

Technicians look at what alarms, so that the faults they know of are mostly those that were found: a recall counted
from these is far too good. Vehicle-days of the audit are inspected whatever their score, each with a known
probability, so that a fault without an alarm counts with the inverse of the probability that the audit met it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95


class Faults(NamedTuple):
    """n confirmed faults: whether each was `detected` by an alarm, and the days of it that the audit could draw.

    `days` int64[n] is how many vehicle-days with a reading it had, `met` int64[n] how many of these were drawn.
    """

    detected: NDArray[np.bool_]
    days: NDArray[np.int64]
    met: NDArray[np.int64]


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with its 95 % interval; None where nothing can be said."""

    value: float | None
    low: float | None
    high: float | None


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What the audit says.

    `false_negatives` are the faults without an alarm in all, `recall` the share of faults with one, each weighed by
    inverse propensity; `naive_recall` takes the known faults as all there are, which is biased: they are known because
    somebody looked. `detected` and `met` are what was counted, `share` the audit's.
    """

    share: float
    detected: int
    met: int
    false_negatives: Interval
    recall: Interval
    naive_recall: Interval


def estimate(faults: Faults, share: float) -> Estimate:
    """Recall and missed faults, by faults that an audit of `share` of all vehicle-days met.

    A fault of m days is met with probability 1 - (1 - share)^m. The total of missed faults is the Horvitz-Thompson
    sum of the inverses (Horvitz and Thompson 1952); its interval is the gamma interval for weighted Poisson counts
    (Fay and Feuer 1997) with the mean weight at its upper end (Tiwari, Clegg and Zou 2006): it holds for few faults
    and for none. Recall is detected / (detected + missed).
    Faults without an alarm that the audit did not meet, however they became known, are left out.
    """
    found = int(faults.detected.sum())
    missed = ~faults.detected & (faults.met > 0) & (faults.days > 0)
    weights = 1.0 / _met(faults.days[missed], share) if share > 0 else np.zeros(0)
    typical = faults.days[faults.days > 0]
    usual = float((1.0 / _met(typical, share)).mean()) if share > 0 and len(typical) else math.inf
    low, high = _gamma(weights, usual)
    total = float(weights.sum())
    return Estimate(
        share=share,
        detected=found,
        met=int(missed.sum()),
        false_negatives=Interval(value=total, low=low, high=_plain(high)),
        recall=Interval(value=_share(found, total), low=_share(found, high), high=_share(found, low)),
        naive_recall=_wilson(found, found + int(missed.sum())),
    )


def _met(days: NDArray[np.int64], share: float) -> NDArray[np.float64]:
    return np.asarray(-np.expm1(days * math.log1p(-min(share, 1.0 - 1e-12))))


def _gamma(weights: NDArray[np.float64], usual: float) -> tuple[float, float]:
    """The interval for a sum of weighted Poisson counts, whose weights are these; `usual` is that of one more."""
    from scipy.stats import chi2

    total, variance, tail = float(weights.sum()), float((weights**2).sum()), (1 - LEVEL) / 2
    low = variance / (2 * total) * float(chi2.ppf(tail, 2 * total**2 / variance)) if total else 0.0
    if not math.isfinite(usual):
        return low, math.inf
    total, variance = total + usual, variance + usual**2
    return low, variance / (2 * total) * float(chi2.ppf(1 - tail, 2 * total**2 / variance))


def _share(found: int, missed: float) -> float | None:
    if not found and not missed:
        return None
    return found / (found + missed)


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _wilson(found: int, known: int) -> Interval:
    """Wilson's score interval (1927) for a share of `known`."""
    if not known:
        return Interval(value=None, low=None, high=None)
    z = 1.959964
    share = found / known
    middle = (share + z**2 / (2 * known)) / (1 + z**2 / known)
    half = z * math.sqrt(share * (1 - share) / known + z**2 / (4 * known**2)) / (1 + z**2 / known)
    return Interval(value=share, low=middle - half, high=min(1.0, middle + half))
