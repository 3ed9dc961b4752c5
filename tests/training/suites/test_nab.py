"""The suite of single series: nothing of a folder decides how it is judged, and one command says all."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anomaly.cli.main import main
from anomaly.fleet import Conformal
from training.suites.nab import FLOOR, SETTINGS, Series, Tried, choose, chosen, elsewhere, left_out, load, try_setting
from training.suites.nab_score import mark
from training.suites.streams import gaussian_score
from training.suites.verdict import Verdict

START, STEP, POINTS = 1_700_000_000, 300, 900
WINDOW = (500, 560)


def series(folder: str, windows: list[tuple[int, int]], place: int = 0) -> Series:
    """A series of the folder, 900 points long."""
    ts = START + STEP * np.arange(POINTS)
    marked = mark(ts, [(int(ts[first]), int(ts[last])) for first, last in windows])
    return Series(f"{folder}/{place}", ts, np.zeros(POINTS), marked)


def test_labels_of_a_folder_decide_nothing_about_it() -> None:
    """With other windows in a folder its thresholds and the setting it is judged with stay as they are."""
    rng = np.random.default_rng(0)
    plain = [series(folder, [WINDOW]) for folder in "abc"]
    other = [series("a", [(200, 220), (700, 820)]), *plain[1:]]
    tried = {}
    for name, every in (("plain", plain), ("other", other)):
        rng = np.random.default_rng(0)
        scores = [[rng.random(POINTS) for _ in range(3)] for _ in range(8)]
        results = [left_out(every, lambda _folder, own=own: own) for own in scores]
        worth = [{f: elsewhere(every, f, own) for f in "abc"} for own in scores]
        tried[name] = [Tried(*pair) for pair in zip(results, worth, strict=True)]
    picks = {name: chosen(plain, own)["a"] for name, own in tried.items()}
    assert picks["plain"] == picks["other"]
    assert len({one.elsewhere["a"] for one in tried["plain"]}) > 1
    for one, same in zip(*tried.values(), strict=True):
        assert one.elsewhere["a"] == same.elsewhere["a"]
        assert one.result.threshold[0] == same.result.threshold[0]
        assert one.elsewhere["b"] != same.elsewhere["b"]


def test_each_folder_is_judged_with_the_setting_that_was_best_elsewhere() -> None:
    """A setting that shines on one folder alone is taken for the others, not for that one."""
    every = [series(folder, [WINDOW]) for folder in "abc"]
    shining, steady = np.zeros(POINTS), np.zeros(POINTS)
    shining[WINDOW[0]], steady[WINDOW[1] - 20] = 1.0, 1.0
    silent = np.zeros(POINTS)
    made = []
    for scores in ([shining, silent, silent], [silent, steady, steady]):
        result = left_out(every, lambda _folder, own=scores: own)
        made.append(Tried(result, {f: elsewhere(every, f, scores) for f in "abc"}))
    best = chosen(every, made)
    assert best["a"] == 1
    whole = choose(every, made, best)
    for place, one in enumerate(every):
        assert whole.raw["standard"][place] == made[best[one.folder]].result.raw["standard"][place]


def folder_of(place: Path) -> Path:
    """Six series in three folders, with a burst in each that is its window."""
    rng = np.random.default_rng(1)
    tables, windows = [], {}
    for name in (f"{part}/{number}" for part in "abc" for number in range(2)):
        values = rng.normal(0, 1, POINTS)
        values[WINDOW[0] : WINDOW[0] + 20] += 30
        ts = START + STEP * np.arange(POINTS)
        tables.append(pa.table({"series": [name] * POINTS, "timestamp": ts, "value": values.astype(np.float32)}))
        windows[name] = [[str(np.datetime64(int(ts[p]), "s")).replace("T", " ") for p in WINDOW]]
    (place / "nab").mkdir()
    pq.write_table(pa.concat_tables(tables), place / "nab" / "series.parquet")
    (place / "nab" / "windows.json").write_text(json.dumps(windows), encoding="utf-8")
    return place


def test_settings_reach_training_and_bursts_are_found(tmp_path: Path) -> None:
    """Two settings give other scores of the same series; bursts of folders that were left out are found."""
    folder = folder_of(tmp_path) / "nab"
    one, other = (try_setting(folder, setting) for setting in (Conformal(memory=0), Conformal(recent=5, memory=50)))
    assert not np.array_equal(one.result.scores[0], other.result.scores[0])
    _, _, every = load(folder)
    assert one.result.raw["standard"].sum() > 0
    assert len(every) == 6


def test_one_command_judges_all_and_writes_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table with its claims as JSON, a report with the benchmark's scores, and 1 where a claim does not hold."""
    monkeypatch.setattr("training.suites.nab.SETTINGS", SETTINGS[:1])
    monkeypatch.setattr("training.suites.nab.ABLATIONS", {})
    monkeypatch.setattr("training.suites.nab.FLOOR", 101.0)
    report = tmp_path / "r.html"
    told = ["evaluate", "nab", "--data", str(folder_of(tmp_path)), "--report", str(report), "--json"]
    monkeypatch.setattr("sys.argv", ["anomaly", *told])
    with pytest.raises(SystemExit) as ended:
        main()
    (verdict,) = msgspec.json.decode(capsys.readouterr().out, type=list[Verdict])
    rows = {row.name: row for row in verdict.benchmark}
    assert ended.value.code == 1
    assert not verdict.claims[0].met
    assert FLOOR < rows["product"].standard < 101.0
    assert {"product, settings by default", "Gaussian, frozen", "random", "always alarm"} <= set(rows)
    assert "low false positives" in report.read_text(encoding="utf-8")
    assert verdict.timelines


def test_a_gaussian_is_frozen_after_its_first_values_or_goes_on() -> None:
    """After a step the frozen one stays high, and the adapting one comes down again."""
    values = np.concatenate([np.random.default_rng(0).normal(0, 1, 300), np.full(600, 20.0)])
    frozen, adapting = (gaussian_score(values, kind) for kind in (True, False))
    assert frozen[-1] > 2 * adapting[-1]
    assert not frozen[:30].any()
