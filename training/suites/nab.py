"""Suite `nab`: real single series with labelled windows, scored as the Numenta Anomaly Benchmark does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly import settings
from anomaly.detectors.onnx import OnnxDetector
from anomaly.engine.model import Model
from anomaly.fleet import Fleet
from training.backtest import backtest
from training.fit import Trained, fit
from training.history import History, Sources, Split, load_history, split_vehicles
from training.suites.nab_score import PROFILES, Marked, Profile, mark, normalised, raw_score, sweep
from training.suites.vus import vus_pr

Floats = NDArray[np.float64]
FLEET = """
[fleet]
name = "nab"
vehicle = "series"
time = "timestamp"
time_unit = "s"
[signals.value]
[model]
family = "conformal"
[alerts]
lasting_after = 0
"""
"""An alarm is a record of its stream, so that no run of alarms can make a lasting shift."""
WINDOW, TREES_EVERY, BUFFER, DRAWS = 500, 10, 100, 1_000


class NabRow(msgspec.Struct, frozen=True, kw_only=True):
    """One detector on the benchmark's scale: 0 without any alarm, 100 perfect.

    The interval is the 95 % bootstrap interval of `standard` over series; `vus_pr` the mean over series with windows.
    """

    name: str
    standard: float
    interval: tuple[float, float]
    low_false_positives: float
    low_false_negatives: float
    vus_pr: float
    series: int
    note: str = ""


class Series(NamedTuple):
    """One series: its name, "folder/file", times and values in order, and what alarms in it are worth."""

    name: str
    ts: NDArray[np.int64]
    values: Floats
    marked: Marked

    @property
    def folder(self) -> str:
        """The series of a folder are left out together."""
        return self.name.split("/")[0]


def nab(data: Path, seed: int = 0) -> list[NabRow]:
    """The table of the suite on `data`, a folder with series.parquet and windows.json.

    Every threshold is that with the best score of the profile on the series of all other folders; the product is also
    trained without the folder that it is judged on. Only `always alarm` has a threshold of its own.
    """
    fleet = settings.parse(FLEET, Fleet, "nab")
    history = load_history(fleet, Sources(data / "series.parquet"))
    every = series_of(history, msgspec.json.decode((data / "windows.json").read_bytes()))
    rng = np.random.default_rng(seed)
    some = every[::TREES_EVERY]
    noise = [rng.random(len(one.ts)) for one in every]
    constant = [np.ones(len(one.ts)) for one in every]
    trees = [half_space_trees(one.values) for one in some]
    return [
        row("product", every, left_out(every, _product(fleet, history, every, seed))),
        row("z-score, window of 500", every, left_out(every, _same([z_score(one.values) for one in every]))),
        row("River half-space trees", some, left_out(some, _same(trees)), f"{len(some)} of {len(every)} series"),
        row("random", every, left_out(every, _same(noise))),
        row("always alarm", every, _always(every, constant)),
    ]


def series_of(history: History, windows: dict[str, list[tuple[str, str]]]) -> list[Series]:
    """The series of a history with their windows, given by name as pairs of UTC times."""
    every = []
    for code, name in enumerate(history.names):
        rows = np.flatnonzero(history.codes == code)
        ts = history.batch.ts[rows]
        pairs = [(_seconds(first), _seconds(last)) for first, last in windows.get(name, [])]
        every.append(Series(name, ts, history.batch.values[rows, 0].astype(np.float64), mark(ts, pairs)))
    return every


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


class Result(NamedTuple):
    """Raw scores of each series by profile, and the scores of its points that they come from."""

    raw: dict[str, Floats]
    scores: list[Floats]


ScoresWithout = Callable[[str], list[Floats]]
"""The scores of all series by what was trained without a folder."""


def left_out(every: Sequence[Series], scores_without: ScoresWithout) -> Result:
    """Each series at the threshold that is best for the series of all other folders."""
    raw = {name: np.zeros(len(every)) for name in PROFILES}
    kept: list[Floats] = [np.zeros(0)] * len(every)
    for folder in dict.fromkeys(one.folder for one in every):
        scores = scores_without(folder)
        others = [place for place, one in enumerate(every) if one.folder != folder]
        own = [place for place, one in enumerate(every) if one.folder == folder]
        for name, profile in PROFILES.items():
            best = sweep([scores[p] for p in others], [every[p].marked for p in others], profile).best
            for place in own:
                raw[name][place] = _raw(every[place], scores[place], profile, best)
                kept[place] = scores[place]
    return Result(raw, kept)


def _raw(one: Series, score: Floats, profile: Profile, threshold: float) -> float:
    return raw_score([score], [one.marked], profile, threshold)


def _same(scores: list[Floats]) -> ScoresWithout:
    """Scores that nothing was trained for."""
    return lambda _folder: scores


def _always(every: Sequence[Series], scores: list[Floats]) -> Result:
    raw = {
        name: np.array([_raw(*pair, profile, 1.0) for pair in zip(every, scores, strict=True)])
        for name, profile in PROFILES.items()
    }
    return Result(raw, scores)


def row(name: str, every: Sequence[Series], result: Result, note: str = "") -> NabRow:
    """The row of a table."""
    marked = [one.marked for one in every]
    value = {key: normalised(float(result.raw[key].sum()), marked, profile) for key, profile in PROFILES.items()}
    area = [
        vus_pr(score, one.marked.inside, BUFFER)
        for one, score in zip(every, result.scores, strict=True)
        if one.marked.windows
    ]
    return NabRow(
        name=name,
        interval=_interval(result.raw["standard"], marked),
        vus_pr=float(np.mean(area)),
        series=len(every),
        note=note,
        **value,
    )


def _interval(raw: Floats, marked: Sequence[Marked]) -> tuple[float, float]:
    """95 % percentile interval of the standard score, series drawn with replacement."""
    drawn = np.random.default_rng(0).integers(0, len(marked), (DRAWS, len(marked)))
    drawn = drawn[np.array([sum(marked[p].windows for p in places) > 0 for places in drawn])]
    profile = PROFILES["standard"]
    found = [normalised(float(raw[places].sum()), [marked[p] for p in places], profile) for places in drawn]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def _product(fleet: Fleet, history: History, every: Sequence[Series], seed: int) -> ScoresWithout:
    """`train` without a folder, then `backtest` on all series; not again where the same model came out."""
    known: dict[tuple[bytes, str], list[Floats]] = {}

    def without(folder: str) -> list[Floats]:
        names = [one.name for one in every if one.folder != folder]
        split: Split = split_vehicles(names, seed, None)
        trained = fit(fleet, history.of(names), split, seed)
        made = (trained.onnx, trained.frame.digest)
        if made not in known:
            known[made] = _scores(fleet, trained, history, every)
        return known[made]

    return without


def _scores(fleet: Fleet, trained: Trained, history: History, every: Sequence[Series]) -> list[Floats]:
    detector = OnnxDetector(trained.onnx, trained.frame.signals)
    model = Model("nab/1", "nab", detector, trained.k, trained.q_fleet, trained.policy)
    result = backtest(fleet, trained.frame, model, history)
    score = result.decisions["score"].to_numpy().astype(np.float64)
    return [_placed(one, code, result.decided.codes, result.decided.ts, score) for code, one in enumerate(every)]


def _placed(one: Series, code: int, codes: NDArray[np.int64], ts: NDArray[np.int64], score: Floats) -> Floats:
    """The scores of one series at its points; a point that got no decision, as a repeated time, has 0."""
    placed = np.zeros(len(one.ts))
    own = codes == code
    placed[np.searchsorted(one.ts, ts[own])] = score[own]
    return placed


def z_score(values: Floats) -> Floats:
    """|x - mean| / spread of the WINDOW values before each; 0 for the first ones."""
    past = np.lib.stride_tricks.sliding_window_view(values, WINDOW)[:-1]
    score = np.zeros(len(values))
    score[WINDOW:] = np.abs(values[WINDOW:] - past.mean(axis=1)) / (past.std(axis=1) + 1e-9)
    return score


def half_space_trees(values: Floats) -> Floats:
    """River's half-space trees on the value, scaled by the smallest and largest so far; score first, then learn."""
    from river.anomaly import HalfSpaceTrees
    from river.preprocessing import MinMaxScaler

    scaler, trees = MinMaxScaler(), HalfSpaceTrees(seed=0)
    score = np.zeros(len(values))
    for place, value in enumerate(values.tolist()):
        scaler.learn_one({"value": value})
        x = scaler.transform_one({"value": value})
        score[place] = trees.score_one(x)
        trees.learn_one(x)
    return score
