"""What each key of a fleet file means, and what has to be done for a change of it to act."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

from anomaly.fleet import Fleet, Signal

Acts = Literal["state", "model", "start", "topics"]

ACTS: dict[Acts, str] = {
    "state": "a new frame: train again; every vehicle's state is then built anew, over a burn-in",
    "model": "a new model: train again; the state of vehicles is kept",
    "start": "nothing to train: it acts when the scorer is started again",
    "topics": "nothing to train: it acts on topics that are made from then on",
}
"""What a changed key asks for, the heaviest first."""


class Key(NamedTuple):
    """A key's meaning in one line, and what a change of it asks for."""

    meaning: str
    acts: Acts


KEYS: dict[str, Key] = {
    "fleet.name": Key("name of the fleet, of its models, and default prefix of its topics", "state"),
    "fleet.vehicle": Key("column of a table that says which vehicle", "start"),
    "fleet.time": Key("column of a table that says when", "start"),
    "fleet.time_unit": Key("what times count: ms or s since 1970 UTC, or cycles of the vehicle's own", "state"),
    "signals.NAME.unit": Key("unit of the signal, shown in alerts", "start"),
    "signals.NAME.min": Key("lowest value that is physically possible; below it the sensor is at fault", "start"),
    "signals.NAME.max": Key("highest value that is physically possible; above it the sensor is at fault", "start"),
    "signals.NAME.max_step": Key("largest possible change from one reading to the next", "start"),
    "signals.NAME.stuck_after": Key("equal values in a row that make the signal stuck; 0: never", "start"),
    "signals.NAME.missing": Key("what a gap means: skip it, repeat the previous value, or take a number", "start"),
    "context.regime": Key("signals that say what the vehicle is doing; not scored themselves", "state"),
    "context.cohort": Key("context fields that group vehicles; []: the whole fleet; left out: no cohort", "state"),
    "context.period": Key("how long a cohort is watched before its shift is taken off", "state"),
    "context.max_cohorts": Key("most cohorts; those that come later go without", "state"),
    "context.max_wait": Key("how long one partition waits for what another counted in a period", "start"),
    "history.run_to_failure": Key("whether each vehicle's last reading is its failure", "model"),
    "history.healthy_share": Key("part of the way to a fault that counts as healthy", "model"),
    "history.fault_window": Key("readings before a failure that are the fault; for run_to_failure", "model"),
    "history.detected_before": Key("readings before a fault's end by which an alarm counts as detection", "model"),
    "history.label_delay_days": Key("vehicle-days in which an answer to an alert may come; then it is mature", "start"),
    "quality.silent_after": Key("readings without a signal after which it leaves the distance", "start"),
    "quality.grace": Key("how long a reading may be on its way before a thing counts as not having happened", "start"),
    "quality.max_ahead": Key("how far ahead of all others a time may be; beyond, the clock is wrong", "start"),
    "baseline.burn_in": Key("readings from which a vehicle's own normal is learned", "state"),
    "baseline.restart_on": Key("what gives a vehicle another normal: its events, and labels (`no_fault`)", "start"),
    "baseline.signals": Key("signals that an event of a kind restarts; of a kind left out: all", "start"),
    "model.family": Key("the model that scores; auto: the one that costs least on validation vehicles", "model"),
    "model.features": Key("what it sees: a value a signal, or six; `distance` takes `evidence` alone", "state"),
    "model.label_term": Key("what learns from confirmed faults", "model"),
    "model.time_constant": Key("readings over which evidence is gathered", "state"),
    "model.abrupt_time_constant": Key("the same, of a second evidence for abrupt faults; 0: none", "state"),
    "model.conformal": Key("which rarities `conformal` averages, among how many readings, and how far back", "state"),
    "threshold.kind": Key("whether each vehicle's threshold adapts", "model"),
    "threshold.adaptation": Key("how far it adapts: half of this, up or down; 0: frozen; 1: unbounded", "model"),
    "threshold.false_alarms": Key("the budget: false alarms per 1,000 healthy vehicle-days", "model"),
    "threshold.share": Key("parts of the budget for other kinds of alarm than faults; 0: that kind is off", "model"),
    "alerts.gap": Key("readings without alarm that end an episode", "model"),
    "alerts.lasting_after": Key("alarms in a row that make a lasting shift, a new normal; 0: none do", "start"),
    "log.archive": Key("which readings are kept", "start"),
    "log.decisions": Key("which decisions are kept; alarms always are", "start"),
    "log.sample": Key("share of decisions that is kept, where they are sampled", "start"),
    "log.audit": Key("share of quiet vehicles that is put up for a check", "start"),
    "log.audit_key": Key("where the audit's secret is: file:PATH or env:NAME; not set: picks can be foretold", "start"),
    "log.cut_every_s": Key("seconds after which kept rows become a file", "start"),
    "log.cut_every_mb": Key("megabytes after which kept rows become a file", "start"),
    "log.keep_days": Key("days that files of readings and decisions are kept; not set: for ever", "start"),
    "log.keep_gb": Key("GB that they may take up, the oldest go first; not set: no limit", "start"),
    "stream.prefix": Key("prefix of the topics' names; left out: the fleet's name", "topics"),
    "stream.partitions": Key("partitions of the telemetry topic", "topics"),
    "stream.retention": Key("how long the topics keep messages", "topics"),
    "stream.replication": Key("copies of each partition on the brokers", "topics"),
    "stream.format": Key("how readings are written on their topic", "topics"),
    "stream.batch": Key("most readings that are scored at once", "start"),
    "stream.checkpoint_every_s": Key("seconds between checkpoints", "start"),
    "stream.checkpoint_every_readings": Key("readings between checkpoints", "start"),
    "state.capacity": Key("vehicles of a partition in memory; of more, the idle ones wait in its store", "start"),
}


