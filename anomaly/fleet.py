"""The fleet file `fleet.toml`: all that is particular to a fleet, and nothing else is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from anomaly import settings
from anomaly.duration import duration_ms
from anomaly.errors import ConfigError
from anomaly.secret import REFERENCE

TimeUnit = Literal["ms", "s", "cycles"]
Format = Literal["json", "msgpack", "arrow"]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Positive = Annotated[float, Meta(gt=0.0)]
Count = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=120)]
EventKind = Literal["service", "firmware", "sensor"]
Restart = Literal["service", "firmware", "sensor", "no_fault"]

LONGEST = "36500d"
TICKS_PER_DAY: dict[TimeUnit, int] = {"ms": 86_400_000, "s": 86_400, "cycles": 1}
"""Length of a vehicle-day in ticks of each time unit; a cycle is its own vehicle-day."""


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table that a person writes: unknown keys are refused."""


class FleetTable(_Strict, frozen=True):
    """`[fleet]`: its name, the columns that say who and when, and what a tick of time is."""

    name: Name
    vehicle: str
    time: str
    time_unit: TimeUnit


class Signal(_Strict, frozen=True):
    """`[signals.NAME]`: what is physically possible of one signal, and what a gap in it means."""

    unit: str = ""
    min: float | None = None
    max: float | None = None
    max_step: Positive | None = None
    stuck_after: Annotated[int, Meta(ge=0, le=16_000)] = 0
    """Equal values in a row that make the signal stuck; 0: never."""
    missing: Literal["skip", "previous"] | float = "skip"

    def __post_init__(self) -> None:
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise ValueError(f"min {self.min} is not below max {self.max}")


class Context(_Strict, frozen=True):
    """`[context]`: what a reading means. `cohort` left out: no cohort is taken off; `[]`: the whole fleet."""

    regime: tuple[str, ...] = ()
    cohort: tuple[str, ...] | None = None
    period: str = "1d"
    max_cohorts: Annotated[int, Meta(ge=1, le=10_000)] = 256
    """Of more, those that come later go without."""
    max_wait: str = "5m"
    """How long one partition waits, in real time, for what another one counted in a period."""


class History(_Strict, frozen=True):
    """`[history]`: how the past is read when it is split into healthy, unknown and fault."""

    run_to_failure: bool = False
    healthy_share: Share = 0.5
    fault_window: Count = 30
    detected_before: Annotated[int, Meta(ge=0)] = 5
    """Readings before the end of a fault by which an alarm must have come to count as detected."""
    label_delay_days: Annotated[float, Meta(ge=0.0)] = 14.0
    """Vehicle-days after which nobody is expected to answer an alert any more; before, it is immature."""


class Quality(_Strict, frozen=True):
    """`[quality]`: when a signal is silent, a reading late, and a clock wrong."""

    silent_after: Annotated[int, Meta(ge=1, le=250)] = 100
    """Readings of a vehicle without a signal after which the signal leaves the distance."""
    grace: str = "1h"
    """How long readings may be on their way: so much later than its time a thing is taken as not having happened, and
    a period of the cohorts as over; at most a period."""
    max_ahead: str = "30d"
    """How far ahead of all others a reading's time may lie before its clock is wrong; off in cycles."""


class Baseline(_Strict, frozen=True):
    """`[baseline]`: how a vehicle's own normal is learned, and which events start it again."""

    burn_in: Annotated[int, Meta(ge=2, le=10_000)] = 30
    restart_on: tuple[Restart, ...] = ("service", "firmware", "sensor", "no_fault")
    signals: dict[EventKind, tuple[str, ...]] = {}
    """The signals that an event of a kind restarts, under `[baseline.signals]`; those of a kind left out: all."""


REFUSED_FAMILIES = {
    "local-outlier-factor": "exported to ONNX it is 9 to 17 times slower than scikit-learn itself; "
    "write `distance`, or `isolation-forest` where healthy readings fall into several groups",
    "elliptic-envelope": "it has no converter to ONNX; write `distance`, the same idea with a covariance that holds no "
    "beginning of wear",
    "one-class-svm": "its kernel compares every reading with each of its support vectors, which is slow; write "
    "`isolation-forest` or `autoencoder`; `anomaly backtest --model river:OneClassSVM` tries River's, which is linear",
}
"""Families that somebody will ask for, and what to take instead."""
Family = Annotated[
    Literal["auto", "distance", "pca", "isolation-forest", "autoencoder", "conformal"],
    Meta(extra={"refused": REFUSED_FAMILIES}),
]


