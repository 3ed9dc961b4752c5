"""Rows of a history put vehicle by vehicle in order of time, and what can be asked of a column along them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BLOCK = 10
"""Readings of one vehicle in a row that `variance_ratio` averages."""


class Segments(NamedTuple):
    """Rows by vehicle: `codes` int64[n] ascending; `same` bool[n - 1]: the next row has the same vehicle."""

    codes: NDArray[np.int64]
    same: NDArray[np.bool_]

    @classmethod
    def of(cls, codes: NDArray[np.int64]) -> Segments:
        """Segments of rows that are sorted by `codes`."""
        return cls(codes, np.diff(codes) == 0)

    @property
    def vehicles(self) -> int:
        """How many vehicles there are."""
        return len(np.unique(self.codes))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Rows of each vehicle."""
        return np.unique(self.codes, return_counts=True)[1]

    def persistence(self, residual: Floats) -> float:
        """Lag-1 autocorrelation of float64[n] about the mean of each vehicle; 0 where nothing varies."""
        centred = self._centred(residual)
        total = float((centred**2).sum())
        if total <= 1e-12 * max(1.0, float(np.nan_to_num(residual**2).sum())):
            return 0.0
        return float((centred[1:] * centred[:-1])[self.same].sum()) / total

    def _centred(self, residual: Floats) -> Floats:
        present = np.isfinite(residual)
        filled = np.where(present, residual, 0.0)
        size = int(self.codes.max(initial=0)) + 1
        mean = np.bincount(self.codes, filled, size) / np.maximum(np.bincount(self.codes, present, size), 1)
        return np.where(present, residual - mean[self.codes], 0.0)

    def variance_ratio(self, residual: Floats) -> tuple[float, float]:
        """Variance of means of 10 rows in a row, times 10, over the variance of rows; and its standard error.

        1 where rows know nothing of each other nor of their vehicle; more where anything lasts. (Lo and
        MacKinlay's variance ratio, on blocks that do not overlap.) Needs float64[n]; NaN counts as the mean.
        """
        filled = np.nan_to_num(residual - np.nanmean(residual))
        rows = len(filled) - BLOCK + 1
        starts = np.flatnonzero(self._position()[: max(rows, 0)] % BLOCK == 0)
        starts = starts[self.codes[starts] == self.codes[starts + BLOCK - 1]]
        variance = float((filled**2).mean())
        if not len(starts) or variance == 0.0:
            return 1.0, np.inf
        sums = np.concatenate([[0.0], np.cumsum(filled)])
        means = (sums[starts + BLOCK] - sums[starts]) / BLOCK
        return float((means**2).mean()) * BLOCK / variance, float(np.sqrt(2.0 / len(starts)))

    def _position(self) -> NDArray[np.int64]:
        """The place of each row within its vehicle, from 0."""
        first = np.concatenate([[True], ~self.same])
        begin = np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))
        return np.arange(len(first)) - begin

    def longest_run(self, column: Floats) -> int:
        """The most equal values in a row within one vehicle; missing values end a run."""
        equal = self.same & (np.diff(column) == 0)
        ends = np.flatnonzero(np.concatenate([[True], ~equal, [True]]))
        return int(np.diff(ends).max(initial=1))