def defaults() -> dict[str, Any]:
    """Every key of a fleet file, as "table.key", with its default; msgspec.NODEFAULT where it must be given."""
    found: dict[str, Any] = {}
    for table in msgspec.structs.fields(Fleet):
        kind = Signal if table.name == "signals" else table.type
        prefix = "signals.NAME" if table.name == "signals" else table.name
        for field in msgspec.structs.fields(kind):
            made = field.default_factory
            found[f"{prefix}.{field.encode_name}"] = field.default if made is msgspec.NODEFAULT else made()
    return found


def reference() -> str:
    """The reference of all keys as Markdown: a table for each TOML table."""
    lines: list[str] = []
    known = defaults()
    kinds = _kinds()
    for table in dict.fromkeys(path.rpartition(".")[0] for path in KEYS):
        lines += ["", f"## `[{table}]`", "", "| key | type | default | meaning | a change |", "|---|---|---|---|---|"]
        for path, key in KEYS.items():
            if path.rpartition(".")[0] == table:
                name, default = path.rpartition(".")[2], _default_text(known[path])
                lines.append(f"| `{name}` | {kinds[path]} | {default} | {key.meaning} | {key.acts} |")
    return "\n".join(lines[1:]) + "\n"


def _default_text(default: Any) -> str:
    if default is msgspec.NODEFAULT:
        return "required"
    if default is None:
        return "not set"
    return f"`{msgspec.json.encode(default).decode()}`"


def _kinds() -> dict[str, str]:
    """What each key takes, in words."""
    kinds: dict[str, str] = {}
    for table in msgspec.structs.fields(Fleet):
        kind = Signal if table.name == "signals" else table.type
        prefix = "signals.NAME" if table.name == "signals" else table.name
        info = msgspec.inspect.type_info(kind)
        assert isinstance(info, msgspec.inspect.StructType)
        kinds |= {f"{prefix}.{field.encode_name}": _kind(_bare(field.type)) for field in info.fields}
    return kinds


def _bare(info: msgspec.inspect.Type) -> msgspec.inspect.Type:
    return info.type if isinstance(info, msgspec.inspect.Metadata) else info


def _kind(info: msgspec.inspect.Type) -> str:
    match info:
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            number = "whole number" if isinstance(info, msgspec.inspect.IntType) else "number"
            limits = (("from", info.ge), ("above", info.gt), ("to", info.le))
            name = " ".join([number, *(f"{word} {limit:,g}" for word, limit in limits if limit is not None)])
        case msgspec.inspect.LiteralType():
            name = " or ".join(f"`{value}`" for value in info.values)
        case msgspec.inspect.UnionType():
            name = " or ".join(_kind(part) for part in info.types if not isinstance(part, msgspec.inspect.NoneType))
        case msgspec.inspect.VarTupleType():
            name = f"list of {_kind(info.item_type)}"
        case msgspec.inspect.BoolType():
            name = "true or false"
        case msgspec.inspect.DictType():
            name = f"table: {_kind(info.key_type)} = {_kind(info.value_type)}"
        case msgspec.inspect.StructType():
            name = f"table of {', '.join(f'`{field.encode_name}`' for field in info.fields)}"
        case _:
            name = "text"
    return name