Statistic = Literal["level", "change", "season", "shift"]


class Conformal(_Strict, frozen=True):
    """`[model.conformal]`: what the family `conformal` takes of a signal, and how far back it looks."""

    statistics: tuple[Statistic, ...] = ("level", "change", "season", "shift")
    """What is looked at: how far a value is from the slow mean, from the value before, for some readings from the mean
    of its hour, and the fast mean from the slow one. Their rarities are averaged."""
    recent: Annotated[int, Meta(ge=1, le=300)] = 300
    """Readings of a vehicle among which an alarm has to be the rarest."""
    memory: Annotated[int, Meta(ge=0, le=1_000_000)] = 5_000
    """Readings after which one counts for 1/e in what is usual; 0: for ever as much."""

    def __post_init__(self) -> None:
        if not self.statistics or len(set(self.statistics)) < len(self.statistics):
            raise ValueError("model.conformal.statistics needs one or more of its words, each once")


class ModelTable(_Strict, frozen=True):
    """`[model]`: the family that scores, and what it is given."""

    family: Family = "distance"
    """"auto": training tries all that fit on the validation vehicles, and takes the one that costs least there."""
    features: Literal["evidence", "wide"] = "evidence"
    """What a family sees of a reading: a value a signal, or six; `conformal` has features of its own."""
    label_term: Literal["logistic", "boosting", "none"] = "logistic"
    """What learns from confirmed faults; "none": nothing does."""
    time_constant: Annotated[int, Meta(ge=1, le=10_000)] = 20
    """Readings over which evidence is gathered: the exponential mean has the weight 1 / time_constant."""
    abrupt_time_constant: Annotated[int, Meta(ge=0, le=100)] = 0
    """That of a second evidence for abrupt faults, such as 3; they are a kind of alarm of their own. 0: off."""
    conformal: Conformal = Conformal()

    def __post_init__(self) -> None:
        if self.family == "distance" and self.features == "wide":
            raise ValueError(
                'family = "distance" measures evidence against the noise of single readings and takes no features = '
                '"wide"; write features = "evidence", or one of family = "pca", "isolation-forest", "autoencoder"'
            )
        if self.family == "conformal" and (self.features == "wide" or self.abrupt_time_constant):
            raise ValueError(
                'family = "conformal" has features of its own; leave features and abrupt_time_constant out'
            )


class Shares(_Strict, frozen=True):
    """`share = {...}` of `[threshold]`: parts of the budget for kinds of alarm beside `fault`, which has the rest, and
    the part of every kind that is off. 0 turns a kind off."""

    born_ill: Share = 0.05
    cohort: Share = 0.05
    abrupt: Share = 0.2
    silence: Share = 0.05

    def __post_init__(self) -> None:
        if self.born_ill + self.cohort + self.abrupt + self.silence >= 1.0:
            raise ValueError("the shares sum to 1 or more, and leave nothing of the budget to faults")


class Threshold(_Strict, frozen=True):
    """`[threshold]`: the budget, and how far and how fast a vehicle's own threshold may move."""

    kind: Literal["adaptive", "frozen"] = "adaptive"
    adaptation: Share = 0.2
    false_alarms: Positive = 1.0
    """Budget: false-alarm episodes per 1,000 healthy vehicle-days."""
    share: Shares = Shares()


class Alerts(_Strict, frozen=True):
    """`[alerts]`: what makes one episode of many alarms, and when a change has come to stay."""

    gap: Annotated[int, Meta(ge=1, le=10_000)] = 10
    lasting_after: Annotated[int, Meta(ge=0, le=250)] = 20
    """Readings in alarm, one after the other, that make a lasting shift: an alert, and a new normal; 0: none do."""


