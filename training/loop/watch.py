"""What the autopilot sees while it watches: time, labels, and drift, which has to persist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.disk import replace_file
from anomaly.errors import UsageError
from anomaly.feedback.drift import ABOUT_THE_FLEET, Finding
from anomaly.feedback.labels import LabelStore
from anomaly.service.monitor import Watched, learn, monitor, reference_of
from anomaly.service.rows import LoggedDays
from training.loop.place import Place
from training.loop.triggers import DRIFT_WINDOW_DAYS, Seen, persisting

ALERT_DAYS = 60


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """`loop/drift.json`: what was beyond its limits at the end of each day (numbers since 1970), for one model. Lost,
    it is found again."""

    model: str
    days: dict[int, list[str]]


def seen(place: Place, at: int, since: int) -> Seen:
    """What there is to see at `at`, since the last training."""
    ticks = place.fleet.ticks_per_day
    labels = LabelStore(place.run / "labels").read()
    matured = sum(label.reported_at is not None and since < label.reported_at <= at for label in labels)
    drifting = [(_alert_days(place, at), "the rate of alerts"), _monitored(place, at, since)]
    most = min(max(days for days, _ in drifting), int((at - since) // ticks))
    what = " and ".join(name for days, name in drifting if days >= max(most, 1))
    return Seen((at - since) / ticks, matured, most, what)


def _alert_days(place: Place, at: int) -> int:
    """For how many days up to today there were too many alerts for the budget; those of a champion before this one are
    not its own."""
    today, promoted = at // place.fleet.ticks_per_day, place.promoted_at()
    alerts, rate = _alerts(place, today, ALERT_DAYS)
    if promoted is not None:
        own = today - promoted // place.fleet.ticks_per_day
        alerts[: max(ALERT_DAYS - own, 0)] = 0
    return persisting(alerts, rate)


def _alerts(place: Place, today: int, count: int) -> tuple[NDArray[np.int64], float]:
    """Episodes that began on each of the `count` days up to `today`, and how many a day the budget allows: by the
    vehicles of the days before, as today is not over."""
    ticks, days = place.fleet.ticks_per_day, LoggedDays(place.run, place.fleet)
    episodes = days.alarms().group_by("episode", use_threads=False).aggregate([("ts", "min")])
    day = episodes["ts_min"].to_numpy() // ticks - (today - count + 1)
    counts = np.bincount(day[(day >= 0) & (day < count)], minlength=count)
    whole = [one for one in days.days() if today - DRIFT_WINDOW_DAYS <= one < today] or [today]
    vehicles = float(np.mean([len(days.seen(one)) for one in whole]))
    return counts, place.fleet.threshold.false_alarms * vehicles / 1_000


def _monitored(place: Place, at: int, since: int) -> tuple[int, str]:
    """For how many of the last days, at most as many as are enough, the same thing was beyond its limit, and what.

    Limits are those that were learned for the champion; where there are none, a quiet time is waited for and learned.
    """
    watched = Watched(place.run, place.fleet, place.registry)
    today, ticks = at // place.fleet.ticks_per_day, place.fleet.ticks_per_day
    if not place.file.drift_days or (reference_of(watched) is None and not _learned(place, watched, today)):
        return 0, ""
    reference = reference_of(watched)
    first = max(since, place.promoted_at() or 0, reference.end if reference else 0) // ticks + 1
    wanted = range(max(first, today - place.file.drift_days), today)
    return lasting(_looked(place, watched, wanted))


def _learned(place: Place, watched: Watched, today: int) -> bool:
    """Learn the limits from the days before `today`, if the champion acted on all of them and no week had too many
    alerts."""
    ticks, needed = place.fleet.ticks_per_day, place.file.quiet_days
    promoted = place.promoted_at()
    begins = promoted // ticks + 1 if promoted is not None else LoggedDays(place.run, place.fleet).days()[0]
    if not needed or today - begins < needed:
        return False
    alerts, rate = _alerts(place, today - 1, needed)
    weeks = range(needed, 0, -DRIFT_WINDOW_DAYS)
    if any(persisting(alerts[:end], rate) for end in weeks):
        return False
    try:
        learn(watched, (today - needed) * ticks, today * ticks)
    except UsageError:
        return False
    return True


def _looked(place: Place, watched: Watched, days: Sequence[int]) -> list[list[str]]:
    """What was beyond its limits at the end of each of the days, looked up where it is known already."""
    path, model = place.folder / "drift.json", place.champion()
    known = _read(path.read_bytes(), model) if path.exists() else {}
    ticks = place.fleet.ticks_per_day
    found = {day: known[day] if day in known else _beyond(monitor(watched, (day + 1) * ticks - 1)) for day in days}
    if days and found != known:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, msgspec.json.encode(Looked(model=model, days=found)))
    return [found[day] for day in days]


def _read(content: bytes, model: str) -> Mapping[int, list[str]]:
    try:
        looked = msgspec.json.decode(content, type=Looked)
    except msgspec.MsgspecError:
        return {}
    return looked.days if looked.model == model else {}


def _beyond(findings: Sequence[Finding]) -> list[str]:
    """What of signals, features and scores is beyond its limit: what a retraining may help with."""
    return [one.name for one in findings if one.drifted and one.name.startswith(ABOUT_THE_FLEET)]


def lasting(days: Sequence[Sequence[str]]) -> tuple[int, str]:
    """For how many days, up to the last, the same thing was named each day, and which; at most three are told.

    >>> lasting([["signal b"], ["signal a"], ["signal a", "signal b"]])
    (2, 'signal a')
    """
    common: list[str] = list(days[-1]) if days else []
    count = 0
    for names in reversed(days):
        left = [name for name in common if name in names]
        if not left:
            break
        common, count = left, count + 1
    more = f" and {len(common) - 3} more" if len(common) > 3 else ""
    return count, ", ".join(common[:3]) + more if count else ""
