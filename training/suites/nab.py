"""Suite `nab`: real single series with labelled windows, scored as the Numenta Anomaly Benchmark does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly import settings
from anomaly.errors import DataError
from anomaly.fleet import Conformal, Fleet
from training.auto import train
from training.fit import Trained
from training.history import History, Sources, load_history, split_vehicles
from training.suites.case import play
from training.suites.nab_score import OUTSIDE, PROFILES, Marked, NabRow, Profile, mark, normalised, raw_score, sweep
from training.suites.streams import gaussian_score, half_space_trees, z_score
from training.suites.tally import Costs
from training.suites.verdict import Claim, Timeline, Verdict, at_least, timeline
from training.suites.vus import vus_pr
from training.suites.workers import Said, Task, run

Floats = NDArray[np.float64]
FLEET = """
[fleet]
name = "nab"
vehicle = "series"
time = "timestamp"
time_unit = "s"
[signals.value]
[model]
family = "auto"
"""
"""What a user writes for streams of one value: `auto` is then the family `conformal`."""
FLOOR = 52.0
FEWEST = 3
"""Folders: one to judge, one to choose with and one to set thresholds with."""
TREES_EVERY, BUFFER, DRAWS, SHOWN, DAY_S = 10, 100, 1_000, 3, 86_400
DEFAULT = Conformal()
FEWER = {out: tuple(s for s in DEFAULT.statistics if s != out) for out in DEFAULT.statistics}
SETTINGS = tuple(
    Conformal(statistics=statistics, recent=recent, memory=memory)
    for statistics, recent, memory in product(
        (DEFAULT.statistics, *FEWER.values()), (300, 200), (5_000, 2_000, 10_000, 0)
    )
)
"""What is chosen among, all of it settings of a fleet file: all statistics or all but one, how many readings an alarm
has to be the rarest of, and how far back is looked. One of them holds for all series of a folder that is judged, and
the folder has no part in the choice. Wider sets, down to single statistics, were looked at before this one was taken:
chosen in the same way they came to 48 to 57: with so few series to choose with, much of a choice is luck."""
ABLATIONS = {
    **{f"no {out}": Conformal(statistics=rest) for out, rest in FEWER.items()},
    "no forgetting": Conformal(memory=0),
    "no record": Conformal(recent=1),
}
"""The settings by default with one part taken out."""


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


class Result(NamedTuple):
    """Raw scores of each series by profile, the scores of its points that they come from, and the threshold of each
    series in the profile `standard`."""

    raw: dict[str, Floats]
    scores: list[Floats]
    threshold: Floats


class Tried(NamedTuple):
    """One setting: its result, and by folder what it is worth on the series of all others (raw standard score, each of
    their folders at the threshold that is best for the rest)."""

    result: Result
    elsewhere: dict[str, float]


def nab(data: Path, _costs: Costs, said: Said) -> list[Verdict]:
    """The table on `data`/nab. Every threshold is that with the best score of the profile on the series of all other
    folders; the product is trained, and its setting chosen, without the folder that it is judged on."""
    folder = data / "nab"
    for name in ("series.parquet", "windows.json"):
        if not (folder / name).exists():
            raise DataError(f"{folder / name} is not there; --data names the folder that holds `nab/{name}`")
    _, _, every = load(folder)
    if len(folders(every)) < FEWEST:
        raise DataError(f"{folder} has series of too few folders: {FEWEST} are needed")
    tried = tried_settings(folder, said)
    best = chosen(every, [tried[setting] for setting in SETTINGS])
    whole = choose(every, [tried[setting] for setting in SETTINGS], best)
    rows = [
        row("product", every, whole),
        row("product, settings by default", every, tried[DEFAULT].result),
        *(row(name, every, tried[setting].result) for name, setting in ABLATIONS.items()),
        *_others(every),
    ]
    verdict = Verdict(
        suite="nab",
        about=f"{len(every)} real series with labelled windows, each judged with what was chosen on other folders",
        unit="days",
        budget=0.0,
        splits=len(best),
        rows=[],
        differences=[],
        claims=list(_claims(rows)),
        timelines=timelines(every, whole),
        notes=[*(f"without {name}: {_words(SETTINGS[place])}" for name, place in best.items()), NOT_HERE],
        benchmark=rows,
    )
    return [verdict]


NOT_HERE = (
    "no rows `offline only` and `naive adaptive`: a stream judged by its own past has no offline part, and no distance "
    "to adapt to"
)
PLAIN = ("Gaussian, frozen", "Gaussian, adapting", "z-score of the last 500", "random")


def _claims(rows: Sequence[NabRow]) -> Iterator[Claim]:
    own = rows[0].standard
    yield at_least("product: standard score", own, FLOOR)
    for one in rows:
        if one.name in PLAIN:
            yield at_least(f"standard score above {one.name}", own - one.standard, 0.0)


def _words(setting: Conformal) -> str:
    memory = f"a memory of {setting.memory:,}" if setting.memory else "a memory without end"
    return f"{', '.join(setting.statistics)}; the rarest of {setting.recent}, {memory}"


def load(folder: Path) -> tuple[Fleet, History, list[Series]]:
    """The fleet file, the history and the series of a folder."""
    fleet = settings.parse(FLEET, Fleet, "nab")
    history = load_history(fleet, Sources(folder / "series.parquet"))
    return fleet, history, series_of(history, msgspec.json.decode((folder / "windows.json").read_bytes()))


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


ScoresWithout = Callable[[str], list[Floats]]
"""The scores of all series by what was trained without a folder."""


def left_out(every: Sequence[Series], scores_without: ScoresWithout) -> Result:
    """Each series at the threshold that is best for the series of all other folders."""
    raw = {name: np.zeros(len(every)) for name in PROFILES}
    kept: list[Floats] = [np.zeros(0)] * len(every)
    threshold = np.zeros(len(every))
    for folder in folders(every):
        scores = scores_without(folder)
        others = [place for place, one in enumerate(every) if one.folder != folder]
        own = [place for place, one in enumerate(every) if one.folder == folder]
        for name, profile in PROFILES.items():
            best = sweep([scores[p] for p in others], [every[p].marked for p in others], profile).best
            for place in own:
                raw[name][place] = _raw(every[place], scores[place], profile, best)
                kept[place] = scores[place]
                threshold[place] = best if name == "standard" else threshold[place]
    return Result(raw, kept, threshold)


def folders(every: Sequence[Series]) -> list[str]:
    """The folders of the series, in their order."""
    return list(dict.fromkeys(one.folder for one in every))


def _raw(one: Series, score: Floats, profile: Profile, threshold: float) -> float:
    return raw_score([score], [one.marked], profile, threshold)


def _same(scores: list[Floats]) -> ScoresWithout:
    """Scores that nothing was trained for."""
    return lambda _folder: scores


def tried_settings(folder: Path, said: Said) -> dict[Conformal, Tried]:
    """Every setting that is chosen among, and those of the ablations."""
    wanted = list(dict.fromkeys([*SETTINGS, *ABLATIONS.values()]))
    done = run([Task(_words(setting), try_setting, (folder, setting)) for setting in wanted], said)
    return {setting: done[_words(setting)] for setting in wanted}


def try_setting(folder: Path, setting: Conformal) -> Tried:
    """`train` without each folder in turn, `backtest` on all series, and what came of it there and elsewhere."""
    fleet, history, every = load(folder)
    fleet = msgspec.structs.replace(fleet, model=msgspec.structs.replace(fleet.model, conformal=setting))
    without = _product(fleet, history, every)
    scores = {name: without(name) for name in folders(every)}
    worth = {name: elsewhere(every, name, own) for name, own in scores.items()}
    return Tried(left_out(every, scores.__getitem__), worth)


def elsewhere(every: Sequence[Series], folder: str, scores: Sequence[Floats]) -> float:
    """What scores are worth on the series of all folders but one: nothing of that one is looked at."""
    others = [place for place, one in enumerate(every) if one.folder != folder]
    result = left_out([every[place] for place in others], _same([scores[place] for place in others]))
    return float(result.raw["standard"].sum())


def chosen(every: Sequence[Series], tried: Sequence[Tried]) -> dict[str, int]:
    """For each folder, the place of the setting that is worth most on all others; of equal ones the first."""
    return {name: int(np.argmax([one.elsewhere[name] for one in tried])) for name in folders(every)}


def choose(every: Sequence[Series], tried: Sequence[Tried], best: dict[str, int]) -> Result:
    """The results of each folder's series with the setting that was chosen without it."""
    of = [tried[best[one.folder]].result for one in every]
    places = range(len(every))
    return Result(
        {name: np.array([of[p].raw[name][p] for p in places]) for name in PROFILES},
        [of[p].scores[p] for p in places],
        np.array([of[p].threshold[p] for p in places]),
    )