class Log(_Strict, frozen=True):
    """`[log]`: what of readings and decisions is kept. Alarms are always kept."""

    archive: Literal["all", "none"] = "all"
    decisions: Literal["all", "sampled"] = "sampled"
    sample: Share = 0.01
    audit: Share = 0.01
    audit_key: Annotated[str, Meta(pattern=REFERENCE)] | None = None
    """Where the secret is that the audit is drawn with; not set: whoever knows a vehicle's id can tell its days."""
    cut_every_s: Positive = 300.0
    cut_every_mb: Positive = 64.0
    keep_days: Positive | None = None
    """Days that files of readings and decisions are kept; not set: for ever. Not in cycles, which have no day."""
    keep_gb: Positive | None = None
    """GB that they may take up together, over all partitions; the oldest go first. Not set: no limit."""


class Stream(_Strict, frozen=True):
    """`[stream]`: topics and the rhythm of checkpoints."""

    prefix: Name | None = None
    partitions: Annotated[int, Meta(ge=1, le=10_000)] = 4
    retention: str = "7d"
    replication: Annotated[int, Meta(ge=1, le=10)] = 1
    format: Format = "json"
    """That of all readings on the topic; events and labels are JSON."""
    batch: Annotated[int, Meta(ge=1, le=65_536)] = 1_024
    checkpoint_every_s: Positive = 1.0
    checkpoint_every_readings: Count = 1_000_000


class StateTable(_Strict, frozen=True):
    """`[state]`: how much a process keeps in memory."""

    capacity: Annotated[int, Meta(ge=1, le=16_000_000)] = 4_000_000
    """Vehicles of a partition in memory; of more, those heard of least recently wait in the partition's store."""


class Fleet(_Strict, frozen=True):
    """A whole fleet file. Signals are in the order of the matrix, regime signals not among them."""

    fleet: FleetTable
    signals: dict[str, Signal]
    context: Context = Context()
    history: History = History()
    quality: Quality = Quality()
    baseline: Baseline = Baseline()
    model: ModelTable = ModelTable()
    threshold: Threshold = Threshold()
    alerts: Alerts = Alerts()
    log: Log = Log()
    stream: Stream = Stream()
    state: StateTable = StateTable()

    def __post_init__(self) -> None:
        problems = [
            *_signal_problems(self),
            *_restart_problems(self),
            *_format_problems(self),
            *_time_problems(self),
            *_grace_problems(self),
        ]
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def name(self) -> str:
        """The fleet's name, also the model's."""
        return self.fleet.name

    @property
    def columns(self) -> list[str]:
        """All signals a reading is asked for: the scored ones, then those of the regime."""
        return [*self.signals, *self.context.regime]

    @property
    def context_fields(self) -> list[str]:
        """Fields of a reading's context that are kept: the cohort's, and the region that its data stay in."""
        return list(dict.fromkeys([*(self.context.cohort or []), "region"]))

    @property
    def frame_features(self) -> Literal["evidence", "wide", "conformal"]:
        """The features of the frame that the family is given. With a single signal, and nothing asked for that the
        family `conformal` cannot give, `auto` is that family."""
        model = self.model
        asked = model.features == "wide" or model.abrupt_time_constant > 0 or self.context.cohort is not None
        alone = model.family == "auto" and len(self.signals) == 1 and not asked
        return "conformal" if alone or model.family == "conformal" else model.features

    @property
    def ticks_per_day(self) -> int:
        """Length of a vehicle-day in ticks."""
        return TICKS_PER_DAY[self.fleet.time_unit]

    def ticks(self, duration: str) -> int:
        """`duration` ("1d", "90s") in ticks of this fleet; only for `ms` and `s`."""
        return duration_ms(duration) // (1 if self.fleet.time_unit == "ms" else 1_000)

    def topic(self, name: str) -> str:
        """The full name of one of the fleet's topics, such as `telemetry`."""
        return f"{self.stream.prefix or self.name}.{name}"

    def digest(self) -> str:
        """Hex digest of all settings that hold and the order of signals, whatever the layout and comments."""
        whole = (self, list(self.signals))
        return hashlib.sha256(msgspec.json.encode(whole, order="deterministic")).hexdigest()


def _signal_problems(fleet: Fleet) -> Iterator[str]:
    """What is wrong with the signals of a fleet, seen together."""
    if not fleet.signals:
        yield "[signals] is empty: a fleet needs at least one signal"
    for name in fleet.columns:
        if not usable_name(name):
            yield f"signal {name!r}: {NAME_RULE}"
    for name in sorted(set(fleet.signals) & set(fleet.context.regime)):
        yield f"{name}: both a signal and a regime signal; keep it in one place"
    for name in sorted({name for name in fleet.context.regime if fleet.context.regime.count(name) > 1}):
        yield f"context.regime: {name} is there twice"
    for name in sorted(set(fleet.columns) & {fleet.fleet.vehicle, fleet.fleet.time}):
        yield f"{name}: says who or when, and is a signal as well; leave it out of the signals"
    if fleet.fleet.vehicle == fleet.fleet.time:
        yield f"fleet.vehicle and fleet.time are both `{fleet.fleet.time}`; name two columns"


def _restart_problems(fleet: Fleet) -> Iterator[str]:
    """Signals that an event cannot restart."""
    for kind, names in fleet.baseline.signals.items():
        for name in sorted(set(names) - set(fleet.signals)):
            yield f"baseline.signals.{kind}: {name} is none of the signals"


def _format_problems(fleet: Fleet) -> Iterator[str]:
    """Signals that have no column of their own in the fleet's messages."""
    if fleet.stream.format == "arrow":
        for name in sorted(set(fleet.columns) & {"vehicle", "ts", "v", *fleet.context_fields}):
            yield f"{name}: a signal, and another column of an Arrow message; rename it, or take another stream.format"


def _time_problems(fleet: Fleet) -> Iterator[str]:
    """What is wrong with durations and the clock of a fleet."""
    if fleet.fleet.time_unit == "cycles" and fleet.context.cohort is not None:
        yield "context.cohort needs a common clock, and time_unit is `cycles`; leave it out"
    if fleet.fleet.time_unit == "cycles" and fleet.log.keep_days is not None:
        yield "log.keep_days needs a clock, and time_unit is `cycles`; write log.keep_gb"
    if fleet.model.family == "conformal" and fleet.context.cohort is not None:
        yield 'context.cohort: family = "conformal" judges each vehicle by its own past alone; leave it out'
    durations = {
        "context.period": fleet.context.period,
        "context.max_wait": fleet.context.max_wait,
        "quality.grace": fleet.quality.grace,
        "quality.max_ahead": fleet.quality.max_ahead,
        "stream.retention": fleet.stream.retention,
    }
    for key, text in durations.items():
        try:
            if duration_ms(text) < 1_000:
                yield f"{key}: `{text}` must be at least 1s"
            elif duration_ms(text) > duration_ms(LONGEST):
                yield f"{key}: `{text}` must be at most {LONGEST}"
        except ValueError as error:
            yield f"{key}: {error}"


def _grace_problems(fleet: Fleet) -> Iterator[str]:
    """A grace that a period of the cohorts cannot have."""
    if fleet.context.cohort is not None and _longer(fleet.quality.grace, fleet.context.period):
        yield (
            f"quality.grace: `{fleet.quality.grace}` is longer than context.period `{fleet.context.period}`; a reading "
            "counts for its period or is late, so write at most a period"
        )


def _longer(one: str, other: str) -> bool:
    """Whether both are durations, and the first is the longer one."""
    try:
        return duration_ms(one) > duration_ms(other)
    except ValueError:
        return False


NAME_RULE = "a signal's name is 1 to 200 characters without quotation marks, backslashes and control characters"


def usable_name(name: str) -> bool:
    """Whether a signal may have this name; NAME_RULE says it in words."""
    return 0 < len(name) <= 200 and not any(char in '"\\' or not char.isprintable() for char in name)


def load(path: Path) -> Fleet:
    """Read a fleet file; ConfigError says everything that is wrong with it."""
    if not path.exists():
        raise ConfigError(
            f"{path} is not there; `anomaly init HISTORY.parquet --vehicle COLUMN --time COLUMN` writes one"
        )
    return settings.load(path, Fleet)