def _product(fleet: Fleet, history: History, every: Sequence[Series]) -> ScoresWithout:
    """`train` without a folder, then `backtest` on all series; not again where the same model came out."""
    known: dict[tuple[bytes, str], list[Floats]] = {}

    def without(folder: str) -> list[Floats]:
        names = [one.name for one in every if one.folder != folder]
        trained = train(fleet, history.of(names), split_vehicles(names, 0, None), 0)
        made = (trained.onnx, trained.frame.digest)
        if made not in known:
            known[made] = _scores(fleet, trained, history, every)
        return known[made]

    return without


def _scores(fleet: Fleet, trained: Trained, history: History, every: Sequence[Series]) -> list[Floats]:
    result = play(fleet, trained, history)
    score = result.decisions["score"].to_numpy().astype(np.float64)
    return [_placed(one, code, result.decided.codes, result.decided.ts, score) for code, one in enumerate(every)]


def _placed(one: Series, code: int, codes: NDArray[np.int64], ts: NDArray[np.int64], score: Floats) -> Floats:
    """The scores of one series at its points; a point that got no decision, as a repeated time, has 0."""
    placed = np.zeros(len(one.ts))
    own = codes == code
    placed[np.searchsorted(one.ts, ts[own])] = score[own]
    return placed


def _others(every: Sequence[Series]) -> list[NabRow]:
    """The rows without the product. Only `always alarm` has a threshold of its own."""
    rng = np.random.default_rng(0)
    plain = {
        "Gaussian, frozen": [gaussian_score(one.values, True) for one in every],
        "Gaussian, adapting": [gaussian_score(one.values, False) for one in every],
        "z-score of the last 500": [z_score(one.values) for one in every],
        "random": [rng.random(len(one.ts)) for one in every],
    }
    some = every[:: min(TREES_EVERY, max(1, len(every) // FEWEST))]
    trees = left_out(some, _same([half_space_trees(one.values) for one in some]))
    constant = [np.ones(len(one.ts)) for one in every]
    return [
        *(row(name, every, left_out(every, _same(scores))) for name, scores in plain.items()),
        row("River half-space trees", some, trees, f"{len(some)} of {len(every)} series"),
        row("always alarm", every, _always(every, constant)),
    ]


def _always(every: Sequence[Series], scores: list[Floats]) -> Result:
    raw = {
        name: np.array([_raw(*pair, profile, 1.0) for pair in zip(every, scores, strict=True)])
        for name, profile in PROFILES.items()
    }
    return Result(raw, scores, np.ones(len(every)))


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


def timelines(every: Sequence[Series], result: Result) -> list[Timeline]:
    """A few series of each verdict, at the thresholds of the profile `standard`: a window missed, an alarm outside of
    all windows, every window found and nothing else."""
    found: dict[str, list[Timeline]] = {"missed": [], "false": [], "found": []}
    for one, score, threshold in zip(every, result.scores, result.threshold, strict=True):
        alarm = score >= threshold
        verdict = _verdict(one.marked, alarm)
        if verdict and len(found[verdict]) < SHOWN:
            inside, days = one.marked.inside, (one.ts - one.ts[0]) / DAY_S
            edges = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(np.int8), [0]])))
            windows = [(float(days[a]), float(days[b - 1])) for a, b in edges.reshape(-1, 2)]
            found[verdict].append(timeline((one.name, verdict), days, score / threshold, alarm, ~inside, windows))
    return [one for shown in found.values() for one in shown]


def _verdict(marked: Marked, alarm: NDArray[np.bool_]) -> str:
    hit = set(marked.window[alarm].tolist())
    if any(number not in hit for number in set(marked.window[marked.window >= 0].tolist())):
        return "missed"
    if OUTSIDE in hit:
        return "false"
    return "found" if marked.windows else ""
